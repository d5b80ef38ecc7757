"""Read the headers in which hosted APIs report their rate limits, as `Quota` values.

There is no standard, but there are two families.  OpenAI's names are used by many others, some with the window at the
end (``...-req-minute``).  The other family is Anthropic's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from flashgraph.llm.protocol import Quota

__all__ = ["duration", "quotas"]

NAME = re.compile(
    r"(?:llm_provider-)?(?:"
    r"x-ratelimit-(?P<what>limit|remaining|reset)-(?P<of>requests|req|tokens)(?:-(?P<per>second|minute|hour|day))?"
    r"|anthropic-ratelimit-(?P<their>requests|tokens|input-tokens|output-tokens)-(?P<says>limit|remaining|reset))"
)
"""LiteLLM adds a prefix to the headers that it passes on."""

KINDS: Mapping[str, Any] = {
    "requests": "requests",
    "req": "requests",
    "tokens": "tokens",
    "input-tokens": "prompt_tokens",
    "output-tokens": "completion_tokens",
}
SECONDS: Mapping[str | None, float] = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}

DURATION = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in ("d", "h", "m", "s", "ms")))
PARTS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def quotas(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """Return the rate limits in a reply's headers.  Headers that cannot be understood are ignored."""
    said: dict[tuple[str, float | None], dict[str, str]] = {}
    for name, value in headers.items():
        if (found := NAME.fullmatch(name.lower())) is not None:
            key = KINDS[found["of"] or found["their"]], SECONDS.get(found["per"])
            said.setdefault(key, {})[found["what"] or found["says"]] = str(value)
    if ("prompt_tokens", None) in said or ("completion_tokens", None) in said:
        # Beside these, Anthropic's own total is a copy of the one that is used up first.
        said.pop(("tokens", None), None)
    shortest: dict[str, Quota] = {}
    for quota in _understood(said, headers.get("date") or headers.get("llm_provider-date") or ""):
        known = shortest.get(quota.of)
        if known is None or (quota.seconds or 0.0) < (known.seconds or 0.0):
            shortest[quota.of] = quota
    return tuple(shortest.values())


def _understood(said: Mapping[tuple[Any, float | None], Mapping[str, str]], date: str) -> Iterator[Quota]:
    for (of, seconds), values in said.items():
        reset = duration(values.get("reset", ""), date)
        if reset is None and seconds is None:
            continue  # the window is unknown
        try:
            yield Quota(of, float(values["limit"]), max(float(values["remaining"]), 0.0), reset, seconds)
        except (KeyError, ValueError):
            continue


def duration(text: str, date: str = "") -> float | None:
    """Return the seconds in "6m0s", "120ms" or "7.5", or until an RFC 3339 time; None for anything else.

    A time is counted from the reply's own ``date``, so that no clock of ours matters.
    """
    text = text.strip()
    try:
        return float(text) if float(text) >= 0 else None
    except ValueError:
        pass
    if text and (found := DURATION.fullmatch(text)) is not None:
        return sum(float(part) * unit for part, unit in zip(found.groups(), PARTS, strict=True) if part is not None)
    try:
        then, now = datetime.fromisoformat(text), parsedate_to_datetime(date)
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
