"""`HttpModel` against servers that misbehave in all ways: at worst a request fails."""

from __future__ import annotations

import gzip
import html
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    DataError,
    KeyRefused,
    MalformedReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
    TimedOut,
)
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Reply, ToolCall, Usage
from flashgraph.llm.retry import Retry
from flashgraph.llm.secrets import environment_secrets, redacted
from flashgraph.run.budget import prompt_bound
from flashgraph.testing.runs import TASK
from tests.run.endpoints import requests

from .server import Answer, Server, error, running

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""For tests that depend on the event loop; the others are the same on both."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


HELLO = [{"role": "user", "content": "hello?"}]
SECRET = "sk-very/secret-'0123456789"


def model_at(url: str, **options: Any) -> HttpModel:
    return HttpModel(url, "tiny", **{"retry": Retry(tries=3, backoff=0.001), "key": "", "probe": False, **options})


async def each(model: HttpModel, tries: int) -> list[Reply | ModelError]:
    """Return the outcomes of ``tries`` tries of a request, made in sequence."""
    found: list[Reply | ModelError] = []
    async with model.open():
        for _ in range(tries):
            try:
                found.append(await model.complete(HELLO, {}))
            except ModelError as failure:
                found.append(failure)
    return found


async def once(model: HttpModel) -> Reply | ModelError:
    """Return the outcome of one try of a request."""
    (found,) = await each(model, 1)
    return found


def body(message: Any = None, **more: Any) -> bytes:
    said = {"content": "hi"} if message is None else message
    choice = {"message": said, "finish_reason": "stop", **more.pop("choice", {})}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}, **more}).encode()


@pytest.mark.parametrize(
    ("code", "expected", "final"),
    [
        (429, Throttled, ModelUnavailable),
        ("rate_limit_exceeded", Throttled, ModelUnavailable),
        (402, ModelRefused, None),
        ("insufficient_quota", ModelRefused, None),
        (500, PassingFault, ModelUnavailable),
        ("502", PassingFault, ModelUnavailable),
        ("overloaded_error", PassingFault, ModelUnavailable),
        (None, PassingFault, ModelUnavailable),
        (401, KeyRefused, None),
        (403, KeyRefused, None),
        ("invalid_request_error", RequestFailed, None),
        ("context_length_exceeded", ContextTooLong, None),
        ("content_filter", ContentFiltered, None),
    ],
)
async def test_an_error_with_status_200_is_what_its_code_says(
    code: Any, expected: type[ModelError], final: type[ModelError] | None
) -> None:
    """It is never the answer "" that is beside it."""
    troubles: list[Any] = [{"message": said, "code": code} for said in ("slow down", {"nested": ["slow", "down"]})]
    bodies = [
        made
        for trouble in troubles
        for made in (
            json.dumps({"error": trouble}).encode(),
            body({"content": ""}, error=trouble),
            body({"content": "half an ans"}, choice={"error": trouble, "finish_reason": "error"}),
        )
    ]
    with running(*[Answer(200, made) for made in bodies]) as server:
        failures = await each(model_at(server.url), len(bodies))
    assert [type(failure) for failure in failures] == [expected] * len(bodies)
    assert all("down" in str(failure) for failure in failures)
    assert final is None or {type(getattr(failure, "final", None)) for failure in failures} == {final}


SLOW = "Rate limit reached, slow down"


@pytest.mark.parametrize(
    "sent",
    [
        {"error": SLOW},
        {"error": "HTTP 429: wait"},
        {"error": {"message": SLOW}},
        {"error": {"code": 429.0, "message": "wait"}},
        {"error": {"code": "error_429", "message": "wait"}},
        {"error": [{"code": 429}]},
        {"errors": [{"code": 429, "message": "wait"}]},
        {"Error": {"code": 429}},
        [{"error": {"code": 429}}],
        {"code": 429, "msg": "wait"},
        {"status": "429", "message": "wait", "choices": None},
        {"detail": SLOW},
        {"type": "error", "message": SLOW},
        {"base_resp": {"status_code": 1002, "status_msg": SLOW}, "choices": None},
        {"choices": [{"message": {"content": "", "error": {"code": 429}}, "finish_reason": "stop"}]},
    ],
    ids=lambda sent: json.dumps(sent)[:60],
)
async def test_an_error_in_any_place_is_what_it_says(sent: Any) -> None:
    """Its kind follows from its code, wherever that is, or else from its sentence."""
    with running(Answer(200, json.dumps(sent).encode())) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, Throttled)


