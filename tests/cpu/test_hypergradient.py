"""The hypergradient of `idarts` beside that of exact products with the Hessian, in float64."""

import sys
from pathlib import Path

import pytest

from fairseq_dartsformer.search.idarts import IDARTS

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmark"))
from hypergradient import Exact, Search, cosine, get_parser

SIZES = "--rate 0.1 --updates 10".split()


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_hypergradient_is_that_of_exact_products(pooling):
    """At the default step, with dropout; without the series it is not, nor at a step too long."""
    search = Search(pooling, get_parser().parse_args(SIZES), 0)
    exact = search.hypergradient(Exact)
    first = search.hypergradient(IDARTS, terms=False)
    ours = search.hypergradient(IDARTS)
    far = search.hypergradient(IDARTS, radius=30)
    assert cosine(ours, exact) > 0.98 > cosine(first, exact)
    assert cosine(ours - first, exact - first) > 0.95 > cosine(far - first, exact - first)
    assert (ours - first).norm() / (exact - first).norm() == pytest.approx(1, abs=0.1)
