"""The gateway: an OpenAI-compatible server on loopback for one attempt, whose calls are the run's own.

A program that has an SDK, a framework or a command-line tool inside gets an address and a key.  Its requests then have
the run's limits, priorities, budget, retries, cache and journal, as calls of ``llm(...)`` have.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import attrs

from flashgraph.errors import BudgetExhausted, ContextTooLong, DataError, FlashgraphError
from flashgraph.llm.protocol import Reply

if TYPE_CHECKING:
    from flashgraph.llm.serving import HttpRequest, Response

__all__ = ["Seat", "gateway"]

HOST = "127.0.0.1"
OWN = ("messages", "model", "stream", "stream_options", "user")
"""Fields of a request that the gateway reads itself; all others go to the model."""


@attrs.frozen
class Seat:
    """``llm`` with an address.

    Call it like ``llm``, or let an OpenAI client use ``base_url`` and ``api_key``.  The client's ``model`` is a role of
    the task; any other name means the stage's own role.
    """

    base_url: str
    api_key: str = attrs.field(repr=False)
    _call: Callable[..., Any] = attrs.field(repr=False)

    def __call__(self, messages: Any, **params: Any) -> Any:
        return self._call(messages, **params)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables from which OpenAI clients of any language read address and key."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.api_key}


@asynccontextmanager
async def gateway(
    llm: Callable[..., Any], roles: Sequence[str] = (), *, call: Callable[..., Any] | None = None
) -> AsyncIterator[Seat]:
    """Serve ``llm`` on a free port of this machine until the block ends; then open requests are cancelled.

    ``roles`` are the names of models that mean a role.  The seat itself calls ``call``, by default ``llm``.
    """
    from flashgraph.llm.serving import serve_http

    key = f"fg-{secrets.token_urlsafe(24)}"
    listener = await anyio.create_tcp_listener(local_host=HOST)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = _Server(llm, frozenset(roles), key)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve_http, listener, server.answer)
        yield Seat(f"http://{HOST}:{port}/v1", key, call or llm)
        tasks.cancel_scope.cancel()


@attrs.frozen
class _Server:
    llm: Callable[..., Any]
    roles: frozenset[str]
    key: str

    async def answer(self, request: HttpRequest) -> Response:
        """Answer one request of a client."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return _error(401, "invalid_api_key", "the key is not that of this attempt; fix: api_key=llm.api_key")
        path = request.path.rstrip("/")
        if path.endswith("/models") and request.method == "GET":
            return _json(200, {"object": "list", "data": [{"id": r, "object": "model"} for r in sorted(self.roles)]})
        if not path.endswith("/chat/completions") or request.method != "POST":
            return _error(
                404,
                "not_found",
                f"{request.method} {request.path}: found no such path, expected POST /v1/chat/completions",
            )
        try:
            fields = json.loads(request.body)
        except ValueError as error:
            return _error(400, "invalid_request_error", f"the body is no JSON: {error}")
        if not isinstance(fields, dict):
            return _error(400, "invalid_request_error", "expected a JSON object")
        model = str(fields.get("model") or "")
        params = {name: value for name, value in fields.items() if name not in OWN and value is not None}
        role = {"role": model} if model in self.roles else {}
        try:
            reply: Reply = await self.llm(fields.get("messages"), **role, **params)
        except FlashgraphError as error:
            return _error(*_status(error), str(error))
        made = _completion(reply, model)
        if not fields.get("stream"):
            return _json(200, made)
        usage = bool((fields.get("stream_options") or {}).get("include_usage"))
        return _stream(made, usage)


def _status(error: FlashgraphError) -> tuple[int, str]:
    """Return an error's status and code: none that clients repeat, because the run has repeated what can pass."""
    if isinstance(error, BudgetExhausted):
        return 402, "budget_exhausted"
    if isinstance(error, ContextTooLong):
        return 400, "context_length_exceeded"
    return (400, "invalid_request_error") if isinstance(error, DataError) else (424, "request_failed")


def _completion(reply: Reply, model: str) -> dict[str, Any]:
    message = dict(reply.message)
    if reply.thoughts:
        message["reasoning_content"] = reply.thoughts
    choices: list[dict[str, Any]] = [{"index": 0, "message": message, "finish_reason": reply.finish}]
    for index, text in enumerate(reply.more, 1):
        said = {"role": "assistant", "content": text}
        choices.append({"index": index, "message": said, "finish_reason": reply.finish})
    if reply.logprobs:
        choices[0]["logprobs"] = {"content": [_token(each.token, each.logprob, each.top) for each in reply.logprobs]}
    used = reply.usage
    return {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model or model,
        "choices": choices,
        "usage": {
            "prompt_tokens": used.prompt,
            "completion_tokens": used.completion,
            "total_tokens": used.total,
        },
    }


def _token(token: str, logprob: float, top: Mapping[str, float]) -> dict[str, Any]:
    likeliest = [{"token": other, "logprob": value, "bytes": list(other.encode())} for other, value in top.items()]
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": likeliest}


def _stream(made: Mapping[str, Any], usage: bool) -> Response:
    """Return a completion as server-sent events: a run stores whole replies, so the text comes in one piece."""
    from flashgraph.llm.serving import Response

    def chunks() -> Iterator[Mapping[str, Any]]:
        head = {**made, "object": "chat.completion.chunk"}
        del head["usage"]
        for choice in made["choices"]:
            message = dict(choice["message"])
            if "tool_calls" in message:
                message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]
            rest = {name: value for name, value in choice.items() if name not in ("message", "finish_reason")}
            yield {**head, "choices": [{**rest, "delta": message, "finish_reason": None}]}
            end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
            yield {**head, "choices": [end]}
        if usage:
            yield {**head, "choices": [], "usage": made["usage"]}

    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks()) + "data: [DONE]\n\n"
    return Response(200, body.encode(), type="text/event-stream")


def _json(status: int, data: Mapping[str, Any]) -> Response:
    from flashgraph.llm.serving import Response

    return Response(status, json.dumps(data).encode())


def _error(status: int, code: str, message: str) -> Response:
    return _json(status, {"error": {"message": message, "type": code, "code": code}})
