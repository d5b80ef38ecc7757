"""Whole runs of generated graphs under a virtual clock, each checked against some of the invariants.

A property is a function of a generated example.  It raises if an invariant does not hold, and returns the runs that it
has made.  `prove` tries it on many examples; the tests use few, `python -m tests.proof` more.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import cause
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.cause import Cause, End
from flashgraph.run.machine import Machine
from flashgraph.run.turns import Turn, apply
from flashgraph.sim.clock import run_virtually
from flashgraph.testing.algorithms import outcomes
from flashgraph.testing.drawing import drawing, schedule_line
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import Hand, no_pause, plan_by_hand
from flashgraph.testing.interpreter import interpret
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.recording import FULL
from flashgraph.testing.runs import TASK, Finished
from flashgraph.testing.shape import Choice, Ending, Fan, Loop, Segment, Shape, Split, Step
from flashgraph.testing.strategies import moving_limits, schedules, shapes
from flashgraph.testing.tokens import Ledgered, draw
from tests.proof.oracles import ORACLES
from tests.proof.recount import Recount
from tests.proof.tried import Property, expect, ran
from tests.proof.watchers import minds_no_hook, waits_for_no_hook, waits_for_no_viewer

__all__ = [
    "PROPERTIES",
    "Property",
    "Tally",
    "ends_in_time",
    "ends_when_drained",
    "equals_the_interpreter",
    "fails_with_its_disk",
    "goes_on_after_a_stop",
    "is_what_it_was_told",
    "keeps_failures_to_their_rounds",
    "keeps_its_budget",
    "leaves_nothing_behind",
    "logs_alike",
    "minds_no_hook",
    "prove",
    "runs_to_the_end",
    "stops_on_its_disk",
    "waits_for_its_disk",
    "waits_for_no_hook",
    "waits_for_no_viewer",
    "without",
]

BACKENDS = st.sampled_from(["trio", "asyncio"])
LIMITS = st.sampled_from([1, 2, 7])


@attrs.define
class Tally:
    """How much a property was tried.

    ``parts`` are the examples that compare one part of the scheduler with its reference model (`ORACLES`).  All other
    ``examples`` are whole runs.  ``orders`` counts orders of tiny runs, ``graphs`` different graphs, ``events`` the
    events of all runs, ``loops`` the examples on each event loop.  ``said`` is further text.
    """

    examples: int = 0
    events: int = 0
    orders: int = 0
    graphs: set[str] = attrs.field(factory=set)
    loops: Counter[str] = attrs.field(factory=Counter)
    said: str = ""
    parts: int = 0

    @property
    def runs(self) -> int:
        return self.examples - self.parts


def runs_to_the_end(shape: Shape, schedule: fg.Schedule, backend: str, limit: int) -> list[Finished]:
    """A run without a budget completes."""
    done = ran(backend, shape, schedule, limit=limit)
    expect(done.result.status == "completed", f"I9: the run ended as {done.result.status}: {done.result.reason}")
    check_invariants(done.events, done.plan)
    expect(done.model.peak <= limit, f"I4: {done.model.peak} requests at once, the limit is {limit}")
    expect(done.model.in_flight == 0, "I12: requests are left behind")
    return [done]


def keeps_to_limits_that_move(
    shape: Shape, schedule: fg.Schedule, limits: tuple[str, ...], seed: int
) -> list[Finished]:
    """A run keeps to limits that move, with faulty requests and an endpoint that is down at first.

    It completes within the limit of each moment, and alike on both event loops.
    """
    done = [ran(backend, shape, schedule, limits=limits, seed=seed) for backend in ("trio", "asyncio")]
    for run in done:
        expect(run.result.status == "completed", f"I9: the run ended as {run.result.status}: {run.result.reason}")
        check_invariants(run.events, run.plan)
        left = sum(model.in_flight for model in (run.model, *run.others))
        expect(left == 0, f"I12: {left} requests are left behind")
        for model in (run.model, *run.others):
            reads = model.sent and model.limits is not None and model.limits.reads
            due = (run.seconds or 0.0) // 1.1 if reads else 0.0
            expect(
                model.read >= due, f"I4: {model.name} was asked {model.read} times how full it is, in {run.seconds} s"
            )
    expect(done[0].events == done[1].events, "I14: two event loops, two logs")
    return done


def keeps_its_budget(shape: Shape, schedule: fg.Schedule, backend: str, budget: fg.Budget) -> list[Finished]:
    """Whatever the limits of the budget, started work stays within them, and the run ends."""
    done = ran(backend, shape, schedule, budget=budget)
    expect(done.result.status in ("completed", "budget"), f"I9: {done.result.status}: {done.result.reason}")
    check_invariants(done.events, done.plan, budget)
    spent = done.result.spent
    for name, limit in budget.limits.items():
        expect(getattr(spent, name) <= limit * (1 + 1e-9), f"I10: {getattr(spent, name)} {name} of {limit}")
    for name in ("calls", "evaluations"):
        used = done.result.cause != name or getattr(spent, name) == budget.limits.get(name)
        expect(used, f"I10: {done.result.reason}, and {getattr(spent, name)} of {budget.limits.get(name)} were spent")
    expect(spent.calls == done.model.sent, f"I10: {done.model.sent} requests were sent, {spent.calls} are accounted")
    return [done]


def goes_on_with_more(
    shape: Shape, schedule: fg.Schedule, backend: str, budget: fg.Budget, times: int | None, again: bool
) -> list[Finished]:
    """A run that ended for its budget continues with ``times`` as much, or without a limit for None.

    No item has ended for the budget, and no reply is paid twice.  In lockstep it equals the run with the larger budget
    from the start.  ``again`` resumes it in between with the same budget.
    """
    larger = fg.Budget(**{name: limit * times for name, limit in budget.limits.items()} if times else {})  # type: ignore[arg-type]  # whole numbers
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/run"
        sent = ran(backend, shape, schedule, budget=budget, folder=folder).model.sent
        if again:
            sent += ran(backend, shape, schedule, budget=budget, folder=folder, resume=True).model.sent
        done = ran(backend, shape, schedule, budget=larger, folder=folder, resume=True)
    check_invariants(done.events, done.plan, larger)
    sent += done.model.sent
    straight = ran(backend, shape, schedule, budget=larger)
    refused = [e for e in done.events if isinstance(e, ev.Ended) and e.cause in cause.LIMITS]
    expect(not refused, f"I1: the budget has ended {refused}")
    expect(done.result.spent.calls == sent, f"I10: {sent} requests were sent, {done.result.spent.calls} are accounted")
    ended = done.result.status, done.result.reason
    expect(
        ended[0] == "completed" if times is None else ended[0] in ("completed", "budget"), f"I9: it ended as {ended}"
    )
    # The usable part of the remaining tokens depends on the requests that come first.  A request that fails is tried
    # twice, and again in the session that repeats its job.
    alike = not shape.refused and not (budget.tokens or budget.usd)
    if schedule.serial and (times is None or alike):
        expect(ended == (straight.result.status, straight.result.reason), f"I13: it ended as {ended}")
        mine, other = ([(a.pool, a.value, a.parents) for a in r.result.artifacts] for r in (done, straight))
        expect(mine == other, f"I13: it has admitted {mine}, with the larger budget at once {other}")
        for of in ("calls", "evaluations") if not shape.refused else ():
            found, expected = (getattr(r.result.spent, of) for r in (done, straight))
            expect(found == expected, f"I13: it has spent {found} {of}, with the larger budget at once {expected}")
    return [done, straight]


def leaves_nothing_behind(
    shape: Shape, schedule: fg.Schedule, backend: str, after: float, outside: bool
) -> list[Finished]:
    """After a stop or a cancellation at any moment no request is left, and every item has ended or is open."""
    if outside:
        after += 0.001  # a moment at which nothing else happens
        done = ran(backend, shape, schedule, cancel_after=after)
        begun = [e for e in done.events if e.at >= after - 1e-6 and not isinstance(e, ev.CallEnded | ev.LimitChanged)]
        expect(not begun, f"I12: it was cancelled after {after} s, and went on with {begun}")
    else:
        done = ran(backend, shape, schedule, stop_after=after)
        check_invariants(done.events, done.plan)
    expect(done.model.in_flight == 0, f"I12: {done.model.in_flight} requests are left behind")
    expect(done.result.status in ("completed", "cancelled"), f"I12: it ended as {done.result.status}")
    spent = done.result.spent
    expect(spent.seconds <= after + 1e-6, f"I12: it was to end after {after} s, and took {spent.seconds} s")
    expect(spent.calls == done.model.sent, f"I10: {done.model.sent} requests were sent, {spent.calls} are accounted")
    return [done]


def ends_in_time(shape: Shape, schedule: fg.Schedule, backend: str, seconds: float) -> list[Finished]:
    """A run ends when its time budget ends, and leaves nothing behind."""
    done = ran(backend, shape, schedule, budget=fg.Budget(seconds=seconds))
    check_invariants(done.events, done.plan)
    result = done.result
    expect(done.model.in_flight == 0, f"I12: {done.model.in_flight} requests are left behind")
    expect(result.spent.seconds <= seconds, f"I10: {seconds} s were given, and {result.spent.seconds} s spent")
    if result.status == "completed":
        return [done]
    ended = (result.status, result.reason, result.spent.seconds)
    expect(ended == ("budget", f"{seconds:g} seconds are over", seconds), f"I10: of {seconds} s it ended as {ended}")
    return [done]


def ends_when_drained(shape: Shape, schedule: fg.Schedule, backend: str, after: float) -> list[Finished]:
    """A drained run starts nothing more, and ends when running work has ended."""
    after += 0.001  # a moment at which nothing else happens
    done = ran(backend, shape, schedule, drain_after=after)
    check_invariants(done.events, done.plan)
    expect(done.model.in_flight == 0, f"I12: {done.model.in_flight} requests are left behind")
    ended = (done.result.status, done.result.reason)
    late = [e for e in done.events if isinstance(e, ev.JobStarted) and e.at >= after - 1e-6]
    expect(not late, f"I12: it was drained after {after} s, and started {late}")
    last = max([e.at for e in done.events if not isinstance(e, ev.RunEnded)])
    over = done.result.status == "completed" and last < after
    expect(over or ended == ("stopped", "drained"), f"I12: it was drained, and ended as {ended}")
    cut = [e for e in done.events if isinstance(e, ev.JobEnded) and e.how == "cancelled"]
    gone = {e.item for e in done.events if isinstance(e, ev.Ended)}
    started = {e.job: e.item for e in done.events if isinstance(e, ev.JobStarted)}
    expect(all(started[e.job] in gone for e in cut), f"I12: it was to end by itself, and was cut off: {cut}")
    return [done]


def logs_alike(shape: Shape, schedule: fg.Schedule, seed: int) -> list[Finished]:
    """The same seed and virtual latencies give the same events on every event loop."""
    done = [ran(backend, shape, schedule, seed=seed) for backend in ("trio", "asyncio")]
    expect(done[0].events == done[1].events, "I14: two event loops, two logs")
    return done


def waits_for_its_disk(shape: Shape, schedule: fg.Schedule, disk: float, seed: int) -> list[Finished]:
    """A slow disk makes a run slower and changes nothing else.

    The run completes, its replay is the same run, and both event loops agree.
    """

    def seconds(turn: int) -> float:
        drawn = draw(shape.salt, "disk", turn)
        # Sixty-fourths of a second add up without rounding errors, so that equal instants are equal on every clock.
        return 0.0 if drawn < 0.5 else round(64 * disk * drawn) / 64

    done = [ran(backend, shape, schedule, seed=seed, disk=seconds) for backend in ("trio", "asyncio")]
    for run in done:
        expect(run.result.status == "completed", f"I9: the run ended as {run.result.status}: {run.result.reason}")
        check_invariants(run.events, run.plan)
        expect(run.model.in_flight == 0, "I12: requests are left behind")
    expect(done[0].events == done[1].events, "I14: two event loops, two logs")
    return done


def stops_on_its_disk(shape: Shape, schedule: fg.Schedule, backend: str, after: float, disk: float) -> list[Finished]:
    """A run that is stopped while its disk is slow leaves no request, and every item has ended or is open.

    The session that resumes its kept turns has every sent request in its account, and repeats none that was answered.
    """
    done = ran(backend, shape, schedule, stop_after=after, disk=lambda turn: disk)
    check_invariants(done.events, done.plan)
    expect(done.model.in_flight == 0, f"I12: {done.model.in_flight} requests are left behind")
    expect(done.result.status in ("completed", "cancelled"), f"I12: it ended as {done.result.status}")
    assert done.recording is not None
    machine = Machine(done.plan, Ledger(fg.Budget()), lambda event: None, 0)
    for turn in [*done.recording.turns, Turn(after, reopen={})]:
        apply(turn, machine)
    account = machine.ledger.settled["calls"]
    expect(account == done.model.sent, f"I10: {done.model.sent} requests were sent, {account:g} are in what was kept")
    answered = sum(answer.how == "done" for turn in done.recording.turns for answer in turn.answered)
    heard = sum(isinstance(event, ev.CallEnded) and event.how == "done" for event in done.events)
    expect(answered == heard, f"I13: {heard} requests were answered, {answered} answers were kept")
    return [done]


def goes_on_after_a_stop(
    shape: Shape, schedule: fg.Schedule, backend: str, after: float, outside: bool, again: float | None
) -> list[Finished]:
    """A run that is stopped or cancelled, and resumed from its journal, completes with a sound log.

    Its account has every sent request, and no answered request is repeated.  In lockstep it admits what an
    uninterrupted run admits.  It may be resumed and stopped ``again`` before.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/run"
        stop: dict[str, Any] = {"cancel_after": after + 0.001} if outside else {"stop_after": after}
        first = ran(backend, shape, schedule, folder=folder, **stop)
        sent = first.model.sent
        if again is not None:
            sent += ran(backend, shape, schedule, folder=folder, resume=True, stop_after=again).model.sent
        second = ran(backend, shape, schedule, folder=folder, resume=True)
    result = second.result
    expect(result.status == "completed", f"I13: it was resumed, and ended as {result.status}: {result.reason}")
    check_invariants(second.events, second.plan)
    sent += second.model.sent
    expect(result.spent.calls == sent, f"I10: {sent} requests were sent, {result.spent.calls} are accounted")
    heard = {e.call for e in first.events if isinstance(e, ev.CallEnded) and e.how == "done"}
    kept = {e.call for e in second.events if isinstance(e, ev.CallEnded) and e.how == "done"}
    expect(heard <= kept, f"I13: the answers to {sorted(heard - kept)} were forgotten")
    begun, sessions = sum(isinstance(e, ev.Reopened) for e in second.events), 1 if again is None else 2
    expect(begun <= sessions, f"I13: it was reopened {sessions} times, its log says {begun} times")
    done = [first, second]
    if schedule.serial:
        undisturbed = ran(backend, shape, schedule)
        mine, other = ([(a.pool, a.score) for a in r.result.artifacts] for r in (second, undisturbed))
        expect(mine == other, f"I13: it has admitted {mine}, undisturbed {other}")
        done.append(undisturbed)
    return done


