"""The purchase of a budget: the evaluations before the first round, and the number of rounds after them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.contexts import Draw
from flashgraph.graph.params import given, objects
from flashgraph.graph.spec import GraphSpec
from flashgraph.observe.words import counted
from flashgraph.policies.release import Sampled
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.budget import Budget
from flashgraph.tasks.task import Task

__all__ = ["Outlook", "budget_lines", "outlook"]


@attrs.frozen
class Outlook:
    """The purchase of the limit ``name`` of a budget.

    ``start`` evaluations come before the first round, and each round takes from ``least`` to ``most``.  The share
    ``reserve`` of the limit is reserved for evidence.
    """

    start: int
    least: int
    most: int
    name: str = ""
    limit: float = math.inf
    reserve: float = 0.0

    @property
    def rounds(self) -> tuple[int, int] | None:
        """The fewest and the most rounds that the limit pays for after the start; None without a limit."""
        if not self.name:
            return None
        if self.name == "proposals":
            return int(self.limit), int(self.limit)
        left = self.limit * (1 - self.reserve) - self.start
        least, most = (max(1, cost) for cost in self._round)
        return max(0, int(left // most)), max(0, int(left // least))

    @property
    def _round(self) -> tuple[int, int]:
        """The least and the most of the limit that a round takes; in calls, one more for the proposal."""
        more = self.name == "calls"
        return self.least + more, self.most + more

    @property
    def _noun(self) -> str:
        return "call" if self.name == "calls" else "evaluation"

    @property
    def warning(self) -> str:
        """The warning about a budget that pays for no proposal; empty for any other budget."""
        if self.rounds is None or self.rounds[1] > 0:
            return ""
        least, most = self._round
        lacks = f"a round takes at least {least}"
        if self.start:
            also = f", and {lacks}" if self.limit >= self.start else ""
            lacks = f"the seed's validation takes {counted(self.start, self._noun)}{also}"
        return (
            f"--{self.name} {self.limit:g} is not enough to judge a single proposal: {lacks}. "
            f"Fix: --{self.name} {self.start + 10 * most}, for ten rounds."
        )

    @property
    def takes(self) -> str:
        """The use of the limit by the start and by a round, in words."""
        least, most = self._round
        start = f"the seed's validation takes {counted(self.start, self._noun)}" if self.start else ""
        return ", ".join(filter(None, [start, f"a round takes {_range(least, most)} {self._noun}s"]))

    @property
    def buys(self) -> str:
        """The rounds that the limit buys, in words; empty without a limit."""
        if self.rounds is None:
            return ""
        if self.name == "proposals":
            fewest, highest = (int(self.start + self.limit * cost) for cost in self._round)
            return f"{counted(int(self.limit), 'proposal')} take about {_range(fewest, highest)} evaluations"
        start = f"{self.start:,} for the seed's validation, then " if self.start else ""
        reserved = f", with {self.reserve:.0%} reserved for evidence" if self.reserve else ""
        return f"{counted(int(self.limit), self._noun)} buy {start}{_range(*self.rounds)} rounds{reserved}"

    def __str__(self) -> str:
        """Return the forecast in one line."""
        return f"{self.buys} ({self.takes})" if self.buys else self.takes


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def outlook(
    graph: GraphSpec,
    task: Task[Any, Any],
    budget: Budget,
    settings: Mapping[str, Any] | None = None,
    schedule: str | Schedule = "lockstep",
) -> Outlook | None:
    """Return what the tightest limit of a budget buys; without limits, return what a run takes.

    None if the graph declares no costs, or if the budget limits only time, tokens or money.  Raises `DataError` for
    wrong ``settings``, and whatever the graph's costs function raises.
    """
    if graph.costs is None:
        return None
    chosen, values = apply_settings(graph, schedule_of(schedule), {}, settings or {})
    costs = graph.costs(Draw(task, None, random.Random(0), **given(objects(graph.classes, values))))
    size = _validation(graph, chosen, len(task.val))
    takes = costs.start + costs.seeds * size, costs.least, costs.most + costs.children * size
    reserve = chosen.reserve if any(source.evidence for source in graph.sources) else 0.0
    limits = {name: limit for name, limit in budget.limits.items() if name in ("proposals", "evaluations", "calls")}
    if not limits:
        return Outlook(*takes) if not budget.limits and budget.seconds is None else None
    found = [Outlook(*takes, name, limit, reserve) for name, limit in limits.items()]
    return min(found, key=lambda each: each.rounds or (0, 0))


def _validation(graph: GraphSpec, schedule: Schedule, size: int) -> int:
    """Return how many of ``size`` samples validate a candidate before its admission."""
    if not schedule.speculate:
        return size
    pools = {pool.name for pool in graph.pools}
    edges = (attrs.evolve(e, **schedule.edges.get(e.name, {})) for e in graph.edges if e.gather and e.dst in pools)
    return min((edge.release.sends(size) for edge in edges if isinstance(edge.release, Sampled)), default=size)


def budget_lines(
    graph: GraphSpec,
    task: Task[Any, Any],
    budget: Budget,
    settings: Mapping[str, Any] | None = None,
    schedule: str | Schedule = "lockstep",
) -> list[str]:
    """Return the lines of an explanation's section about the budget."""
    if graph.costs is None:
        return ["Budget", "  Unknown, because the graph declares no costs (a function under @graph.costs)."]
    whole = outlook(graph, task, Budget(), settings, schedule)
    lines = ["Budget", f"  On {task.name}: {whole}."]
    if budget.limits and (found := outlook(graph, task, budget, settings, schedule)) is not None:
        lines.append(f"  {found.warning or f'{found.buys}.'}")
    elif budget.limits or budget.seconds is not None:
        lines.append("  Time, tokens and money per evaluation are known only after a run has measured them.")
    return lines
