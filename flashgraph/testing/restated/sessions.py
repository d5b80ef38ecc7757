"""Sessions said once more: what a run that goes on with other workers and limits keeps to from then on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.plan import Capacity
from flashgraph.testing.graphs import Shape, build
from flashgraph.testing.hand import Hand, no_pause, plan_by_hand
from flashgraph.testing.strategies import schedules, shapes
from flashgraph.testing.tried import Property, expect

__all__ = ["SESSIONS"]

LIMITS = st.lists(st.sampled_from(["fixed(1)", "fixed(2)", "fixed(5)", "adaptive(1..4)"]), min_size=1, max_size=2)


def goes_on(
    shape: Shape, schedule: fg.Schedule, limits: Sequence[str], others: Sequence[str], workers: int, steps: int
) -> None:
    """I3, I4, I9, I13: a run that is killed after so many ``steps`` and goes on with other limits and at most so many
    ``workers`` says which limits are new, keeps to them and to its workers, and ends as it would; told again it is the
    same run."""
    graph = build(shape, no_pause)
    hand = Hand(plan_by_hand(graph, schedule, limits=limits))
    for _ in range(steps):
        if moves := [move for move in hand.moves() if move.kind != "timer"] or hand.moves():
            hand.play(moves[0])
    # What ran runs again at once, also where there are fewer workers now: as many as that there are.
    running = Counter(job.node for job in hand.machine.running)
    plan = plan_by_hand(graph, schedule, limits=others)
    capacity = Capacity.of(plan)
    bound = {name: max(min(workers, number), running[name]) for name, number in capacity.workers.items()}
    before = {name: policy.begin().limit for name, policy in hand.plan.limits.items()}
    for event in hand.events:
        if isinstance(event, ev.LimitChanged):
            before[event.endpoint] = event.limit
    hand.go_on_with(Capacity(bound, capacity.limits, capacity.endpoints, capacity.services))
    opened = max(place for place, event in enumerate(hand.events) if isinstance(event, ev.Reopened))
    said = {
        e.endpoint: e.limit
        for e in hand.events[opened:]
        if isinstance(e, ev.LimitChanged) and e.reason == "a new session"
    }
    after = {name: policy.begin().limit for name, policy in plan.limits.items()}
    expected = {name: limit for name, limit in after.items() if before.get(name) != limit}
    expect(said == expected, f"I4: it goes on with {after} after {before}, and says {said}")
    hand.finish()
    status = hand.machine.status
    expect(status is not None and status[0] == "completed", f"I9: it went on, and ended as {status}")
    for name, state in hand.machine.stages.items():
        expect(state.plan.workers == bound[name], f"I3: {name} has {state.plan.workers} workers, not {bound[name]}")
    hand.retell()


SESSIONS: Mapping[str, Property] = {
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
    ),
}
