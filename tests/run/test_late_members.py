"""Late members, and groups within groups, in virtual time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt
from flashgraph.run import events as ev
from flashgraph.testing.tokens import Ledgered, Token
from tests.proof.oracles.small import Kept
from tests.run.kit import Virtually, of, watched


@attrs.frozen
class Outer:
    """A group of groups, as the seconds of each member's members; a negative one fails at that time."""

    times: tuple[tuple[float, ...], ...]
    enter: tuple[float, ...] = ()

    def members(self) -> list[Inner]:
        enter = self.enter or (0.0,) * len(self.times)
        return [Inner(times, seconds) for times, seconds in zip(self.times, enter, strict=True)]


@attrs.frozen
class Inner:
    times: tuple[float, ...]
    enter: float

    def members(self) -> list[float]:
        return list(self.times)


def nested(*rounds: Outer, inner: Any = None, outer: Any = None, after: float = 0.0) -> fg.Graph:
    """Return a graph of members that each scatter members; ``after`` are the seconds of the one worker behind the inner
    groups.
    """
    graph = fg.Graph("nested")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=len(rounds))
    def draw(ctx: fg.Draw[None]) -> Outer:
        return rounds[ctx.emission]

    @graph.stage(workers=99)
    async def enter(member: Inner) -> Inner:
        await anyio.sleep(abs(member.enter))
        if member.enter < 0:
            raise ValueError("does not enter")
        return member

    @graph.stage(workers=99)
    async def work(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    @graph.stage(workers=1)
    async def gathered(group: fg.Group[Inner, float]) -> float:
        await anyio.sleep(after)
        return sum(group.values)

    @graph.stage
    def total(group: fg.Group[Outer, float]) -> Token:
        return Token(int(sum(group.values)), 0)

    graph.edge(draw, enter, scatter=Outer.members)
    graph.edge(enter, work, scatter=Inner.members)
    graph.edge(work, gathered, gather=True, **(inner or {}))
    graph.edge(gathered, total, gather=True, **(outer or {}))
    graph.edge(total, pool)
    return graph


AMENDED: dict[str, Any] = {"release": fg.fraction(0.5), "late": "amend"}


def test_a_member_becomes_late_once(virtually: Virtually) -> None:
    """A member becomes late once. The outer group is released, then the inner one of a member that is late: its late
    members stay late, and both groups are amended.
    """
    result = watched(nested(Outer(((1, 1), (5, 9))), inner=AMENDED, outer=AMENDED), virtually)
    assert result.status == "completed"
    late = Counter(event.item for event in of(result, ev.Late))
    assert late
    assert set(late.values()) == {1}
    released = [(e.at, e.edge, e.amendment) for e in of(result, ev.Released)]
    assert released == [
        (1, "work->gathered", False), (1, "gathered->total", False),
        (1, "work->gathered", True), (5, "work->gathered", False), (5, "gathered->total", True),
        (9, "work->gathered", True),
    ] or [r for r in released if r[1] == "gathered->total"] == [
        (1, "gathered->total", False), (5, "gathered->total", True),
    ]  # fmt: skip


def test_what_waits_and_becomes_late_goes_behind_the_others(virtually: Virtually) -> None:
    """With one worker, the late rest of a group runs when nothing else is left."""
    graph = fg.Graph("demoted")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    def four(number: int) -> list[tuple[int, int]]:
        return [(number, index) for index in range(4)]

    @graph.stage(workers=9)
    async def begin(member: tuple[int, int]) -> tuple[int, int]:
        await anyio.sleep(1)
        return member

    done: list[tuple[int, int]] = []

    @graph.stage(workers=1)
    async def finish(member: tuple[int, int]) -> int:
        await anyio.sleep(2)
        done.append(member)
        return member[1]

    @graph.stage
    def total(group: fg.Group[int, int]) -> Token:
        return Token(sum(group.values), 0)

    graph.edge(draw, begin, scatter=four)
    graph.edge(begin, finish)
    graph.edge(finish, total, gather=True, **AMENDED)
    graph.edge(total, pool)
    result = watched(graph, virtually, schedule=fg.pipelined(window=1))
    assert result.status == "completed"
    # The third of round 0 began before its group was released; the fourth waits for the release of round 1 too.
    assert done == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (0, 3), (1, 2), (1, 3)]


