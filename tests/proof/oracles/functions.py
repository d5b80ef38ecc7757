"""Reference model of a graph's own functions: one that raises fails only the item that it was called for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import anyio
import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.policies.staleness import Decision, Rule, Touched
from flashgraph.run import events as ev
from tests.proof.oracles.small import Kept, run_small
from tests.proof.tried import Property, expect

__all__ = ["FUNCTIONS"]

Kind = Literal[
    "source condition", "condition", "scatter", "too many members", "order", "release", "stale", "no decision",
    "too several", "members' order", "uses unknown", "uses of no pool",
]  # fmt: skip
KINDS: Sequence[Kind] = Kind.__args__  # type: ignore[attr-defined]  # of a Literal
ON_EDGES: Mapping[str, str] = {
    "source condition": "when", "condition": "when", "scatter": "scatter", "too many members": "scatter",
    "order": "order", "release": "release", "stale": "staleness rule", "no decision": "staleness rule",
}  # fmt: skip
"""The name of each function on an edge in messages."""
WIDTH = 2


@attrs.frozen
class Member:
    number: int
    index: int

    @property
    def id(self) -> int:
        return self.index


NO_DECISION: Any = "discard it"


@attrs.frozen
class Owns(Rule):
    """A user's staleness rule that raises, or returns no decision, on every other item that lags."""

    raises: bool = True
    above: int = 0

    def decide(self, lag: int, repairs: int, touched: Touched = lambda when: True) -> Decision:
        if lag <= self.above:
            return Decision("accept")
        if self.raises:
            raise ZeroDivisionError(f"at {lag}")
        decision: Decision = NO_DECISION
        return decision


def fails_alone(kind: Kind, bad: Sequence[int], rounds: int, schedule: fg.Schedule) -> None:
    """I15: a function of the graph that raises, or returns a wrong value, fails only the items that it was called for.

    The run reports it and continues.  An order of members is only a hint, and fails none.
    """
    graph = fg.Graph("functions")
    pool = graph.pool("pool", Kept)

    def at_fault(where: Kind, number: int) -> bool:
        return kind == where and number in bad

    def asked(where: Kind, number: int) -> bool:
        if at_fault(where, number):
            raise ZeroDivisionError(f"number {number}")
        return True

    def by_source(number: int) -> bool:
        return asked("source condition", number)

    def by_stage(number: int) -> bool:
        return asked("condition", number)

    def each(number: int) -> Sequence[Member]:
        asked("scatter", number)
        more = 1 if at_fault("too many members", number) else 0
        return [Member(number, index) for index in range(WIDTH + more)]

    def urgent(number: int) -> int:
        asked("order", number)
        return -number

    def ready(group: fg.Group[int, Member]) -> bool:
        asked("release", group.origin)
        return False

    def passed(member: Member) -> bool:
        return asked("members' order", member.number)

    reads: dict[str, Any] = {} if kind == "uses of no pool" else {"reads": pool}

    @graph.source(name="source", rounds=rounds, **reads)
    def source(ctx: fg.Draw[Any]) -> int:
        return ctx.emission

    @graph.stage(name="first", fanout=1)
    def first(number: int) -> fg.Several[int]:
        return fg.Several([number] * (2 if at_fault("too several", number) else 1))

    @graph.stage(name="second")
    async def second(number: int) -> int:
        await anyio.sleep(1.0)
        return number

    @graph.stage(name="member")
    async def member(of: Member) -> Member:
        await anyio.sleep(0.5)
        return of

    @graph.stage(name="whole")
    def whole(group: fg.Group[int, Member]) -> int:
        return group.origin

    @graph.stage(name="names", **reads)
    def names(number: int, ctx: fg.Context[Any]) -> int:
        if at_fault("uses unknown", number) or at_fault("uses of no pool", number):
            ctx.parents(99)
        return number

    stale = Owns(raises=kind == "stale") if kind in ("stale", "no decision") else None
    graph.edge(source, first, when=by_source)
    graph.edge(first, second, when=by_stage)
    hinted: dict[str, Any] = {"order": fg.discriminative(2, passed=passed)} if kind == "members' order" else {}
    graph.edge(second, member, scatter=each, fanout=WIDTH, **hinted)
    graph.edge(member, whole, gather=True, release=fg.decided(ready))
    graph.edge(whole, names, order=fg.priority(urgent))
    graph.edge(names, pool, stale=stale)
    result = run_small(graph, schedule)
    expect(result.status == "completed", f"I15: the run ended as {result.status}: {result.reason}")
    admitted = sorted(a.value for a in result.artifacts)
    lost = sorted(set(range(rounds)) - set(admitted))
    raised = [e for e in result.events if isinstance(e, ev.EdgeFailed)]
    failed = [e for e in result.events if isinstance(e, ev.JobEnded) and e.how == "failed"]
    if kind in ("stale", "no decision"):
        lags = [a for a in result.artifacts if a.lag]
        expect(not lags, f"I7: a rule that raises on what lags has let {lags} pass")
        expect(len(raised) >= len(lost), f"I15: the rule has failed {lost}, and {len(raised)} errors are told")
    else:
        # In lockstep a group is complete before its release rule is called.
        unasked = kind == "members' order" or (kind == "release" and not schedule.speculate)
        hurt = sorted({n for n in bad if n < rounds}) if not unasked else []
        expect(lost == hurt, f"I15: {kind} was at fault at {hurt}, and {lost} have failed")
    functions = {e.function for e in raised}
    expect(functions <= {ON_EDGES.get(kind, "")}, f"I15: {kind} was at fault, and {functions} are said to have raised")
    on_edge = kind in ON_EDGES
    expect(bool(raised) == (on_edge and bool(lost)), f"I15: of {lost} that failed it says {raised}")
    expect(len(failed) == (0 if on_edge else len(lost)), f"I15: of {lost} that failed it says {failed}")
    ended = {e.item for e in result.events if isinstance(e, ev.Ended)}
    made = {e.item for e in result.events if isinstance(e, ev.Created)}
    expect(made == ended, f"I1: of {sorted(made)} items {sorted(made - ended)} have not ended")