def fails_with_its_disk(shape: Shape, schedule: fg.Schedule, backend: str, full: int, disk: float) -> list[Finished]:
    """A run whose disk is full from some turn on fails and says so.

    It leaves no request behind, and sends none for turns that could not be kept.  A run that ends before completes.
    """
    done = ran(backend, shape, schedule, disk=lambda turn: disk, full=full)
    result = done.result
    expect(done.model.in_flight == 0, f"I12: {done.model.in_flight} requests are left behind")
    if result.status == "completed":
        check_invariants(done.events, done.plan)
        return [done]
    expect(result.end == End("failed", Cause.JOURNAL, FULL), f"I13: it {result.status}: {result.reason}")
    expect(full > 0 or done.model.sent == 0, f"I13: nothing could be kept, and {done.model.sent} requests were sent")
    return [done]


def keeps_failures_to_their_rounds(shape: Shape, backend: str) -> list[Finished]:
    """In lockstep, rounds without a failed item admit the same as in a run without failures."""
    shape = attrs.evolve(shape, contends=0)  # which reads what other rounds have admitted
    faulty = ran(backend, shape, fg.lockstep())
    sound = ran(backend, without(attrs.evolve(shape, refused=0.0), fail=0.0), fg.lockstep())
    (hurt, admitted), (_, expected) = _by_round(faulty), _by_round(sound)
    for number, values in expected.items():
        same = number in hurt or admitted.get(number) == values
        expect(same, f"I15: nothing failed in round {number}, and it admitted {admitted.get(number)}, not {values}")
    return [faulty, sound]