def test_a_group_that_waits_for_room_ends_with_the_group_around_it(virtually: Virtually) -> None:
    """A group that waits for room is an item: when the outer group fails, it ends and takes no room."""
    rounds = [
        Outer(((1, 1), (1, 1), (1, 1), (1,)), enter=(0, 0, 0, -2.5)),
        Outer(((1, 1), (1, 1), (1, 1), (1,))),
    ]
    graph = nested(*rounds, inner={"capacity": 1}, outer={"on_failure": fg.fail_above(0.0)}, after=10)
    result = watched(graph, virtually, schedule=fg.pipelined(window=1))
    assert result.status == "completed"
    assert next((e.at, e.failed) for e in of(result, ev.RoundEnded)) == (2.5, True)
    ended = {e.item: e for e in of(result, ev.Ended)}
    released = [e.item for e in of(result, ev.Released) if e.at < 2.5]
    queued = {e.item for e in of(result, ev.Queued)}
    waiting = [item for item in released if item not in queued]
    assert waiting, "one of the three was to wait for room"
    assert all((ended[item].at, ended[item].how) == (2.5, "cancelled") for item in waiting)
    assert [a.at for a in result.artifacts] == [2.5 + 1 + 4 * 10]


def test_a_budget_that_ends_within_a_group_leaves_it_open(virtually: Virtually, tmp_path: Path) -> None:
    """If the budget pays for three members of five, the group waits for the others and a larger budget."""
    graph = fg.Graph("parked")
    pool = graph.pool("pool", Kept)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw[None]) -> int:
        return 5

    def members(number: int) -> list[int]:
        return list(range(number))

    @graph.stage(counts="evaluations", workers=1)
    async def judge(member: int) -> int:
        await anyio.sleep(1)
        return member

    @graph.stage
    def total(group: fg.Group[int, int]) -> int:
        return sum(group.values)

    graph.edge(draw, judge, scatter=members)
    graph.edge(judge, total, gather=True)
    graph.edge(total, pool)
    result = watched(graph, virtually, budget=fg.Budget(evaluations=3), folder=tmp_path / "run")
    assert (result.status, result.reason, result.artifacts) == ("budget", "no evaluations left", ())
    assert [e.open_items for e in of(result, ev.RunEnded)] == [5]
    then = watched(graph, virtually, budget=fg.Budget(evaluations=9), folder=tmp_path / "run", resume=True)
    assert (then.status, [a.value for a in then.artifacts]) == ("completed", [10])
    assert then.spent.evaluations == 5


@pytest.mark.parametrize("staged", [True, False])
def test_what_was_discarded_is_not_amended(staged: bool, virtually: Virtually) -> None:
    """If the first part of a group was too stale for its edge to a stage or a pool, its amendment is discarded too."""
    graph = fg.Graph("twice")
    pool = graph.pool("pool", Archive)

    @graph.source(reads=pool, rounds=2)
    def draw(ctx: fg.Draw[Archive]) -> int:
        return ctx.emission

    def members(number: int) -> list[float]:
        return [2, 2, 2, 9] if number else [1]

    @graph.stage(workers=9)
    async def work(seconds: float) -> Attempt:
        await anyio.sleep(seconds)
        return Attempt(0, 1.0, "-")

    graph.edge(draw, work, scatter=members)
    end: Any = pool
    if staged:

        @graph.stage
        def regroup(group: fg.Group[int, Attempt]) -> fg.Group[int, Attempt]:
            return group

        graph.edge(regroup, pool)
        end = regroup
    graph.edge(work, end, gather=True, release=fg.fraction(0.75), late="amend", stale=fg.discard(above=0))
    result = watched(graph, virtually, schedule=fg.pipelined(window=2, focus=0))
    assert [e.at for e in of(result, ev.Admitted)] == [1]
    stale = f"stale: lag 1 on work->{'regroup' if staged else 'pool'} (discard(above=0))"
    ends = [(e.at, e.how, e.reason) for e in of(result, ev.Ended) if e.how != "consumed"]
    assert ends == [(2, "discarded", stale), (9, "discarded", stale)]
