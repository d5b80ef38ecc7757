"""Staleness rules: what to do with an item whose pool has changed since the item was made.

A rule applies when an item leaves its edge's queue; before a pool, that is the moment of admission.  The lag is the
pool's version now minus the version that the item carries.  FlashEvolve (arXiv 2605.08520) names `accept` full async,
`discard` guarded and `repair` reflective.
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
"""Calls a rule's ``when(value, view)`` with the current item and its pool's newest view."""


@attrs.frozen
class Decision:
    """The decision of a rule about one item; ``stage`` names the repair stage."""

    kind: Literal["accept", "refresh", "discard", "repair"]
    stage: str = ""


def _always(when: Callable[[Any, Any], bool]) -> bool:
    return True


ACCEPT = Decision("accept")
REFRESH = Decision("refresh")
DISCARD = Decision("discard")


@attrs.frozen
class Rule:
    """A rule that acts on lags over ``above``; ``a | b`` applies ``a``, and ``b`` if ``a`` accepts.

    A rule of your own derives from it and overrides `decide`.  A `decide` that discards at a lag must discard at every
    greater lag: after a group was discarded, its later amendment must not pass.
    """

    above: int = 0

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        """Return the decision for an item with this lag that was repaired ``repairs`` times on this edge.

        ``touched(when)`` returns whether the condition ``when(value, view)`` holds for the item.
        """
        return ACCEPT

    def __or__(self, other: Rule) -> Rule:
        return FirstOf(rules=(self, other))

    def flaw(self) -> Flaw | None:
        if isinstance(self.above, int) and self.above >= 0:
            return None
        return Flaw(f"above={self.above!r}", "a lag: a whole number from 0", "above=0 acts on every stale item")

    def repairers(self) -> tuple[Any, ...]:
        """Return the repair stages that the rule may send items to, as handles or names."""
        return ()

    def refreshes(self) -> bool:
        return False

    def within(self, prefix: str) -> Rule:
        """Return the rule for a graph that is included under ``prefix``."""
        return self

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}(above={self.above})"


class Accept(Rule):
    def __str__(self) -> str:
        return "accept"


ACCEPT_ALL = Accept()


class Refresh(Rule):
    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        return REFRESH if lag > self.above else ACCEPT

    def refreshes(self) -> bool:
        return True


class Discard(Rule):
    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        return DISCARD if lag > self.above else ACCEPT


@attrs.frozen
class Repair(Rule):
    stage: Any = attrs.field(default="", kw_only=True)
    times: int = attrs.field(default=1, kw_only=True)
    when: Callable[[Any, Any], bool] | None = attrs.field(default=None, kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
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

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        decisions = (rule.decide(lag, repairs, touched) for rule in self.rules)
        return next((d for d in decisions if d != ACCEPT), ACCEPT)

    def flaw(self) -> Flaw | None:
        rules: tuple[Any, ...] = self.rules
        for rule in rules:
            if not isinstance(rule, Rule):
                return Flaw(f"{rule!s:.80} after |", "another rule", "refresh() | discard(above=8)")
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

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        decision: Decision = self.rule.decide(lag, repairs, touched)
        return decision if decision.kind == "refresh" else ACCEPT

    def refreshes(self) -> bool:
        return True


def without_overlap(rule: Staleness) -> Rule:
    """Return the part of a rule that applies if rounds do not overlap: it refreshes views, and no more.

    An item then lags only behind the admissions of its own round.  These make a view old, but no item stale.
    """
    return Refreshing(rule=rule) if rule.refreshes() else ACCEPT_ALL


def accept() -> Rule:
    """Accept every item, however stale (full async); the default."""
    return ACCEPT_ALL


def refresh(above: int = 0) -> Rule:
    """If the lag is over ``above``, give the stage the newest view in place of the one that the item was made from."""
    return Refresh(above)


def discard(above: int) -> Rule:
    """Discard items whose lag is over ``above`` (guarded)."""
    return Discard(above)


def repair(stage: Any, above: int = 0, *, times: int = 1, when: Callable[[Any, Any], bool] | None = None) -> Rule:
    """Send items whose lag is over ``above`` through ``stage``, with the changes since (reflective).

    ``stage`` takes a `Stale` and returns a `Verdict`.  An item that passes is stamped with the version that the repair
    read.  An item is repaired at most ``times`` times on one edge and then passes, so that a busy pool cannot hold it
    forever.  ``when(item, view)``, with the pool's newest view, returns whether the changes affect the item; if not, it
    passes without repair.
    """
    return Repair(above, stage=stage, times=times, when=when)
