"""A model behind a cache: a known reply is reused, and identical concurrent requests are sent once."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    KeyRefused,
    MalformedReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
    TimedOut,
    UnknownModel,
)
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.limits import Limits
from flashgraph.llm.prices import Price, pin, pricing
from flashgraph.llm.protocol import Load, Message, Model, Reply, Usage, bounds_cost
from flashgraph.llm.responses import ResponseCache

__all__ = ["CachedModel", "cache_key", "cached"]

KEY_FORMAT = 1
"""Part of each key; raise it when `cache_key` or the stored form of a reply changes its meaning."""

UNFINISHED = frozenset({"length", "max_tokens", "abort", "error", "content_filter"})
"""Finish reasons of replies that another try could complete."""

SHARED_FAILURES = frozenset(
    {
        ContentFiltered, ContextTooLong, KeyRefused, MalformedReply, ModelRefused, ModelUnavailable, RequestFailed,
        TimedOut, UnknownModel,
    }
)  # fmt: skip


def cache_key(model: Model, messages: Sequence[Message], params: Mapping[str, Any]) -> bytes | None:
    """Return the SHA-256 of a request with the effective ``params``; None for one without a reliable identity.

    The order of parameters does not matter, nor whether a number is written 1 or 1.0.  Requests with parameters that
    are not JSON, and those to simulated models, have no key.  Nor have those to functions without a ``name`` of their
    own, because closures and edited functions share a name.
    """
    if not getattr(model, "cacheable", True) or (isinstance(model, FunctionModel) and not _named(model)):
        return None
    # The name alone is for people: it lacks an address's path and scheme.
    # A vLLM server counts as an HTTP one: the scheme word in front of an address does not change its answers.
    kinds = (kind for kind in type(model).__mro__ if kind.__module__ == "flashgraph.llm.http")
    who = [next(kinds, type(model)).__qualname__, model.name, str(getattr(model, "url", ""))]
    try:
        request = [KEY_FORMAT, who, [dict(message) for message in messages], _plain(params)]
        text = json.dumps(request, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).digest()


def _named(model: FunctionModel) -> bool:
    return model.name != getattr(model.function, "__name__", type(model.function).__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _is_greedy(params: Mapping[str, Any]) -> bool:
    """Return whether the temperature is known to be 0; a provider's own default is higher."""
    temperature = params.get("temperature")
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0