def ends_without_a_pool(emits: int, rounds: int | None, window: int) -> None:
    """I9: a source that reads no pool emits as often as it may, or until it returns None, and is not called again."""
    graph = fg.Graph("blind")
    pool = graph.pool("pool", Kept)
    asked: list[int] = []

    @graph.source(name="source", rounds=rounds)
    def source(ctx: fg.Draw[None]) -> int | None:
        asked.append(ctx.emission)
        return ctx.emission if ctx.emission < emits else None

    @graph.stage(name="stage")
    async def stage(number: int) -> int:
        await anyio.sleep(1.0)
        return number

    graph.edge(source, stage)
    graph.edge(stage, pool)
    result = run_small(graph, fg.pipelined(window, focus=0.5))
    expected = emits if rounds is None else min(emits, rounds)
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    expect(sorted(a.value for a in result.artifacts) == list(range(expected)), f"I9: of {expected} rounds {asked}")
    silent = [expected] if rounds is None or emits < rounds else []
    expect(asked == [*range(expected), *silent], f"I9: it was asked for {asked}, expected {expected} and {silent}")


SCHEDULES = st.sampled_from([fg.lockstep(), fg.pipelined(1, focus=0.0), fg.pipelined(4, focus=0.0)])

FUNCTIONS: Mapping[str, Property] = {
    "functions that raise": Property(
        ("I1", "I15"),
        fails_alone,
        {
            "kind": st.sampled_from(KINDS),
            "bad": st.lists(st.integers(0, 5), max_size=3),
            "rounds": st.integers(1, 6),
            "schedule": SCHEDULES,
        },
        1,
        known=[{"kind": kind, "bad": [0, 2], "rounds": 4, "schedule": fg.pipelined(4, focus=0.0)} for kind in KINDS],
    ),
    "sources that read nothing": Property(
        ("I9",),
        ends_without_a_pool,
        {
            "emits": st.integers(0, 6),
            "rounds": st.one_of(st.none(), st.integers(1, 6)),
            "window": st.integers(1, 3),
        },
        0.4,
    ),
}
