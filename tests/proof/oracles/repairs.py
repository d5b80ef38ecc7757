"""Reference model of repairs: the fate of an item, from its verdicts alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import anyio
import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from tests.proof.oracles.small import Kept, run_small
from tests.proof.tried import Property, expect

__all__ = ["REPAIRS"]

ROUNDS = 8
Kind = Literal["accept", "patch", "discard", "raise"]


@attrs.frozen
class Made:
    """The number of an emission, and how often it was patched."""

    number: int
    patched: int = 0


def obeys_verdicts(verdicts: Sequence[Kind], above: int, times: int, plain: bool, names: bool, window: int) -> None:
    """I1, I7: the verdict of a repair decides about its item.

    The item continues unchanged or patched, with the version that the repair has read as its stamp.  It is discarded
    only on such a verdict, fails if the repair raises, and is repaired as often as the rule allows.  A patched item
    descends from the artifacts that its repair has named.
    """
    graph = fg.Graph("repaired")
    pool = graph.pool("pool", Kept)
    asked: defaultdict[int, list[tuple[Kind, int, tuple[int, ...]]]] = defaultdict(list)

    @graph.source(reads=pool, rounds=ROUNDS)
    def emit(ctx: fg.Draw[Kept]) -> Made:
        return Made(ctx.emission)

    @graph.stage()
    async def slow(made: Made) -> Made:
        await anyio.sleep(1.0 + made.number % 3)
        return made

    def judged(stale: fg.Stale[Made], ctx: fg.Context[Kept]) -> fg.Verdict[Made]:
        number = stale.value.number
        kind = verdicts[(number + len(asked[number])) % len(verdicts)]
        named = tuple(ctx.view.artifacts)[-1:] if names else ()
        asked[number].append((kind, ctx.view.version, named))
        expect(len(stale.changes) == stale.lag > above, f"I7: told of {len(stale.changes)} changes at lag {stale.lag}")
        if named:
            ctx.parents(*named)
        if kind == "raise":
            raise ZeroDivisionError("judged")
        if kind == "discard":
            return fg.Verdict.discard(f"number {number}")
        return fg.Verdict.accept() if kind == "accept" else fg.Verdict.patch(Made(number, stale.value.patched + 1))

    async def slowly(stale: fg.Stale[Made], ctx: fg.Context[Kept]) -> fg.Verdict[Made]:
        found = judged(stale, ctx)
        await anyio.sleep(0.5)
        return found

    body: Any = judged if plain else slowly
    repair = graph.stage(name="repair", reads=pool)(body)
    graph.edge(emit, slow)
    graph.edge(slow, pool, stale=fg.repair(repair, above=above, times=times))

    result = run_small(graph, fg.pipelined(window, focus=0.0))
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    kept = {a.value.number: a for a in result.artifacts}
    last = {e.item: e for e in result.events if isinstance(e, ev.Ended) and e.how in ("discarded", "failed")}
    reasons = sorted(e.reason for e in last.values())
    expected: list[str] = []
    for number in range(ROUNDS):
        said = asked[number]
        kinds = [kind for kind, _, _ in said]
        expect(len(said) <= times, f"I7: {number} was judged {len(said)} times, at most {times} are allowed")
        ends = bool(kinds) and kinds[-1] in ("discard", "raise")
        expect(ends != (number in kept), f"I1: {number} was judged as {kinds}, and the pool has {sorted(kept)}")
        expect(not {"discard", "raise"} & set(kinds[:-1]), f"I1: {number} was judged as {kinds}")
        if ends:
            expected.append(f"repair: number {number}" if kinds[-1] == "discard" else "ZeroDivisionError: judged")
            continue
        artifact = kept[number]
        patched = kinds.count("patch")
        expect(artifact.value.patched == patched, f"I1: {number} was patched {patched} times, it is {artifact.value}")
        named = {one for _, _, every in said for one in every}
        expect(set(artifact.parents) == named, f"I6: {number} named {named}, its parents are {artifact.parents}")
        if said:
            lag = artifact.version - 1 - said[-1][1]
            expect(artifact.lag == lag, f"I6: {number} was judged at {said[-1][1]}, it lags by {artifact.lag}")
    expect(reasons == sorted(expected), f"I1: items ended for {reasons}, expected {expected}")


def waits_no_longer(
    seconds: Sequence[int], needed: int, late: Literal["cancel", "drop"], workers: int, repairs: int
) -> None:
    """I1, I8: members that wait for a busy repair stage while their group is released delay nothing.

    With ``cancel`` they are not repaired; otherwise they are, and the result is unused.
    """
    graph = fg.Graph("busy")
    pool = graph.pool("pool", Kept)
    width = len(seconds)

    @graph.source(name="ticks", reads=pool, rounds=3)
    def ticks(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="tick")
    async def tick(number: int) -> int:
        await anyio.sleep(0.5)
        return -1 - number

    @graph.source(name="whole", reads=pool, rounds=3)
    def whole(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="member", workers=3 * width)
    async def member(number: int) -> int:
        await anyio.sleep(seconds[number])
        return number

    @graph.stage(name="repair", reads=pool, workers=workers)
    async def repair(stale: fg.Stale[int], ctx: fg.Context[Kept]) -> fg.Verdict[int]:
        await anyio.sleep(repairs)
        return fg.Verdict.patch(stale.value)

    @graph.stage(name="after", workers=3 * width)
    async def after(number: int) -> int:
        await anyio.sleep(0.25)
        return number

    @graph.stage(name="gathered")
    async def gathered(group: fg.Group[int, int]) -> tuple[int, ...]:
        return tuple(group.values)

    def each(number: int) -> Sequence[int]:
        return list(range(width))

    graph.edge(ticks, tick)
    graph.edge(tick, pool)
    graph.edge(whole, member, scatter=each, fanout=width)
    graph.edge(member, after, stale=fg.repair(repair, above=0))
    graph.edge(after, gathered, gather=True, release=fg.count(needed), late=late)
    graph.edge(gathered, pool)
    result = run_small(graph, fg.pipelined(3, focus=0.0))
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    groups = [a.value for a in result.artifacts if isinstance(a.value, tuple)]
    expect(len(groups) == 3, f"I8: 3 groups went on, the pool has {groups}")
    least = min(needed, width)
    expect(all(len(g) >= least for g in groups), f"I8: groups go on with {least} members, the pool has {groups}")
    ended = {e.item: e.how for e in result.events if isinstance(e, ev.Ended)}
    made = [e.item for e in result.events if isinstance(e, ev.Created)]
    expect(sorted(made) == sorted(ended), f"I1: of the items {made} these have ended: {sorted(ended)}")
    gone: set[int] = set()
    for event in result.events:
        if isinstance(event, ev.Ended):
            gone.add(event.item)
        expect(not (isinstance(event, ev.JobStarted) and event.item in gone), f"I1: item has ended before {event}")


REPAIRS: Mapping[str, Property] = {
    "model of verdicts": Property(
        ("I1", "I6", "I7"),
        obeys_verdicts,
        {
            "verdicts": st.lists(st.sampled_from(["accept", "patch", "discard", "raise"]), min_size=1, max_size=4),
            "above": st.integers(0, 2),
            "times": st.integers(1, 3),
            "plain": st.booleans(),
            "names": st.booleans(),
            "window": st.sampled_from([1, 4, 8]),
        },
        2,
    ),
    "late repairs": Property(
        ("I1", "I8", "I9"),
        waits_no_longer,
        {
            "seconds": st.lists(st.integers(1, 3), min_size=1, max_size=5),
            "needed": st.integers(1, 3),
            "late": st.sampled_from(["cancel", "cancel", "drop"]),
            "workers": st.integers(1, 2),
            "repairs": st.integers(0, 3),
        },
        0.6,
        known=[{"seconds": [1, 1, 1, 1], "needed": 1, "late": "cancel", "workers": 1, "repairs": 2}],
    ),
}