def _by_round(done: Finished) -> tuple[set[int], dict[int, list[float | None]]]:
    """Return the rounds with a failure, and the scores that each round admitted."""
    round_of: dict[int, int] = {}
    item_of: dict[int, int] = {}
    hurt: set[int] = set()
    admitted: dict[int, list[float | None]] = {}
    for event in done.events:
        if isinstance(event, ev.Created):
            round_of[event.item] = event.round
        elif isinstance(event, ev.JobStarted) and event.item is not None:
            item_of[event.job] = event.item
        elif isinstance(event, ev.Ended) and event.how == "failed":
            hurt.add(round_of[event.item])
        elif isinstance(event, ev.JobEnded) and event.how == "failed":
            hurt.add(round_of[item_of[event.job]])  # its item may continue as a failure
        elif isinstance(event, ev.Admitted):
            admitted.setdefault(round_of[event.item], []).append(event.score)
    return hurt, admitted


def equals_the_interpreter(shape: Shape, backend: str) -> list[Finished]:
    """Lockstep is the synchronous algorithm: the same outcomes in the same order, and the same admitted values."""
    shape = _single(shape)
    lines = run_virtually(lambda: interpret(build(shape), TASK, llm=_answering(shape)), backend=backend)
    done = ran(backend, shape, fg.lockstep())
    said = outcomes(done.events, set(done.plan.stages), set(done.plan.pools))
    expected = [(line.node, line.outcome) for line in lines]
    first = next((i for i, (a, b) in enumerate(zip(said, expected, strict=False)) if a != b), len(said))
    expect(said == expected, f"I11: line {first} is {said[first : first + 1]}, expected {expected[first : first + 1]}")
    values = {p: [a.value for a in done.result.artifacts if a.pool == p] for p in done.plan.pools}
    for pool, found in values.items():
        admitted = [line.value for line in lines if line.node == pool and not _is_evidence(line.value)]
        expect(found == list(map(_score, admitted)), f"I11: {pool} has other values")
    own = int(shape.second_pool and shape.both)  # the second pool admits before the first in each round
    lags = [a.lag for a in done.result.artifacts if a.pool == "pool"]
    expect(max(lags, default=0) <= own, f"I11: artifacts lag by {lags} in lockstep")
    return [done]


