"""I1 to I10, I12, I14 and I15 on generated graphs, schedules, latencies and faults, under virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.testing import clock
from flashgraph.testing.graphs import Shape
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.runs import Finished, run_shape
from flashgraph.testing.strategies import schedules, shapes

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])
GENERATED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def run(backend: str, *args: Any, **options: Any) -> Finished:
    return clock.run_virtually(lambda: run_shape(*args, **options), backend=backend)


@BACKENDS
@GENERATED
@given(shape=shapes(), schedule=schedules(), limit=st.sampled_from([1, 2, 7]))
def test_invariants_hold_on_generated_graphs(backend: str, shape: Shape, schedule: fg.Schedule, limit: int) -> None:
    """I1 to I10: a run to the end."""
    done = run(backend, shape, schedule, limit=limit)
    assert done.result.status == "completed", done.result.reason
    check_invariants(done.events, done.plan)
    assert done.model.peak <= limit
    assert done.model.in_flight == 0


@BACKENDS
@GENERATED
@given(
    shape=shapes(),
    schedule=schedules(),
    budget=st.builds(
        fg.Budget, calls=st.one_of(st.none(), st.integers(1, 12)), tokens=st.one_of(st.none(), st.integers(50, 20_000))
    ),
)
def test_budgets_are_never_exceeded(backend: str, shape: Shape, schedule: fg.Schedule, budget: fg.Budget) -> None:
    """I10: whatever the limits, what is started stays within them, and the run still ends."""
    done = run(backend, shape, schedule, budget=budget)
    assert done.result.status in ("completed", "budget")
    check_invariants(done.events, done.plan, budget)
    assert budget.calls is None or done.result.spent.calls <= budget.calls
    assert budget.tokens is None or done.result.spent.tokens <= budget.tokens


@BACKENDS
@GENERATED
@given(shape=shapes(), schedule=schedules(), after=st.sampled_from([0.0, 0.3, 1.0, 2.5, 7.0]))
def test_cancelling_leaves_nothing_behind(backend: str, shape: Shape, schedule: fg.Schedule, after: float) -> None:
    """I12: stopped at any moment, no request is left in flight and every item has ended or is open."""
    done = run(backend, shape, schedule, stop_after=after)
    assert done.model.in_flight == 0
    assert done.result.status in ("completed", "cancelled")
    check_invariants(done.events, done.plan)


@GENERATED
@given(shape=shapes(), schedule=schedules(), seed=st.integers(0, 5))
def test_the_same_seed_gives_the_same_log_on_both_backends(shape: Shape, schedule: fg.Schedule, seed: int) -> None:
    """I14: same seed, same virtual latencies: the same events, whatever event loop runs them."""
    first, second = run("trio", shape, schedule, seed=seed), run("asyncio", shape, schedule, seed=seed)
    assert first.events == second.events


@GENERATED
@given(shape=shapes(), schedule=schedules())
def test_a_failing_hook_changes_nothing(shape: Shape, schedule: fg.Schedule) -> None:
    """I15: a hook that raises is not called again, and the run is the same."""
    calls = []

    def hook(event: object) -> None:
        calls.append(event)
        raise RuntimeError("a broken viewer")

    assert run("trio", shape, schedule, on_event=hook).events == run("trio", shape, schedule).events
    assert len(calls) == 1
