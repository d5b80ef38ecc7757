"""The model calls of jobs: each waits until the machine grants it a slot, is sent, and says what it has cost.

Tasks of jobs run in here.  They change no state of the machine: what they ask and what they were answered is taken from
here with the driver's next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from flashgraph.errors import (
    BudgetExhausted,
    FlashgraphError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
)
from flashgraph.llm.messages import as_texts, checked, checked_reply
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.llm.secrets import without_secrets
from flashgraph.run.budget import (
    DEFAULT_REPLY_TOKENS,
    Cost,
    bounded,
    excess,
    prompt_estimate,
    reply_bound,
    reservation,
)
from flashgraph.run.cause import Cause, End
from flashgraph.run.jobs import Call, Grant, Job, Refuse
from flashgraph.run.machine import Machine
from flashgraph.run.patience import EndpointHealth, Patience, ending, passing, patiently, suspect
from flashgraph.run.resumed import Served, request_key
from flashgraph.run.turns import Answered, Asked, taken
from flashgraph.run.watch import Pace

__all__ = ["Requests"]


@attrs.define(eq=False)
class _Request:
    """A model call that a task wants, from the moment it asks to the moment it may send."""

    job: Job
    role: str
    amounts: dict[str, float]
    size: float
    order: str
    """The request's text, and its key where texts are equal: of several by one job, which comes first must not depend
    on the event loop."""
    granted: anyio.Event = attrs.field(factory=anyio.Event)
    call: Call | None = None
    refused: str | None = None
    given_up: bool = False


class Requests:
    """The requests of the jobs that run.

    ``models`` are by role, ``endpoints`` the models at the endpoints of roles that have several; ``served`` has the
    replies of earlier sessions.  ``elapsed`` is the run's clock; ``wake`` tells the driver that there is something to
    take, ``stop`` ends the run.
    """

    def __init__(
        self,
        machine: Machine,
        models: Mapping[str, Model],
        endpoints: Mapping[str, Model],
        served: Served,
        *,
        elapsed: Callable[[], float],
        wake: Callable[[], None],
        stop: Callable[[End], None],
    ) -> None:
        self._machine = machine
        self._models = models
        self._endpoints = endpoints
        self._served = served
        self._elapsed = elapsed
        self._wake = wake
        self._stop = stop
        self._answered: list[Answered] = []
        self._pace = Pace()
        self._paced: list[tuple[str, int, float, float]] = []
        self._standing = EndpointHealth()
        self._met: list[tuple[str, str, float]] = []
        """Endpoints, requests that have met faults of theirs since the last turn, and when."""
        self._scopes: dict[int, set[anyio.CancelScope]] = {}
        """By job that may call a model, its calls, which may be in tasks that are none of its own."""
        self._requests: list[_Request] = []
        self._deciding: list[_Request] = []
        self._granting: dict[int, _Request] = {}

    # ---- what the driver calls ---------------------------------------------------------------------------

    def admit(self, job: Job) -> None:
        """Let a job call its model."""
        self._scopes[job.id] = set()

    def shut(self, job: Job) -> None:
        """Cancel the calls that a job which has ended left behind, and take no more of it."""
        for left_behind in self._scopes.pop(job.id, ()):
            left_behind.cancel()

    def abandon(self, job: Job) -> None:
        """Answer the open calls of a job that did not end when it was cancelled."""
        self._scopes.pop(job.id, None)
        answered = {answer.call for answer in self._answered}
        for call in [call for call in job.calls.values() if call.id not in answered]:
            self._granting.pop(call.id, None)
            self._answer(Answered(call.id, job.id, "cancelled", call.amounts if call.reservation is not None else {}))

    def answers(self) -> tuple[Answered, ...]:
        """Take the answers since the last turn, in the order of their calls."""
        # With the turn, not at once: a request that is cut off at the moment when another is answered costs the same
        # whichever the event loop lets go on first.
        for met in taken(self._met, lambda met: met):
            self._standing.failed(*met)
        for endpoint, tokens, seconds, sent in taken(self._paced, lambda seen: seen):
            self._pace.answered(endpoint, tokens, seconds)
            self._standing.answered(endpoint, sent)
        return taken(self._answered, lambda answer: answer.call)

    def asked(self) -> tuple[Asked, ...]:
        """Take the requests since the last turn; they wait to be decided on.

        Their calls have the next numbers in this order.
        """
        asking = taken(self._requests, lambda request: (request.job.id, request.order))
        # A job may have ended since, and left the task behind that asked.
        requests = [r for r in asking if not r.given_up and r.job.id in self._scopes]
        self._deciding = requests
        return tuple([Asked(r.job.id, r.role, r.amounts, r.size) for r in requests])

    def decided(self, first: int) -> None:
        """The machine has taken what `asked` returned, and made calls of it from number ``first`` on."""
        deciding, self._deciding = self._deciding, []
        for number, request in enumerate(deciding, first):
            request.call = self._machine.calls.open.get(number)
            self._granting[number] = request

    def grant(self, command: Grant | Refuse) -> None:
        """Let a request be sent, or refuse it."""
        request = self._granting.pop(command.call.id, None)
        if request is not None:  # else its task was cancelled, and has said so, since it was decided
            request.refused = command.limit if isinstance(command, Refuse) else None
            request.granted.set()

    # ---- what jobs call ----------------------------------------------------------------------------------

    async def call(self, job: Job, role: str, messages: str | Sequence[Message], **params: Any) -> Reply:
        """Wait for a slot, send the request, settle what it cost.  Whatever ends this frees the slot.

        Raises `FlashgraphError` in a task that the job has left behind: its calls end with it, or they would hold slots
        and spend a budget for what nobody waits for.
        """
        if job.id not in self._scopes:
            raise _left_behind(job)
        if job.refused:
            raise BudgetExhausted("no budget is left for another request")
        messages = checked(messages)
        key = request_key(role, messages, params)
        amounts = reservation(self._behind(role), as_texts(messages), params, self._machine.ledger.limits)
        if (known := self._served.take(job.id, key)) is not None:
            await anyio.lowlevel.checkpoint()
            return known.without_thoughts()
        with anyio.CancelScope() as scope:
            self._scopes[job.id].add(scope)
            try:
                ask = partial(self._ask, job, role, messages, params, key, amounts, Patience())
                return (await patiently(ask, key)).without_thoughts()
            finally:
                if job.id in self._scopes:
                    self._scopes[job.id].remove(scope)
        raise _left_behind(job)

    def _behind(self, role: str) -> list[Model]:
        """The models that a role's request may be sent to, by the plan of now: a run that is resumed may have others
        than it was started with."""
        plan = self._machine.plan
        return [self._endpoints.get(name) or self._models[role] for name in plan.services[plan.endpoints[role]]]

    async def _ask(
        self,
        job: Job,
        role: str,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        key: str,
        amounts: dict[str, float],
        patience: Patience,
    ) -> Reply:
        """One try: at another endpoint of the role's, as long as there is one, if the first is down."""
        reply: Reply | None = None
        while reply is None:
            reply = await self._send(job, role, messages, params, key, amounts, patience)
        return reply

    async def _send(
        self,
        job: Job,
        role: str,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        key: str,
        amounts: dict[str, float],
        patience: Patience,
    ) -> Reply | None:
        """None: the endpoint is down, and the role has others."""
        request = _Request(job, role, amounts, prompt_estimate(messages), f"{messages} {key}")
        call = await self._granted(request, key, messages)
        # What it spent is what it reserved, until a reply says better: a request that was cut off has cost something
        # that nobody can tell.
        answer = Answered(call.id, job.id, "cancelled", amounts, request=key, messages=messages)
        model = self._endpoints.get(call.endpoint) or self._models[role]
        sent = bounded(model, params, self._machine.ledger.limits)
        began = anyio.current_time()
        try:
            if request.refused is not None:
                raise BudgetExhausted(f"no {request.refused} left for another request")
            sent = {**sent, "priority": call.priority} if getattr(model, "prioritises", False) else sent
            reply = checked_reply(await model.complete(messages, sent), model.name)
            took = anyio.current_time() - began
            self._paced.append((call.endpoint, reply.usage.completion, took, call.started_at))
            cost = Cost.counted(reply.usage, reply.cost, amounts)
            answer = _costing(answer, cost, how="done", finish=reply.finish, reply=reply, quotas=reply.quotas)
            if broken := excess(model, reply.cost, amounts, self._machine.ledger.limits):
                self._stop(End("failed", Cause.MODEL, broken))
            return reply
        except (PassingFault, ModelRefused) as error:
            fate = self._faulted(call, passing(error), model, sent, began, key, patience)
            answer = _costing(answer, fate.cost, **fate.answered)
            if fate.error is None:
                return None
            raise fate.error from None
        except ModelUnavailable as error:
            answer = attrs.evolve(answer, how="failed")
            if not self._machine.slots.others_up(call.service, call.endpoint):
                raise
            answer = attrs.evolve(answer, outage=without_secrets(str(error)))
            return None
        except RequestFailed as error:
            answer = _costing(answer, Cost.answered(error.usage, model, amounts), how="failed")
            raise
        except Exception:
            answer = attrs.evolve(answer, how="failed")
            raise
        except BaseException:
            answer = _costing(answer, Cost.cut_off(amounts, self._cut_off(call, model, sent, began)))
            raise
        finally:
            self._answer(answer)

    async def _granted(self, request: _Request, key: str, messages: Sequence[Message]) -> Call:
        """Wait until the machine has decided on the request."""
        self._requests.append(request)
        self._wake()
        try:
            await request.granted.wait()
        except BaseException:
            request.given_up = True
            if request.call is not None:
                self._granting.pop(request.call.id, None)
                cancelled = Answered(request.call.id, request.job.id, "cancelled", {}, request=key, messages=messages)
                self._answer(cancelled)
            raise
        assert request.call is not None
        return request.call

    def _faulted(
        self,
        call: Call,
        fault: PassingFault,
        model: Model,
        sent: Mapping[str, Any],
        began: float,
        key: str,
        patience: Patience,
    ) -> _Fate:
        """How a try ends that has met a fault: by what other requests have met at its endpoint."""
        slots, endpoint = self._machine.slots, self._machine.slots.endpoints[call.endpoint]
        beside, others = endpoint.in_flight - 1, slots.others_up(call.service, call.endpoint)
        ruling = self._standing.rule(patience, fault, call.endpoint, key, self._elapsed(), beside=beside, others=others)
        if suspect(fault):
            self._met.append((call.endpoint, key, self._elapsed()))
        cost = Cost.of_fault(fault, model, call.amounts, self._cut_off(call, model, sent, began))
        how = "throttled" if isinstance(fault, Throttled) else "failed"
        told: dict[str, Any] = {"how": how, "pause": fault.pause, "quotas": fault.quotas}
        # One that is down is tried with one request at a time: what that meets is enough to know that it still is.
        down = ruling == "endpoint" or not endpoint.up
        if down and others and suspect(fault) and not isinstance(fault.final, ModelRefused):
            return _Fate(None, cost, {**told, "outage": without_secrets(str(fault))})
        return _Fate(fault if ruling == "again" else ending(fault, ruling), cost, told)

    def _cut_off(self, call: Call, model: Model, sent: Mapping[str, Any], began: float) -> tuple[int, int]:
        """About how many tokens a request has cost that is given up now."""
        took = anyio.current_time() - began
        most = reply_bound(model, sent) or DEFAULT_REPLY_TOKENS
        return self._pace.cut_off(call.endpoint, call.size, took, most)

    def _answer(self, answer: Answered) -> None:
        self._answered.append(answer)
        self._wake()


@attrs.frozen
class _Fate:
    """How a try of a request ends that has met a fault: with an ``error``, or at another endpoint; what it has cost,
    and what is said of it with its answer."""

    error: Exception | None
    cost: Cost
    answered: Mapping[str, Any]


def _costing(answer: Answered, cost: Cost, **more: Any) -> Answered:
    return attrs.evolve(answer, **attrs.asdict(cost, recurse=False), **more)


def _left_behind(job: Job) -> FlashgraphError:
    return FlashgraphError(
        f"stage {job.node!r} has ended, and a task that it left behind calls its model; a call must end before its "
        "stage does.\nFix: await each at.llm(...) in the stage, several of them in a task group of its own."
    )
