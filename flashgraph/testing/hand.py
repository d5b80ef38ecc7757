"""A run by hand: no event loop and no clock; whoever holds it says which event comes next.

The machine is the real one and so are the graph's functions; only the driver is missing.  Everything that an event
loop, a network and a clock could do to a run is one of the `Move` values that `Hand.moves` and `Hand.faults` list, so
that tests choose among them, at random or exhaustively.  Stages may wait for nothing but their model.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol

import attrs

import flashgraph as fg
from flashgraph.errors import RequestFailed
from flashgraph.llm.limits import Limits, fixed, parse_limits
from flashgraph.llm.protocol import Load
from flashgraph.policies.schedule import Schedule
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.cause import Cause, End, cause_of
from flashgraph.run.jobs import Call, Cancel, Command, Done, Failed, Outcome, Refuse, Start
from flashgraph.run.machine import Machine, SchedulerStalled
from flashgraph.run.plan import Capacity, Plan, compile_plan
from flashgraph.run.turns import Answered, Asked, Completed, Measured, Turn, apply
from flashgraph.testing.invariants import Watch
from flashgraph.testing.log import InvariantViolation, Stalled, around
from flashgraph.testing.runs import TASK
from flashgraph.testing.snapshot import snapshot
from flashgraph.testing.state import check_state

__all__ = ["Hand", "Move", "Oracle", "no_pause", "plan_by_hand"]

ENDPOINT = "by hand"
REPLY = fg.Reply("ok", fg.Usage(10, 5), 0.001)


@attrs.frozen
class Move:
    """One thing that happens next.

    ``"go"``: job ``number`` says what its function says next, a request or its result.  ``"answer"``: its request is
    answered.  ``"cancelled"``: its cancellation arrives.  ``"timer"``: the next timer goes off.  Faults: the function
    of the job raises (``"fail"``), its request fails (``"break"``), is turned away for now (``"throttle"``), or finds
    its endpoint down while there is another (``"outage"``); an endpoint that is asked says that ``number`` requests
    wait in it (``"load"``); the run is stopped (``"stop"``), drained
    (``"drain"``), or killed, with the last ``number`` turns not yet on disk, and resumed (``"kill"``).
    """

    kind: Literal[
        "go", "answer", "cancelled", "timer", "fail", "break", "throttle", "outage", "load", "stop", "drain", "kill"
    ]
    number: int = 0

    def __repr__(self) -> str:
        return f"Move({self.kind!r}, {self.number})" if self.number else f"Move({self.kind!r})"


class Oracle(Protocol):
    """Computes beside the machine what the machine should decide, and raises `InvariantViolation` where they differ."""

    def told(self, turn: Turn, machine: Machine) -> None:
        """Receive a turn, before the machine does."""

    def decided(self, commands: Sequence[Command], machine: Machine) -> None:
        """Compare the machine, and the commands it returned for that turn."""


@attrs.frozen
class _Ask:
    """What a function's coroutine is suspended at: a request to its model."""

    messages: Sequence[Mapping[str, str]]

    def __await__(self) -> Generator[_Ask, None, fg.Reply]:
        yield self
        raise AssertionError("a coroutine is never resumed: it is run again with one more reply")


@attrs.define(eq=False)
class _Work:
    """A started job: the replies it has had, and its open request.  One that is ``parked`` says nothing any more."""

    start: Start
    heard: list[fg.Reply | Exception] = attrs.field(factory=list)
    call: Call | None = None
    refused: str | None = None
    parked: bool = False

    @property
    def answerable(self) -> bool:
        return self.call is not None and (self.call.reservation is not None or self.refused is not None)


async def no_pause(seconds: float) -> None:
    """Takes no time: what generated stages await by hand."""


