"""Many forecasts: every combination of some settings, each with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from statistics import median

import attrs

from flashgraph.sim.forecast import Simulation
from flashgraph.sim.measures import Forecast

__all__ = ["Combination", "Run", "Spread", "combinations", "spread", "swept"]

Settings = Mapping[str, str]
Run = Callable[[Sequence[Simulation]], Iterable[tuple[int, Forecast]]]
"""Runs simulations, possibly side by side, and yields the index and forecast of each as it ends."""


@attrs.frozen
class Spread:
    """The median of a measure over seeds, and its extremes."""

    median: float
    least: float
    most: float


@attrs.frozen
class Combination:
    """One combination of settings, and its forecasts by seed."""

    settings: Settings
    forecasts: Mapping[int, Forecast]

    def spread(self, figure: Callable[[Forecast], float]) -> Spread:
        return spread([figure(f) for f in self.forecasts.values()])


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of one or more values."""
    return Spread(median(values), min(values), max(values))


def combinations(lists: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return every combination of one value of each setting; the last setting changes fastest."""
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def swept(
    base: Simulation, settings: Sequence[Settings], seeds: Sequence[int], run: Run
) -> Iterator[list[Combination]]:
    """Run each of the settings with each of the seeds; yield the results so far after each run, in the settings' order.

    All settings run with one seed before any runs with the next, so that intermediate results are comparable.
    """
    orders = [(place, seed) for seed in seeds for place in range(len(settings))]
    simulations = [attrs.evolve(base.with_settings(settings[place]), seed=seed) for place, seed in orders]
    found: dict[int, dict[int, Forecast]] = {place: {} for place in range(len(settings))}
    for number, forecast in run(simulations):
        place, seed = orders[number]
        found[place][seed] = forecast
        yield [
            Combination(settings[place], dict(sorted(by_seed.items()))) for place, by_seed in found.items() if by_seed
        ]
