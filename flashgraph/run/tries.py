"""One try of a model request: its cost, and the consequence of a fault.

The requests of jobs and of the held-out test are tried here; who may send one, and when, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import anyio
import attrs

from flashgraph.errors import ModelRefused, ModelUnavailable, PassingFault, RequestFailed, Throttled
from flashgraph.llm.messages import as_texts, checked, checked_reply
from flashgraph.llm.protocol import Message, Model, Quota, Reply
from flashgraph.llm.secrets import without_secrets
from flashgraph.run.budget import (
    DEFAULT_REPLY_TOKENS,
    Cost,
    bounded,
    excess,
    prompt_estimate,
    reply_bound,
    reservation,
    whole_params,
)
from flashgraph.run.pace import Pace
from flashgraph.run.paid_replies import request_key
from flashgraph.run.patience import EndpointHealth, Patience, ending, passing, suspect
from flashgraph.run.turns import taken

__all__ = ["ModelRequest", "Target", "Tries", "TryOutcome"]


@attrs.frozen(eq=False)
class ModelRequest:
    """A request of a model call, the same at each of its tries."""

    messages: Sequence[Message]
    params: Mapping[str, Any]
    key: str
    """Equal requests of one role have equal keys."""
    amounts: Mapping[str, float]
    """The most that a try may cost, by limit: what is reserved for it."""
    size: float
    """About how many tokens the prompt has."""
    limits: Mapping[str, float] = attrs.field(factory=dict)
    """The limits of the budget that hold for it, by unit."""
    patience: Patience = attrs.field(factory=Patience)

    @classmethod
    def of(
        cls,
        name: str,
        messages: str | Sequence[Message],
        params: Mapping[str, Any],
        models: Sequence[Model],
        limits: Mapping[str, float],
    ) -> Self:
        """Return a request, keyed under ``name``, that one of ``models`` will answer within the budget's ``limits``.

        Raises what `flashgraph.llm.messages.checked` raises for messages that cannot be sent.
        """
        sound = checked(messages)
        stored = {name: value for name, value in params.items() if name != "stream"}  # a function
        key, amounts = request_key(name, sound, stored), reservation(models, as_texts(sound), params, limits)
        return cls(sound, params, key, amounts, prompt_estimate(sound), limits)


@attrs.frozen(eq=False)
class Target:
    """Where a try is sent."""

    model: Model
    endpoint: str
    priority: int = 0
    at: float = 0.0
    """When it is sent, on the clock of `Tries`."""
    beside: Callable[[], int] = lambda: 0
    """How many other requests the endpoint works on."""
    others: Callable[[], bool] = lambda: False
    """Whether another endpoint that is up may answer the request."""
    up: Callable[[], bool] = lambda: True
    """Whether the endpoint counts as up."""


@attrs.frozen
class TryOutcome:
    """The end of a try, and its cost."""

    how: Literal["done", "failed", "throttled", "cancelled"]
    cost: Cost
    reply: Reply | None = None
    pause: float | None = None
    """Seconds that the answer asked to wait, if it named them."""
    quotas: tuple[Quota, ...] = ()
    """The endpoint's own account of its rates."""
    outage: str = ""
    """Why the endpoint counts as down from now on, where another one may answer."""
    excess: str = ""
    """Why a limit of money cannot be held, after a reply that has cost more than its model had said."""


class Tries:
    """Tries requests, and learns from the answers how fast endpoints are and which are failing.

    ``elapsed`` returns the seconds on the clock that `Target.at` is of.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._pace = Pace()
        self._health = EndpointHealth()
        self._paced: list[tuple[str, int, float, float]] = []
        self._met: list[tuple[str, str, float]] = []
        """Endpoints, requests that have met faults of theirs since `learn`, and when."""

    def learn(self) -> None:
        """Learn from the tries since the last call, in an order that does not depend on the event loop's."""
        for met in taken(self._met, lambda met: met):
            self._health.failed(*met)
        for endpoint, tokens, seconds, sent in taken(self._paced, lambda seen: seen):
            self._pace.answered(endpoint, tokens, seconds)
            self._health.answered(endpoint, sent)

    async def send(self, request: ModelRequest, target: Target, settle: Callable[[TryOutcome], None]) -> Reply | None:
        """Send a request and return the reply; None if the endpoint is down and another one may answer.

        ``settle`` is called once, however the try ends.  Raises `PassingFault` for another try, and else
        the model's error.
        """
        model = target.model
        sent = bounded(model, request.params, request.limits)
        if getattr(model, "prioritises", False):
            sent = {**sent, "priority": target.priority}
        began = anyio.current_time()
        # Until a reply says better, a try has cost all that was reserved: nobody can tell what it did cost.
        tried = TryOutcome("failed", Cost(request.amounts))
        try:
            reply = checked_reply(
                await model.complete(request.messages, sent), model.name, whole_params(model, request.params)
            )
            self._paced.append((target.endpoint, reply.usage.completion, anyio.current_time() - began, target.at))
            cost = Cost.counted(reply.usage, reply.cost, request.amounts)
            over = excess(model, reply.cost, request.amounts, request.limits)
            tried = TryOutcome("done", cost, reply, quotas=reply.quotas, excess=over)
            return reply
        except (PassingFault, ModelRefused) as error:
            tried, end = self._faulted(request, target, passing(error), self._cut_off(request, target, sent, began))
            if end is None:
                return None
            raise end from None
        except ModelUnavailable as error:
            if not target.others():
                raise
            tried = attrs.evolve(tried, outage=without_secrets(str(error)))
            return None
        except RequestFailed as error:
            tried = TryOutcome("failed", Cost.answered(error.usage, model, request.amounts))
            raise
        except Exception:
            raise
        except BaseException:
            cut_off = self._cut_off(request, target, sent, began)
            tried = TryOutcome("cancelled", Cost.cut_off(request.amounts, cut_off))
            raise
        finally:
            settle(tried)

    def _faulted(
        self, request: ModelRequest, target: Target, fault: PassingFault, cut_off: tuple[int, int]
    ) -> tuple[TryOutcome, Exception | None]:
        """Return how a try with a fault ends, and the error to raise; no error if another endpoint may answer."""
        beside, others, now = target.beside(), target.others(), self._elapsed()
        ruling = self._health.rule(
            request.patience, fault, target.endpoint, request.key, now, beside=beside, others=others
        )
        if suspect(fault):
            self._met.append((target.endpoint, request.key, now))
        cost = Cost.of_fault(fault, target.model, request.amounts, cut_off)
        how: Literal["throttled", "failed"] = "throttled" if isinstance(fault, Throttled) else "failed"
        tried = TryOutcome(how, cost, pause=fault.pause, quotas=fault.quotas)
        # An endpoint that is down is tried with one request at a time: a fault of that one shows that it still is.
        down = ruling == "endpoint" or not target.up()
        if down and others and suspect(fault) and not isinstance(fault.final, ModelRefused):
            return attrs.evolve(tried, outage=without_secrets(str(fault))), None
        return tried, fault if ruling == "again" else ending(fault, ruling)

    def _cut_off(self, request: ModelRequest, target: Target, sent: Mapping[str, Any], began: float) -> tuple[int, int]:
        """Estimate the tokens that a try has cost if it is given up now."""
        most = reply_bound(target.model, sent) or DEFAULT_REPLY_TOKENS
        return self._pace.cut_off(target.endpoint, request.size, anyio.current_time() - began, most)
