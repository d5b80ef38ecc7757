"""A model at an OpenAI-compatible address: vLLM, llama.cpp, OpenAI itself and many other servers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import attrs
import httpx

from flashgraph.errors import (
    DataError,
    KeyRefused,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    RequestFailed,
    TimedOut,
    UnknownModel,
    did_you_mean,
)
from flashgraph.llm.addresses import base_url, is_exact, is_loopback, lacks_version
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.completions import Completion, Malformed, NoJson, parsed, spread
from flashgraph.llm.connections import LARGEST_BODY, Connections, HttpReply, UnreadableBody, connection_lost
from flashgraph.llm.dialect import Dialect
from flashgraph.llm.faults import ServerErrors
from flashgraph.llm.limits import Limits
from flashgraph.llm.prices import LOCAL, OPTION, Price, checked_price, listed
from flashgraph.llm.protocol import Message, Reply, choices_wanted, whole_text
from flashgraph.llm.retry import Retry
from flashgraph.llm.secrets import Key, redacted
from flashgraph.llm.sharing import Shared
from flashgraph.llm.streams import Stream

__all__ = ["HttpModel"]

PROBE_SECONDS = 10.0
"""Seconds for an address to accept a connection, or to list its models, before it counts as dead."""

SHOWN = 200
"""Maximum number of model names in an error, and maximum characters of each."""

_log = logging.getLogger("flashgraph")


@attrs.define(eq=False)
class HttpModel:
    """A chat model at ``url``, which `flashgraph.llm.addresses.base_url` interprets.

    An empty ``model`` means the server's only one; opening the model looks it up.  ``params`` are sent with each
    request that does not override them.  ``limits`` are moving limits in place of the fixed ``limit``.  ``timeout``
    bounds one try of one request, in seconds.

    ``price`` is USD for one prompt token and for one completion token.  Without it an address of this machine is free,
    and any other costs what LiteLLM's table says for the model's name.

    With ``probe``, opening the model asks the address for its models, so that a dead one is found before the run
    begins.  The key is ``key``, or the value of the environment variable ``key_env``.  With neither, OpenAI's own
    address gets ``OPENAI_API_KEY``, and no other address gets a key.  Blanks around a key are removed.  ``largest``
    bounds the body of a reply, in bytes after decoding.
    """

    url: str
    model: str = ""
    limit: int = attrs.field(default=32, kw_only=True, validator=attrs.validators.ge(1))
    limits: Limits | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=300.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    price: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    probe: bool = attrs.field(default=True, kw_only=True)
    key: str | None = attrs.field(default=None, kw_only=True, repr=False)
    key_env: str | None = attrs.field(default=None, kw_only=True)
    retry: Retry = attrs.field(factory=Retry, kw_only=True)
    largest: int = attrs.field(default=LARGEST_BODY, kw_only=True, validator=attrs.validators.ge(1))
    local: bool = attrs.field(init=False, repr=False)
    _chat: httpx.URL = attrs.field(init=False, repr=False)
    _exact: bool = attrs.field(init=False, repr=False)
    _pinned: Price | None = attrs.field(default=None, init=False, repr=False)
    _connections: Shared[Connections] = attrs.field(factory=Shared, init=False, repr=False)
    _dialect: Dialect = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.limits is not None:
            self.limit = self.limits.most
        if self.price is not None:
            self.price = checked_price("HttpModel", self.price)
        self._exact = is_exact(self.url)
        self._reach(base_url(self.url))
        self._key.usable()
        self._dialect = Dialect(self.name)

    def _reach(self, url: str) -> None:
        self.url, self._chat = url, httpx.URL(f"{url}/chat/completions")
        self.local = is_loopback(self._chat.host)

    @property
    def name(self) -> str:
        """Return ``MODEL@HOST:PORT``, for people."""
        at = httpx.URL(self.url).netloc.decode()
        return self._redacted(f"{self.model}@{at}" if self.model else at)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the connections; runs that use this object share them.

        Raises `ModelUnavailable` if nothing answers, and `ModelRefused` if the key is refused or cannot be sent.
        Raises `DataError` if no model was named and the server does not have exactly one.
        """
        async with self._connections.hold(self._connected):
            if self.probe or not self.model:
                await self._probe()
            yield

    def _connected(self) -> AbstractAsyncContextManager[Connections]:
        key = self._key.usable()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if key and not self.local and self._chat.scheme == "http":
            _log.warning("%s: its key is sent over http, which others can read.  Fix: use https.", self.name)
        timeout = httpx.Timeout(None, connect=min(PROBE_SECONDS, self.timeout))
        # A proxy of the environment cannot reach this machine's loopback.
        plain = self.local and self._chat.scheme == "http"
        return Connections(headers, timeout, trust_env=not self.local, largest=self.largest, encrypted=not plain).open()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`.

        Connection errors, time-outs, malformed replies, 408, 409, 429 and 5xx may pass, whether they are statuses or
        errors in a reply with status 200.  Cancelling closes the connection, which tells these servers that nobody
        waits.

        Raises `DataError` for a parameter whose effect a `Reply` cannot show.
        """
        own = {**self.params, **params}
        stream = Stream(own.pop("stream")) if callable(own.get("stream")) else None
        body = self._body(messages, own, streamed=stream is not None)
        try:
            with anyio.fail_after(self.timeout):
                answer = await self._sent(body, stream)
        except TimeoutError:
            late = TimedOut(f"{self.name}: no answer within {self.timeout:g} s; raise it with `?timeout=SECONDS`")
            raise self.retry.passing(late, cut_off=True) from None
        except httpx.TransportError as error:
            # Without the cause: an error of httpx may quote a header, and thereby the key.
            raise self.retry.passing(self._unreachable(error), cut_off=connection_lost(error)) from None
        except (UnreadableBody, Malformed) as error:
            raise self._faults.malformed(str(error), body) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise RequestFailed(f"{self.name}: the request cannot be sent as JSON: {error}") from None
        if not answer.is_success:
            complaint = Complaint.of_response(answer.status, answer.phrase, answer.body)
            if _is_missing(complaint):
                raise await self._not_found(self._faults.said(complaint))
            raise self._faults.of(complaint, answer.headers)
        return await self._reply(answer, body, stream)

    def _body(self, messages: Sequence[Message], params: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
        body = spread(self.name, params)
        if streamed and choices_wanted(body) > 1:
            raise DataError(f"{self.name}: found n={body['n']} with stream.\nFix: leave one of them out.")
        sent = [dict(message) for message in messages]
        how = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {"stream": False}
        return {**body, "model": self.model, "messages": sent, **how}

    async def _sent(self, body: Mapping[str, Any], stream: Stream | None) -> HttpReply:
        """Return the response to ``body``; if the server refuses parameters, adapt them and send it again."""
        while True:
            sent = self._dialect.adapted(body)
            each = None if stream is None else stream.take
            answer = await self._opened().request("POST", self._chat, sent, each=each)
            if answer.status not in (400, 422) or not self._dialect.learn(answer.text, sent):
                return answer

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the cost by the price that a run has pinned, or else by `pricing`; None if it is unknown."""
        return (self._pinned or self.pricing()).of(prompt, completion)

    def pricing(self) -> Price:
        """Return ``price``, or else 0 for an address of this machine and LiteLLM's price for any other."""
        if self.price is not None:
            return Price(*self.price, OPTION)
        return LOCAL if self.local else listed(self.model)

    def pin(self, price: Price) -> None:
        """Use this price from now on, whatever the table says."""
        self._pinned = price

    @property
    def _key(self) -> Key:
        return Key.of(self._chat.host, self.key, self.key_env, self._chat.port)

    def _redacted(self, text: str) -> str:
        return redacted(text, [self._key.value])

    def _opened(self) -> Connections:
        if (connections := self._connections.value) is None:
            raise RuntimeError(f"{self.name} is not open: use `async with model.open():` around its calls")
        return connections

    def _unreachable(self, error: httpx.TransportError) -> ModelUnavailable:
        reason = str(error) or type(error).__name__
        return ModelUnavailable(
            f"no model server answers at {self.url} ({self._redacted(reason)}); "
            "check the address and that the server is up, then run again"
        )

    async def _reply(self, answer: HttpReply, body: Mapping[str, Any], stream: Stream | None) -> Reply:
        try:
            data = parsed(answer.body) if stream is None else stream.whole(answer.body)
            said = Completion.of(data, choices_wanted(body))
        except NoJson as error:
            if _is_page(answer):
                raise self._faults.page(answer.status, answer.text, answer.headers) from None
            raise self._faults.malformed(str(error), body, answer.text, chance=True) from None
        except Malformed as error:
            raise self._faults.malformed(str(error), body, answer.text) from None
        if said.complaint is not None and _is_missing(said.complaint):
            raise await self._not_found(self._faults.said(said.complaint))
        return self._faults.reply(said, body, answer.headers, self.model, self.worst_cost)

    @property
    def _faults(self) -> ServerErrors:
        return ServerErrors(self.name, self.url, self.retry, self._redacted, self._key_refused)

    def _key_refused(self, status: int, said: str) -> KeyRefused:
        key = self._key
        fix = f"set {key.where} (the key in it was refused)" if key.value else key.otherwise
        refused = f"{self.name} refuses access ({status}): {fix}. The server said: {said}"
        return KeyRefused(refused, certain=status == 401)

    async def _not_found(self, said: str) -> ModelRefused:
        try:
            served = await self._served()
        except ModelError:
            served = None
        if served is None:
            return ModelRefused(
                f"{self.url} has no chat completions (404): {said}; expected an OpenAI-compatible address such as "
                "http://HOST:PORT/v1"
            )
        return UnknownModel(
            f"unknown model {self._redacted(self.model)!r} at {self.url}: "
            f"{self._redacted(did_you_mean(self.model, served[:SHOWN]))} (it serves {self._names(served)})"
        )

    async def _served(self, url: str = "") -> list[str] | None:
        """Return the names of the server's models; None if it does not list them."""
        try:
            with anyio.fail_after(PROBE_SECONDS):
                answer = await self._opened().request("GET", f"{url or self.url}/models")
        except (TimeoutError, UnreadableBody):
            return None
        except httpx.TransportError as error:
            if connection_lost(error):
                return None  # a server answers there, so requests will show the rest
            raise self._unreachable(error) from None
        if answer.status in (401, 403):
            complaint = Complaint.of_response(answer.status, answer.phrase, answer.body)
            raise self._key_refused(answer.status, self._faults.said(complaint))
        return _listed(answer.body) if answer.is_success else None

    async def _probe(self) -> None:
        try:
            served = await self._served()
            if served is None and not self._exact and lacks_version(self.url):
                # The address may lead to a server whose own address ends in /v1.
                served = await self._served(f"{self.url}/v1")
                if served is not None:
                    self._reach(f"{self.url}/v1")
        except KeyRefused:
            # Some servers refuse the list to keys that may chat; requests will show it.
            if not self.model:
                raise
            return
        if self.model:
            return
        if served is None or len(served) != 1:
            has = "does not say which models it has" if served is None else f"serves {self._names(served)}"
            raise DataError(f"model at {self.url}: no name was given and the server {has}; write {self.url}#MODEL")
        self.model = served[0]

    def _names(self, served: list[str]) -> str:
        """Return names of models for people, without the key, which a server may have put among them."""
        return self._redacted(", ".join(name[:SHOWN] for name in served[:SHOWN])) or "nothing"


def _is_missing(complaint: Complaint) -> bool:
    """Return whether a server says that it has no such model or no such page."""
    return complaint.status == 404 or complaint.code == "model_not_found"


def _is_page(answer: HttpReply) -> bool:
    """Return whether a body that is not JSON is HTML or XML."""
    return answer.body[:1000].lstrip().startswith(b"<") or "text/html" in answer.headers.get("content-type", "").lower()


def _listed(body: bytes) -> list[str] | None:
    """Return the names in a list of models; None for anything else."""
    try:
        names = [entry["id"] for entry in parsed(body)["data"]]
    except (Malformed, LookupError, TypeError):
        return None
    return [whole_text(name) for name in names if isinstance(name, str) and name]