def plan_by_hand(
    graph: fg.Graph,
    schedule: Schedule,
    limit: int = 2,
    room: Mapping[str, int] | None = None,
    *,
    limits: Sequence[str] = (),
) -> Plan:
    """Compile a graph for a `Hand`: all roles are one endpoint that takes ``limit`` requests at once.

    With ``limits`` they are as many endpoints as there are texts, each with such a limit (``"adaptive(2..7)"``, see
    `flashgraph.llm.limits.parse_limits`).  ``room`` gives edges other capacities, also ones that `check` and the
    plan refuse.

    Raises `GraphError` when the graph does not pass its checks.
    """
    checked = graph.checked()
    roles = {s.llm for s in checked.spec.stages if s.llm is not None}
    each = {f"{ENDPOINT} {i}": parse_limits(text) for i, text in enumerate(limits)} or {ENDPOINT: fixed(limit)}
    services = {ENDPOINT: {name: 1.0 + i for i, name in enumerate(each)}}
    plan = compile_plan(checked, schedule, {}, dict.fromkeys(roles, ENDPOINT), each, services)
    if not room:
        return plan
    edges = {n: attrs.evolve(e, capacity=room.get(n, e.capacity)) for n, e in plan.edges.items()}
    return attrs.evolve(
        plan,
        edges=edges,
        outgoing={n: tuple(edges[e.name] for e in found) for n, found in plan.outgoing.items()},
        incoming={n: tuple(edges[e.name] for e in found) for n, found in plan.incoming.items()},
    )


