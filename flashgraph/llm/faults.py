"""Turn a server's answer into a reply, or into an error that says whether a retry may succeed.

All network backends use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    KeyRefused,
    MalformedReply,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
)
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.completions import Completion
from flashgraph.llm.protocol import Reply, ToolCall, Usage, reply_limit
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry, retry_after

__all__ = ["SAID", "ServerErrors"]

SAID = 1000
"""Characters of a server's error text that our error shows."""

SHOWN = 200
"""Characters of a malformed reply that our error shows."""

REQUEST_TIMEOUT, CONFLICT, TOO_MANY_REQUESTS = 408, 409, 429

GATEWAY_TIMEOUTS = frozenset({504, 524})
"""Statuses of a proxy that gave up on a request, on which the server behind it may still work."""

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (length|window|size)|maximum model length|"
    r"prompt is too long|input is too long|exceeds the (max_model_len|available context)",
    re.IGNORECASE,
)
"""Texts for a request that exceeds the context: few servers have a code for it."""


@attrs.frozen
class ServerErrors:
    """The errors of one server with this ``name`` and ``url``.  ``hide`` removes its key from a text."""

    name: str
    url: str
    retry: Retry
    hide: Callable[[str], str]
    key_refused: Callable[[int, str], KeyRefused]

    def said(self, complaint: Complaint) -> str:
        """Return the server's error text without its key, truncated for people."""
        return attrs.evolve(complaint, said=self.hide(complaint.said)).cut(SAID)

    def reply(
        self,
        said: Completion,
        request: Mapping[str, Any],
        headers: Mapping[str, str],
        model: str,
        cost: Callable[[int, int], float | None],
    ) -> Reply:
        """Return a completion as the reply to a ``request`` (its messages and parameters), without the key.

        ``model`` is the name to use if the server gives none, ``cost`` the price of tokens of prompt and reply.  Raises
        what `of` returns for an error in the completion, and `ContentFiltered` for a withheld reply.
        """
        usage = Usage.counted(said.prompt, said.completion, request, said.written)
        if said.complaint is not None:
            raise self.of(said.complaint, headers, None if usage.estimated else usage, said.begun)
        if said.finish == "content_filter":
            raise ContentFiltered(f"{self.name}: the reply was withheld by the provider's content filter", usage=usage)
        if said.refusal:
            refusal = self.said(Complaint(200, "", said.refusal))
            raise ContentFiltered(f"{self.name}: the model refuses to answer: {refusal}", usage=usage)
        hide = self.hide
        return Reply(
            hide(said.text),
            usage,
            cost(usage.prompt, usage.completion),
            hide(said.finish),
            hide(said.model) or model,
            quotas(headers),
            hide(said.thoughts),
            tool_calls=tuple([ToolCall(hide(c.id), hide(c.name), hide(c.arguments)) for c in said.tool_calls]),
            more=tuple(map(hide, said.more)),
            # The tokens of a text with a key would spell it.
            logprobs=said.logprobs if hide(said.text) == said.text else (),
        )

    def malformed(
        self, why: str, request: Mapping[str, Any], text: str | None = None, *, chance: bool = False
    ) -> PassingFault:
        """Return the error for a malformed reply, with the reason and its ``text``, if it could be read.

        Its usage is estimated from that text, because the server may have answered in full.
        """
        # The first limit may split a key, but far beyond the part that is shown.
        shown = "" if text is None else f": {self.hide(text[: 100 * SHOWN])[:SHOWN]!r}"
        error = MalformedReply(
            f"{self.name}: malformed reply ({self.hide(why)}){shown}; expected an OpenAI chat completion"
        )
        if text is None:
            return self.retry.passing(error, cut_off=True, chance=chance)
        usage = Usage.estimate(request["messages"], text, reply_limit(request))
        return self.retry.passing(error, usage=usage, chance=chance)

    def of(
        self, complaint: Complaint, headers: Mapping[str, str], usage: Usage | None = None, begun: bool = False
    ) -> Exception:
        """Return the exception for a server's error: a `PassingFault` or the final error.

        ``begun`` says that the model has worked on the request, ``usage`` what the server counted for that.
        """
        status, code, said = complaint.status, complaint.code, self.said(complaint)
        if status == TOO_MANY_REQUESTS and code not in QUOTA_CODES:
            return self.retry.throttled(
                f"{self.name} keeps answering 429 (too many requests): {said}; lower `?limit=` or `?rpm=`, or wait, "
                "then run again",
                retry_after(headers),
                quotas(headers),
            )
        if status >= 500 or status in (REQUEST_TIMEOUT, CONFLICT):
            failing = f"{self.url} keeps answering {status}: {said}; look at the server's log, then run again"
            unknown = usage is None and (begun or status in GATEWAY_TIMEOUTS)
            return self.retry.passing(
                ModelUnavailable(failing), pause=retry_after(headers), usage=usage, cut_off=unknown
            )
        if status in (401, 403):
            return self.key_refused(status, said)
        if status in (402, TOO_MANY_REQUESTS):
            return ModelRefused(f"{self.name} refuses because credit is missing ({status}): {said}", certain=True)
        if status < 400 or status == 405:
            return ModelRefused(
                f"{self.url} answers {status} to chat completions; expected an OpenAI-compatible address such as "
                "http://HOST:PORT/v1"
            )
        if code in FILTER_CODES or "content management policy" in said:
            filtered = f"{self.name}: the request was refused by the provider's content filter: {said}"
            return ContentFiltered(filtered, usage=usage)
        if TOO_LONG.search(f"{code} {said}"):
            too_long = f"{self.name}: the request does not fit into the model's context: {said}"
            return ContextTooLong(too_long, usage=usage)
        return RequestFailed(f"{self.name} rejects the request ({status}): {said}", usage=usage)

    def page(self, status: int, text: str, headers: Mapping[str, str]) -> Exception:
        """Return the error for a web page in place of a reply.

        A proxy sends one when the server behind it is gone, so the error is that of a 502.
        """
        shown = self.said(Complaint(status, "", text))[:SHOWN]
        failing = f"{self.url} keeps answering {status} with a page and no reply: {shown}; open it, then run again"
        return self.retry.passing(ModelUnavailable(failing), pause=retry_after(headers))
