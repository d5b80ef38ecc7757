"""Reference model of how runs end: sources that fall silent, and errors of the user that end a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
import anyio.lowlevel
import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.result import raised_in, texts_of
from flashgraph.sim.clock import run_virtually
from flashgraph.testing.runs import TASK
from tests.proof.oracles.small import Kept, run_small
from tests.proof.tried import Property, expect

__all__ = ["ENDS"]

How = Literal["raises", "best raises", "best is a stranger", "changes in place"]
IN_A_ROW = 100
FAILURES = 20


def falls_silent(
    gaps: Sequence[int], takes: int, other: Literal["", "like it", "with rounds"], schedule: fg.Schedule
) -> None:
    """I9: a source falls silent after a hundred emissions in a row that no edge takes.

    First it waits for its pool to change or for one of its rounds to end.  An emission that an edge takes starts the
    count again.  ``gaps`` are the numbers of untaken emissions before each taken one; the pool keeps the first
    ``takes`` of the taken ones.
    """
    taken: set[int] = set()
    for gap in gaps:
        taken.add(max(taken, default=-1) + 1 + gap)
    graph = fg.Graph("silent")
    pool = graph.pool("pool", Kept)

    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    names = ["source", "other"] if other == "like it" else ["source"]
    bounded = {"few": 3} if other == "with rounds" else {}
    for name in [*names, *bounded]:
        source = graph.source(name=name, reads=pool, rounds=bounded.get(name))(emit)

        @graph.stage(name=f"after_{name}")
        async def passed(number: int) -> int | None:
            await anyio.sleep(1.0)
            return number if number < takes else None

        graph.edge(source, passed, when=taken.__contains__)
        graph.edge(passed, pool)
    result = run_small(graph, schedule)
    who = " and ".join(map(repr, names))
    said = f"the sources have nothing to emit: no edge took the last {IN_A_ROW} emissions of {who}"
    expect((result.status, result.reason) == ("completed", said), f"I9: it ended as {result.status}: {result.reason}")
    emitted = {n: [e.emission for e in result.events if isinstance(e, ev.Emitted) and e.source == n] for n in names}
    for name, found in emitted.items():
        expect(found == list(range(len(found))), f"I9: {name} has emitted {found}")
        row = 0
        for number in found:
            row = 0 if number in taken else row + 1
        expect(row > 0 and row % IN_A_ROW == 0, f"I9: {name} fell silent after {row} emissions that nobody took")
        mine = {e.round: e.emission for e in result.events if isinstance(e, ev.Emitted) and e.source == name}
        asked, changed = -1, -1
        for place, event in enumerate(result.events):
            if isinstance(event, ev.Emitted) and event.source == name:
                asked = place
            elif isinstance(event, ev.Admitted) or (
                isinstance(event, ev.RoundEnded) and mine.get(event.round) in taken
            ):
                changed = place
        expect(asked > changed, f"I9: {name} was not asked again after {result.events[changed]}")
        if not other and schedule.serial:
            expect(len(found) == _until_silent(taken, takes), f"I9: {name} emitted {len(found)} times")


def _until_silent(taken: set[int], takes: int) -> int:
    """Return how often a source emits alone and in lockstep.

    Its rounds end, and the pool changes, before the next draw.  A silent source is asked again only if something has
    happened since, and nothing happens during untaken emissions.
    """
    row = number = 0
    while row < IN_A_ROW:
        row = 0 if number in taken else row + 1
        number += 1
    return number


def says_what_broke(breaks: int | None, how: How, rounds: int, alone: bool, schedule: fg.Schedule) -> None:
    """I15: an error of a pool ends the run, and its caller gets that error; without one the run completes.

    With ``alone`` the pool is fed by its source's only stage, which is a plain function.
    """
    graph = fg.Graph("broken")
    pool = graph.pool("pool", lambda: Kept(breaks, how))

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    def at_once(number: int) -> int:
        return number

    async def slowly(number: int) -> int:
        await anyio.sleep(1.0)
        return number

    body: Callable[[int], Any] = at_once if alone else slowly
    stage = graph.stage(name="stage")(body)
    graph.edge(emit, stage)
    graph.edge(stage, pool)
    expected = breaks is not None and breaks <= rounds
    try:
        result = run_small(graph, schedule)
    except fg.FlashgraphError as error:
        cause = error.__cause__
        raised = how in ("raises", "best raises")
        said = "changed the value" if how == "changes in place" else f"of {breaks}"
        told = isinstance(cause, ZeroDivisionError) == raised and said in str(error) and "pool 'pool'" in str(error)
        expect(expected and told, f"I15: the run has raised {error!r} from {cause!r}")
        return
    expect(not expected, f"I15: the pool broke at {breaks}, and the run ended as {result.status}")
    admitted = [a.value for a in result.artifacts]
    expect(sorted(admitted) == list(range(rounds)), f"I1: of {rounds} rounds the pool has {admitted}")


def says_which_source(breaks: int, rounds: int, window: int, how: Literal["raises", "returns"]) -> None:
    """I15: a source that raises, or returns another class than it declares, ends the run at once.

    The run names the source and the reason, and keeps what was admitted before.
    """
    graph = fg.Graph("broken")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        if ctx.emission == breaks and how == "raises":
            raise ZeroDivisionError(f"at {ctx.emission}")
        wrong: Any = "text"
        return wrong if ctx.emission == breaks else ctx.emission

    @graph.stage(name="slowly")
    async def slowly(number: int) -> int:
        await anyio.sleep(1.0)
        return number

    graph.edge(emit, slowly)
    graph.edge(slowly, pool)
    result = run_small(graph, fg.pipelined(window, focus=0.0))
    drawn = [e for e in result.events if isinstance(e, ev.Emitted)]
    admitted = [a.value for a in result.artifacts]
    if breaks >= rounds:
        expect(result.status == "completed", f"I15: no source broke, and the run ended as {result.reason}")
        expect(sorted(admitted) == list(range(rounds)), f"I1: of {rounds} rounds the pool has {admitted}")
        return
    said = f"ZeroDivisionError: at {breaks}" if how == "raises" else "str"
    told = result.reason.startswith("source 'emit' failed: ") and said in result.reason
    expect(result.status == "failed" and told, f"I15: it ended as {result.status}: {result.reason}")
    expect(len(drawn) == breaks, f"I15: the source broke at {breaks}, and has emitted {len(drawn)} times")
    expected = list(range(breaks - breaks % window if breaks >= window else 0))
    expect(sorted(admitted) == expected, f"I1: it broke at {breaks}, the pool has {admitted}, expected {expected}")


def gives_up(sound: Sequence[int], where: Literal["stage", "condition"], rounds: int, schedule: fg.Schedule) -> None:
    """I15: a stage, or a function on an edge, that fails twenty times in a row ends the run with its last error.

    One success starts the count again.  ``sound`` are the emissions on which it does not fail.
    """
    graph = fg.Graph("failing")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    def asked(number: int) -> bool:
        if number not in sound:
            raise ZeroDivisionError(f"number {number}")
        return True

    def passed(number: int) -> int:
        if where == "stage":
            asked(number)
        return number

    stage: Any = graph.stage(name="passed")(passed)
    graph.edge(emit, stage)
    graph.edge(stage, pool, when=asked if where == "condition" else None)
    result = run_small(graph, schedule)
    row, last = 0, None
    for number in range(rounds):
        row = 0 if number in sound else row + 1
        if row == FAILURES and last is None:
            last = number
    failed = sum(
        isinstance(e, ev.EdgeFailed) or (isinstance(e, ev.JobEnded) and e.how == "failed") for e in result.events
    )
    raised = raised_in(result.events)
    said_raised = [(r.edge, r.function, r.times) for r in raised]
    expected_raised = [("passed->pool", "when", failed)] if failed and where == "condition" else []
    expect(said_raised == expected_raised, f"I15: the functions that raised are {raised}, expected {expected_raised}")
    shown = all("ZeroDivisionError: number " in r.error and str(r.times) in str(r) for r in raised)
    expect(shown, f"I15: it says {raised}")
    fruitless = not result.artifacts
    judged = "failed" if fruitless or last is not None else "completed"
    expect(result.judged().status == judged, f"I15: of {failed} failures it is judged {result.judged().status}")
    if last is None:
        expect(result.status == "completed", f"I15: it failed {row} times in a row, and ended as {result.reason}")
        expect(failed == rounds - len({n for n in sound if n < rounds}), f"I15: it failed {failed} times")
        return
    said = f"{FAILURES} times in a row" in result.reason and f"number {last}" in result.reason
    expect(result.status == "failed" and said, f"I15: it ended as {result.status}: {result.reason}")


def lets_others_on(rounds: int) -> None:
    """I15: plain functions may follow one another without a pause, but other tasks run after at most fifty turns.

    Here each turn is one stage or source.
    """
    graph = fg.Graph("plain")
    pool = graph.pool("pool", Kept)
    done = turns = most = 0

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="plain", workers=1)
    def plain(number: int) -> int:
        nonlocal done
        done += 1
        return number

    graph.edge(emit, plain)
    graph.edge(plain, pool)

    async def others() -> None:
        nonlocal turns, most
        while True:
            before = done
            await anyio.lowlevel.checkpoint()
            turns, most = turns + (0 < done < rounds), max(most, done - before)

    async def run() -> fg.Result:
        # The real event loop decides: nothing settles, and nothing waits for a clock.
        opened = fg.open_run(graph, TASK, models={}, schedule=fg.pipelined(1, focus=0.0))
        async with opened as running, anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            result = await running.wait()
            tasks.cancel_scope.cancel()
        return result

    # Trio would run the other tasks before or after the scheduler at random.
    result = run_virtually(run, backend="asyncio")
    expect(result.status == "completed" and done == rounds, f"I9: {done} of {rounds} rounds, {result.reason}")
    expect(most <= 26, f"I15: {most} stages ran before any other task")
    expected = rounds // 25
    expect(expected - 3 <= turns <= expected, f"I9: others were let on {turns} times among {rounds} stages")


@attrs.frozen
class Wrapped:
    text: object


def has_texts(parts: Mapping[str, str], other: int | None, deep: int) -> None:
    """I13: an artifact's texts are those of a string, of a mapping of strings, or of its ``text``.

    A value with any other part has no texts.
    """
    value: Any = {**parts, "odd": other} if other is not None else dict(parts)
    expected: Any = dict(parts) if other is None else None
    if set(parts) == {"text"} and other is None:
        value = parts["text"]
    for _ in range(deep):
        value = Wrapped(value)
    expect(texts_of(value) == expected, f"I13: the texts of {value!r} are {texts_of(value)}, expected {expected}")


GAPS = st.lists(st.sampled_from([0, 0, 1, 3, 98, 99, 100, 101, 130]), max_size=5)
SCHEDULES = st.sampled_from([fg.lockstep(), fg.pipelined(1), fg.pipelined(4), fg.throughput(3)])
NAMES = st.sampled_from(["text", "instruction", "tool"])

ENDS: Mapping[str, Property] = {
    "sources that fall silent": Property(
        ("I9",),
        falls_silent,
        {
            "gaps": GAPS,
            "takes": st.sampled_from([0, 2, 500]),
            "other": st.sampled_from(["", "", "like it", "with rounds"]),
            "schedule": SCHEDULES,
        },
        0.6,
        known=[
            {"gaps": [99, 99], "takes": 500, "other": "", "schedule": fg.lockstep()},
            {"gaps": [0, 130], "takes": 500, "other": "", "schedule": fg.pipelined(4)},
            {"gaps": [0, 130], "takes": 0, "other": "", "schedule": fg.pipelined(4)},
            {"gaps": [1], "takes": 2, "other": "with rounds", "schedule": fg.pipelined(4)},
            {"gaps": [3, 100], "takes": 0, "other": "", "schedule": fg.lockstep()},
        ],
    ),
    "a pool that breaks": Property(
        ("I1", "I15"),
        says_what_broke,
        {
            "breaks": st.one_of(st.none(), st.integers(1, 5)),
            "how": st.sampled_from(["raises", "best raises", "best is a stranger", "changes in place"]),
            "rounds": st.integers(1, 5),
            "alone": st.booleans(),
            "schedule": SCHEDULES,
        },
        0.6,
        known=[
            {"breaks": 2, "how": how, "rounds": 3, "alone": False, "schedule": fg.lockstep()}
            for how in ("raises", "best raises", "best is a stranger", "changes in place")
        ],
    ),
    "a source that breaks": Property(
        ("I1", "I15"),
        says_which_source,
        {
            "breaks": st.integers(0, 7),
            "rounds": st.integers(1, 6),
            "window": st.integers(1, 3),
            "how": st.sampled_from(["raises", "returns"]),
        },
        0.6,
    ),
    "failures in a row": Property(
        ("I15",),
        gives_up,
        {
            "sound": st.lists(st.integers(0, 50), max_size=3),
            "where": st.sampled_from(["stage", "condition"]),
            "rounds": st.sampled_from([19, 20, 21, 45]),
            "schedule": st.sampled_from([fg.lockstep(), fg.pipelined(1, focus=0.0)]),
        },
        0.6,
        known=[
            {"sound": [], "where": where, "rounds": rounds, "schedule": fg.lockstep()}
            for where in ("stage", "condition")
            for rounds in (19, 20)
        ],
    ),
    "turns of other tasks": Property(
        ("I9", "I15"),
        lets_others_on,
        {"rounds": st.integers(1, 400)},
        0.2,
        known=[{"rounds": 300}],
    ),
    "texts of artifacts": Property(
        ("I13",),
        has_texts,
        {
            "parts": st.dictionaries(NAMES, st.text(max_size=3), max_size=3),
            "other": st.one_of(st.none(), st.integers(0, 2)),
            "deep": st.integers(0, 2),
        },
        2,
    ),
}