@pytest.mark.parametrize("finish", [" error ", "engine_error", "abort", "Cancelled", "timeout", "failed"])
@pytest.mark.parametrize("named", ["finish_reason", "native_finish_reason"])
async def test_a_reply_that_was_not_finished_is_no_answer(finish: str, named: str) -> None:
    """It is an error, whatever finish reason the server gives and whatever text arrived."""
    with running(Answer(200, body({"content": "half"}, choice={named: finish}))) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert type(failure.final) is ModelUnavailable


async def test_finish_reason_error_alone() -> None:
    """The model stopped with an error: it is like a 5xx, and its text is counted."""
    with running(Answer(200, body({"content": "half"}, choice={"finish_reason": "error"}))) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert (type(failure.final), failure.usage, failure.cut_off) == (ModelUnavailable, Usage(7, 3), False)


async def test_an_error_beside_an_answer_that_nobody_counted() -> None:
    """The model has worked, and the cost is unknown."""
    with running(Answer(200, body({"content": "half"}, error={"code": 500}, usage=None))) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert (failure.usage, failure.cut_off) == (None, True)


@pytest.mark.parametrize("status", [504, 524])
async def test_a_gateway_that_gave_up(status: int) -> None:
    """The server behind it may have worked on the request."""
    with running(error(status, "upstream timed out")) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert (type(failure.final), failure.cut_off) == (ModelUnavailable, True)


@pytest.mark.parametrize("charset", ["rot13", "undefined", "x" * 300, "utf-16"])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_charset_changes_nothing(charset: str, status: int) -> None:
    """JSON is UTF-8; some of Python's charsets are not text encodings, and raise anything."""
    headers = {"content-type": f"application/json; charset={charset}"}
    with running(Answer(status, body({"content": "é"}), headers)) as server:
        found = await once(model_at(server.url))
    assert isinstance(found, Reply if status == 200 else ModelError)
    assert not isinstance(found, Reply) or found.text == "é"


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@BOTH
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated)],
)
async def test_compressed_replies(encoding: str, packed: Any) -> None:
    """All encodings that requests accept are read."""
    with running(Answer(200, packed(body()), {"content-encoding": encoding})) as server:
        found = await once(model_at(server.url))
    assert isinstance(found, Reply)
    assert found.text == "hi"


@pytest.mark.parametrize(
    ("encoding", "sent", "why"),
    [
        ("gzip", b"no gzip at all", "damaged"),
        ("gzip", gzip.compress(body())[:-12], "ends too early"),
        ("gzip", gzip.compress(body())[:20] + b"\0" * 30, "damaged|too early"),
        ("deflate", b"\xff" * 40, "damaged"),
        ("br", body(), "content-encoding 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(body())), "content-encoding 'gzip, gzip'"),
    ],
    ids=["no gzip", "cut", "broken", "no deflate", "br", "twice"],
)
async def test_bad_compression_is_a_malformed_reply(encoding: str, sent: bytes, why: str) -> None:
    """Its cost is unknown; in an error response it does not matter."""
    with running(Answer(200, sent, {"content-encoding": encoding})) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert (type(failure.final), failure.cut_off, failure.tries) == (MalformedReply, True, 2)
    with pytest.raises(MalformedReply, match=why):
        raise failure.final
    with running(Answer(500, sent, {"content-encoding": encoding})) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, PassingFault)
    assert type(failure.final) is ModelUnavailable


@BOTH
@pytest.mark.parametrize("packed", [None, gzip.compress, zlib.compress, deflated])
async def test_a_body_is_taken_up_to_its_bound(packed: Any) -> None:
    """The bound is on decoded bytes, because a small body can inflate to anything."""
    text = "x" * 5000
    whole = body({"content": text})
    headers = {} if packed is None else {"content-encoding": {gzip.compress: "gzip"}.get(packed, "deflate")}
    answer = Answer(200, whole if packed is None else packed(whole), headers)
    with running(answer) as server:
        found = await once(model_at(server.url, largest=len(whole)))
        assert isinstance(found, Reply)
        assert found.text == text
        failure = await once(model_at(server.url, largest=len(whole) - 1))
    assert isinstance(failure, PassingFault)
    assert type(failure.final) is MalformedReply
    assert f"more than {len(whole) - 1:,} bytes" in str(failure)


