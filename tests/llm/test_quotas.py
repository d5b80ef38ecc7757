"""Headers in which APIs report their rate limits."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.errors import Throttled
from flashgraph.llm.protocol import Quota, Reply
from flashgraph.llm.quotas import duration, quotas

from .server import Answer, chat, error, running
from .test_http import ask, failed, model_at

DATE = "Thu, 26 Nov 2026 12:00:00 GMT"


def openai(of: str, limit: Any, left: Any, reset: str, per: str = "") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{of}{per}": str(limit),
        f"x-ratelimit-remaining-{of}{per}": str(left),
        f"x-ratelimit-reset-{of}{per}": reset,
    }


def anthropic(of: str, limit: int, left: int, reset: str) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{of}-limit": str(limit),
        f"anthropic-ratelimit-{of}-remaining": str(left),
        f"anthropic-ratelimit-{of}-reset": reset,
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("7m12s", 432), ("8.64s", 8.64), ("2m59.56s", 179.56), ("1h", 3600),
        ("1d2h3m4.5s6ms", 93784.506), ("0", 0), ("7.5", 7.5), (" 20ms ", 0.02),
        ("2026-11-26T12:00:07Z", 7), ("2026-11-26T13:00:00.5+01:00", 0.5), ("2026-11-26T11:00:00Z", 0),
        ("", None), ("s", None), ("-1s", None), ("-3", None), ("nan", None), ("1s2m", None), ("soon", None),
        ("2026-11-26T12:00:07", None), ("1.2.3s", None),
    ],
)  # fmt: skip
def test_how_long_until_all_is_there_again(text: str, seconds: float | None) -> None:
    """Go's durations, plain seconds, and times relative to the reply's own date are read."""
    assert duration(text, DATE) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_time_without_a_date_says_nothing(date: str) -> None:
    """Our own clock is not used."""
    assert duration("2026-11-26T12:00:07Z", date) is None


def test_openais_headers() -> None:
    """Requests and tokens are read, each with its reset."""
    headers = openai("requests", 200, 199, "7m12s") | openai("tokens", 150000, 149984, "6ms")
    assert quotas(headers) == (Quota("requests", 200, 199, 432), Quota("tokens", 150_000, 149_984, 0.006))


@pytest.mark.parametrize("prefix", ["", "llm_provider-"])
def test_anthropics_headers(prefix: str) -> None:
    """Prompts and replies have limits of their own, and the total is a copy of one; LiteLLM prefixes each header."""
    headers = {
        **anthropic("requests", 50, 49, "2026-11-26T12:00:02Z"),
        **anthropic("tokens", 8000, 7000, "2026-11-26T12:00:08Z"),
        **anthropic("input-tokens", 40_000, 39_000, "2026-11-26T12:00:02Z"),
        **anthropic("output-tokens", 8000, 7000, "2026-11-26T12:00:08Z"),
        "date": DATE,
    }
    requests = Quota("requests", 50, 49, 2)
    prompts, replies = Quota("prompt_tokens", 40_000, 39_000, 2), Quota("completion_tokens", 8000, 7000, 8)
    assert quotas({prefix + name: value for name, value in headers.items()}) == (requests, prompts, replies)
    alone = anthropic("tokens", 8000, 7000, "2026-11-26T12:00:08Z") | {"date": DATE}
    assert quotas(alone) == (Quota("tokens", 8000, 7000, 8),)


def test_names_that_say_the_time() -> None:
    """They need no reset; of several windows the shortest counts."""
    mistral = {
        "x-ratelimit-limit-tokens-minute": "5000000",
        "x-ratelimit-remaining-tokens-minute": "4999911",
        "x-ratelimit-limit-tokens-month": "1",
        "x-ratelimit-remaining-tokens-month": "0",
        "X-RateLimit-Limit-Req-Minute": "720",
        "X-RateLimit-Remaining-Req-Minute": "717",
    }
    tokens, requests = Quota("tokens", 5e6, 4_999_911, None, 60), Quota("requests", 720, 717, None, 60)
    assert quotas(mistral) == (tokens, requests)
    for headers in (
        openai("requests", 900, 9, "4000", "-day") | openai("requests", 30, 29, "2", "-minute"),
        openai("requests", 30, 29, "2", "-minute") | openai("requests", 900, 9, "4000", "-day"),
    ):
        assert quotas(headers) == (Quota("requests", 30, 29, 2, 60),)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"},
        {"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"},
        openai("requests", 0, 0, "1s"), openai("requests", -60, 59, "1s"), openai("requests", "inf", 59, "1s"),
        openai("requests", "many", 59, "1s"), openai("requests", 60, "nan", "1s"), openai("requests", 60, 59, "inf"),
        openai("images", 60, 59, "1s"), {"x-ratelimit-limit": "60", "ratelimit-remaining": "59"},
        anthropic("requests", 50, 49, "2026-11-26T12:00:02Z"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_not_there(headers: dict[str, str]) -> None:
    """A limit without a window, a limit of 0, and invalid numbers are ignored."""
    assert quotas(headers) == ()


def test_less_than_nothing_is_left() -> None:
    """Some gateways report a debt as a negative rest."""
    assert quotas(openai("tokens", 600, -50, "65s")) == (Quota("tokens", 600, 0, 65),)


NAMES = [*openai("requests", 1, 1, ""), *openai("tokens", 1, 1, "", "-minute"), *anthropic("output-tokens", 1, 1, "")]
TEXTS = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.floats().map(str), st.sampled_from(["6m0s", "1e400", DATE])
)


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 01 Jan 99999999999999999999 00:00:00"]
)
def test_a_date_that_no_calendar_has(date: str) -> None:
    """`email.utils` raises `OverflowError` for it."""
    assert duration("2026-11-26T12:00:07Z", date) is None


@given(st.dictionaries(st.sampled_from([*NAMES, "date"]), TEXTS))
def test_whatever_headers_say(headers: dict[str, str]) -> None:
    """Nothing is raised, and values are in range."""
    for quota in quotas(headers):
        assert math.isfinite(quota.limit)
        assert quota.limit > 0
        assert math.isfinite(quota.left)
        assert quota.left >= 0
        assert quota.reset is None or quota.reset >= 0


@given(st.floats(0.001, 90_000))
def test_durations_as_go_writes_them(seconds: float) -> None:
    """Hours, minutes, seconds and milliseconds of any size are read."""
    thousandths = round(seconds * 1000)
    hours, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    text = f"{hours}h{minutes}m{rest / 1000:g}s" if thousandths >= 1000 else f"{thousandths}ms"
    assert duration(text) == pytest.approx(thousandths / 1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", 0.0), ("limit", math.inf), ("left", -1.0), ("left", math.nan), ("reset", -1.0), ("seconds", 0.0)],
)
def test_a_quota_of_ones_own_is_checked(name: str, value: float) -> None:
    """A user's own model may make quotas too."""
    with pytest.raises(ValueError, match=f"quota: found {name}="):
        Quota(**{"of": "requests", "limit": 60.0, "left": 1.0, name: value})  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_the_http_model_hands_them_on() -> None:
    """Replies and 429s have them; the reply equals one without."""
    told = openai("requests", 200, 199, "7m12s")
    good = Answer(body=chat("hi").body, headers=told)
    with running(
        good, error(429, "slow down", **{name.replace("-", "_"): text for name, text in told.items()})
    ) as server:
        model = model_at(server.url)
        reply = await ask(model)
        fault = await failed(model)
    expected = (Quota("requests", 200, 199, 432),)
    assert isinstance(fault, Throttled)
    assert (reply.quotas, fault.quotas) == (expected, expected)
    assert reply == Reply("hi", reply.usage, 0.0, "stop", "tiny")


def test_the_headers_of_httpx() -> None:
    """Header names in any case are read."""
    headers = httpx.Headers({name.title(): value for name, value in openai("requests", 200, 199, "7m12s").items()})
    assert quotas(headers) == (Quota("requests", 200, 199, 432),)
