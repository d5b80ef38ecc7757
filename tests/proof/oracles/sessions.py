"""Reference model of sessions: the bounds of a run that is resumed with other workers and limits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.plan import Capacity
from flashgraph.run.turns import Completed
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import Hand, no_pause, plan_by_hand
from flashgraph.testing.recording import Recording
from flashgraph.testing.runs import TASK
from flashgraph.testing.shape import Shape
from flashgraph.testing.strategies import schedules, shapes
from tests.proof.oracles.small import Kept
from tests.proof.recount import Recount
from tests.proof.tried import Property, expect

__all__ = ["SESSIONS"]

LIMITS = st.lists(st.sampled_from(["fixed(1)", "fixed(2)", "fixed(5)", "adaptive(1..4)"]), min_size=1, max_size=2)


def goes_on(
    shape: Shape, schedule: fg.Schedule, limits: Sequence[str], others: Sequence[str], workers: int, steps: int
) -> None:
    """I3, I4, I9, I13: a run that is killed after ``steps`` and resumed keeps to its new limits and workers.

    It reports the new limits, ends as it would have, and its replay is the same run.  ``workers`` bounds the new
    numbers of workers.
    """
    graph = build(shape, no_pause)
    hand = Hand(plan_by_hand(graph, schedule, limits=limits), oracle=Recount)
    for _ in range(steps):
        if moves := [move for move in hand.moves() if move.kind != "timer"] or hand.moves():
            hand.play(moves[0])
    # Busy workers stay busy, even if fewer are left, which then count as that many.
    busy = {name: state.busy for name, state in hand.machine.stages.items()}
    plan = plan_by_hand(graph, schedule, limits=others)
    capacity = Capacity.of(plan)
    bound = {name: max(min(workers, number), busy[name]) for name, number in capacity.workers.items()}
    before = {name: policy.begin().limit for name, policy in hand.plan.limits.items()}
    for event in hand.events:
        if isinstance(event, ev.LimitChanged):
            before[event.endpoint] = event.limit
    hand.resume_with(Capacity(bound, capacity.limits, capacity.endpoints, capacity.services))
    opened = max(place for place, event in enumerate(hand.events) if isinstance(event, ev.Reopened))
    said = {
        e.endpoint: e.limit
        for e in hand.events[opened:]
        if isinstance(e, ev.LimitChanged) and e.reason == "a new session"
    }
    after = {name: policy.begin().limit for name, policy in plan.limits.items()}
    expected = {name: limit for name, limit in after.items() if before.get(name) != limit}
    expect(said == expected, f"I4: it resumes with {after} after {before}, and reports {said}")
    hand.finish()
    status = hand.machine.status
    expect(status is not None and status.status == "completed", f"I9: it went on, and ended as {status}")
    for name, state in hand.machine.stages.items():
        expect(state.plan.workers == bound[name], f"I3: {name} has {state.plan.workers} workers, not {bound[name]}")
    hand.replay()


def keeps_streams(streams: Sequence[Literal["keyed", "sequential"]], rounds: int, draws: int, seed: int) -> None:
    """I13, I14: sources draw from streams that depend on the seed alone.

    A sequential stream continues where the source before has stopped; a keyed one belongs to the emission.  Each kept
    emission has what the next one needs.
    """
    graph = fg.Graph("streams")
    pool = graph.pool("pool", Kept)
    drawn: list[tuple[str, int, int, list[float]]] = []

    def drawing(name: str) -> Callable[[fg.Draw[Kept, None, int]], fg.Emit[float, int]]:
        def emit(ctx: fg.Draw[Kept, None, int]) -> fg.Emit[float, int]:
            numbers = [ctx.random.random() for _ in range(draws)]
            drawn.append((name, ctx.emission, ctx.state, numbers))
            return fg.Emit(math.fsum(numbers), ctx.state + 1 + ctx.emission)

        return emit

    for place, stream in enumerate(streams):
        name = f"source{place}"
        source: Any = graph.source(name=name, reads=pool, rounds=rounds, stream=stream, state=0)(drawing(name))
        graph.edge(source, pool)

    async def run() -> list[Completed]:
        schedule = fg.pipelined(2, focus=0.0)
        async with fg.open_run(
            graph, TASK, models={}, schedule=schedule, seed=seed, settle=settle, memory=Recording
        ) as opened:
            await opened.wait()
        opened.memory.replay(opened.machine.plan, fg.Budget(), seed)
        return [done for turn in opened.memory.turns for done in turn.completed if done.source]

    kept = run_virtually(run)
    sequential = random.Random(seed)
    expect(len(kept) == len(drawn) == rounds * len(streams), f"I13: of {len(drawn)} draws {len(kept)} are kept")
    for done, (name, emission, cursor, numbers) in zip(kept, drawn, strict=True):
        keyed = streams[int(name.removeprefix("source"))] == "keyed"
        own = random.Random(f"{seed}/{name}/{emission}") if keyed else sequential
        expect(numbers == [own.random() for _ in range(draws)], f"I14: emission {emission} of {name} drew {numbers}")
        expect(cursor == sum(range(emission + 1)), f"I13: emission {emission} of {name} has the state {cursor}")
        state = None if keyed else sequential.getstate()
        expect(done.stream == state, f"I13: emission {emission} of {name} keeps another stream than it left")
        expect((done.source, done.cursor) == (name, cursor + 1 + emission), f"I13: {done.source} keeps {done.cursor}")


SESSIONS: Mapping[str, Property] = {
    "streams of sources": Property(
        ("I13", "I14"),
        keeps_streams,
        {
            "streams": st.lists(st.sampled_from(["keyed", "sequential"]), min_size=1, max_size=3),
            "rounds": st.integers(1, 4),
            "draws": st.integers(0, 3),
            "seed": st.integers(0, 5),
        },
    ),
    "sessions with other limits": Property(
        ("I3", "I4", "I9", "I13"),
        goes_on,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "limits": LIMITS,
            "others": LIMITS,
            "workers": st.integers(1, 3),
            "steps": st.integers(0, 25),
        },
        0.4,
    ),
}
