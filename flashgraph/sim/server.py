"""A simulated model server: OpenAI's protocol and vLLM's metrics over a `SimModel`, in real or virtual time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.abc
import attrs

from flashgraph.llm.protocol import Reply, Usage
from flashgraph.llm.serving import HttpRequest, Response, serve_http
from flashgraph.sim.faults import Faults, RateLimit
from flashgraph.sim.model import SimModel

__all__ = ["SimServer"]


class SimServer:
    """Serves ``model`` under the name ``name``.

    ``stall`` is the delay of a stalled answer, in seconds. Both limits are for a minute; the one on tokens counts
    prompts when they arrive and replies when they are done. With ``says_rates``, OpenAI's headers report both limits,
    as they were when the request was admitted or refused. If the profile does not queue, a request that finds every
    slot taken gets 429.
    """

    def __init__(
        self,
        model: SimModel,
        *,
        name: str = "sim",
        faults: Faults | None = None,
        stall: float = 60.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        says_rates: bool = True,
    ) -> None:
        self.model = model
        self.name = name
        self.faults = faults or Faults()
        self.stall = stall
        self.says_rates = says_rates
        self.in_flight = 0
        self.finished: Counter[str] = Counter()
        self.refused = 0
        self._tokens: Counter[str] = Counter()
        self._requests_left = RateLimit(requests_per_minute) if requests_per_minute else None
        self._tokens_left = RateLimit(tokens_per_minute) if tokens_per_minute else None

    @property
    def answered(self) -> int:
        """The requests that were answered as asked, including truncated ones."""
        return self.finished["stop"] + self.finished["length"]

    async def serve(self, listener: anyio.abc.Listener[anyio.abc.SocketStream]) -> None:
        """Answer every connection, until cancelled."""
        async with self.model.open():
            await serve_http(listener, self.answer)

    async def answer(self, request: HttpRequest) -> Response:
        """Return the response to one request. Cancelling it frees its slot."""
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return await self._chat(request.body)
            case "GET", "/v1/models":
                return _json(200, {"object": "list", "data": [{"id": self.name, "object": "model"}]})
            case "GET", "/metrics":
                return Response(body=self.metrics().encode(), type="text/plain; version=0.0.4; charset=utf-8")
            case "GET", "/health":
                return Response()
        return _error(404, f"nothing at {request.method} {request.path}")

    async def _chat(self, body: bytes) -> Response:
        try:
            fields = _fields(body, self.name)
        except ValueError as error:
            return _error(400, str(error))
        except LookupError as error:
            return _error(404, str(error.args[0]), "model_not_found")
        fault = self.faults.drawn(body)
        pause = self._over_limit(len(body) // 4)
        headers = self._rate_headers()
        if pause or fault == "429":
            return self._refused(pause, headers)
        if fault == "500":
            return _error(500, "simulated failure", "internal_error")
        self.in_flight += 1
        try:
            reply = await self.model.complete(fields["messages"], fields)
            if fault == "stall":
                await anyio.sleep(self.stall)
        except BaseException:
            self.finished["abort"] += 1
            raise
        finally:
            self.in_flight -= 1
        if fault == "truncated":
            reply = _halved(reply)
        self._count(reply)
        return _spoiled(attrs.evolve(self._completion(reply), headers=headers), fault)

    def _over_limit(self, prompt: int) -> float:
        """Return the seconds after which to try again; 0 for a request within the limits, which then count it."""
        if not self.model.profile.queues and self.in_flight >= self.model.profile.slots:
            return 1.0
        wanted = [(bucket, n) for bucket, n in ((self._requests_left, 1), (self._tokens_left, prompt)) if bucket]
        if pause := max((bucket.wanting(n) for bucket, n in wanted), default=0.0):
            return pause
        for bucket, n in wanted:
            bucket.take(n)
        return 0.0

    def _rate_headers(self) -> dict[str, str]:
        """Return the headers that report the current rates."""
        rates = (("requests", self._requests_left), ("tokens", self._tokens_left)) if self.says_rates else ()
        return {name: value for of, bucket in rates if bucket for name, value in bucket.headers(of).items()}

    def _refused(self, pause: float, rates: Mapping[str, str]) -> Response:
        self.refused += 1
        headers = {"retry-after": str(max(1, math.ceil(pause))), **rates}
        return _error(429, "simulated limit: too many requests", "rate_limit_exceeded", headers)

    def _count(self, reply: Reply) -> None:
        self.finished[reply.finish] += 1
        self._tokens["prompt"] += reply.usage.prompt
        self._tokens["generation"] += reply.usage.completion
        if self._tokens_left:
            self._tokens_left.take(reply.usage.completion)

    def _completion(self, reply: Reply) -> Response:
        used = reply.usage
        return _json(
            200,
            {
                "id": f"chatcmpl-{self.finished.total()}",
                "object": "chat.completion",
                "created": 0,
                "model": self.name,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": reply.text},
                        "finish_reason": reply.finish,
                    }
                ],
                "usage": {
                    "prompt_tokens": used.prompt,
                    "completion_tokens": used.completion,
                    "total_tokens": used.total,
                },
            },
        )

    def metrics(self) -> str:
        """Return load and counts in Prometheus' text format, under vLLM's names."""
        engine, cache = self.model.engine, self.model.profile.cache
        gauges: dict[str, float] = {"num_requests_running": engine.running, "num_requests_waiting": engine.waiting}
        if cache:
            gauges["kv_cache_usage_perc"] = min(1.0, engine.held / cache)
        engine_label, label = 'engine="0"', f'model_name="{self.name}"'
        lines = []
        for gauge, value in gauges.items():
            lines += [f"# TYPE vllm:{gauge} gauge", f"vllm:{gauge}{{{engine_label},{label}}} {float(value)}"]
        for kind in ("prompt", "generation"):
            counter = f"vllm:{kind}_tokens_total"
            lines += [f"# TYPE {counter} counter", f"{counter}{{{engine_label},{label}}} {float(self._tokens[kind])}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason in ("stop", "length", "abort"):
            labels = f'{engine_label},finished_reason="{reason}",{label}'
            lines.append(f"vllm:request_success_total{{{labels}}} {float(self.finished[reason])}")
        return "\n".join(lines) + "\n"


def _fields(body: bytes, name: str) -> dict[str, Any]:
    """Return the request's fields. Raises ValueError for a wrong field, LookupError for a model that is not here."""
    fields = json.loads(body)
    if not isinstance(fields, dict):
        raise ValueError("expected a JSON object")
    if fields.get("model") not in (None, "", name):
        raise LookupError(f"the model {fields['model']!r} does not exist; this server has {name!r}")
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: expected a list of at least one message")
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        calls = content is None and isinstance(message, dict) and bool(message.get("tool_calls"))
        parts = isinstance(content, list) and bool(content) and all(map(_is_part, content))
        if not (isinstance(content, str) or parts or calls):
            raise ValueError("messages: expected {'role': ..., 'content': text or parts} in each place")
    for key in ("max_tokens", "max_completion_tokens", "priority"):
        if not isinstance(fields.get(key) or 0, int):
            raise ValueError(f"{key}: found {fields[key]!r}, expected a whole number")
    if fields.get("stream") or fields.get("n", 1) != 1:
        raise ValueError("stream and n: the simulated server sends one whole reply; leave them out")
    fields["max_tokens"] = fields.get("max_tokens") or fields.get("max_completion_tokens")
    return fields


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and "type" in part and (part["type"] != "text" or isinstance(part.get("text"), str))


def _halved(reply: Reply) -> Reply:
    usage = Usage(reply.usage.prompt, max(1, reply.usage.completion // 2))
    return attrs.evolve(reply, text=reply.text[: len(reply.text) // 2], usage=usage, finish="length")


def _spoiled(response: Response, fault: str | None) -> Response:
    match fault:
        case "reset":
            return attrs.evolve(response, sent="nothing")
        case "cut":
            return attrs.evolve(response, sent="half")
        case "malformed":
            return attrs.evolve(response, body=response.body[: len(response.body) // 2])
    return response


def _json(status: int, data: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, json.dumps(data).encode(), headers or {})


def _error(status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> Response:
    error = {"message": message, "type": code or "invalid_request_error", "code": code}
    return _json(status, {"error": error}, headers)
