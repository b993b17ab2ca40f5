"""Properties of one operation: `average` of docs/extending, or one of another plugin.

``pytest tests/cpu/test_operation.py --user-dir FOLDER --operation NAME`` needs pytest and nothing
else besides the package. Widths are 8 to 40, and there are two heads.
"""

from collections.abc import Iterator

import pytest
from helpers.operation_checks import CHECKS
from helpers.plugins import registered

from fairseq_dartsformer.operations import OPERATIONS_BY_STACK


@pytest.fixture(scope="module", autouse=True)
def operation(pytestconfig: pytest.Config) -> Iterator[str]:
    """Its name."""
    name, folder = pytestconfig.getoption("--operation"), pytestconfig.getoption("--user-dir")
    with registered(folder):
        names = OPERATIONS_BY_STACK["decoder"]
        if name not in names:
            pytest.exit(f"--operation is {name!r}, --user-dir {folder} has {', '.join(names)}", 4)
        yield name


@pytest.mark.parametrize("check", CHECKS)
def test_operation(operation, check):
    CHECKS[check](operation)
