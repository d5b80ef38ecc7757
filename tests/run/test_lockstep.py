"""I11: lockstep equals the sequential reference interpreter, event for event, on generated graphs."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

import flashgraph as fg
from flashgraph.run.events import Admitted, JobEnded, JobStarted
from flashgraph.testing import clock
from flashgraph.testing.graphs import Choice, Fan, Loop, Segment, Shape, Split, Step, build
from flashgraph.testing.interpreter import Line, interpret
from flashgraph.testing.runs import TASK, Finished, run_shape
from flashgraph.testing.strategies import shapes


def single(step: Step) -> Step:
    """Without what the interpreter leaves out: several results, and capacities that change what runs together."""
    return attrs.evolve(step, several=1, capacity=None)


def simplified(segment: Segment) -> Segment:
    match segment:
        case Step():
            return single(segment)
        case Choice(left, right, join) | Split(left, right, join):
            return Choice(single(left), single(right), single(join))
        case Loop(times, body, check):
            return Loop(times, single(body), single(check))
        case Fan():
            return attrs.evolve(
                segment,
                member=single(segment.member),
                after=single(segment.after),
                inner=tuple(map(simplified, segment.inner)),
            )


async def _answer(messages: object, **params: Any) -> fg.Reply:
    return fg.Reply("ok")


def lines_of(done: Finished) -> list[tuple[str, str]]:
    """(node, outcome) in the order of commits; values are compared through their items' order below."""
    found: list[tuple[str, str]] = []
    for event in done.events:
        if isinstance(event, JobEnded) and event.stage in done.plan.stages:
            if event.how != "cancelled":
                found.append((event.stage, event.how))
        elif isinstance(event, Admitted):
            found.append((event.pool, str(event.version)))
    return found


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shape=shapes())
def test_lockstep_equals_the_reference_interpreter(backend: str, shape: Shape) -> None:
    """I11: the same stages end the same way in the same order, and the same values are admitted."""
    shape = attrs.evolve(
        shape,
        segments=tuple(map(simplified, shape.segments)),
        ending=attrs.evolve(shape.ending, member=single(shape.ending.member)),
    )
    expected: list[Line] = clock.run_virtually(lambda: interpret(build(shape), TASK, llm=_answer), backend=backend)
    done = clock.run_virtually(lambda: run_shape(shape, fg.lockstep()), backend=backend)
    assert lines_of(done) == [(line.node, line.outcome) for line in expected]
    started = [e for e in done.events if isinstance(e, JobStarted)]
    assert all(e.lag == 0 for e in started)
    assert all(a.lag == 0 for a in done.result.artifacts)
    assert [a.value for a in done.result.artifacts] == [_score(line.value) for line in expected if line.node == "pool"]


def _score(value: Any) -> float:
    """What a `Ledgered` pool makes of an admitted value: equal scores are equal values, for they are hashes."""
    from flashgraph.testing.graphs import Ledgered

    (artifact,) = Ledgered().apply(fg.PoolEvent("admit", 0, value)).artifacts.values()
    assert isinstance(artifact.value, float)
    return artifact.value
