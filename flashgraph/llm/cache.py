"""A model in front of which a cache stands: what is known is not asked again, and identical requests are asked once."""

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
"""Part of each key: raise it when `cache_key` or the stored form of a reply changes its meaning."""

UNFINISHED = frozenset({"length", "max_tokens", "abort", "error", "content_filter"})
"""Finish reasons of replies that another try could finish."""

SHARED_FAILURES = frozenset(
    {
        ContentFiltered, ContextTooLong, KeyRefused, MalformedReply, ModelRefused, ModelUnavailable, RequestFailed,
        TimedOut, UnknownModel,
    }
)  # fmt: skip


def cache_key(model: Model, messages: Sequence[Message], params: Mapping[str, Any]) -> bytes | None:
    """The SHA-256 of a request whose effective parameters are ``params``; None for one that has no sure identity.

    The order of parameters does not count, nor whether a number is written 1 or 1.0.  No key for: parameters that are
    not JSON; simulated models; functions without a ``name`` of their own, since closures and edits share a name.
    """
    if not getattr(model, "cacheable", True) or (isinstance(model, FunctionModel) and not _named(model)):
        return None
    # The name alone is for people: an address's path and scheme are not in it.
    # To a cache a vLLM server is an HTTP one: which scheme word named an address does not change its answers.
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
    """Whether the temperature is known to be 0: a provider's own default is above it."""
    temperature = params.get("temperature")
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0


@attrs.define(eq=False)
class _Flight:
    """A request that is being asked.  When ``done`` has neither reply nor error, the next one asks."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    reply: Reply | None = None
    error: ModelError | None = None


@attrs.define(eq=False)
class CachedModel:
    """``model``, asked only for what ``cache`` does not know and nobody is asking.

    A request is kept if its temperature is 0, with the model's own ``params`` below the request's; with
    ``any_temperature`` every request is.  Those at temperature 0 are also asked once while they are in flight: the
    others wait, and whoever is next asks if the asker is cancelled.  They share the asker's `PassingFault`,
    `RequestFailed`, `ModelUnavailable` or `ModelRefused`; after any other exception the next one asks.
    A reply that was not asked for uses no token and costs nothing.  Cut-off and empty replies and failures are not
    kept.
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
        """The model's own, if it has limits that move."""
        return getattr(self.model, "limits", None)

    @property
    def params(self) -> Mapping[str, Any]:
        """What the model sends with each request that does not say otherwise."""
        return getattr(self.model, "params", None) or {}

    @property
    def prioritises(self) -> bool:
        """Whether the model takes priorities."""
        return getattr(self.model, "prioritises", False)

    async def load(self) -> Load | None:
        """How full the model's server says it is."""
        ask = getattr(self.model, "load", None)
        return None if ask is None else await ask()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the cache and the model; see `ResponseCache.open` and `flashgraph.llm.protocol.Model.open`."""
        with self.cache.open():
            async with self.model.open():
                yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``, from the cache if it can; see `flashgraph.llm.protocol.Model.complete`."""
        own = getattr(self.model, "params", None)
        effective = {**own, **params} if isinstance(own, Mapping) else dict(params)
        effective.pop("priority", None)  # which says when, not what
        greedy = _is_greedy(effective)
        key = cache_key(self.model, messages, effective) if greedy or self.any_temperature else None
        if key is None:
            self.cache.count("passed", Usage())
            return await self.model.complete(messages, params)
        # Between this look and `_ask`'s new flight nothing is awaited: of several that wake at once only one asks.
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
        """The model's: whether a reply is known is not known before."""
        return self.model.worst_cost(prompt, completion)

    @property
    def bounds_cost(self) -> bool:
        """The model's."""
        return bounds_cost(self.model)

    def pricing(self) -> Price:
        """The model's."""
        return pricing(self.model)

    def pin(self, price: Price) -> bool:
        """Pin the model's."""
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
            # A subclass of somebody's own may not be made from its arguments.
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
    """Whether a reply is worth keeping: it is finished, and says something.

    An empty one may be an error that its server did not call one, and would be given for ever.
    """
    return reply.finish not in UNFINISHED and bool(reply.text.strip() or reply.tool_calls)


def _own(error: ModelError) -> ModelError:
    """A failure of another's request for one that waited for it: a new one, since one exception raised in several tasks
    would gather all their tracebacks, and for nothing."""
    error = copy.copy(error)
    if isinstance(error, PassingFault):
        error.final, error.cut_off, error.quotas = copy.copy(error.final), False, ()
    if isinstance(error, PassingFault | RequestFailed):
        error.usage = None
    return error


def cached(models: Mapping[str, Model], cache: ResponseCache, *, any_temperature: bool = False) -> dict[str, Model]:
    """Each role's model behind ``cache``; roles that share a model, and so its limit, still do."""
    made: dict[int, CachedModel] = {}

    def behind(model: Model) -> Model:
        if isinstance(model, Ensemble):
            return attrs.evolve(model, members=tuple((behind(each), weight) for each, weight in model.members))
        if id(model) not in made:
            made[id(model)] = CachedModel(model, cache, any_temperature=any_temperature)
        return made[id(model)]

    return {role: behind(model) for role, model in models.items()}
