"""An oracle of a machine: amounts, versions and numbers, counted from its turns.

The machine's own checks (`flashgraph.testing.state`) find counts that contradict each other.  This oracle finds counts
that agree and are wrong, such as an account in which every request is settled twice.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.graph.ports import Group
from flashgraph.policies.control import Waiting
from flashgraph.run.items import GatherState, GroupState, Item
from flashgraph.run.jobs import Command, Done, Grant, Job, Start
from flashgraph.run.machine import Machine
from flashgraph.run.snapshot import MachineSnapshot
from flashgraph.run.turns import Turn
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.state import held_back
from flashgraph.testing.tokens import Ledgered, Token

__all__ = ["Recount"]


def _expect(holds: bool, name: str, message: str) -> None:
    if not holds:
        raise InvariantViolation(f"{name}: {message}")


class Recount:
    """An `Oracle` that recounts each turn and each command.

    Raises `InvariantViolation`.
    """

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._ended: list[Job] = []
        """Jobs that have ended; in a serial run they may wait for those before them."""
        self._emissions: Counter[str] = Counter()
        self._drained = False
        self._narrowed: dict[int, bool] = {}
        """By job of a drawing source, whether its view shows only the best line."""
        self._widened: set[str] = set()
        """Sources that drew nothing from such a view: their next view is whole."""
        self._unopened: float | None = None
        """The time since when a round could be opened, but other events were due."""
        self._told = False
        self._made: Counter[str] = Counter()
        """By stage, its output since workers were last adjusted, in whole items."""
        self._workers: dict[str, int] = {}
        self._adjust_at: float | None = None
        self._waiting: dict[tuple[str, int], tuple[str, Item]] = {}
        """Work that waited for a slot before the turn: heads of stages and calls, with stage and item."""
        self._own: set[int] = set()
        """Jobs that hold a slot for the call that they make now."""
        self._groups: dict[tuple[int, str], tuple[GroupState, GatherState]] = {}
        """Open gathers of groups whose members are ordered by earlier passes."""
        self._streaks: dict[str, Counter[Any]] = {}
        """By scattering edge and member, the number of passes in a row."""
        self._lines: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
        """By artifact, its ancestors at its admission."""
        self._drawn: list[Mapping[str, int]] = []
        """The versions that the sources' emissions of this turn were drawn from."""
        self._rounds: set[int] = set()
        self._versions: dict[str, int] = {}

    def receive(self, turn: Turn, machine: Machine) -> None:
        """Count a turn that the machine is about to receive."""
        if turn.reopen is not None:
            self._drained = False
            lost = [call for call in machine.calls.open.values() if call.reservation is not None]
            for call in lost:
                self._spend({"tokens": call.size, **call.amounts}, call.role)
        for answer in turn.answered:
            if (call := machine.calls.open[answer.call]).reservation is not None:
                self._spend(answer.spent, call.role)
        for done in turn.completed:
            job = machine.jobs[done.job]
            self._ended.append(job)
            if job.item is not None:
                self._made[job.node] += _share(job.item, machine)  # type: ignore[assignment]  # as below
            if done.source and isinstance(done.outcome, Done):
                self._drew(done.source, job, done.outcome.value)
        self._drained |= turn.drain is not None
        self._told = bool(turn.answered or turn.completed or turn.asked or turn.measured)
        self._workers = {name: state.most for name, state in machine.stages.items()}
        if turn.capacity is not None:
            control = machine.plan.schedule.control
            self._workers = {name: control.start(number) for name, number in turn.capacity.workers.items()}
        draws = [machine.jobs[done.job] for done in turn.completed if done.source]
        emitted = any(isinstance(d.outcome, Done) and d.outcome.value is not None for d in turn.completed if d.source)
        self._drawn = [job.stamps for job in draws] if emitted and not machine.stopping else []
        self._rounds = set(machine.flow.rounds.open)
        self._versions = {name: pool.version for name, pool in machine.pools.items()}
        self._waiting = _waiting(machine)
        self._own = {asked.job for asked in turn.asked if machine.jobs[asked.job].slot is not None}

    def _drew(self, source: str, job: Job, value: Any) -> None:
        self._widened.discard(source)
        narrowed = self._narrowed.pop(job.id, False)
        if value is not None:
            self._emissions[source] += 1
        elif narrowed:
            self._widened.add(source)

    def compare(self, commands: Sequence[Command], machine: Machine) -> None:
        """Compare the machine and its commands after that turn."""
        for job in [job for job in self._ended if job.done]:
            self._ended.remove(job)
            if job.kind != "source" and not (job.refused and machine.stopping):
                self._spend(dict.fromkeys(machine.plan.stages[job.node].spec.counts, 1.0))
        for name, amount in machine.ledger.settled.items():
            close = math.isclose(amount, self._spent[name], rel_tol=1e-9, abs_tol=1e-9)
            _expect(close, "I10", f"{amount:g} {name} are settled, {self._spent[name]:g} were spent")
        for pool in machine.pools.values():
            if isinstance(pool.value, Ledgered):
                changes = pool.value.version
                _expect(changes == pool.version, "I5", f"pool {pool.name}@{pool.version} has changed {changes} times")
                strays = pool.value.strays
                _expect(not strays, "I8", f"artifacts {strays} of {pool.name} have parents that no stage named")
            for number, record in pool.records.items():
                self._lines.setdefault((pool.name, number), record.lineage)
        for item in machine.flow.places.items.values():
            tokens = _tokens(item.value)
            if tokens:
                _expect_read(item, tokens)
                self._expect_lacks(item, machine)
                self._expect_line(item, tokens, machine)
        starts = [command for command in commands if isinstance(command, Start)]
        for start in starts:
            self._started(start, machine)
        self._expect_processed([start for start in starts if start.job.kind == "source"], machine)
        self._expect_adjusted(machine)
        self._expect_ranked(commands, machine)
        self._expect_streaks(machine)
        self._expect_views(machine)
        ending = machine.snapshot().draining is not None or machine.status is not None
        _expect(ending or not self._drained, "I12", "the drained run continues")
        _expect(not starts or not self._drained, "I12", "the drained run starts new work")

    def _expect_processed(self, sources: Sequence[Start], machine: Machine) -> None:
        """I6: due events are processed before a round is opened, so that it sees the newest pool.

        This delays a round by at most 50 ms, or a busy run would open none.
        """
        if self._told and sources and machine.plan.endpoints:
            waited = self._unopened is not None and machine.now >= self._unopened + 0.05
            _expect(waited, "I6", f"{sources[0].job.node} draws at {machine.now} before all due events")
        if not self._told or sources or not machine.plan.endpoints:
            self._unopened = None
        elif self._unopened is None and machine.sources.next() is not None:
            self._unopened = machine.now

    def _expect_adjusted(self, machine: Machine) -> None:
        """I3: at its intervals a control policy gets the output of each stage that calls a model, and decides its
        workers.

        The stage's bounds limit the decision.
        """
        control, now = machine.plan.schedule.control, machine.now
        if control.interval is None or machine.plan.schedule.serial or machine.status is not None or machine.stopping:
            return
        self._adjust_at = control.interval if self._adjust_at is None else self._adjust_at
        due = now >= self._adjust_at
        calling = [n for n, s in machine.stages.items() if s.plan.endpoint is not None and not s.plan.repairs]
        chosen = control.adjust({n: self._workers[n] for n in calling}, {n: self._made[n] for n in calling})
        for name, state in machine.stages.items():
            most = min(chosen[name], state.plan.workers) if due and name in calling else self._workers[name]
            _expect(state.most == most, "I3", f"{name} may have {state.most} workers at {now}, expected {most}")
        if due:
            self._adjust_at = now + control.interval
            self._made.clear()

    def _expect_ranked(self, commands: Sequence[Command], machine: Machine) -> None:
        """I9: a slot goes to the work that the control policy ranks first.

        Nothing overtakes work that waited before, was able to start, and still waits.  Ranks by the members that a
        group lacks are left out, because they change meanwhile.
        """
        if machine.plan.schedule.serial or self._drained or "lacks" in _asks(machine.plan.schedule.control):
            return
        for number, rank in machine.slots.ranks.items():
            waits = machine.calls.open.get(number)
            _expect(waits is not None, "I4", f"call {number} waits for a slot, but has ended")
            if waits is not None and (asker := waits.job).item is not None:
                expected = _rank(machine, asker.node, asker.item)
                _expect(rank == expected, "I9", f"call {number} waits at rank {rank}, expected {expected}")
        still = _waiting(machine)
        for key, (stage, item) in self._waiting.items():
            if still.get(key) != (stage, item) or (
                key[0] == "head" and machine.stages[stage].busy >= machine.stages[stage].most
            ):
                continue
            rank, service = _rank(machine, stage, item), machine.plan.stages[stage].endpoint
            for command in commands:
                job = (
                    command.job
                    if isinstance(command, Start)
                    else command.call.job
                    if isinstance(command, Grant)
                    else None
                )
                if job is None or job.item is None or machine.plan.stages[job.node].endpoint != service:
                    continue
                overtaken = job.id not in self._own and rank < _rank(machine, job.node, job.item)
                said = f"{stage} waits with item {item.id} at rank {rank}"
                _expect(not overtaken, "I9", f"{said}, but {job.node} starts item {job.item.id}")

    def _expect_streaks(self, machine: Machine) -> None:
        """I8: a member's streak is the number of groups in a row that it has passed, among those at their gathers."""
        for number, group in machine.flow.groups.open.items():
            if machine.plan.edges[group.edge].arrange is not None:
                gathers = [(gather, state) for gather, state in group.gathers.items() if not state.closed]
                self._groups.update({(number, gather): (group, state) for gather, state in gathers})
        over = [key for key, (_, state) in self._groups.items() if state.closed]
        closed: Counter[str] = Counter()
        for group, state in (self._groups.pop(key) for key in over):
            arrange, streaks = machine.plan.edges[group.edge].arrange, self._streaks.setdefault(group.edge, Counter())
            if arrange is None or not _released_whole(machine, state):
                continue
            closed[group.edge] += 1
            for identity, member in zip(group.identities, state.members, strict=True):
                if member.state == "arrived":
                    streaks[identity] = streaks[identity] + 1 if arrange.passed(member.value) else 0
        found_streaks = machine.snapshot().streaks if self._streaks else {}
        for edge, streaks in self._streaks.items():
            found = found_streaks[edge]
            if closed[edge] > 1:
                self._streaks[edge] = Counter(found)  # their order is not known here
            else:
                _expect(+streaks == +Counter(found), "I8", f"streaks of {edge} are {dict(found)}, expected {streaks}")

    def _expect_views(self, machine: Machine) -> None:
        """I6: views of a pool are kept from the first that an open round or a drawing source reads.

        No earlier ones are kept, because a long run would hold all of them.
        """
        if not self._drawn or self._rounds - set(machine.flow.rounds.open):
            return
        draws = [state.drawing.stamps for state in machine.sources.states.values() if state.drawing is not None]
        for name, pool in machine.pools.items():
            read = [r.oldest[name] for r in machine.flow.rounds.open.values() if name in r.oldest]
            drawn = [stamps[name] for stamps in [*draws, *self._drawn] if name in stamps]
            first, kept = min([self._versions[name], *read, *drawn]), pool.kept[0]
            _expect(kept == first, "I6", f"the views of {name} are kept from {kept}, expected from {first}")

    def _expect_lacks(self, item: Item, machine: Machine) -> None:
        """I9: a group lacks the members that its rule asks for minus those that are in."""
        group = machine.flow.groups.open.get(item.scope[-1][0]) if item.scope else None
        if machine.plan.edges[item.edge].scatter is not None or group is None:
            return
        open_ = [(machine.plan.edges[name], state) for name, state in group.gathers.items() if not state.released]
        asked = [e.release.needs(group.size) - sum(m.state == "arrived" for m in s.members) for e, s in open_]
        lacks, found = max([1, *asked]), machine.flow.groups.lacks(item)
        _expect(found == lacks, "I9", f"the group of item {item.id} lacks {lacks} members, but {found} are counted")

    def _expect_view(self, start: Start, machine: Machine) -> None:
        """I14: a source sees only the best line for the schedule's share of its emissions beside open rounds."""
        job = start.job
        share = 0.0 if machine.plan.sources[job.node].evidence else machine.plan.schedule.focus
        drawn = random.Random(f"{machine.seed}/focus/{job.node}/{job.emission}").random()
        narrowed = bool(start.beside) and drawn < share and job.node not in self._widened
        for view in start.views.values():
            if isinstance(view, Ledgered):
                said = f"emission {job.emission} of {job.node}, beside {len(start.beside)} rounds"
                _expect(view.narrowed == narrowed, "I14", f"{said}, sees {'the best line' if view.narrowed else 'all'}")
                self._narrowed[job.id] = narrowed

    def _started(self, start: Start, machine: Machine) -> None:
        job = start.job
        for pool, view in start.views.items():
            if isinstance(view, Ledgered):
                said = f"job {job.id} is stamped {pool}@{job.stamps.get(pool)} and reads {pool}@{view.version}"
                _expect(job.stamps.get(pool) == view.version, "I6", said)
        if start.stale is not None:
            changes = f"a repair at lag {start.stale.lag} gets {len(start.stale.changes)} changes"
            _expect(len(start.stale.changes) == start.stale.lag, "I6", changes)
        if isinstance(start.value, Group):
            places = [member.index for member in start.value.members]
            _expect(places == list(range(len(places))), "I8", f"the members of a group are in the order {places}")
        if job.kind == "source":
            number = self._emissions[job.node]
            _expect(job.emission == number, "I14", f"{job.node} draws number {job.emission}, after {number} others")
            self._expect_view(start, machine)

    def _expect_line(self, item: Item, tokens: Sequence[Token], machine: Machine) -> None:
        """I8: an item's lineage is complete, because retractions rely on it alone.

        It holds the artifacts that were named on its way, the provisional ones where none was named, and the lineage of
        all these.
        """
        named = frozenset().union(*(token.named for token in tokens))
        said = f"item {item.id} has the parents {sorted(item.uses)}, but its stages named {sorted(named)}"
        _expect(sorted(item.uses) == sorted(named), "I8", said)
        made_from = named.union(*(token.loose for token in tokens))
        least = made_from.union(*(machine.pools[of[0]].records[of[1]].lineage for of in made_from))
        _expect(least <= item.lineage, "I8", f"item {item.id} does not descend from {sorted(least - item.lineage)}")
        stray = sorted(item.lineage.difference(made_from, *(self._lines[of] for of in made_from)))
        _expect(not stray, "I8", f"item {item.id} has the lineage {stray}, but was not made from it")

    def _spend(self, amounts: Mapping[str, float], role: str = "") -> None:
        """Count amounts of the run; those of a request, which has a role, for the role too."""
        for name, amount in amounts.items():
            for of in (name, f"{role}.{name}")[: 2 if role else 1] if "." not in name else ():
                self._spent[of] += amount  # type: ignore[assignment]  # a Counter counts anything


