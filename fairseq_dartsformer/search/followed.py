"""A strategy that another one follows in the same search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import InputError
from .alpha_strategy import AlphaStrategy
from .strategy import SearchStrategy


class Followed(AlphaStrategy):
    """Mixin: ``--then-strategy`` searches with the trained weights after some updates.

    All of the search has the data and the validation of the strategy that follows.

    Attributes:
        strategies: those that can follow, by name.
        own: the strategy's own options.
        inner: the one that follows.
    """

    strategies: ClassVar[Mapping[str, type[SearchStrategy]]] = {}
    own: ClassVar[tuple[str, ...]] = ("then_strategy",)

    @classmethod
    def options_of(cls, cfg: Mapping[str, Any]) -> tuple[str, ...]:
        """Its own options and those of the strategy that follows."""
        following = cls.strategies.get(cfg.get("then_strategy") or "darts", AlphaStrategy)
        return (*cls.own, *following.options)

    @classmethod
    def relaxation(cls, cfg: Mapping[str, Any]):
        """That of the strategy that follows."""
        following = cls.strategies.get(cfg.get("then_strategy") or "darts", SearchStrategy)
        return following.relaxation(cfg)

    def check(self) -> None:
        """Build the strategy that follows."""
        super().check()
        name = self.cfg.then_strategy or "darts"
        known = [n for n, s in self.strategies.items() if issubclass(s, AlphaStrategy)]
        known.remove(self.name)
        if name not in known:
            raise InputError(f"--then-strategy is {name}: expected one of {', '.join(known)}")
        self.inner: AlphaStrategy = self.strategies[name](self.cfg)
        self.alternating = getattr(self.inner, "alternating", False)
        self.generates = self.inner.generates

    def prepare(self, model) -> None:
        """Both prepare the model."""
        super().prepare(model)
        self.inner.prepare(model)

    def move_always(self) -> None:
        """Both move what they can."""
        super().move_always()
        self.inner.move_always()

    def training_data(self, train, load_split):
        """Those of the strategy that follows."""
        return self.inner.training_data(train, load_split)

    def batches(self, task, dataset, make, **arguments):
        """Those of the strategy that follows."""
        return self.inner.batches(task, dataset, make, **arguments)

    def valid_step(self, valid_step, sample, model, criterion):
        """Validate as the strategy that follows."""
        return self.inner.valid_step(valid_step, sample, model, criterion)

    def reduce_metrics(self, logging_outputs) -> None:
        """Log as the strategy that follows."""
        self.inner.reduce_metrics(logging_outputs)

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return super().state_dict() | {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue."""
        super().load_state_dict(state)
        if state["inner"]:
            self.inner.load_state_dict(state["inner"])
