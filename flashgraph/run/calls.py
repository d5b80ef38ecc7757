"""Model calls of one run: they wait for a slot, are in flight, and are settled with their answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from flashgraph.errors import FlashgraphError, described
from flashgraph.llm.limits import Level
from flashgraph.llm.protocol import Load, Quota
from flashgraph.policies.control import Waiting
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger, with_role
from flashgraph.run.flow import Flow
from flashgraph.run.items import Item
from flashgraph.run.jobs import Call, Command, Grant, Job, Refuse
from flashgraph.run.plan import Plan
from flashgraph.run.slots import Endpoint, Slots

__all__ = ["Calls"]


class Calls:
    """The open calls, the slots that they hold or wait for, and the budget that they spend."""

    def __init__(
        self,
        plan: Plan,
        flow: Flow,
        ledger: Ledger,
        seed: int,
        emit: Callable[[ev.Event], None],
        command: Callable[[Command], None],
    ) -> None:
        self.open: dict[int, Call] = {}
        self.made = 0
        """The count of all calls."""
        self.slots = Slots(plan.limits, plan.services, seed)
        self.refused: dict[str, str] = {}
        """By stage, the limit that has refused one of its requests in this session."""
        self._plan = plan
        self._flow = flow
        self._ledger = ledger
        self._seed = seed
        self._emit = emit
        self._command = command

    def request(self, job: Job, role: str, amounts: Mapping[str, float], size: float = 0.0) -> Call:
        """Make a call of a job to the model of ``role``; ``amounts`` are reserved when the call is granted.

        ``size`` estimates the tokens of the prompt.
        """
        call = Call(self.made, job, role, self._plan.endpoints[role], with_role(role, amounts), size)
        self.made += 1
        self.open[call.id] = job.calls[call.id] = call
        job.asked = True
        endpoint = self.free_slot(job)
        # The slot that the job has held is of its stage's service; a request of another role waits for one of its own.
        if endpoint is not None and not self.slots.serves(call.service, endpoint):
            endpoint = None
        if endpoint is None or not endpoint.room(self._flow.now) or not self.grant(call, endpoint):
            self.slots.wait(call, self.rank(job.node, job.item))
        return call

    def answered(
        self,
        call: Call,
        spent: Mapping[str, float],
        usage: tuple[int, int],
        usd: float | None,
        how: Any,
        finish: str = "",
        *,
        pause: float | None = None,
        outage: str = "",
        estimated: bool = False,
        quotas: Collection[Quota] = (),
    ) -> None:
        """Settle a granted call that has ended, or withdraw one that still waits.

        ``pause`` is the wait in seconds that a throttling answer named, ``outage`` why the endpoint counts as down.
        ``estimated`` says that the server did not count ``usage``; ``quotas`` are its own account of its rates.
        """
        now = self._flow.now
        del self.open[call.id], call.job.calls[call.id]
        if call.reservation is None:
            self.slots.withdraw(call)
            return
        self._ledger.settle(call.reservation, with_role(call.role, spent))
        endpoint = self.slots.endpoints[call.endpoint]
        before = endpoint.level
        new = endpoint.ended(call, how, usage, pause, now, quotas)
        seconds = now - call.started_at
        self._emit(
            ev.CallEnded(now, call.id, call.job.id, call.role, how, *usage, usd, seconds, finish, estimated)
        )  # fmt: skip
        self._limit_changed(endpoint, before)
        for of, rate in new.items():
            self._emit(ev.RateLearned(now, endpoint.name, of, rate.limit, rate.seconds))
        if outage and endpoint.failed(call, now):
            self._emit(ev.EndpointDown(now, endpoint.name, endpoint.shut_until - now, outage))
        elif how == "done" and endpoint.recovered(call):
            self._emit(ev.EndpointUp(now, endpoint.name))

    def measured(self, endpoint: str, load: Load | None) -> None:
        """Adjust an endpoint's limit to its own account of its load; None if it gave none."""
        known = self.slots.endpoints[endpoint]
        before = known.level
        self.slots.read(endpoint, load, self._flow.now)
        self._limit_changed(known, before)

    def grant(self, call: Call, endpoint: Endpoint | None = None) -> bool:
        """Send a call and return True; or refuse it and park its job; or return False while others hold its amounts."""
        lacking = self._ledger.lacking(call.amounts)
        if lacking is not None:
            if self._ledger.reserved[lacking] > 0:
                return False
            self.slots.withdraw(call)
            self._ledger.refused = self.refused[call.job.node] = lacking
            call.job.refused = True
            self._command(Refuse(call, lacking))
            return True
        if endpoint is None:
            endpoint = self.slots.choose(call.service, self._flow.now)
            assert endpoint is not None, "the caller has checked that an endpoint has room"
        self.slots.withdraw(call)
        call.reservation = self._ledger.reserve(call.amounts)
        call.started_at, call.endpoint = self._flow.now, endpoint.name
        call.priority = self._plan.schedule.control.priority(self._as_waiting(call.job.node, call.job.item))
        endpoint.take()
        call.tokens = endpoint.sent(call.size, self._flow.now)
        call.by_then, call.among = endpoint.total, endpoint.used
        self._command(Grant(call))
        self._emit(ev.CallStarted(self._flow.now, call.id, call.job.id, call.role, endpoint.name, endpoint.in_flight))
        return True

    def rank_anew(self, job: Job) -> None:
        """Rank the waiting calls of ``job`` again, whose item has become late."""
        for call in job.calls.values():
            if self.slots.is_waiting(call):
                self.slots.wait(call, self.rank(job.node, job.item))

    def lose(self) -> None:
        """End the open calls, which are lost with their session.

        The cost of a call in flight is unknown, and counts as all that was reserved for it.
        """
        for call in list(self.open.values()):
            sent = call.reservation is not None
            spent = {"tokens": call.size, **call.amounts} if sent else {}
            self.answered(call, spent, (round(call.size), 0), None, "lost", estimated=True)

    def resize(self, plan: Plan) -> None:
        """Change the endpoints and limits, while no call is open."""
        self._plan = plan
        before, self.slots = self.slots.limits, Slots(plan.limits, plan.services, self._seed)
        for name, limit in self.slots.limits.items():
            if limit != before.get(name):
                self._emit(ev.LimitChanged(self._flow.now, name, limit, "a new session"))

    def grant_waiting(self) -> bool:
        """Give free slots to waiting calls only, and start nothing new; True if any was granted."""
        granted = False
        for service in self.slots.services:
            while self.slots.room(service, self._flow.now) and (call := self.slots.first(service)) is not None:
                if not self.grant(call[1]):
                    break
                granted = True
        return granted

    def free_slot(self, job: Job) -> Endpoint | None:
        """Free the slot that a job holds and return its endpoint; None if it holds none."""
        if job.slot is None:
            return None
        endpoint, job.slot = self.slots.endpoints[job.slot], None
        endpoint.used -= 1
        return endpoint

    def _limit_changed(self, endpoint: Endpoint, before: Level) -> None:
        level = endpoint.level
        if level.limit != before.limit:
            self._emit(ev.LimitChanged(self._flow.now, endpoint.name, level.limit, level.reason))

    def rank(self, stage: str, item: Item | None) -> Any:
        """Return the rank of work that waits for a slot, by the control policy; the smallest goes first."""
        waiting, control = self._as_waiting(stage, item), self._plan.schedule.control
        try:
            return control.rank(waiting)
        except Exception as error:
            raise FlashgraphError(
                f"control policy {control}: rank({waiting!r}) raised {described(error)}.\n"
                "Fix: return a place that compares with every other, the smallest first; `check_policy` tries it."
            ) from error

    def _as_waiting(self, stage: str, item: Item | None) -> Waiting:
        assert item is not None
        distance, lacks = self._plan.stages[stage].distance, self._flow.groups.lacks(item)
        return Waiting(stage, distance, item.round, item.version, item.late, item.id, lacks)