class Hand:
    """A run of ``plan`` that waits to be told what happens.

    After every move the machine's state is checked; with ``watched`` its events are too, one by one, and every turn
    is noted with the state after it, for `retell`.  ``oracle`` makes an `Oracle` for each machine that the run has.
    Raises `InvariantViolation`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        budget: Budget | None = None,
        seed: int = 0,
        watched: bool = True,
        oracle: Callable[[], Oracle] | None = None,
    ) -> None:
        self.plan = plan
        self.budget = budget or Budget()
        self.seed = seed
        self.watched = watched
        self.oracle = oracle
        self.played: list[tuple[Move, ...]] = []
        self._begin()
        self._tell(Turn(0.0))

    def _begin(self) -> None:
        self.at = 0.0
        self.events: list[ev.Event] = []
        self.path: list[Turn] = []
        """All turns."""
        self.turns: list[Turn] = []
        """Those that are kept: what is done while a run stops is done again."""
        self.states: list[tuple[Any, ...]] = []
        self._watch = Watch(self.plan, self.budget) if self.watched else None
        self._work: dict[int, _Work] = {}
        self._cursors = {name: source.cursor for name, source in self.plan.sources.items()}
        self._stopped = False
        self._seen: InvariantViolation | None = None
        self._oracle = self.oracle() if self.oracle is not None else None
        self.machine = Machine(self.plan, Ledger(self.budget), self._note, self.seed)

    def _note(self, event: ev.Event) -> None:
        self.events.append(event)
        if self._watch is not None and self._seen is None:
            try:
                self._watch.see(event)
            except InvariantViolation as violation:
                # Raised here it would look to the machine like a function of the graph's own that fails.
                self._seen = violation

    # ---- what can happen ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.machine.status is not None

    def moves(self) -> list[Move]:
        """What can happen next without a fault, in the order of the jobs."""
        if self.over:
            return []
        found = []
        for number, work in self._work.items():
            if work.call is None and not work.parked:
                found.append(Move("go", number))
            elif work.answerable:
                found.append(Move("answer", number))
            if work.start.job.cancelled:
                found.append(Move("cancelled", number))
        timer = self.machine.next_timer()
        return [*found, Move("timer")] if timer is not None else found

    def faults(self) -> list[Move]:
        """What can go wrong with a job next."""
        if self.over:
            return []
        failing = [Move("fail", n) for n, w in self._work.items() if w.call is None and not w.parked]
        sent = {n: w.call for n, w in self._work.items() if w.call is not None and w.answerable and w.refused is None}
        failing += [Move("break", n) for n in sent]
        slots = self.machine.slots
        if any(type(endpoint.limits) is not Limits for endpoint in slots.endpoints.values()):
            failing += [Move("throttle", n) for n in sent]
        return failing + [Move("outage", n) for n, c in sent.items() if slots.others_up(c.service, c.endpoint)]

    def loads(self) -> list[Move]:
        """What endpoints whose limit follows it may say of their queue."""
        reads = any(endpoint.limits.reads for endpoint in self.machine.slots.endpoints.values())
        return [Move("load", waiting) for waiting in (0, 1, 3, 9)] if reads and not self.over else []

    def heard(self) -> dict[int, tuple[str, ...]]:
        """By running job, how its requests have ended so far: with its item, all that its function will say next."""
        return {n: tuple(type(reply).__name__ for reply in work.heard) for n, work in self._work.items()}

    # ---- making it happen --------------------------------------------------------------------------------

    def play(self, *moves: Move) -> None:
        """Let these things happen at one moment, before the machine looks."""
        self.played.append(moves)
        answered: list[Answered] = []
        completed: list[Completed] = []
        asked: list[Asked] = []
        measured: list[Measured] = []
        drain: End | None = None
        for move in moves:
            match move.kind:
                case "go":
                    said = self._say(self._work[move.number])
                    if isinstance(said, Asked):
                        asked.append(said)
                    else:
                        completed.append(said)
                case "answer":
                    answered.append(self._answered(move.number, well=True))
                case "break":
                    answered.append(self._answered(move.number, well=False))
                case "throttle":
                    answered.append(self._turned_away(move.number, how="throttled", pause=1.0))
                case "outage":
                    answered.append(self._turned_away(move.number, how="failed", outage="by hand"))
                case "load":
                    measured += self._loads(move.number)
                case "fail":
                    completed.append(Completed(move.number, Failed(Cause.RAISED, "Fault: by hand")))
                case "cancelled":
                    work = self._work[move.number]
                    if work.call is not None:
                        answered.append(self._cut_off(work.call))
                    completed.append(Completed(move.number, Failed(Cause.CANCELLED, "cancelled", "cancelled")))
                case "timer":
                    self.at = self.machine.next_timer() or self.at
                case "drain":
                    drain = End("stopped", Cause.CALLER, "by hand")
                case "stop":
                    self._stopped = True
                    self.machine.now = self.at
                    self.machine.stop(End("cancelled", Cause.CALLER, "by hand"))
                case "kill":
                    self._kill(move.number)
                    return
        answered.sort(key=lambda a: a.call)
        completed.sort(key=lambda c: c.job)
        asked.sort(key=lambda a: a.job)
        self._tell(
            Turn(self.at, tuple(answered), tuple(completed), tuple(asked), drain, measured=tuple(measured))
        )  # fmt: skip

    def finish(self) -> None:
        """Let everything happen in the order of the jobs until the run is over."""
        while moves := self.moves():
            timely = [m for m in moves if m.kind != "timer"]
            self.play((timely or moves)[0])
        if self._watch is not None:
            self._watch.ended()

    def retell(self) -> None:
        """I13: told the first turns, however many, a fresh machine is what this one was after them; its log is too."""
        events: list[ev.Event] = []
        machine = Machine(self.plan, Ledger(self.budget), events.append, self.seed)
        for number, (turn, state) in enumerate(zip(self.turns, self.states, strict=True)):
            apply(turn, machine)
            if snapshot(machine) != state:
                raise InvariantViolation(f"I13: told {number + 1} turns again, the machine is another one")
        if events != self.events[: len(events)]:
            raise InvariantViolation("I13: told the same turns again, the log is another one")

    def retrace(self, turns: Sequence[Turn]) -> None:
        """Become a run that was told these turns, and nothing else."""
        self._begin()
        for turn in turns:
            self.at = turn.at
            self._apply(turn)

    # ---- turns -------------------------------------------------------------------------------------------

    def _tell(self, turn: Turn) -> None:
        """Tell the machine a turn, and empty ones until it has nothing more to say, as the driver does."""
        looking = False
        while True:
            before = len(self.events)
            commands = self._apply(turn)
            sources = [c for c in commands if isinstance(c, Start) and c.job.kind == "source"]
            if looking:
                # Rounds are opened in a quiet turn; everything else had to be seen at once.
                # Nor is a run ended for its budget before there is nothing else to say.
                ends = self.machine.stopping
                late = [c for c in commands if c not in sources and not (ends and isinstance(c, Cancel))]
                said = [e for e in self.events[before:] if not (isinstance(e, ev.RunEnded) or _draws(e))]
                if late or said:
                    raise InvariantViolation(
                        f"I9: a second look at the same moment finds {late or said}: it was overlooked before\n"
                        f"{around(self.events, before)}"
                    )
            if self.over or (looking and not sources):
                break
            looking = not sources
            turn = Turn(self.at, completed=tuple(map(self._draw, sources)))
        check_state(self.machine)
        if not self.over and not self.moves():
            raise Stalled("I9: the run is not over, and nothing can happen any more")

    def _apply(self, turn: Turn) -> list[Command]:
        first = self.machine.calls.made
        if turn.capacity is not None and self._watch is not None:
            self._watch.log.plan = turn.capacity.put_in(self.plan)
        if self._oracle is not None:
            self._oracle.told(turn, self.machine)
        for answer in turn.answered:
            work = self._work[answer.job]
            if answer.how == "throttled" or answer.outage:
                pass  # it is asked again, and the function hears nothing of it
            elif answer.reply is not None:
                work.heard.append(answer.reply)
            elif work.refused is not None:
                work.parked = True
            else:
                work.heard.append(RequestFailed("by hand"))
            work.call = work.refused = None
        for done in turn.completed:
            self._work.pop(done.job)
            if done.source:
                self._cursors[done.source] = done.cursor
        try:
            commands = apply(turn, self.machine)
        except SchedulerStalled as error:
            raise Stalled(f"I9: {error}") from error
        if self._seen is not None:
            raise self._seen
        if self._oracle is not None:
            self._oracle.decided(commands, self.machine)
        for number, asked in enumerate(turn.asked, first):
            self._work[asked.job].call = self.machine.calls.open.get(number)
        for command in commands:
            if isinstance(command, Start):
                self._work[command.job.id] = _Work(command)
            elif isinstance(command, Refuse):
                self._work[command.call.job.id].refused = command.limit
        self.path.append(turn)
        if not self._stopped and not self.machine.stopping:
            self.turns.append(turn)
            if self.watched:
                self.states.append(snapshot(self.machine))
        return commands

    def go_on_with(self, capacity: Capacity) -> None:
        """Be killed, and resumed with other workers, endpoints and limits."""
        self._kill(0, capacity)

    def _kill(self, lost: int, capacity: Capacity | None = None) -> None:
        """Become a fresh run that was told all turns but the last ``lost``, and go on with it."""
        self.retrace(self.turns[: max(1, len(self.turns) - lost)])
        for work in self._work.values():
            work.heard = [reply for reply in work.heard if isinstance(reply, fg.Reply)]
            work.call, work.refused, work.parked = None, None, False
        self._tell(Turn(self.at, reopen=self.budget.limits, capacity=capacity))
        # The machine has only now been told that what was drawn before the kill is drawn again.
        drawn = [self._draw(w.start) for w in self._work.values() if w.start.job.kind == "source"]
        if drawn:
            self._tell(Turn(self.at, completed=tuple(drawn)))

    def _answered(self, number: int, *, well: bool) -> Answered:
        work = self._work[number]
        assert work.call is not None
        if work.refused is not None:
            return self._cut_off(work.call)
        if not well:
            return Answered(work.call.id, number, "failed", dict(work.call.amounts))
        spent = {"calls": 1.0, "tokens": float(REPLY.usage.total), "usd": 0.001}
        return Answered(work.call.id, number, "done", spent, (10, 5), 0.001, reply=REPLY)

    def _turned_away(self, number: int, *, how: str, pause: float | None = None, outage: str = "") -> Answered:
        call = self._work[number].call
        assert call is not None
        spent = {} if how == "throttled" else dict(call.amounts)
        return Answered(call.id, number, how, spent, pause=pause, outage=outage)

    def _loads(self, waiting: int) -> list[Measured]:
        endpoints = [e for e in self.machine.slots.endpoints.values() if e.limits.reads]
        return [Measured(e.name, Load(max(0, e.in_flight - waiting), waiting)) for e in endpoints]

    def _cut_off(self, call: Call) -> Answered:
        return Answered(call.id, call.job.id, "cancelled", dict(call.amounts) if call.reservation is not None else {})

    # ---- the graph's functions ---------------------------------------------------------------------------

    def _draw(self, start: Start) -> Completed:
        job, spec = start.job, self.plan.sources[start.job.node]
        stream = random.Random(f"{self.seed}/{job.node}/{job.emission}")
        at: fg.Draw[Any, Any] = fg.Draw(
            TASK, start.views.get(spec.reads or ""), stream, self.plan.params_of(spec), emission=job.emission,
            open=start.beside, champion=start.champion, cursor=self._cursors[job.node],
        )  # fmt: skip
        return Completed(job.id, Done(spec.body(at), at.used), source=job.node, cursor=at.cursor)

    def _say(self, work: _Work) -> Asked | Completed:
        """Run a job's function up to its first request that was not answered, or to its end."""
        job, spec = work.start.job, self.plan.stages[work.start.job.node].spec
        at: fg.Context[Any] = fg.Context(
            TASK, work.start.views.get(spec.reads or ""),
            random.Random(f"{self.seed}/{job.node}/{job.item.id if job.item else 0}"),
            self.plan.params_of(spec), lag=job.lag, refreshed=work.start.refreshed,
        )  # fmt: skip
        replies = iter(work.heard)

        async def llm(messages: Any, **params: Any) -> fg.Reply:
            known = next(replies, None)
            if isinstance(known, Exception):
                raise known
            return known if known is not None else await _Ask(messages)

        at.llm = llm
        value = work.start.stale if work.start.stale is not None else work.start.value
        arguments = (value, at) if _takes_context(spec.body) else (value,)
        said = _run(spec.body, arguments, at)
        if isinstance(said, _Ask):
            amounts = {"calls": 1.0, "tokens": 30.0, "usd": 0.002}
            return Asked(job.id, spec.llm or "", amounts)
        return Completed(job.id, said)


def _draws(event: ev.Event) -> bool:
    """Whether a source begins to draw."""
    return isinstance(event, ev.JobStarted) and event.item is None


@cache
def _takes_context(body: Callable[..., Any]) -> bool:
    return len(inspect.signature(body).parameters) > 1


def _run(body: Callable[..., Any], arguments: tuple[Any, ...], at: fg.Context[Any]) -> _Ask | Outcome:
    try:
        result = body(*arguments)
        if not inspect.iscoroutine(result):
            return Done(result, at.used)
        return _step(result, at)
    except Exception as error:
        return Failed(cause_of(error), f"{type(error).__name__}: {error}")


def _step(coroutine: Coroutine[Any, Any, Any], at: fg.Context[Any]) -> _Ask | Outcome:
    try:
        asked = coroutine.send(None)
    except StopIteration as end:
        return Done(end.value, at.used)
    coroutine.close()
    if not isinstance(asked, _Ask):
        raise TypeError(f"a stage that is run by hand may wait for its model only; this one waits for {asked!r}")
    return asked