def _released_whole(machine: Machine, state: GatherState) -> bool:
    """Return whether a closed gather has all its members: it did not fail, and was not retracted before."""
    amends = machine.plan.edges[state.edge].late == "amend"
    return state.released and (not amends or state.amended or state.complete)


def _waiting(machine: Machine) -> dict[tuple[str, int], tuple[str, Item]]:
    """Return the work that waits for a slot: calls by number, and the next items of stages with a free worker."""
    seen = machine.snapshot()
    calls = [call for call in machine.calls.open.values() if call.id in seen.ranks]
    found = {("call", call.id): (call.job.node, call.job.item) for call in calls if call.job.item is not None}
    for name, state in machine.stages.items():
        # To peek at an item that a staleness rule judges would apply the rule.
        able = state.plan.endpoint is not None and state.busy < state.most and not (state.judged or state.repairs)
        if able and not held_back(machine, name) and (head := _head(machine, seen, name)) is not None:
            found["head", state.plan.rank] = (name, head)
    return found


def _head(machine: Machine, seen: MachineSnapshot, stage: str) -> Item | None:
    """Return the next item of a stage whose edges have no staleness rule.

    Each edge offers a member of an opened group, or else the first of its queue.  Late ones come last, then the lowest
    number decides.
    """
    items = machine.flow.places.items
    first: list[Item] = []
    for edge in machine.plan.incoming[stage]:
        members, whole = seen.members.get(edge.name, ()), seen.queued[edge.name][:1]
        member = members[:1] if members and not (whole and items[members[0]].late) else ()
        first += [items[number] for number in member or whole]
    return min(first, key=lambda item: (item.late, item.id), default=None)