async def test_a_large_complaint_is_read_in_part() -> None:
    """The beginning of an error response suffices."""
    with running(Answer(400, b"too hot " * 2**17)) as server:
        failure = await once(model_at(server.url))
    assert type(failure) is RequestFailed
    assert "too hot" in str(failure)
    assert len(str(failure)) < 1200


def endless(server: Server, connection: Any) -> Answer:
    """Send the head and then a body without end, until the client disconnects."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{")
    try:
        while True:
            connection.sendall(b" " * 2**16)
    except OSError:
        server.closed.set()
    return Answer(-1)


def dripping(server: Server, connection: Any) -> Answer:
    """Send the same one byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    connection.settimeout(0.01)
    try:
        while True:
            connection.sendall(b" ")
            server.holding.wait(0.005)
    except OSError:
        server.closed.set()
    return Answer(-1)


@BOTH
async def test_an_endless_body_is_given_up() -> None:
    """It is abandoned at the bound, and its connection is closed."""
    with running(endless) as server:
        failure = await once(model_at(server.url, largest=10**6))
        assert await anyio.to_thread.run_sync(server.closed.wait, 10)
    assert isinstance(failure, PassingFault)
    assert (type(failure.final), failure.cut_off) == (MalformedReply, True)


@BOTH
async def test_the_time_out_holds_while_a_body_is_read() -> None:
    """A server that sends a byte now and then times out like one that sends nothing."""
    with running(dripping) as server:
        failure = await once(model_at(server.url, timeout=0.3))
        # On a busy machine the time-out may end before the request arrives.
        assert not server.chats or await anyio.to_thread.run_sync(server.closed.wait, 10)
    assert isinstance(failure, PassingFault)
    assert (type(failure.final), failure.cut_off) == (TimedOut, True)


HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
    b"HTTP/1.1 302 Found\r\nlocation: http://[bad\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 " + b"9" * 40 + b" what\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"\0\0\0\0",
    b"SSH-2.0-OpenSSH_9\r\n",
]


@contextmanager
def sending(raw: bytes) -> Iterator[Server]:
    """Yield a server that answers each request with these bytes and disconnects."""

    def answer(server: Server, connection: Any) -> Answer:
        connection.sendall(raw)
        return Answer(-1)

    with running(answer) as server:
        yield server


@pytest.mark.parametrize("raw", HEADS, ids=lambda raw: repr(raw[-24:]))
async def test_whatever_comes_over_the_wire_is_a_failed_request(raw: bytes) -> None:
    """Malformed heads and frames of all kinds are failed requests."""
    with sending(raw) as server:
        assert isinstance(await once(model_at(server.url)), ModelError)


HEAD = b"HTTP/1.1 200 OK\r\n"
PARTS = [
    HEAD, b"HTTP/1.1 429 Slow\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"content-length: 5\r\n",
    b"content-length: 0\r\n", b"content-length: -1\r\n", b"transfer-encoding: chunked\r\n",
    b"content-encoding: gzip\r\n", b"retry-after: 1e9\r\n", b"connection: close\r\n", b"\r\n", b"5\r\n", b"{}\r\n",
    b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"x: y\r\n", b": \r\n", b"\0", b"x-ratelimit-remaining-requests: -1\r\n",
    b"data: {}\n\n", b"content-type: text/event-stream\r\n",
]  # fmt: skip
WIRE = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=80).map(lambda b: HEAD + b),
    st.binary(max_size=80).map(lambda b: HEAD + b"content-encoding: gzip\r\n\r\n" + b),
    st.lists(st.sampled_from(PARTS), max_size=8).map(b"".join),
    st.lists(st.sampled_from(PARTS), max_size=8).map(lambda parts: HEAD + b"".join(parts)),
)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(WIRE)
def test_more_bytes_over_the_wire(raw: bytes) -> None:
    """Nothing crashes in 1,000 examples."""
    test_any_bytes_over_the_wire.hypothesis.inner_test(raw)  # type: ignore[attr-defined]


@settings(max_examples=30, deadline=None)
@given(WIRE)
def test_any_bytes_over_the_wire(raw: bytes) -> None:
    """The outcome is a reply or a failed request, and never anything else."""

    async def run() -> Reply | ModelError:
        with sending(raw) as server:
            return await once(model_at(server.url, timeout=5))

    assert isinstance(anyio.run(run), ModelError)


