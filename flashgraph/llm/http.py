"""A model behind an OpenAI-compatible address: vLLM, llama.cpp, OpenAI itself and the many that speak its protocol."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import httpx

from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    DataError,
    KeyRefused,
    MalformedReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    RequestFailed,
    TimedOut,
    UnknownModel,
    did_you_mean,
)
from flashgraph.llm.connections import Connections, broke_off
from flashgraph.llm.prices import LOCAL, OPTION, Price, listed
from flashgraph.llm.protocol import Message, Reply, Usage, reply_limit
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry, retry_after
from flashgraph.policies.limits import Limits

__all__ = ["HttpModel"]

PROBE_SECONDS = 10.0
"""How long an address may take to accept a connection, or to list its models, before it counts as dead."""

REQUEST_TIMEOUT, CONFLICT, TOO_MANY_REQUESTS = 408, 409, 429
BOUND, NEW_BOUND = "max_tokens", "max_completion_tokens"
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (length|window|size)|maximum model length|"
    r"prompt is too long|input is too long|exceeds the (max_model_len|available context)",
    re.IGNORECASE,
)
"""How servers say that a request does not fit: few have a code for it."""


def _base_url(url: str) -> str:
    """``url`` with ``/v1`` at its end, checked without ever repeating a password that it may hold."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DataError(f"model address: found {url!r} ({error}), expected http(s)://HOST[:PORT][/v1]") from None
    if parsed.userinfo:
        raise DataError(
            f"model address of {parsed.host}: found a user name or password in it, expected none; "
            "put the key into OPENAI_API_KEY instead"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise DataError(
            f"model address: found {url!r}, expected http(s)://HOST[:PORT][/v1]; did you mean {'http://' + url!r}?"
        )
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    if not re.search(r"/v\d", path):
        path += "/v1"
    return str(parsed.copy_with(path=path, query=None, fragment=None))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@attrs.define(eq=False)
class HttpModel:
    """A chat model at ``url`` (``/v1`` is added where it is missing).

    An empty ``model`` means the only one that the server has, asked for when the model is opened.  ``params`` are
    sent with each request unless the request says otherwise.  ``limits`` are limits that move, in the place of the
    fixed ``limit``.  ``timeout`` bounds one try of one request, in seconds.  ``price`` is USD for one prompt token and
    for one completion token; without it an address of this machine is free, and any other costs what LiteLLM's table
    says of the model's name.  ``probe`` asks the address for its models
    when it is opened, so that a dead one is found before the run begins.  The key is ``key``, or the environment
    variable named by ``key_env``.
    """

    url: str = attrs.field(converter=_base_url)
    model: str = ""
    limit: int = attrs.field(default=32, kw_only=True, validator=attrs.validators.ge(1))
    limits: Limits | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=300.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    price: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    probe: bool = attrs.field(default=True, kw_only=True)
    key: str | None = attrs.field(default=None, kw_only=True, repr=False)
    key_env: str = attrs.field(default="OPENAI_API_KEY", kw_only=True)
    retry: Retry = attrs.field(factory=Retry, kw_only=True)
    local: bool = attrs.field(init=False, repr=False)
    _chat: httpx.URL = attrs.field(init=False, repr=False)
    _pinned: Price | None = attrs.field(default=None, init=False, repr=False)
    _connections: Connections | None = attrs.field(default=None, init=False, repr=False)
    _renames: bool = attrs.field(default=False, init=False, repr=False)

    @local.default
    def _is_local(self) -> bool:
        return _is_loopback(httpx.URL(self.url).host)

    @_chat.default
    def _chat_url(self) -> httpx.URL:
        return httpx.URL(f"{self.url}/chat/completions")

    def __attrs_post_init__(self) -> None:
        if self.limits is not None:
            self.limit = self.limits.most

    @property
    def name(self) -> str:
        """``MODEL@HOST:PORT``, for people."""
        at = httpx.URL(self.url).netloc.decode()
        return f"{self.model}@{at}" if self.model else at

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the connections.

        Raises `ModelUnavailable` if nothing answers, `ModelRefused` if the key is refused, and `DataError` if
        no model was named and the server has not exactly one.
        """
        key = self._secret()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(None, connect=min(PROBE_SECONDS, self.timeout))
        # A proxy of the environment cannot reach this machine's loopback.
        async with Connections(headers, timeout, trust_env=not self.local).open() as self._connections:
            try:
                if self.probe or not self.model:
                    await self._probe()
                yield
            finally:
                self._connections = None

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`.

        Connection errors, time-outs, malformed replies, 408, 409, 429 and 5xx may pass.  Cancelling closes the
        connection, which is how these servers learn that nobody waits any more.
        """
        body = {
            **self.params,
            **params,
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "stream": False,
        }
        try:
            with anyio.fail_after(self.timeout):
                response = await self._sent(body)
        except TimeoutError:
            late = TimedOut(f"{self.name}: no answer within {self.timeout:g} s; raise it with `?timeout=SECONDS`")
            raise self.retry.passing(late, cut_off=True) from None
        except httpx.TransportError as error:
            raise self.retry.passing(self._unreachable(error), cut_off=broke_off(error)) from error
        except ValueError as error:
            raise RequestFailed(f"{self.name}: the request cannot be sent as JSON: {error}") from None
        if response.is_success:
            return self._reply(response, body)
        raise await self._error(response)

    async def _sent(self, body: dict[str, Any]) -> httpx.Response:
        """The response to ``body``, whose reply is bounded by the name that this server knows: OpenAI's newer models
        refuse ``max_tokens`` and ask for ``max_completion_tokens``."""
        while True:
            if self._renames and BOUND in body:
                body[NEW_BOUND] = body.pop(BOUND)
            response = await self._opened().request("POST", self._chat, body)
            if response.status_code != 400 or BOUND not in body or NEW_BOUND not in response.text:
                return response
            self._renames = True

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """By the price that a run has pinned, or else by `pricing`; None where it is not known."""
        return (self._pinned or self.pricing()).of(prompt, completion)

    def pricing(self) -> Price:
        """By ``price``; else nothing for an address of this machine, and for any other what LiteLLM's table says."""
        if self.price is not None:
            return Price(*self.price, OPTION)
        return LOCAL if self.local else listed(self.model)

    def pin(self, price: Price) -> None:
        """Count by this price from now on, whatever the table says."""
        self._pinned = price

    def _secret(self) -> str:
        return os.environ.get(self.key_env, "") if self.key is None else self.key

    def _redacted(self, text: str) -> str:
        key = self._secret()
        return text.replace(key, "***") if key else text

    def _opened(self) -> Connections:
        if self._connections is None:
            raise RuntimeError(f"{self.name} is not open: use `async with model.open():` around its calls")
        return self._connections

    def _unreachable(self, error: httpx.TransportError) -> ModelUnavailable:
        reason = str(error) or type(error).__name__
        return ModelUnavailable(
            f"no model server answers at {self.url} ({self._redacted(reason)}); "
            "check the address and that the server is up, then run again"
        )

    def _reply(self, response: httpx.Response, body: Mapping[str, Any]) -> Reply:
        try:
            data = response.json()
            choice = data["choices"][0]
            text = choice["message"].get("content") or ""
            if not isinstance(text, str):
                raise TypeError("the content is not text")
            counted = data.get("usage") or {}
            usage = Usage.counted(counted.get("prompt_tokens"), counted.get("completion_tokens"), body, text)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            shown = self._redacted(response.text[:200])
            malformed = MalformedReply(
                f"{self.name}: malformed reply ({error!r}): {shown!r}; expected an OpenAI chat completion"
            )
            usage = Usage.estimate(body["messages"], response.text, reply_limit(body))
            raise self.retry.passing(malformed, usage=usage) from None
        finish = choice.get("finish_reason") or "stop"
        if finish == "content_filter":
            raise ContentFiltered(f"{self.name}: the reply was withheld by the provider's content filter", usage=usage)
        cost = self.worst_cost(usage.prompt, usage.completion)
        return Reply(text, usage, cost, finish, data.get("model") or self.model, quotas(response.headers))

    async def _error(self, response: httpx.Response) -> Exception:
        """What a reply with an error status means: a `PassingFault` or the final error."""
        status = response.status_code
        said, code = _complaint(response)
        said = self._redacted(said)
        if status == TOO_MANY_REQUESTS and code not in QUOTA_CODES:
            return self.retry.throttled(
                f"{self.name} keeps answering 429 (too many requests): {said}; lower `?limit=` or `?rpm=`, or wait, "
                "then run again",
                retry_after(response.headers),
                quotas(response.headers),
            )
        if status >= 500 or status in (REQUEST_TIMEOUT, CONFLICT):
            failing = f"{self.url} keeps answering {status}: {said}; look at the server's log, then run again"
            return self.retry.passing(ModelUnavailable(failing), pause=retry_after(response.headers))
        if status in (401, 403):
            return self._key_refused(status, said)
        if status in (402, TOO_MANY_REQUESTS):
            return ModelRefused(f"{self.name} refuses for want of credit ({status}): {said}")
        if status == 404 or code == "model_not_found":
            return await self._not_found(said)
        if status < 400 or status == 405:
            return ModelRefused(
                f"{self.url} answers {status} to chat completions; expected an OpenAI-compatible address such as "
                "http://HOST:PORT/v1"
            )
        if code in FILTER_CODES or "content management policy" in said:
            return ContentFiltered(f"{self.name}: the request was refused by the provider's content filter: {said}")
        if TOO_LONG.search(f"{code} {said}"):
            return ContextTooLong(f"{self.name}: the request does not fit into the model's context: {said}")
        return RequestFailed(f"{self.name} rejects the request ({status}): {said}")

    def _key_refused(self, status: int, said: str) -> KeyRefused:
        found = "the key in it was refused" if self._secret() else "no key is set"
        where = "the `key` argument" if self.key else self.key_env
        return KeyRefused(f"{self.name} refuses access ({status}): set {where} ({found}). The server said: {said}")

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
            f"unknown model {self.model!r} at {self.url}: {did_you_mean(self.model, served)} "
            f"(it serves {', '.join(served) or 'nothing'})"
        )

    async def _served(self) -> list[str] | None:
        """Names of the server's models; None if it does not say."""
        try:
            with anyio.fail_after(PROBE_SECONDS):
                response = await self._opened().request("GET", f"{self.url}/models")
        except TimeoutError:
            return None
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code in (401, 403):
            raise self._key_refused(response.status_code, self._redacted(_complaint(response)[0]))
        try:
            return [str(entry["id"]) for entry in response.json()["data"]] if response.is_success else None
        except (ValueError, LookupError, TypeError):
            return None

    async def _probe(self) -> None:
        served = await self._served()
        if self.model:
            return
        if served is None or len(served) != 1:
            has = "does not say which models it has" if served is None else f"serves {', '.join(served) or 'nothing'}"
            raise DataError(f"model at {self.url}: no name was given and the server {has}; write {self.url}#MODEL")
        self.model = served[0]


def _complaint(response: httpx.Response) -> tuple[str, str]:
    """An error reply's message and code, in any of the shapes in use."""
    try:
        data = response.json()
    except ValueError:
        return response.text[:300].strip() or response.reason_phrase, ""
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return str(error)[:300], ""
    said = error.get("message") or error.get("detail") or error
    return str(said)[:1000], str(error.get("code") or error.get("type") or "")