def _asks(control: Any) -> set[str]:
    """Return the attributes that a control policy reads when it ranks work."""
    seen: set[str] = set()

    class Seen:
        def __getattr__(self, name: str) -> int:
            seen.add(name)
            return 0

    control.rank(Seen())
    return seen


def _rank(machine: Machine, stage: str, item: Item) -> Any:
    distance = machine.plan.stages[stage].distance
    waiting = Waiting(stage, distance, item.round, item.version, item.late, item.id)
    return machine.plan.schedule.control.rank(waiting)


def _share(item: Item, machine: Machine) -> float:
    """Return the part of a whole that an item is: a member of a group of four is a quarter."""
    groups = machine.flow.groups.open
    sizes = [groups[group].sent for group, _ in item.scope if group in groups]
    return 1 / math.prod(sizes)


def _tokens(value: Any) -> Sequence[Token]:
    """Return the tokens that a value is made of, if it is made of tokens alone."""
    tokens: list[Any] = [value.origin, *value.values] if isinstance(value, Group) else [value]
    return tokens if all(isinstance(token, Token) for token in tokens) else ()


def _expect_read(item: Item, tokens: Sequence[Token]) -> None:
    """I6: an item's stamp is the version that its data was read from."""
    oldest = {"pool": min(token.version for token in tokens)}
    sides = [token.side for token in tokens if token.side is not None]
    if sides:
        oldest["side"] = min(sides)
    for pool, version in item.stamps.items():
        said = f"item {item.id} has the stamp {pool}@{version}, but read its data from {pool}@{oldest.get(pool)}"
        _expect(version == oldest.get(pool), "I6", said)
