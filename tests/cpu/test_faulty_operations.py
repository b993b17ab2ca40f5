"""The checks of an operation fail on faulty operations, also on those of another plugin."""

from dataclasses import replace

import pytest
from helpers.operation_checks import CHECKS, NETWORKS, alone
from helpers.plugins import EXTENDING, registered

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import Context, register_operation

with registered(EXTENDING) as extending:
    Average = extending.average.Average


def faulty(change):
    """An `average` whose result ``change`` makes from the good one."""

    def forward(self, x, context, incremental_state=None):
        return change(self, x, Average.forward(self, x, context, incremental_state))

    return type("Faulty", (Average,), {"forward": forward})


def ignore(self, *arguments, **tensors) -> None:
    pass


def unsteady(self, x, out):
    self.calls = getattr(self, "calls", 0) + 1
    return out * (1 + 1e-3 * self.calls)


class Unmasked(Average):
    def forward(self, x, context, incremental_state=None):
        return super().forward(x, Context(), incremental_state)


class Foreseeing(Average):
    def __init__(self, cfg):
        super().__init__(replace(cfg, causal=False))


FORGETFUL = type("Forgetful", (Average,), {"keep": ignore})
UNMOVED = type("Unmoved", (Average,), {"reorder_incremental_state": ignore})
UNSTEADY = faulty(unsteady)
SINGLE = faulty(lambda self, x, out: out.float())
LOOKING = faulty(lambda self, x, out: out if x.detach().cpu().numpy().any() else x)
NARROW = faulty(lambda self, x, out: out.mean(-1, keepdim=True))
TRANSPOSED = faulty(lambda self, x, out: out.transpose(0, 1))
PAIRED = faulty(lambda self, x, out: (out, None))


@pytest.fixture(autouse=True)
def registry():
    with registered(EXTENDING):
        yield


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        *((Unmasked, f"padding {network}") for network in NETWORKS),
        *((Foreseeing, f"causal {network}") for network in NETWORKS),
        *((FORGETFUL, f"step by step {network}") for network in NETWORKS),
        *((UNMOVED, f"beams {network}") for network in NETWORKS),
        (UNSTEADY, "gradients 2 max"),
        (UNSTEADY, "repeats"),
        (SINGLE, "precision torch.bfloat16"),
        (LOOKING, "plan"),
    ],
)
def test_found(fault, check):
    register_operation("faulty")(fault)
    with pytest.raises((AssertionError, RuntimeError)):
        CHECKS[check]("faulty")


@pytest.mark.parametrize(
    ("fault", "found"), [(NARROW, "(7, 3, 1)"), (TRANSPOSED, "(3, 7, 40)"), (PAIRED, "tuple")]
)
def test_another_shape_is_refused(fault, found):
    register_operation("faulty")(fault)
    built, x, context = alone("faulty")
    with pytest.raises(InputError) as error:
        built(x, context)
    assert str(error.value).startswith(f"operation faulty returned {found}, it must be a tensor")
    assert str(error.value).endswith("width: (7, 3, 40)")