def _is_evidence(value: Any) -> bool:
    """Return whether a group adds evidence to an artifact, instead of being one."""
    return isinstance(value, fg.Group) and isinstance(value.origin, fg.Contender)


def _answering(shape: Shape) -> Callable[..., Any]:
    """Return the shape's model without its latencies."""

    async def llm(messages: object, **params: Any) -> fg.Reply:
        if shape.fate(str(messages)) != "answered":
            raise fg.RequestFailed("generated")
        return fg.Reply("ok")

    return llm


def _score(value: Any) -> float | None:
    """Return the score of an admitted value in a `Ledgered` pool; equal scores are equal values, as they are hashes."""
    (artifact,) = Ledgered().apply(fg.PoolEvent("admit", 0, value)).artifacts.values()
    return artifact.score


def is_what_it_was_told(shape: Shape, schedule: fg.Schedule, seed: int) -> list[Finished]:
    """For every k, replaying the first k turns on a fresh machine gives the machine that the run had then."""
    hand = Hand(plan_by_hand(build(shape, no_pause), schedule), seed=seed, oracle=Recount)
    hand.finish()
    hand.replay()
    return []


# ---- shapes changed -------------------------------------------------------------------------------------


def _each(segment: Segment, change: Callable[[Step], Step]) -> Segment:
    match segment:
        case Step():
            return change(segment)
        case Loop(times, body, check):
            return Loop(times, change(body), change(check))
        case Choice() | Split():
            return type(segment)(change(segment.left), change(segment.right), change(segment.join))
        case Fan():
            inner = tuple(_each(s, change) for s in segment.inner)
            other = segment.other and (change(segment.other[0]), change(segment.other[1]))
            return attrs.evolve(
                segment, member=change(segment.member), after=change(segment.after), inner=inner, other=other
            )