@attrs.define(eq=False)
class _Flight:
    """A request in flight.  If ``done`` is set with neither reply nor error, the next waiting caller sends it."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    reply: Reply | None = None
    error: ModelError | None = None


@attrs.define(eq=False)
class CachedModel:
    """``model`` behind ``cache``: it gets only requests that are neither cached nor in flight.

    A reply is stored if the temperature of its request, or else of the model's own ``params``, is 0; with
    ``any_temperature`` every reply is.  Identical requests at temperature 0 are also shared while in flight: the later
    callers wait.  If the first caller is cancelled, the next one sends the request.  Waiting callers share the first
    one's `PassingFault`, `RequestFailed`, `ModelUnavailable` or `ModelRefused`; after any other exception the next one
    sends the request.  A shared or cached reply uses no token and costs nothing.  Truncated and empty replies and
    failures are not stored.
    """

    model: Model
    cache: ResponseCache
    any_temperature: bool = attrs.field(default=False, kw_only=True)
    _flights: dict[bytes, _Flight] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def limit(self) -> int:
        return self.model.limit

    @property
    def limits(self) -> Limits | None:
        """Return the model's own limits, if it has some."""
        return getattr(self.model, "limits", None)

    @property
    def params(self) -> Mapping[str, Any]:
        """Return the parameters that the model sends with each request that does not override them."""
        return getattr(self.model, "params", None) or {}

    @property
    def prioritises(self) -> bool:
        """Return whether the model supports priorities."""
        return getattr(self.model, "prioritises", False)

    async def load(self) -> Load | None:
        """Return the load that the model's server reports."""
        ask = getattr(self.model, "load", None)
        return None if ask is None else await ask()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the cache and the model; see `ResponseCache.open` and `flashgraph.llm.protocol.Model.open`."""
        with self.cache.open():
            async with self.model.open():
                yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``, from the cache if possible; see `flashgraph.llm.protocol.Model.complete`."""
        own = getattr(self.model, "params", None)
        effective = {**own, **params} if isinstance(own, Mapping) else dict(params)
        for name in ("priority", "stream"):  # they affect when the answer comes, not which one
            effective.pop(name, None)
        greedy = _is_greedy(effective)
        key = cache_key(self.model, messages, effective) if greedy or self.any_temperature else None
        if key is None:
            self.cache.count("passed", Usage())
            return await self.model.complete(messages, params)
        # Nothing is awaited from here to `_ask`'s new flight, so of several callers that wake at once only one sends.
        while True:
            known = self.cache.get(key)
            if known is not None and _is_answer(known):
                await anyio.lowlevel.checkpoint()
                return self._free(known, "hits")
            flight = self._flights.get(key)
            if flight is None:
                return await self._ask(key, messages, params, _Flight(), merge=greedy)
            await flight.done.wait()
            if flight.error is not None:
                raise _own(flight.error) from flight.error
            if flight.reply is not None:
                return self._free(flight.reply, "shared")

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the model's worst cost: whether a reply is cached is not known in advance."""
        return self.model.worst_cost(prompt, completion)

    @property
    def bounds_cost(self) -> bool:
        """Return whether the model bounds its cost."""
        return bounds_cost(self.model)

    def pricing(self) -> Price:
        """Return the model's price."""
        return pricing(self.model)

    def pin(self, price: Price) -> bool:
        """Pin the model's price."""
        return pin(self.model, price)

    async def _ask(
        self, key: bytes, messages: Sequence[Message], params: Mapping[str, Any], flight: _Flight, *, merge: bool
    ) -> Reply:
        self.cache.count("misses", Usage())
        if merge:
            self._flights[key] = flight
        try:
            flight.reply = await self.model.complete(messages, params)
        except ModelError as error:
            # A user's subclass may not be constructible from its arguments, so that it could not be copied.
            cause = error.final if isinstance(error, PassingFault) else error
            if type(error) in (PassingFault, Throttled, type(cause)) and type(cause) in SHARED_FAILURES:
                flight.error = error
            raise
        finally:
            if merge:
                del self._flights[key]
            flight.done.set()
        if _is_answer(flight.reply):
            self.cache.put(key, flight.reply)
        return flight.reply

    def _free(self, reply: Reply, how: str) -> Reply:
        self.cache.count(how, reply.usage)
        return attrs.evolve(reply, usage=Usage(), cost=0.0, quotas=())


def _is_answer(reply: Reply) -> bool:
    """Return whether a reply is worth storing: it is finished and not empty.

    An empty reply may be an error that its server did not report, and the cache would return it forever.
    """
    return reply.finish not in UNFINISHED and bool(reply.text.strip() or reply.tool_calls)


def _own(error: ModelError) -> ModelError:
    """Copy a failure for a caller that waited for another one's request.

    One exception raised in several tasks would collect all their tracebacks.  The copy has no cost.
    """
    error = copy.copy(error)
    if isinstance(error, PassingFault):
        error.final, error.cut_off, error.quotas = copy.copy(error.final), False, ()
    if isinstance(error, PassingFault | RequestFailed):
        error.usage = None
    return error


def cached(models: Mapping[str, Model], cache: ResponseCache, *, any_temperature: bool = False) -> dict[str, Model]:
    """Put each role's model behind ``cache``; roles that share a model, and so its limit, still do."""
    made: dict[int, CachedModel] = {}

    def behind(model: Model) -> Model:
        if isinstance(model, Ensemble):
            return attrs.evolve(model, members=tuple((behind(each), weight) for each, weight in model.members))
        if id(model) not in made:
            made[id(model)] = CachedModel(model, cache, any_temperature=any_temperature)
        return made[id(model)]

    return {role: behind(model) for role, model in models.items()}
