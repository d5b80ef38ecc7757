"""From what a server complains of to the error that says whether the request may succeed later, elsewhere, or never."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    KeyRefused,
    ModelRefused,
    ModelUnavailable,
    RequestFailed,
)
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.protocol import Usage
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry, retry_after

__all__ = ["SAID", "Faults"]

SAID = 1000
"""Characters of a complaint that its error shows."""

REQUEST_TIMEOUT, CONFLICT, TOO_MANY_REQUESTS = 408, 409, 429

GATEWAY_TIMEOUTS = frozenset({504, 524})
"""What a proxy says that has given up a request which the server behind it may still work on."""

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (length|window|size)|maximum model length|"
    r"prompt is too long|input is too long|exceeds the (max_model_len|available context)",
    re.IGNORECASE,
)
"""How servers say that a request does not fit: few have a code for it."""


@attrs.frozen
class Faults:
    """The errors of one server, by its ``name`` and ``url``.  ``hide`` removes its key from a text."""

    name: str
    url: str
    retry: Retry
    hide: Callable[[str], str]
    key_refused: Callable[[int, str], KeyRefused]

    def said(self, complaint: Complaint) -> str:
        """Return what the server says, without its key, cut to a length for people."""
        return attrs.evolve(complaint, said=self.hide(complaint.said)).cut(SAID)

    def of(
        self, complaint: Complaint, headers: Mapping[str, str], usage: Usage | None = None, begun: bool = False
    ) -> Exception:
        """Return what a complaint means: a `PassingFault` or the final error.

        ``begun`` says that the model has worked on the request, ``usage`` what the server counted of that.
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
            return ModelRefused(f"{self.name} refuses for want of credit ({status}): {said}")
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
        """Return what a page is that came in the place of a reply: of something that stands before a server which is
        not there, as a 502 with another status."""
        shown = self.said(Complaint(status, "", text))[:200]
        failing = f"{self.url} keeps answering {status} with a page and no reply: {shown}; look at it, then run again"
        return self.retry.passing(ModelUnavailable(failing), pause=retry_after(headers))
