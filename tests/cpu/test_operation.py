"""Properties of one operation: `average` of docs/extending, or one of another plugin.

``pytest tests/cpu/test_operation.py --user-dir FOLDER --operation NAME`` needs pytest and nothing
else besides the package. Widths are 8 to 40, and there are two heads.
"""

from collections.abc import Iterator

import pytest
import torch
from helpers.operation_checks import (
    NETWORKS,
    build,
    check_gradients,
    check_plan,
    check_precision,
    check_repeats,
)
from helpers.output_checks import OUTPUT_CHECKS
from helpers.plugins import registered

from fairseq_dartsformer.operations import OPERATIONS_BY_STACK

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module", autouse=True)
def operation(pytestconfig: pytest.Config) -> Iterator[str]:
    """Its name."""
    name, folder = pytestconfig.getoption("--operation"), pytestconfig.getoption("--user-dir")
    with registered(folder):
        names = OPERATIONS_BY_STACK["decoder"]
        if name not in names:
            pytest.exit(f"--operation is {name!r}, --user-dir {folder} has {', '.join(names)}", 4)
        yield name


@torch.no_grad()
@pytest.mark.parametrize("check", OUTPUT_CHECKS)
@pytest.mark.parametrize("network", NETWORKS)
def test_output(operation, network, check):
    OUTPUT_CHECKS[check](build(network, operation))


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("splits", [2, 3])
def test_gradients_equal_ordinary_autograd(operation, splits, pooling):
    check_gradients(operation, splits, pooling)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_same_result_when_run_again(operation, device):
    check_repeats(operation, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_precision(operation, dtype):
    check_precision(operation, dtype)


def test_memory_is_planned(operation):
    check_plan(operation)
