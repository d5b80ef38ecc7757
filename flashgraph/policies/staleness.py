"""Staleness rules: what to do with an item whose pool has moved on since it was made.

A rule is applied when an item leaves its edge's queue, and at a pool that is the moment of admission.  The lag is
the pool's version now minus the version the item carries (FlashEvolve, arXiv 2605.08520: full async, guarded and
reflective are `accept`, `discard` and `repair`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

from flashgraph.errors import Flaw
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import Staleness

__all__ = ["Decision", "Rule", "Touched", "accept", "discard", "refresh", "repair", "without_overlap"]

Touched = Callable[[Callable[[Any, Any], bool]], bool]
"""Asks a rule's ``when(value, view)`` about the item at hand and its pool as it is now."""


@attrs.frozen
class Decision:
    """What a rule says of one item; ``stage`` names the repair stage."""

    kind: Literal["accept", "refresh", "discard", "repair"]
    stage: str = ""


def _whatever(when: Callable[[Any, Any], bool]) -> bool:
    return True


ACCEPT = Decision("accept")
REFRESH = Decision("refresh")
DISCARD = Decision("discard")


@attrs.frozen
class Rule:
    """A rule that acts on lags over ``above``; ``a | b`` asks ``a`` first, and ``b`` where ``a`` accepts.

    A rule of your own derives from it and has its own `decide`.  What that discards at a lag it discards at every
    greater one: of a group that was discarded, an amendment that comes later must not pass.
    """

    above: int = 0

    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        """The decision for an item with this lag that was repaired ``repairs`` times on this edge; ``touched`` tells
        of a condition on the item whether it holds."""
        return ACCEPT

    def __or__(self, other: Rule) -> Rule:
        return FirstOf(rules=(self, other))

    def flaw(self) -> Flaw | None:
        if isinstance(self.above, int) and self.above >= 0:
            return None
        return Flaw(f"above={self.above!r}", "a lag: a whole number from 0", "above=0 acts on every stale item")

    def repairers(self) -> tuple[Any, ...]:
        """The repair stages the rule may send items to (handles or names)."""
        return ()

    def refreshes(self) -> bool:
        return False

    def within(self, prefix: str) -> Rule:
        """The same rule in a graph that was included under ``prefix``."""
        return self

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}(above={self.above})"


class Accept(Rule):
    def __str__(self) -> str:
        return "accept"


ACCEPT_ALL = Accept()


class Refresh(Rule):
    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        return REFRESH if lag > self.above else ACCEPT

    def refreshes(self) -> bool:
        return True


class Discard(Rule):
    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        return DISCARD if lag > self.above else ACCEPT


@attrs.frozen
class Repair(Rule):
    stage: Any = attrs.field(default="", kw_only=True)
    times: int = attrs.field(default=1, kw_only=True)
    when: Callable[[Any, Any], bool] | None = attrs.field(default=None, kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        if lag > self.above and repairs < self.times and (self.when is None or touched(self.when)):
            return Decision("repair", str(getattr(self.stage, "name", self.stage)))
        return ACCEPT

    def flaw(self) -> Flaw | None:
        if not isinstance(self.times, int) or self.times < 1:
            return Flaw(f"times={self.times!r}", "a whole number from 1", "times=1 repairs an item once on this edge")
        when: Any = self.when
        if when is not None and not callable(when):
            return Flaw(f"when={when!r}", "a function (item, view) -> bool", "pass a function, or leave it out")
        return super().flaw()

    def repairers(self) -> tuple[Any, ...]:
        return (self.stage,)

    def within(self, prefix: str) -> Rule:
        return attrs.evolve(self, stage=f"{prefix}.{getattr(self.stage, 'name', self.stage)}")

    def __str__(self) -> str:
        times = f", times={self.times}" if self.times != 1 else ""
        when = f", when={function_name(self.when)}" if self.when is not None else ""
        return f"repair({getattr(self.stage, 'name', self.stage)}, above={self.above}{times}{when})"


@attrs.frozen
class FirstOf(Rule):
    rules: tuple[Rule, ...] = attrs.field(default=(), kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        decisions = (rule.decide(lag, repairs, touched) for rule in self.rules)
        return next((d for d in decisions if d != ACCEPT), ACCEPT)

    def flaw(self) -> Flaw | None:
        return next((flaw for rule in self.rules if (flaw := rule.flaw())), None)

    def repairers(self) -> tuple[Any, ...]:
        return tuple(stage for rule in self.rules for stage in rule.repairers())

    def refreshes(self) -> bool:
        return any(rule.refreshes() for rule in self.rules)

    def within(self, prefix: str) -> Rule:
        return attrs.evolve(self, rules=tuple(rule.within(prefix) for rule in self.rules))

    def __str__(self) -> str:
        return " | ".join(map(str, self.rules))


@attrs.frozen
class Refreshing(Rule):
    rule: Staleness = attrs.field(kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _whatever) -> Decision:
        decision: Decision = self.rule.decide(lag, repairs, touched)
        return decision if decision.kind == "refresh" else ACCEPT

    def refreshes(self) -> bool:
        return True


def without_overlap(rule: Staleness) -> Rule:
    """What is left of a rule where rounds do not overlap: an item then lags only behind what its own round has
    admitted, which makes a view old but no item stale."""
    return Refreshing(rule=rule) if rule.refreshes() else ACCEPT_ALL


def accept() -> Rule:
    """Take every item, however stale (full async)."""
    return ACCEPT_ALL


def refresh(above: int = 0) -> Rule:
    """Hand the stage the newest view instead of the one the item was made from, when the lag is over ``above``."""
    return Refresh(above)


def discard(above: int) -> Rule:
    """Drop items whose lag is over ``above`` (guarded)."""
    return Discard(above)


def repair(stage: Any, above: int = 0, *, times: int = 1, when: Callable[[Any, Any], bool] | None = None) -> Rule:
    """Send items whose lag is over ``above`` through ``stage``, with what changed since (reflective).

    ``stage`` takes a `Stale` and returns a `Verdict`; what passes is stamped with the version the repair has read.
    An item is repaired at most ``times`` times on one edge and then passes, so that a busy pool cannot keep it
    circling for ever.  ``when(item, view)``, given the item and its pool as it is now, says whether what changed
    touches the item at all; one that it does not touch passes.
    """
    return Repair(above, stage=stage, times=times, when=when)
