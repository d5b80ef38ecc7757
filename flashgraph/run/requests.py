"""The model calls of jobs: each waits until the machine grants it a slot, is sent, and says what it has cost.

Tasks of jobs run in here.  They change no state of the machine: the driver's next turn takes what they have asked and
what they were answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from flashgraph.errors import BudgetExhausted, FlashgraphError
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.budget import Cost
from flashgraph.run.cause import Cause, End
from flashgraph.run.jobs import Call, Grant, Job, Refuse
from flashgraph.run.machine import Machine
from flashgraph.run.paid_replies import PaidReplies
from flashgraph.run.patience import patiently
from flashgraph.run.tries import ModelRequest, Target, Tries, TryOutcome
from flashgraph.run.turns import Answered, Asked, taken

__all__ = ["Requests"]


@attrs.define(eq=False)
class _Waiting:
    """A try that a task wants, until the machine has decided on it."""

    job: Job
    role: str
    request: ModelRequest
    order: str
    """The request's text, and its key where texts are equal: which of several by one job comes first must not depend
    on the event loop."""
    decided: anyio.Event = attrs.field(factory=anyio.Event)
    call: Call | None = None
    refused: str | None = None
    given_up: bool = False


class Requests:
    """The requests of the jobs that run.

    ``models`` are by role, ``endpoints`` the models at the endpoints of roles that have several; ``served`` has the
    replies of earlier sessions.  ``elapsed`` is the run's clock; ``wake`` tells the driver to
    take them, ``stop`` ends the run.
    """

    def __init__(
        self,
        machine: Machine,
        models: Mapping[str, Model],
        endpoints: Mapping[str, Model],
        served: PaidReplies,
        *,
        elapsed: Callable[[], float],
        wake: Callable[[], None],
        stop: Callable[[End], None],
    ) -> None:
        self._machine = machine
        self._models = models
        self._endpoints = endpoints
        self._served = served
        self._wake = wake
        self._stop = stop
        self._tries = Tries(elapsed)
        self._answered: list[Answered] = []
        self._scopes: dict[int, set[anyio.CancelScope]] = {}
        """By job that may call a model, its calls, which may be in tasks that are none of its own."""
        self._waiting: list[_Waiting] = []
        self._deciding: list[_Waiting] = []
        self._granting: dict[int, _Waiting] = {}

    # ---- what the driver calls ---------------------------------------------------------------------------

    def admit(self, job: Job) -> None:
        """Let a job call its model."""
        self._scopes[job.id] = set()

    def shut(self, job: Job) -> None:
        """Cancel the calls that a job left behind when it ended, and take no more of its calls."""
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
        # With the turn, not at once: a request may be cancelled at the moment of another's answer.  Its cost must not
        # depend on the order of the two tasks.
        self._tries.learn()
        return taken(self._answered, lambda answer: answer.call)

    def asked(self) -> tuple[Asked, ...]:
        """Take the requests since the last turn, on which the machine decides.

        Their calls have the next numbers in this order.
        """
        asking = taken(self._waiting, lambda waiting: (waiting.job.id, waiting.order))
        # A job may have ended since, and left the task behind that asked.
        self._deciding = [w for w in asking if not w.given_up and w.job.id in self._scopes]
        return tuple([Asked(w.job.id, w.role, w.request.amounts, w.request.size) for w in self._deciding])

    def decided(self, first: int) -> None:
        """Note that the machine has made calls of the requests that `asked` returned, from number ``first`` on."""
        deciding, self._deciding = self._deciding, []
        for number, waiting in enumerate(deciding, first):
            waiting.call = self._machine.calls.open.get(number)
            self._granting[number] = waiting

    def grant(self, command: Grant | Refuse) -> None:
        """Let a request be sent, or refuse it."""
        waiting = self._granting.pop(command.call.id, None)
        if waiting is not None:  # else its task was cancelled, and has said so, since it was decided
            waiting.refused = command.limit if isinstance(command, Refuse) else None
            waiting.decided.set()

    # ---- what jobs call ----------------------------------------------------------------------------------

    async def call(self, job: Job, role: str, messages: str | Sequence[Message], **params: Any) -> Reply:
        """Wait for a slot, send the request, settle what it cost.  The slot is free again however this ends.

        Raises `FlashgraphError` in a task that the job has left behind.  Its calls end with the job: they would hold
        slots and spend a budget for a result that nobody waits for.
        """
        if job.id not in self._scopes:
            raise _left_behind(job)
        if job.refused:
            raise BudgetExhausted("no budget is left for another request")
        request = ModelRequest.of(role, messages, params, self._behind(role), self._machine.ledger.limits_for(role))
        if (known := self._served.take(job.id, request.key)) is not None:
            await anyio.lowlevel.checkpoint()
            return known.without_thoughts()
        with anyio.CancelScope() as scope:
            self._scopes[job.id].add(scope)
            try:
                return (await patiently(partial(self._ask, job, role, request), request.key)).without_thoughts()
            finally:
                if job.id in self._scopes:
                    self._scopes[job.id].remove(scope)
        raise _left_behind(job)

    def _behind(self, role: str) -> list[Model]:
        """Return the models that may answer a role's request, by the plan of now: a resumed run may have others than
        it was started with."""
        plan = self._machine.plan
        return [self._endpoints.get(name) or self._models[role] for name in plan.services[plan.endpoints[role]]]

    async def _ask(self, job: Job, role: str, request: ModelRequest) -> Reply:
        """Try a request, at another endpoint of the role as long as there is one, if the first is down."""
        reply: Reply | None = None
        while reply is None:
            reply = await self._send(job, role, request)
        return reply

    async def _send(self, job: Job, role: str, request: ModelRequest) -> Reply | None:
        """Try a request once; None if the endpoint is down, and the role has others."""
        call, refused = await self._decision(_Waiting(job, role, request, f"{request.messages} {request.key}"))
        if refused is not None:
            self._settle(call, request, TryOutcome("failed", Cost(request.amounts)))
            raise BudgetExhausted(f"no {refused} left for another request")
        slots = self._machine.slots
        endpoint = slots.endpoints[call.endpoint]
        target = Target(
            self._endpoints.get(call.endpoint) or self._models[role],
            call.endpoint,
            call.priority,
            call.started_at,
            beside=lambda: endpoint.in_flight - 1,
            others=lambda: slots.others_up(call.service, call.endpoint),
            up=lambda: endpoint.up,
        )
        return await self._tries.send(request, target, partial(self._settle, call, request))

    async def _decision(self, waiting: _Waiting) -> tuple[Call, str | None]:
        """Wait until the machine has decided on a try; return its call, and the limit that refuses it."""
        self._waiting.append(waiting)
        self._wake()
        try:
            await waiting.decided.wait()
        except BaseException:
            waiting.given_up = True
            if waiting.call is not None:
                self._granting.pop(waiting.call.id, None)
                self._settle(waiting.call, waiting.request, TryOutcome("cancelled", Cost()))
            raise
        assert waiting.call is not None
        return waiting.call, waiting.refused

    def _settle(self, call: Call, request: ModelRequest, tried: TryOutcome) -> None:
        cost, reply = tried.cost, tried.reply
        self._answer(
            Answered(
                call.id, call.job.id, tried.how, cost.spent, cost.usage, cost.usd,
                "" if reply is None else reply.finish, request.key, request.messages, reply,
                pause=tried.pause, estimated=cost.estimated, outage=tried.outage, quotas=tried.quotas,
            )
        )  # fmt: skip
        if tried.excess:
            self._stop(End("failed", Cause.MODEL, tried.excess))

    def _answer(self, answer: Answered) -> None:
        self._answered.append(answer)
        self._wake()


def _left_behind(job: Job) -> FlashgraphError:
    return FlashgraphError(
        f"stage {job.node!r} has ended, and a task that it left behind calls its model; a call must end before its "
        "stage does.\nFix: await each ctx.llm(...) in the stage, several of them in a task group of its own."
    )
