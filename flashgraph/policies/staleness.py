"""Staleness rules: what happens to an item whose pool has changed since the item was made.

A rule is applied when an item leaves its edge's queue; on an edge to a pool, that is just before admission. The lag is
the pool's current version minus the version that the item carries. If the item depends on several pools, the greatest
lag counts, or the lag of the pool that the rule names with ``of=``.  FlashEvolve (arXiv 2605.08520) names `accept` full
async, `discard` guarded and `repair` reflective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from flashgraph.errors import Flaw
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import Staleness

__all__ = ["Decision", "Rule", "Touched", "accept", "discard", "refresh", "repair", "without_overlap"]

Touched = Callable[..., bool]
"""A function that returns ``when(value, view)`` for the current item and its pool's newest view; a pool may be named.
"""


@attrs.frozen
class Decision:
    """A rule's decision about one item; ``stage`` names the repair stage.

    The repair stage sees the changes of ``pool``, or of the pool with the greatest lag if ``pool`` is empty.
    """

    kind: Literal["accept", "refresh", "discard", "repair"]
    stage: str = ""
    pool: str = ""


def _always(when: Callable[[Any, Any], bool]) -> bool:
    return True


ACCEPT = Decision("accept")
REFRESH = Decision("refresh")
DISCARD = Decision("discard")


@attrs.frozen
class Rule:
    """A rule that acts on lags over ``above``; ``a | b`` applies ``a``, then ``b`` if ``a`` accepts.

    To write a rule, derive from this class and override `decide`. If `decide` discards at some lag, it must discard at
    every greater lag; otherwise the later amendment of a discarded group could pass.
    """

    above: int = 0
    of: Any = attrs.field(default="", kw_only=True)
    """The pool whose lag counts, as a handle or a name; empty for the greatest lag over all pools."""

    @property
    def pool(self) -> str:
        return str(getattr(self.of, "name", self.of))

    def judge(self, lags: Mapping[str, int], repairs: int, touched: Touched = _always) -> Decision:
        """Return the decision for an item; ``lags`` maps each pool to the item's lag. See `decide`."""
        lag = lags.get(self.pool, 0) if self.pool else max(lags.values(), default=0)
        return self.decide(lag, repairs, touched)

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

    def pools(self) -> tuple[Any, ...]:
        """Return the pools whose lags the rule names, as handles or names."""
        return (self.of,) if self.pool else ()

    def renamed(self, names: Mapping[str, str]) -> Rule:
        """Return the rule for a graph whose nodes have other names, such as an included one."""
        return attrs.evolve(self, of=names.get(self.pool, self.pool)) if self.pool else self

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}(above={self.above}{self._of})"

    @property
    def _of(self) -> str:
        return f", of={self.pool}" if self.pool else ""


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
        if lag > self.above and repairs < self.times and (self.when is None or self._touched(touched, self.when)):
            return Decision("repair", str(getattr(self.stage, "name", self.stage)), self.pool)
        return ACCEPT

    def _touched(self, touched: Touched, when: Callable[[Any, Any], bool]) -> bool:
        return touched(when, self.pool) if self.pool else touched(when)

    def flaw(self) -> Flaw | None:
        if not isinstance(self.times, int) or self.times < 1:
            return Flaw(f"times={self.times!r}", "a whole number from 1", "times=1 repairs an item once on this edge")
        when: Any = self.when
        if when is not None and not callable(when):
            return Flaw(f"when={when!r}", "a function (item, view) -> bool", "pass a function, or leave it out")
        return super().flaw()

    def repairers(self) -> tuple[Any, ...]:
        return (self.stage,)

    def renamed(self, names: Mapping[str, str]) -> Rule:
        stage = str(getattr(self.stage, "name", self.stage))
        return attrs.evolve(self, stage=names.get(stage, stage), of=names.get(self.pool, self.pool))

    def __str__(self) -> str:
        times = f", times={self.times}" if self.times != 1 else ""
        when = f", when={function_name(self.when)}" if self.when is not None else ""
        return f"repair({getattr(self.stage, 'name', self.stage)}, above={self.above}{self._of}{times}{when})"


@attrs.frozen
class FirstOf(Rule):
    rules: tuple[Rule, ...] = attrs.field(default=(), kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        return _first(rule.decide(lag, repairs, touched) for rule in self.rules)

    def judge(self, lags: Mapping[str, int], repairs: int, touched: Touched = _always) -> Decision:
        return _first(rule.judge(lags, repairs, touched) for rule in self.rules)

    def pools(self) -> tuple[Any, ...]:
        return tuple(pool for rule in self.rules for pool in rule.pools())

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

    def renamed(self, names: Mapping[str, str]) -> Rule:
        return attrs.evolve(self, rules=tuple(rule.renamed(names) for rule in self.rules))

    def __str__(self) -> str:
        return " | ".join(map(str, self.rules))


def _first(decisions: Iterable[Decision]) -> Decision:
    return next((d for d in decisions if d != ACCEPT), ACCEPT)


@attrs.frozen
class Refreshing(Rule):
    rule: Staleness = attrs.field(kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = _always) -> Decision:
        return self.judge({"": lag}, repairs, touched)

    def judge(self, lags: Mapping[str, int], repairs: int, touched: Touched = _always) -> Decision:
        decision: Decision = self.rule.judge(lags, repairs, touched)
        return decision if decision.kind == "refresh" else ACCEPT

    def refreshes(self) -> bool:
        return True


def without_overlap(rule: Staleness) -> Rule:
    """Return the part of a rule that applies if rounds do not overlap: it only refreshes views.

    An item then lags only behind admissions of its own round. They make its view old, but do not make the item stale.
    """
    return Refreshing(rule=rule) if rule.refreshes() else ACCEPT_ALL


def accept() -> Rule:
    """Accept every item, however stale (full async); the default."""
    return ACCEPT_ALL


def refresh(above: int = 0, *, of: Any = "") -> Rule:
    """If the lag is over ``above``, give the stage the newest views instead of those that the item was made from.

    ``of`` is the pool whose lag counts; without it, the greatest lag over all pools counts.
    """
    return Refresh(above, of=of)


def discard(above: int, *, of: Any = "") -> Rule:
    """Discard items whose lag is over ``above`` (guarded); ``of`` is as in `refresh`."""
    return Discard(above, of=of)


def repair(
    stage: Any,
    above: int = 0,
    *,
    of: Any = "",
    times: int = 1,
    when: Callable[[Any, Any], bool] | None = None,
) -> Rule:
    """Send items whose lag is over ``above`` through ``stage``, with the pool's changes since their version
    (reflective).

    ``stage`` takes a `Stale` and returns a `Verdict`.  A repaired item is stamped with the version that the repair
    read. After ``times`` repairs on one edge an item passes, so that a busy pool cannot hold it forever.  ``when(item,
    view)`` gets the pool's newest view and returns whether the changes affect the item; if not, it passes without
    repair. The changes and the view are those of the pool ``of``, or else of the pool with the greatest lag.
    """
    return Repair(above, of=of, stage=stage, times=times, when=when)
