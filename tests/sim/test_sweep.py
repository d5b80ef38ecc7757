"""Sweeps and the search for a schedule, on invented forecasts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.cause import Cause
from flashgraph.sim.forecast import Simulation, amounts_to
from flashgraph.sim.measures import Forecast, ScoreMoment
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.sweep import combinations, swept
from flashgraph.sim.tune import Goal, SearchProgress, Tuned, cost_of, tuned

BASE = Simulation("gepa", dict.fromkeys(("task", "reflection"), PROFILES["vllm"]), minutes=10)


def made(
    proposals: int = 10, score: float = 0.5, at: float = 60, tokens: int = 1000, usd: float = 0.0
) -> Forecast:  # fmt: skip
    curve = (ScoreMoment(at, tokens // 2, score),)
    return Forecast(
        "budget", Cause.SECONDS, "", 600, proposals, 5, 100, 120, 0, tokens, 0, usd, {}, {}, {}, {}, 0.0,
        "window", curve,
    )  # fmt: skip


def run(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
    """Proposals grow with the window; a window of 16, a focus of a half and a small alpha are fastest."""
    for number, simulation in reversed(list(enumerate(simulations))):
        settings = simulation.settings
        window = int(settings.get("window", "8"))
        slow = abs(window - 16) + abs(float(settings.get("focus", "1")) - 0.5) + float(settings.get("alpha", "0.25"))
        yield number, made(proposals=window, at=100 + slow + 10 * simulation.seed)


def test_combinations() -> None:
    """The last setting changes fastest, and no list at all is one combination."""
    assert combinations({"a": ("1", "2"), "b": ("x", "y")}) == [
        {"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"}
    ]  # fmt: skip
    assert combinations({}) == [{}]


def test_a_sweep_yields_results_so_far() -> None:
    """A sweep yields its results so far in the order of settings, whichever ends first, with medians over seeds."""
    steps = list(swept(BASE, combinations({"window": ("2", "4")}), (0, 1), run))
    assert [sum(len(c.forecasts) for c in step) for step in steps] == [1, 2, 3, 4]
    assert [c.settings["window"] for c in steps[-1]] == ["2", "4"]
    assert steps[-1][1].spread(lambda f: f.per_minute("proposals")).median == pytest.approx(0.4)
    assert list(steps[-1][0].forecasts) == [0, 1]


def test_the_defaults_may_be_the_best() -> None:
    """If the defaults are the best, no other settings are reported as better."""

    def flat(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
        return ((number, made()) for number in range(len(simulations)))

    *_, found = tuned(BASE, "throughput", ("window",), 1, flat)
    assert isinstance(found, Tuned)
    assert not found.better
    *_, found = tuned(BASE, "throughput", ("window",), 1, run)
    assert isinstance(found, Tuned)
    assert found.better
    assert found.unit == "proposals/min"


def test_goals_that_need_scores() -> None:
    """Goals that need scores are refused without them; cost for each accepted artifact needs none."""

    def scoreless(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
        return ((number, attrs.evolve(made(usd=3.0), curve=())) for number in range(len(simulations)))

    goals: Sequence[tuple[Goal, float | None]] = (("time-to-score", None), ("time-to-score", 0.5), ("cost", 0.5))
    for goal, target in goals:
        with pytest.raises(fg.DataError, match="gepa has no true scores to reach"):
            list(tuned(BASE, goal, ("window",), 1, scoreless, target))
    *_, found = tuned(BASE, "cost", ("window",), 1, scoreless)
    assert isinstance(found, Tuned)
    assert found.unit == "USD an accepted artifact"


def test_the_search_finds_the_best_settings() -> None:
    """The search varies one setting after the other, and compares the finalists with the defaults on all seeds."""
    *steps, found = tuned(BASE, "time-to-score", ("window", "focus", "alpha"), 3, run)
    assert isinstance(found, Tuned)
    assert found.best.settings == {"window": "16", "focus": "0.5", "alpha": "0.1"}
    assert found.wins == 3
    assert list(found.best.costs) == list(found.default.costs) == [0, 1, 2]
    assert found.target == 0.5
    assert len(steps) == found.simulations
    assert all(isinstance(s, SearchProgress) and s.done <= s.planned for s in steps)
    assert isinstance(steps[-1], SearchProgress)
    assert steps[-1].done == steps[-1].planned


def test_settings_of_equal_effect_are_tried_once() -> None:
    """Settings with the same effect as the defaults or the best so far are not simulated again, only counted."""
    simulated: list[str] = []

    def counting(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
        simulated.extend(f"{amounts_to(simulation)} {simulation.seed}" for simulation in simulations)
        return run(simulations)

    *_, found = tuned(BASE, "time-to-score", ("window", "focus", "alpha", "control"), 2, counting)
    assert isinstance(found, Tuned)
    assert len(simulated) == len(set(simulated)) == found.simulations
    # window=8, focus=1 and control=drain_first are the defaults
    assert found.same >= 3
    assert len({amounts_to(BASE.with_settings(c.settings)) for c in (found.default, *found.finalists)}) == 4


def test_settings_that_amount_to_the_same() -> None:
    """Settings with the same effect are equal, however they are written, with workers and limits."""
    default = amounts_to(BASE)
    for settings in ({"window": "8"}, {"focus": "1"}, {"window": "8", "control": "drain_first"}):
        assert amounts_to(BASE.with_settings(settings)) == default
    for settings in ({"window": "4"}, {"alpha": "0.5"}, {"workers": "3"}, {"limit": "7"}, {"schedule": "throughput"}):
        assert amounts_to(BASE.with_settings(settings)) != default


def test_throughput_wants_proposals() -> None:
    *_, found = tuned(BASE, "throughput", ("window",), 1, run)
    assert isinstance(found, Tuned)
    assert found.best.settings == {"window": "32"}
    assert found.target is None


@pytest.mark.parametrize("goal", ["time-to-score", "cost"])
def test_a_target_that_is_missed_costs_more_than_any_that_is_reached(goal: Goal) -> None:
    """A missed target costs more than any reached one, and more the farther it is missed."""
    reached, near, far = (cost_of(goal, made(score=s, at=599), 0.5) for s in (0.5, 0.4, 0.1))
    assert reached < near < far


def test_cost_is_money_where_there_are_prices() -> None:
    """Cost is in money if there are prices, otherwise in tokens, and without a target for each accepted artifact."""
    assert cost_of("cost", made(tokens=1000), None) == 200
    assert cost_of("cost", made(tokens=1000, usd=2.0), None) == pytest.approx(0.4)
    assert cost_of("cost", made(tokens=1000, usd=2.0), 0.5) == pytest.approx(1.0)