def without(shape: Shape, **values: Any) -> Shape:
    """Return the shape with these values in all of its steps."""

    def change(step: Step) -> Step:
        return attrs.evolve(step, **values)

    ending = attrs.evolve(shape.ending, member=change(shape.ending.member))
    return attrs.evolve(shape, segments=tuple(_each(s, change) for s in shape.segments), ending=ending)


def _single(shape: Shape) -> Shape:
    """Return the shape without what the interpreter leaves out: several results, capacities and queue orders."""
    segments = tuple(map(_one_way, shape.segments))
    return without(attrs.evolve(shape, segments=segments), several=1, capacity=None, order="")


def _one_way(segment: Segment) -> Segment:
    """Return a segment that makes at most one item of one."""
    if isinstance(segment, Split):
        return Choice(segment.left, segment.right, segment.join)
    if isinstance(segment, Fan) and segment.other is not None:
        return attrs.evolve(segment, other=(segment.other[0], attrs.evolve(segment.other[1], drop=1.0)))
    return segment


# ---- trying them ----------------------------------------------------------------------------------------


BUDGETS = st.builds(
    fg.Budget,
    evaluations=st.one_of(st.none(), st.integers(1, 12)),
    calls=st.one_of(st.none(), st.integers(1, 12)),
    tokens=st.one_of(st.none(), st.integers(50, 20_000)),
    usd=st.one_of(st.none(), st.sampled_from([0.011, 0.05, 0.2])),
)
MOMENTS = st.sampled_from([0.0, 0.3, 1.0, 2.5, 7.0, 40.0])
SEEDS = st.integers(0, 5)
FRAIL = Step(fail=0.3)
NESTED = Shape(
    (
        Loop(1, Step(), Step()),
        Fan(3, FRAIL, (Fan(3, FRAIL, (), Step(drop=0.4), fail_above=0.5),), Step(), fail_above=0.0),
    ),
    rounds=8,
)
"""A loop whose passes are used up, then nested groups that fail, or end without members, at several moments."""
CUT_AT_ITS_GRANT = Shape(
    (Fan(3, Step(calls=1), (FRAIL, Step()), Step(), release=0.2, fail_above=0.0), Step(), Step()),
    ending=Ending(release=0.2),
    rounds=2,
    second_pool=True,
    latency="zero",
)
"""A call is granted when its task is cancelled: it is never sent, and counts for nothing."""
EMPTY_GROUPS = Shape(
    (
        Step(),
        Step(),
        Fan(
            5,
            Step(),
            (Step(), Fan(2, Step(), (Step(), Choice(Step(), Step(), Step(drop=0.3))), Step(calls=1))),
            Step(),
        ),
    ),
    rounds=1,
    latency="zero",
    refused=0.2,
)
"""Of groups whose members end at one moment some have members and some have none: which is released first?"""
WHOLE = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I15", "I16")

