"""Choose a schedule for a goal: vary one setting after the other with few seeds, then compare the best few with more.

This is a coordinate search: each setting in turn is tried at all of its values, with the best values of the others so
far. Worlds differ more than schedules do. So the best settings and the defaults are finally compared on the same seeds,
pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from flashgraph.errors import DataError
from flashgraph.sim.forecast import Simulation, amounts_to
from flashgraph.sim.measures import Forecast
from flashgraph.sim.sweep import Run, Settings, Spread, combinations, spread, swept

__all__ = ["CHOICES", "Goal", "SearchProgress", "Tuned", "TunedSettings", "tuned"]

Goal = Literal["time-to-score", "throughput", "cost"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "window": ("2", "4", "8", "16", "32"),
    "focus": ("0", "0.25", "0.5", "0.75", "1"),
    "alpha": ("0.1", "0.25", "0.5", "1"),
    "control": ("drain_first", "shortest_first", "balanced"),
}
FINALISTS = 3


@attrs.frozen
class TunedSettings:
    """Settings, and their value of the goal by seed; lower is better."""

    settings: Settings
    costs: Mapping[int, float]

    @property
    def spread(self) -> Spread:
        return spread(list(self.costs.values()))


@attrs.frozen
class SearchProgress:
    """The progress of the search."""

    done: int
    planned: int
    settings: Settings


@attrs.frozen
class Tuned:
    """The result: the ``finalists``, the best first, and the ``default``, all on the same seeds.

    ``target`` is the target score of goals that have one, and ``unit`` the unit of the goal's value. ``same`` counts
    settings left out because they have the same effect as others that were tried, or as the defaults.
    """

    goal: Goal
    target: float | None
    unit: str
    default: TunedSettings
    finalists: tuple[TunedSettings, ...]
    simulations: int
    same: int

    @property
    def best(self) -> TunedSettings:
        return self.finalists[0]

    @property
    def better(self) -> bool:
        """Whether the best settings are better than the defaults, in the median."""
        return self.best.spread.median < self.default.spread.median

    @property
    def wins(self) -> int:
        """The number of seeds on which the best settings are better than the defaults."""
        return sum(cost < self.default.costs[seed] for seed, cost in self.best.costs.items())


def cost_of(goal: Goal, forecast: Forecast, target: float | None) -> float:
    """Return the value to minimise.

    By goal, it is the seconds to the target score, the minutes a proposal, or the cost to the target. Without a target,
    the cost is for each accepted artifact. Cost is in USD, or in tokens if nothing has a price. A run that misses the
    target costs more than all it used, by its distance from the target.
    """
    if goal == "throughput":
        return 1 / max(forecast.per_minute("proposals"), 1e-9)
    reached = None if target is None else forecast.reached(target)
    missed = 1.0 if target is None or reached else 1 + max(0.0, target - (forecast.score or 0.0)) / target
    if goal == "time-to-score":
        return reached.seconds if reached else forecast.seconds * missed
    tokens = reached.tokens if reached else forecast.tokens * missed
    # USD are counted at the run's mean price of a token.
    price = forecast.usd / forecast.tokens if forecast.usd else 1.0
    return tokens * price / (1 if target is not None else max(1, forecast.accepted))


def tuned(
    base: Simulation, goal: Goal, names: Sequence[str], seeds: int, run: Run, target: float | None = None
) -> Iterator[SearchProgress | Tuned]:
    """Search over ``names`` of `CHOICES`; yield progress after each simulation, and the result last.

    The default ``target`` is the score that the base settings reach on the first seed by the end, if the scene has
    scores. Raises `DataError` if ``names`` is empty, or if the goal needs scores and the scene has none.
    """
    if not names:
        raise DataError(
            f"tune: {', '.join(CHOICES)} are all given, or not settings of this graph; expected one to search.\n"
            "Fix: leave out a --set, or compare schedules with `flashgraph simulate --sweep`."
        )
    memory: dict[tuple[tuple[str, str], ...], dict[int, Forecast]] = {}
    tried = {amounts_to(base): _key({})}
    planned = 1 + sum(len(CHOICES[name]) for name in names) + (FINALISTS + 1) * (seeds - 1)
    same = 0

    def known_as(settings: Settings) -> Settings:
        """Return the settings with the same effect that were tried first."""
        nonlocal same
        first = tried.setdefault(amounts_to(base.with_settings(settings)), _key(settings))
        same += first != _key(settings)
        return dict(first)

    def simulated(candidates: Sequence[Settings], chosen: Sequence[int]) -> Iterator[SearchProgress]:
        for seed in chosen:
            missing = [s for s in candidates if seed not in memory.get(_key(s), {})]
            for points in swept(base, missing, [seed], run):
                for point in points:
                    memory.setdefault(_key(point.settings), {}).update(point.forecasts)
                yield SearchProgress(sum(map(len, memory.values())), planned - same, points[-1].settings)

    def choice(settings: Settings) -> TunedSettings:
        return TunedSettings(
            settings, {seed: cost_of(goal, f, target) for seed, f in sorted(memory[_key(settings)].items())}
        )  # fmt: skip

    yield from simulated([{}], [base.seed])
    if memory[()][base.seed].score is None and (goal == "time-to-score" or (goal == "cost" and target is not None)):
        raise DataError(
            f"tune: {base.graph} has no true scores to reach: only the simulated world has them.\n"
            "Fix: --goal throughput, or --goal cost without --target-score, for each accepted artifact."
        )
    if target is None and goal != "throughput":
        target = memory[()][base.seed].score
    best: Settings = {}
    for name in names:
        candidates = [known_as({**best, **value}) for value in combinations({name: CHOICES[name]})]
        yield from simulated(candidates, [base.seed])
        best = min([best, *candidates], key=lambda s: choice(s).costs[base.seed])
    known = sorted((dict(key) for key in memory if key), key=lambda s: choice(s).costs[base.seed])
    planned -= max(0, FINALISTS - len(known)) * (seeds - 1)
    finalists, every = known[:FINALISTS], range(base.seed, base.seed + seeds)
    yield from simulated([{}, *finalists], every)
    ordered = sorted((choice(s) for s in finalists), key=lambda c: c.spread.median)
    unit = _unit(goal, target, priced=memory[()][base.seed].usd > 0)
    yield Tuned(goal, target, unit, choice({}), tuple(ordered), sum(map(len, memory.values())), same)


def _unit(goal: Goal, target: float | None, *, priced: bool) -> str:
    if goal == "throughput":
        return "proposals/min"
    what = "seconds" if goal == "time-to-score" else "USD" if priced else "tokens"
    return f"{what} an accepted artifact" if target is None else f"{what} to {target:.2f}"


def _key(settings: Settings) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(settings.items()))