@pytest.mark.parametrize(
    "raw", [SECRET, f"{SECRET}\r\n", f"  {SECRET}\n", f"\t{SECRET} "], ids=["bare", "CR LF", "blanks", "tab"]
)
async def test_blanks_around_a_key_are_left_out(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks that copying and files leave are removed, from the environment and from Python."""
    monkeypatch.setenv("MY_KEY", raw)
    for options in ({"key": raw}, {"key": None, "key_env": "MY_KEY"}):
        with running() as server:
            assert isinstance(await once(model_at(server.url, **options)), Reply)
        assert server.chats[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "odd", ["\r", "\n", "\0", " ", "\x7f", "é", "\u200b", "\ufeff", "\u00a0", "\ud800", "\U0001f511"], ids=ascii
)
async def test_an_odd_key_is_refused_before_anything_opens(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the source and the character, and never shows the key; keys set later are checked too."""
    key = f"{SECRET[:9]}{odd}{SECRET[9:]}"
    with pytest.raises(KeyRefused, match=rf"U\+{ord(odd):04X} in place 9 of 27.*\nFix: set the `key`") as caught:
        model_at("http://127.0.0.1:1", key=key)
    assert SECRET[:9] not in str(caught.value)
    assert SECRET[9:] not in str(caught.value)
    if odd not in ("\0", "\ud800"):  # the environment cannot contain these
        with running() as server:
            model = model_at(server.url, key=None, key_env="MY_KEY")
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(KeyRefused, match="the key in MY_KEY has U"):
                async with model.open():
                    pass
        assert server.asked == []


FORMS = [
    SECRET,
    repr(SECRET),
    repr(SECRET.encode()),
    repr(bytearray(SECRET.encode())),
    json.dumps(SECRET),
    json.dumps(json.dumps(repr(SECRET))),
    SECRET.replace("/", "\\u002f"),
    quote(SECRET, safe=""),
    quote(SECRET, safe="").replace("%2F", "%2f"),
    SECRET.replace("'", "&#39;"),
    html.escape(SECRET),
    SECRET.upper(),
]


@pytest.mark.parametrize("form", FORMS)
async def test_a_key_that_a_server_repeats_is_hidden(form: str) -> None:
    """It is hidden in every form: in errors, malformed replies and names of models, and where a text is truncated."""
    page = ("x" * 190 + form).encode()
    answers: list[Answer | Callable[[Server, Any], Answer]] = [
        *[error(status, f"no {form}", form) for status in (400, 401, 403, 404, 429, 500)],
        *[Answer(status, page) for status in (200, 400, 500)],
        Answer(200, b"<html>" + page),
        Answer(200, body({"content": f"a {form}", "reasoning": form}, model=form, choice={"finish_reason": form[:80]})),
        Answer(200, body({"tool_calls": [{"id": form, "function": {"name": form, "arguments": form}}]})),
        Answer(200, body({"content": None, "refusal": form})),
        Answer(200, body(error={"message": form, "code": form})),
        Answer(200, body({"content": [{"type": form}]})),
        Answer(200, body({"content": [{"type": "x" * 80 + form}]})),
        Answer(200, body(), {"content-encoding": form}),
        Answer(200, body(), {"content-encoding": "x" * 180 + form}),
        lambda server, connection: connection.sendall(f"{form}\r\n\r\n".encode()) or Answer(-1),
        lambda server, connection: connection.sendall(f"HTTP/1.1 200 {form}\r\n{form}\r\n".encode()) or Answer(-1),
    ]
    with running(*answers, models=[form, "other"]) as server:
        found = await each(model_at(server.url, key=SECRET), len(answers))
    assert len(server.chats) == len(answers)
    told = " ".join(f"{one!r} {one} {getattr(one, 'final', '')!r}" for one in found)
    for part in (SECRET, "0123456789", "very/secret", "very%2fsecret"):
        assert part not in told.lower()


ENCODERS: list[Callable[[str], str]] = [
    json.dumps, repr, lambda s: repr(s.encode()), html.escape, str.upper, lambda s: quote(s, safe=""), quote, ascii,
]  # fmt: skip


@given(
    st.text(st.sampled_from("aZ09-_/+='\"\\&%<.~"), min_size=6, max_size=30).filter(
        lambda key: any(map(str.isalnum, key))
    ),
    st.lists(st.sampled_from(ENCODERS), max_size=3),
    st.tuples(st.text(max_size=9), st.text(max_size=9)),
)
def test_a_key_is_hidden_however_it_is_encoded(
    key: str, encoders: list[Callable[[str], str]], around: tuple[str, str]
) -> None:
    """Even several encodings, which split its letters and digits, do not reveal it."""
    shown = key
    for encode in encoders:
        shown = encode(shown)
    pieces = [piece for piece in re.split(r"[^a-z0-9]+", key.lower()) if len(piece) >= 6]
    hidden = redacted(f"{around[0]} {shown} {around[1]}", [key]).lower()
    assert not [piece for piece in pieces if piece in hidden and piece not in f"{around[0]} {around[1]}".lower()]


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are found by variables' names and in addresses; numbers and paths are not secrets."""
    monkeypatch.setattr("os.environ", {
        "ACME_API_KEY": "sk-0123456", "DB_PASS": "hunter22", "HTTPS_PROXY": "http://me:pa/ss@w0rd@proxy:80",
        "MAX_TOKENS": "1000000", "SSL_KEY_FILE": "/etc/ssl/key", "PWD": "/home/me", "NO_KEY": "none", "LANG": "C.UTF-8",
    })  # fmt: skip
    assert environment_secrets() == ["pa/ss@w0rd", "sk-0123456", "hunter22"]


async def test_a_key_in_the_list_of_models_is_hidden() -> None:
    """It is hidden whether the list names the model or not."""
    with running(models=[SECRET]) as server:
        model = HttpModel(server.url, key=SECRET)
        async with model.open():
            reply = await model.complete(HELLO, {})
    assert SECRET not in f"{model.name} {reply!r}"
    with running(models=[SECRET, "b"]) as server, pytest.raises(DataError) as caught:
        await once(HttpModel(server.url, key=SECRET))
    assert SECRET not in str(caught.value)


async def test_tool_calls_and_reasoning_are_given() -> None:
    """They are given beside the text."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    said = {"content": "well", "reasoning_content": "because", "tool_calls": [call]}
    with running(Answer(200, body(said, choice={"finish_reason": "tool_calls"}))) as server:
        found = await once(model_at(server.url))
    calls = (ToolCall("1", "f", '{"a": 1}'),)
    expected = Reply("well", Usage(7, 3), 0.0, "tool_calls", "tiny", thoughts="because", tool_calls=calls)
    assert found == expected


async def test_a_refusal_is_a_filtered_request() -> None:
    """The error has the model's words and the cost."""
    with running(Answer(200, body({"content": None, "refusal": "I will not"}))) as server:
        failure = await once(model_at(server.url))
    assert isinstance(failure, ContentFiltered)
    assert "I will not" in str(failure)
    assert failure.usage == Usage(7, 3)


async def test_what_cannot_be_shown_is_refused_before_it_is_sent() -> None:
    """The parameter is named, whether it is the request's or the model's own."""
    with running() as server:
        async with (model := model_at(server.url)).open():
            with pytest.raises(DataError, match="n=2 with tools"):
                await model.complete(HELLO, {"n": 2, "tools": [{}]})
        async with (model := model_at(server.url, params={"echo": True})).open():
            with pytest.raises(DataError, match="echo"):
                await model.complete(HELLO, {})
    assert server.chats == []


@pytest.mark.parametrize("count", [-(10**6), 10**6, 2**63, 1e999, True, "7", 0.5])
def test_no_budget_is_off_by_what_a_server_counts(count: Any) -> None:
    """I10: impossible counts are ignored, each call counts with all that was reserved, and the run survives."""
    usage = {"prompt_tokens": count, "completion_tokens": count}
    messages = [{"role": "user", "content": "0"}]
    reserved = prompt_bound(messages) + 100
    with running(Answer(200, body(usage=usage))) as server:
        model = model_at(server.url, params={"max_tokens": 100}, limit=1, price=(1.0, 1.0))
        result = fg.run(requests(30), TASK, models={"task": model}, budget=fg.Budget(tokens=8 * reserved + 1, usd=1e6))
    assert result.status == "budget"
    assert len(server.chats) == result.spent.calls == 8
    assert result.spent.tokens == result.spent.usd == 8 * reserved