PROPERTIES: Mapping[str, Property] = {
    **ORACLES,
    "a run to its end": Property(
        WHOLE,
        runs_to_the_end,
        {"shape": shapes(), "schedule": schedules(), "backend": BACKENDS, "limit": LIMITS},
        2,
        known=[
            {
                "shape": Shape((Step(several=3),), rounds=1, salt=1),
                "schedule": fg.lockstep(),
                "backend": "trio",
                "limit": 1,
            }
        ],
    ),
    "with limits that move": Property(
        (*WHOLE, "I12", "I14"),
        keeps_to_limits_that_move,
        {"shape": shapes(), "schedule": schedules(), "limits": moving_limits(), "seed": st.integers(0, 5)},
    ),
    "under a budget": Property(
        (*WHOLE,),
        keeps_its_budget,
        {"shape": shapes(), "schedule": schedules(), "backend": BACKENDS, "budget": BUDGETS},
        known=[
            {
                "shape": Shape((Fan(3, Step(calls=2), (), Step(), 0.3, "cancel"),)),
                "schedule": fg.pipelined(2),
                "backend": "trio",
                "budget": fg.Budget(calls=30),
            },
            {
                "shape": CUT_AT_ITS_GRANT,
                "schedule": fg.pipelined(1, focus=0.0),
                "backend": "trio",
                "budget": fg.Budget(calls=3),
            },
        ],
    ),
    "resumed with a larger budget": Property(
        (*WHOLE, "I13"),
        goes_on_with_more,
        {
            "shape": shapes(),
            "schedule": st.one_of(st.just(fg.lockstep()), schedules()),
            "backend": BACKENDS,
            "budget": BUDGETS,
            "times": st.sampled_from([None, None, 2, 5]),
            "again": st.booleans(),
        },
        0.5,
        known=[
            {
                "shape": Shape((Fan(5, Step(calls=2, counts=True), (), Step()),), rounds=3),
                "schedule": schedule,
                "backend": "trio",
                "budget": budget,
                "times": times,
                "again": times is None,
            }
            for schedule in (fg.lockstep(), fg.pipelined(2))
            for budget in (fg.Budget(calls=7), fg.Budget(evaluations=4), fg.Budget(tokens=4500))
            for times in (None, 2)
        ],
    ),
    "stopped or cancelled": Property(
        (*WHOLE, "I12"),
        leaves_nothing_behind,
        {"shape": shapes(), "schedule": schedules(), "backend": BACKENDS, "after": MOMENTS, "outside": st.booleans()},
    ),
    "under a time budget": Property(
        (*WHOLE, "I12"),
        ends_in_time,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "seconds": st.sampled_from([0.5, 1.0, 2.5, 7.25, 40.0]),
        },
        0.4,
    ),
    "drained": Property(
        (*WHOLE, "I12"),
        ends_when_drained,
        {"shape": shapes(), "schedule": schedules(), "backend": BACKENDS, "after": MOMENTS},
        0.4,
    ),
    "on both event loops": Property(
        ("I14",), logs_alike, {"shape": shapes(), "schedule": schedules(), "seed": SEEDS}, 0.5, ("asyncio", "trio")
    ),
    "with a hook that raises": Property(
        ("I15",),
        minds_no_hook,
        {"shape": shapes(), "schedule": schedules(), "backend": BACKENDS, "well": st.sampled_from([0, 1, 7, 60])},
        0.3,
    ),
    "with a hook that blocks": Property(
        (*WHOLE, "I12"),
        waits_for_no_hook,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "seconds": st.sampled_from([0.03, 1.0, 90.0]),
        },
        0.3,
    ),
    "with a slow viewer": Property(
        ("I15",),
        waits_for_no_viewer,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "seconds": st.sampled_from([0.0, 2.0, 500.0]),
            "most": st.sampled_from([1, 20, 100_000]),
        },
        0.3,
    ),
    "on a slow disk": Property(
        (*WHOLE, "I12", "I13", "I14"),
        waits_for_its_disk,
        {"shape": shapes(), "schedule": schedules(), "disk": st.sampled_from([0.25, 3.0]), "seed": SEEDS},
        0.5,
        ("asyncio", "trio"),
        known=[
            {
                "shape": Shape(
                    (), Ending(6, release=0.5, rule="deadline", late="amend"), rounds=1, latency="bimodal", salt=3
                ),
                "schedule": fg.pipelined(1, focus=0.0),
                "disk": 0.25,
                "seed": 0,
            }
        ],
    ),
    "stopped on a slow disk": Property(
        (*WHOLE, "I12"),
        stops_on_its_disk,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "after": MOMENTS,
            "disk": st.sampled_from([0.25, 3.0]),
        },
        0.3,
    ),
    "resumed from its journal": Property(
        (*WHOLE, "I13"),
        goes_on_after_a_stop,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "after": MOMENTS,
            "outside": st.booleans(),
            "again": st.sampled_from([None, None, 0.0, 1.0]),
        },
        0.3,
        known=[
            {
                "shape": Shape((Step(calls=2), Fan(3, Step(calls=1), (), Step())), rounds=3, latency="constant"),
                "schedule": fg.pipelined(2),
                "backend": "trio",
                "after": 1.0,
                "outside": True,
                "again": 0.0,
            }
        ],
    ),
    "on a disk that is full": Property(
        ("I12", "I13"),
        fails_with_its_disk,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "backend": BACKENDS,
            "full": st.integers(0, 40),
            "disk": st.sampled_from([0.0, 0.25]),
        },
        0.4,
    ),
    "with failures in some rounds": Property(
        ("I15",), keeps_failures_to_their_rounds, {"shape": shapes(), "backend": BACKENDS}, 0.5
    ),
    "lockstep and the interpreter": Property(
        ("I11",),
        equals_the_interpreter,
        {"shape": shapes(), "backend": BACKENDS},
        1.5,
        known=[{"shape": NESTED, "backend": "trio"}, {"shape": EMPTY_GROUPS, "backend": "trio"}],
    ),
    "replayed, turn by turn": Property(
        ("I13",), is_what_it_was_told, {"shape": shapes(), "schedule": schedules(), "seed": SEEDS}, 0.5
    ),
}


