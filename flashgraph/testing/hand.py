"""A run by hand: the test chooses each next event, without an event loop and a clock.

The machine and the graph's functions are the real ones; only the driver is missing.  Every effect of an event loop, a
network or a clock is a `Move` that `Hand.moves` or `Hand.faults` lists.  Tests choose among them, at random or
exhaustively.  Stages may await nothing but their model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

import flashgraph as fg
from flashgraph.errors import RequestFailed
from flashgraph.llm.limits import Limits, fixed, parse_limits
from flashgraph.llm.protocol import Load
from flashgraph.policies.schedule import Schedule
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.cause import Cause, End
from flashgraph.run.ending import SchedulerStalled
from flashgraph.run.jobs import Call, Cancel, Command, JobFailure, Refuse, Start
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity, Plan, compile_plan
from flashgraph.run.turns import Answered, Asked, Completed, Measured, Turn, apply
from flashgraph.testing.invariants import Watch
from flashgraph.testing.log import InvariantViolation, Stalled, around
from flashgraph.testing.moves import Move
from flashgraph.testing.signatures import whole_state
from flashgraph.testing.state import check_state
from flashgraph.testing.work import OpenJob, advance, draw_source

__all__ = ["Hand", "Oracle", "no_pause", "plan_by_hand"]

ENDPOINT = "by hand"
REPLY = fg.Reply("ok", fg.Usage(10, 5), 0.001)


class Oracle(Protocol):
    """Computes what the machine should decide, and raises `InvariantViolation` if they differ."""

    def receive(self, turn: Turn, machine: Machine) -> None:
        """Receive a turn before the machine does."""

    def compare(self, commands: Sequence[Command], machine: Machine) -> None:
        """Compare the oracle with the machine, and with the commands that it returned for the turn."""


async def no_pause(seconds: float) -> None:
    """Return at once: the ``pause`` of stages that run by hand."""


def plan_by_hand(
    graph: fg.Graph,
    schedule: Schedule,
    limit: int = 2,
    room: Mapping[str, int] | None = None,
    *,
    limits: Sequence[str] = (),
) -> Plan:
    """Compile a graph for a `Hand`, with one endpoint for all roles that allows ``limit`` concurrent requests.

    With ``limits`` there is an endpoint for each of these texts, whose limit the text describes (``"adaptive(2..7)"``,
    see `flashgraph.llm.limits.parse_limits`).  ``room`` sets capacities of edges, even ones that `check` and the plan
    refuse.

    Raises `GraphError` when the graph does not pass its checks.
    """
    checked = graph.checked()
    roles = {s.model for s in checked.spec.stages if s.model is not None}
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
    """A run of ``plan`` that advances by moves.

    It checks the machine's state after every move.  With ``watched`` it also checks each event, and records every turn
    with the state after it, for `replay`.  ``oracle`` makes an `Oracle` for each machine of the run.  Raises
    `InvariantViolation`.
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
        self._take(Turn(0.0))

    def _begin(self) -> None:
        self.at = 0.0
        self.events: list[ev.Event] = []
        self.path: list[Turn] = []
        """All turns."""
        self.turns: list[Turn] = []
        """The turns that a journal would keep: work while a run stops is not kept, and is repeated after a resume."""
        self.states: list[tuple[Any, ...]] = []
        self._watch = Watch(self.plan, self.budget) if self.watched else None
        self._work: dict[int, OpenJob] = {}
        self._cursors = {name: source.state for name, source in self.plan.sources.items()}
        self._stopped = False
        self._violation: InvariantViolation | None = None
        self._oracle = self.oracle() if self.oracle is not None else None
        self.machine = Machine(self.plan, Ledger(self.budget), self._note, self.seed)

    def _note(self, event: ev.Event) -> None:
        self.events.append(event)
        if self._watch is not None and self._violation is None:
            try:
                self._watch.see(event)
            except InvariantViolation as violation:
                # Raised here, the machine would take it for a failure of the graph's own function.
                self._violation = violation

    # ---- what can happen ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.machine.status is not None

    def moves(self) -> list[Move]:
        """Return what can happen next without a fault, in the order of the jobs."""
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
        """Return the faults that can happen next."""
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
        """Return the queue lengths that endpoints with a limit that follows their queue may report."""
        reads = any(endpoint.limits.reads for endpoint in self.machine.slots.endpoints.values())
        return [Move("load", waiting) for waiting in (0, 1, 3, 9)] if reads and not self.over else []

    def replies(self) -> dict[int, tuple[str, ...]]:
        """Return by running job the outcomes of its requests: with its item they determine its next move."""
        return {n: tuple(type(reply).__name__ for reply in work.replies) for n, work in self._work.items()}

    # ---- making it happen --------------------------------------------------------------------------------

    def play(self, *moves: Move) -> None:
        """Let these moves happen at one moment, before the machine's next step."""
        self.played.append(moves)
        answered: list[Answered] = []
        completed: list[Completed] = []
        asked: list[Asked] = []
        measured: list[Measured] = []
        drain: End | None = None
        for move in moves:
            match move.kind:
                case "go":
                    moved = advance(self.plan, self.seed, self._work[move.number])
                    if isinstance(moved, Asked):
                        asked.append(moved)
                    else:
                        completed.append(moved)
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
                    completed.append(Completed(move.number, JobFailure(Cause.RAISED, "Fault: by hand")))
                case "cancelled":
                    work = self._work[move.number]
                    if work.call is not None:
                        answered.append(self._cancelled(work.call))
                    completed.append(Completed(move.number, JobFailure(Cause.CANCELLED, "cancelled", "cancelled")))
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
        self._take(
            Turn(self.at, tuple(answered), tuple(completed), tuple(asked), drain, measured=tuple(measured))
        )  # fmt: skip

    def finish(self) -> None:
        """Make moves in the order of the jobs until the run is over."""
        while moves := self.moves():
            timely = [m for m in moves if m.kind != "timer"]
            self.play((timely or moves)[0])
        if self._watch is not None:
            self._watch.ended()

    def replay(self) -> None:
        """Replay the first k turns, for every k, and compare the machine and its log (I13)."""
        events: list[ev.Event] = []
        machine = Machine(self.plan, Ledger(self.budget), events.append, self.seed)
        for number, (turn, state) in enumerate(zip(self.turns, self.states, strict=True)):
            apply(turn, machine)
            if whole_state(machine) != state:
                raise InvariantViolation(f"I13: after a replay of {number + 1} turns the machine differs")
        if events != self.events[: len(events)]:
            raise InvariantViolation("I13: after a replay of the turns the log differs")

    def retrace(self, turns: Sequence[Turn]) -> None:
        """Become a run that has had these turns and no others."""
        self._begin()
        for turn in turns:
            self.at = turn.at
            self._apply(turn)

    # ---- turns -------------------------------------------------------------------------------------------

    def _take(self, turn: Turn) -> None:
        """Step the machine with a turn, then with empty ones until it returns no command, as the driver does."""
        looking = False
        while True:
            before = len(self.events)
            commands = self._apply(turn)
            sources = [c for c in commands if isinstance(c, Start) and c.job.kind == "source"]
            if looking:
                # Only a quiet turn opens rounds, and only a run with nothing else to do ends for its budget.  Every
                # other command must come in the first step.
                ends = self.machine.stopping
                late = [c for c in commands if c not in sources and not (ends and isinstance(c, Cancel))]
                events = [e for e in self.events[before:] if not (isinstance(e, ev.RunEnded) or _draws(e))]
                if late or events:
                    raise InvariantViolation(
                        f"I9: a second step at the same moment makes {late or events}, which the first one missed\n"
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
            self._oracle.receive(turn, self.machine)
        for answer in turn.answered:
            work = self._work[answer.job]
            if answer.how == "throttled" or answer.outage:
                pass  # the request is sent again, and the function does not see it
            elif answer.reply is not None:
                work.replies.append(answer.reply)
            elif work.refused is not None:
                work.parked = True
            else:
                work.replies.append(RequestFailed("by hand"))
            work.call = work.refused = None
        for done in turn.completed:
            self._work.pop(done.job)
            if done.source:
                self._cursors[done.source] = done.cursor
        try:
            commands = apply(turn, self.machine)
        except SchedulerStalled as error:
            raise Stalled(f"I9: {error}") from error
        if self._violation is not None:
            raise self._violation
        if self._oracle is not None:
            self._oracle.compare(commands, self.machine)
        for number, asked in enumerate(turn.asked, first):
            self._work[asked.job].call = self.machine.calls.open.get(number)
        for command in commands:
            if isinstance(command, Start):
                self._work[command.job.id] = OpenJob(command)
            elif isinstance(command, Refuse):
                self._work[command.call.job.id].refused = command.limit
        self.path.append(turn)
        if not self._stopped and not self.machine.stopping:
            self.turns.append(turn)
            if self.watched:
                self.states.append(whole_state(self.machine))
        return commands

    def resume_with(self, capacity: Capacity) -> None:
        """Kill the run, and resume it with other workers, endpoints and limits."""
        self._kill(0, capacity)

    def _kill(self, lost: int, capacity: Capacity | None = None) -> None:
        """Replay all turns except the last ``lost`` into a fresh run, and resume it."""
        self.retrace(self.turns[: max(1, len(self.turns) - lost)])
        for work in self._work.values():
            work.replies = [reply for reply in work.replies if isinstance(reply, fg.Reply)]
            work.call, work.refused, work.parked = None, None, False
        self._take(Turn(self.at, reopen=self.budget.limits, capacity=capacity))
        # A resumed machine repeats the draws that the kill interrupted.
        drawn = [self._draw(w.start) for w in self._work.values() if w.start.job.kind == "source"]
        if drawn:
            self._take(Turn(self.at, completed=tuple(drawn)))

    def _answered(self, number: int, *, well: bool) -> Answered:
        work = self._work[number]
        assert work.call is not None
        if work.refused is not None:
            return self._cancelled(work.call)
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

    def _cancelled(self, call: Call) -> Answered:
        return Answered(call.id, call.job.id, "cancelled", dict(call.amounts) if call.reservation is not None else {})

    def _draw(self, start: Start) -> Completed:
        return draw_source(self.plan, self.seed, start, self._cursors[start.job.node])


def _draws(event: ev.Event) -> bool:
    """Return whether a source begins to draw."""
    return isinstance(event, ev.JobStarted) and event.item is None