def prove(name: str, examples: int) -> Tally:
    """Try a property on ``examples`` examples.

    Raises the error of the smallest example that fails, with its graph as text and a line that repeats it.
    """
    tally, chosen = Tally(), PROPERTIES[name]

    def example(**arguments: Any) -> None:
        try:
            done = chosen.check(**arguments) or []
        except Exception as error:
            error.add_note(_report(chosen.check, arguments))
            raise
        tally.examples += 1
        tally.loops.update([arguments["backend"]] if "backend" in arguments else chosen.loops)
        if "shape" in arguments:
            tally.graphs.add(repr(arguments["shape"]))
        tally.events += sum(len(d.events) for d in done)

    tried = settings(
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    generated = given(**dict(chosen.given))(example)
    for known in chosen.known:
        generated = hypothesis.example(**known)(generated)
    tried(generated)()
    tally.parts = tally.examples if name in ORACLES else 0
    return tally


def _report(check: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Return a failing example's graph, if it has one, and the line that repeats it."""
    said = {n: schedule_line(v) if isinstance(v, fg.Schedule) else repr(v) for n, v in arguments.items()}
    said = {n: f"fg.{v}" if isinstance(arguments[n], fg.Budget) else v for n, v in said.items()}
    line = ", ".join(f"{n}={v}" for n, v in said.items())
    graph = f"The graph:\n{drawing(build(arguments['shape']))}\n\n" if "shape" in arguments else ""
    return (
        f"\n{graph}To repeat it, with `from flashgraph.testing import *`, `from {check.__module__} import *` and "
        f"`import flashgraph as fg`:\n{check.__name__}({line})"
    )
