"""`HttpModel` against a real server on loopback, on both event loops."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

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
    UnknownModel,
)
from flashgraph.llm.dialect import Dialect
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Model, Reply, Usage
from flashgraph.llm.retry import Retry, retry_after
from flashgraph.llm.secrets import Key
from flashgraph.run.patience import reply_of

from .server import Answer, chat, error, running, until_closed

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello?"}]
SECRET = "sk-very-secret"


def model_at(url: str, name: str = "tiny", **options: Any) -> HttpModel:
    return HttpModel(url, name, **{"retry": Retry(tries=3, backoff=0.001), "key": "", **options})


async def ask(model: Model, **params: Any) -> Reply:
    """Call the model as a caller without a scheduler does, with all allowed tries."""
    async with model.open():
        return await reply_of(model, HELLO, params)


async def failed(model: Model) -> PassingFault:
    """Return the fault of one try of a request."""
    async with model.open():
        with pytest.raises(PassingFault) as caught:
            await model.complete(HELLO, {"max_tokens": 70})
    return caught.value


async def test_a_reply_carries_text_usage_finish_and_model() -> None:
    """A successful call has all of these; an address of this machine is free."""
    with running(chat("hi", finish="length")) as server:
        reply = await ask(model_at(server.url))
    assert reply == Reply("hi", Usage(7, 3), 0.0, "length", "tiny")


async def test_what_is_sent() -> None:
    """The request's parameters override the model's, streaming is off, the key is a bearer token."""
    with running() as server:
        await ask(model_at(server.url, params={"temperature": 0, "seed": 1}, key=SECRET), temperature=0.7)
    asked = server.chats[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.body == {"model": "tiny", "messages": HELLO, "temperature": 0.7, "seed": 1, "stream": False}


async def test_the_key_comes_from_the_named_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`key_env` supplies the key if none is given."""
    monkeypatch.setenv("MY_KEY", SECRET)
    with running() as server:
        await ask(HttpModel(server.url, "tiny", key_env="MY_KEY"))
    assert server.chats[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("fault", [Answer(-1), *(error(s, "x") for s in (408, 409, 500, 502, 503, 504, 529))])
async def test_passing_faults_are_tried_again(fault: Answer) -> None:
    """After a dropped connection, a conflict or a 5xx, the third try succeeds."""
    with running(fault, fault, chat("at last")) as server:
        reply = await ask(model_at(server.url))
    assert reply.text == "at last"
    assert len(server.chats) == 3


@pytest.mark.parametrize("fault", [Answer(-1), error(503, "loading")])
async def test_lasting_faults_make_the_model_unavailable(fault: Answer) -> None:
    """After the last try the error has the address and a fix."""
    with running(fault) as server, pytest.raises(ModelUnavailable, match="run again") as caught:
        await ask(model_at(server.url))
    assert server.url.removeprefix("http://") in str(caught.value)
    assert len(server.chats) == 3


async def test_retry_after_replaces_the_backoff() -> None:
    """The pause that the server requests replaces a backoff of an hour."""
    with running(error(503, "loading", retry_after="0.001"), chat("now")) as server:
        reply = await ask(model_at(server.url, retry=Retry(tries=2, backoff=3600)))
    assert reply.text == "now"


async def test_a_server_that_knows_the_bound_by_its_newer_name() -> None:
    """The request is sent again with ``max_completion_tokens`` at once, and later ones use that name."""
    refusal = error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    with running(refusal, chat("one"), chat("two")) as server:
        model = model_at(server.url)
        async with model.open():
            texts = [(await model.complete(HELLO, {"max_tokens": 70})).text for _ in range(2)]
    assert texts == ["one", "two"]
    sent = [(asked.body.get("max_tokens"), asked.body.get("max_completion_tokens")) for asked in server.chats]
    assert sent == [(70, None), (None, 70), (None, 70)]


@pytest.mark.parametrize(
    ("said", "code", "params", "left"),
    [
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported.",
            "unsupported_value",
            {"temperature": 0, "top_p": 0.9, "max_tokens": 7},
            {"top_p": 0.9, "max_tokens": 7},
        ),
        ("Unsupported parameter: 'temperature' is not supported with this model.", None, {"temperature": 0.7}, {}),
        ("O-series models don't support temperature=0.", None, {"temperature": 0, "seed": 1}, {"seed": 1}),
        ("`top_p` is deprecated for this model", None, {"temperature": 0, "top_p": 0.9}, {"temperature": 0}),
        ("unknown field: repetition_penalty", None, {"repetition_penalty": 1.1}, {}),
        ("temperature and seed: unsupported", None, {"temperature": 0, "seed": 1}, {}),
        ("`temperature` may only be set to 1 when thinking is enabled.", None, {"temperature": 0}, {}),
        ("invalid temperature: only 1 is allowed for this model", None, {"temperature": 0}, {}),
        ("Temperature must be 1 for this model", None, {"temperature": 0}, {}),
        ("this model only supports temperature=1", None, {"temperature": 0}, {}),
        ("`temperature` has to be a strictly positive float", None, {"temperature": 0}, {}),
        ("The parameter temperature specified in the request is not valid", None, {"temperature": 0}, {}),
        (
            "`temperature` and `top_p` cannot both be specified",
            None,
            {"temperature": 0, "top_p": 1},
            {"temperature": 0},
        ),
        ("Unknown parameter: max_tokens", None, {"max_tokens": 7}, {"max_completion_tokens": 7}),
        ("Unrecognized argument: max_completion_tokens", None, {"max_completion_tokens": 7}, {"max_tokens": 7}),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
async def test_a_parameter_that_is_refused_is_left_out(
    status: int, said: str, code: str | None, params: Any, left: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out at once and later, with a warning; a reasoning model refuses a temperature."""
    with running(error(status, said, code), chat("one"), chat("two")) as server:
        model = model_at(server.url, probe=False)
        async with model.open():
            texts = [(await model.complete(HELLO, params)).text for _ in range(2)]
    assert texts == ["one", "two"]
    sent = [{k: v for k, v in asked.body.items() if k not in ("model", "messages", "stream")} for asked in server.chats]
    assert sent == [params, left, left]
    assert caplog.text.count("it is left out from now on") == len(params) - len(left)


@pytest.mark.parametrize(
    ("said", "params"),
    [
        ("temperature must be between 0 and 2", {"temperature": 5}),
        ("max_tokens is not supported above 4096", {"max_tokens": 9000}),
        ("the prompt is not valid", {"temperature": 0}),
    ],
)
async def test_a_value_that_is_wrong_is_not_left_out(said: str, params: Any) -> None:
    """The error is the user's, so the parameter is kept."""
    with running(error(400, said)) as server, pytest.raises(RequestFailed):
        await ask(model_at(server.url, probe=False), **params)
    assert len(server.chats) == 1


def test_a_bound_that_is_refused_by_either_name() -> None:
    """The tries end."""
    dialect = Dialect("tiny")
    sent = dialect.adapted({"max_tokens": 7})
    for expected in (True, False, False):
        named = next(iter(sent))
        assert dialect.learn(f"Unknown parameter: {named}", sent) is expected
        sent = dialect.adapted({"max_tokens": 7})


async def test_parameters_that_are_refused_one_after_the_other() -> None:
    """Each refused parameter is left out in turn, until the server accepts the request."""
    answers = [
        error(400, "Unsupported parameter: 'temperature'"),
        error(400, "use max_completion_tokens"),
        chat("well"),
    ]
    with running(*answers) as server:
        reply = await ask(model_at(server.url, probe=False), temperature=0, max_tokens=7)
    assert (reply.text, len(server.chats)) == ("well", 3)


def test_a_refusal_that_others_have_met_already() -> None:
    """A request that was sent before is sent again too, and there is one warning."""
    dialect, said = Dialect("tiny"), "Unsupported parameter: 'temperature'"
    sent = dialect.adapted({"temperature": 0, "stop": "x"})
    assert [dialect.learn(said, sent), dialect.learn(said, sent)] == [True, True]
    assert dialect.adapted(sent) == {"stop": "x"}
    assert not dialect.learn(said, {"stop": "x"})


@pytest.mark.parametrize(
    "said", ["temperature must be at most 2", "Unsupported parameter: 'stop'", "the seed of all evil is not supported"]
)
async def test_other_refusals_are_the_requests(said: str) -> None:
    """A value out of range, or a required parameter, is the request's own fault."""
    with running(error(400, said)) as server, pytest.raises(RequestFailed, match="rejects the request"):
        await ask(model_at(server.url, probe=False), temperature=3, stop="x")
    assert len(server.chats) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 500, -1])
async def test_a_list_of_models_that_is_kept_from_the_key(status: int) -> None:
    """A model with a name works without the list; one without a name is an error."""
    with running() as server:
        server.models_status = status
        assert (await ask(model_at(server.url))).text == "hello"
        with pytest.raises(KeyRefused if status in (401, 403) else DataError):
            await ask(model_at(server.url, ""))


async def test_a_bound_that_is_refused_by_both_names_is_a_failed_request() -> None:
    """There is one more try, and no loop."""
    with running(error(400, "no max_completion_tokens here")) as server, pytest.raises(RequestFailed, match="rejects"):
        await ask(model_at(server.url), max_tokens=70)
    assert len(server.chats) == 2


async def test_what_a_withheld_reply_has_cost() -> None:
    """A withheld reply was written and is paid."""
    with running(chat(finish="content_filter")) as server, pytest.raises(ContentFiltered) as caught:
        await ask(model_at(server.url))
    assert caught.value.usage == Usage(7, 3)


@pytest.mark.parametrize(("headers", "pause"), [({}, None), ({"retry_after": "7"}, 7.0)])
@pytest.mark.parametrize("status", [429, 503])
async def test_asking_again_is_for_the_scheduler(status: int, headers: dict[str, str], pause: float | None) -> None:
    """The model does not retry, which would keep its slot; the fault has the pause and the tries."""
    with running(error(status, "slow down", **headers)) as server:
        fault = await failed(model_at(server.url))
    assert (fault.pause, fault.tries, fault.backoff, fault.fatal) == (pause, 3, 0.001, False)
    assert (type(fault) is Throttled, type(fault.final)) == (status == 429, ModelUnavailable)
    assert "slow down" in str(fault)
    assert str(fault) == str(fault.final)
    assert (fault.usage, fault.cut_off, len(server.chats)) == (None, False, 1)


@pytest.mark.parametrize("asked", ["3600", "100000", "1e300"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_beyond_patience_is_asked_for_once(status: int, asked: str) -> None:
    """A quota that opens in an hour is reported, not waited for; but a single answer may be wrong about it."""
    patience = Retry(tries=6, backoff=0.001, longest_asked=0.002)
    said = rf"it asks to wait for {float(asked):g} s".replace("+", r"\+")
    long = error(status, "daily limit", retry_after=asked)
    with running(long) as server, pytest.raises(ModelUnavailable, match=said):
        await ask(model_at(server.url, retry=patience))
    assert len(server.chats) == 2
    with running(long, chat("well")) as server:
        assert (await ask(model_at(server.url, retry=patience))).text == "well"


@pytest.mark.parametrize("status", [429, 503])
async def test_an_infinite_pause_is_none(status: int) -> None:
    """The usual pause and tries are kept."""
    with running(error(status, "wait", retry_after="inf")) as server:
        fault = await failed(model_at(server.url))
    assert (fault.pause, fault.tries) == (None, 3)


@pytest.mark.parametrize("answer", [Answer(-1), until_closed])
async def test_what_a_try_has_cost_is_not_known_where_no_answer_came(answer: Any) -> None:
    """After a lost connection or a time-out the cost is unknown, because the server may have worked."""
    with running(answer) as server:
        fault = await failed(model_at(server.url, timeout=0.5 if answer is until_closed else 60.0, probe=False))
    assert (fault.usage, fault.cut_off) == (None, True)


async def test_a_connection_that_was_never_made_has_cost_nothing() -> None:
    """The server has gone since the model was opened."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    fault = await failed(model_at(f"http://127.0.0.1:{port}", probe=False))
    assert (type(fault.final), fault.usage, fault.cut_off) == (ModelUnavailable, None, False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:10 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "100000"}, 100_000.0),
    ],
)
async def test_retry_after_in_both_forms(headers: dict[str, str], expected: float | None) -> None:
    """Both forms are read: seconds, or a date relative to the server's own clock; 0 is no pause."""
    assert retry_after(headers) == expected


async def test_a_dead_address_fails_when_opened() -> None:
    """Nothing listens there, and the run learns it before its first request."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port}"):
        await ask(model_at(f"http://127.0.0.1:{port}"))


async def test_time_outs_get_one_more_try() -> None:
    """A time-out fails the request after two tries, not after all."""
    with running(until_closed) as server, pytest.raises(TimedOut, match=r"within 0\.3 s"):
        await ask(model_at(server.url, timeout=0.3, retry=Retry(tries=6, backoff=0.001)))
    assert len(server.chats) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key(status: int) -> None:
    """The message names the variable to set and never the key, even if the server repeats it."""
    with running(error(status, f"bad key {SECRET}")) as server, pytest.raises(KeyRefused) as caught:
        await ask(HttpModel(server.url, "tiny", key=SECRET))
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)
    assert len(server.chats) == 1


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (None, {}, r"name the variable that contains its key with \?key_env=VARIABLE \(no key is set\)"),
        ("sk-mine-0123", {}, r"\?key_env=OPENAI_API_KEY \(OPENAI_API_KEY is sent to api.openai.com alone\)"),
        (None, {"key_env": "MINE"}, "set MINE: it is empty or not set"),
        (None, {"key": ""}, "no key is sent"),
    ],
)
async def test_a_missing_key_names_its_variable(
    value: str | None, options: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any key the message says how to set one."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    with running(error(401, "no key")) as server, pytest.raises(KeyRefused, match=said):
        await ask(HttpModel(server.url, "tiny", **options))
    assert all("authorization" not in asked.headers for asked in server.asked)


@pytest.mark.parametrize(
    ("url", "variables", "sent"),
    [
        ("https://api.openai.com", {}, True),
        ("https://eu.api.openai.com/v1", {}, True),
        ("https://api.openai.com.evil.example", {}, False),
        ("https://evilapi.openai.com.example", {}, False),
        ("https://xapi.openai.com", {}, False),
        ("https://gateway.example", {"OPENAI_BASE_URL": "https://gateway.example/v1"}, True),
        ("https://gateway.example", {"OPENAI_BASE_URL": "https://other.example/v1"}, False),
        ("https://gateway.example:443", {"OPENAI_BASE_URL": "https://gateway.example/v1"}, True),
        ("http://127.0.0.1:8000", {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, True),
        ("http://127.0.0.1:9000", {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, False),
        ("http://10.0.0.7:8000", {}, False),
        ("http://127.0.0.1:8000", {}, False),
    ],
)
async def test_openais_key_is_openais_alone(
    url: str, variables: dict[str, str], sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent to no other address, unless the model names the variable."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"OPENAI_API_KEY": SECRET, **variables}.items():
        monkeypatch.setenv(name, value)
    host, port = httpx.URL(url).host, httpx.URL(url).port
    assert (Key.of(host, None, None, port).value == SECRET) is sent
    assert Key.of(host, None, "OPENAI_API_KEY").value == SECRET


@pytest.mark.parametrize(
    ("url", "key", "warned"),
    [
        ("http://10.255.0.1:1", SECRET, True),
        ("http://10.255.0.1:1", "", False),
        ("https://10.255.0.1:1", SECRET, False),
        ("http://127.0.0.1:1", SECRET, False),
    ],
)
async def test_a_key_over_plain_http_is_warned_of(
    url: str, key: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a warning unless the address is on this machine; it does not show the key."""
    async with model_at(url, key=key, probe=False).open():
        pass
    assert ("Fix: use https" in caplog.text) is warned
    assert SECRET not in caplog.text


async def test_the_key_is_in_no_repr() -> None:
    """Neither the repr nor the name shows it; a password in the address is refused."""
    model = HttpModel("http://host", "tiny", key=SECRET)
    assert SECRET not in repr(model) + model.name
    with pytest.raises(DataError) as caught:
        HttpModel(f"http://user:{SECRET}@host", "tiny")
    assert SECRET not in str(caught.value)


async def test_an_unknown_model_lists_what_there_is() -> None:
    """A 404 shows the server's models and the nearest name."""
    expected = r"did you mean 'tiny-chat'.*tiny-chat, big"
    with (
        running(error(404, "no such model"), models=["tiny-chat", "big"]) as server,
        pytest.raises(ModelRefused, match=expected),
    ):
        await ask(model_at(server.url, "tiny-chta"))


async def test_an_address_that_is_no_model_server() -> None:
    """With 404 on everything, the error is about the address."""
    expected = "expected an OpenAI-compatible address"
    with running(Answer(404, b"nginx"), models=None) as server, pytest.raises(ModelRefused, match=expected):
        await ask(model_at(server.url))


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (error(400, "too many tokens", "context_length_exceeded"), ContextTooLong, "does not fit"),
        (error(400, "This model's maximum context length is 4096 tokens"), ContextTooLong, "does not fit"),
        (error(400, "The decoder prompt (length 9) is longer than the maximum model length of 8"), ContextTooLong, "8"),
        (error(400, "the request exceeds the available context size"), ContextTooLong, "does not fit"),
        (error(400, "content management policy", "content_filter"), ContentFiltered, "policy"),
        (error(422, "temperature must be a number"), RequestFailed, "temperature"),
        (error(429, "you exceeded your quota", "insufficient_quota"), ModelRefused, "credit"),
        (error(402, "pay first"), ModelRefused, "credit"),
        (error(400, "what?", "model_not_found"), UnknownModel, "unknown model"),
        (Answer(301, b"", {"location": "https://elsewhere"}), ModelRefused, "expected an OpenAI-compatible address"),
        (chat("", finish="content_filter"), ContentFiltered, "content filter"),
    ],
)
async def test_final_faults_are_not_tried_again(answer: Answer, expected: type[ModelError], said: str) -> None:
    """Each kind of final answer has its error with the server's words."""
    with running(answer) as server, pytest.raises(expected, match=said):
        await ask(model_at(server.url))
    assert len(server.chats) == 1


MALFORMED = [
    Answer(200, b'{"choices": []}'),
    Answer(200, b'{"choices": [{"message": {"content": [1]}}]}'),
    Answer(200, b"[]"),
    Answer(200, b"data: {}"),
]
CUT = [Answer(200, b"not json"), Answer(200, b'{"choices": [{"mes'), Answer(200, b"")]
PAGES = [
    Answer(200, b"<html><body>Bad gateway</body></html>"),
    Answer(200, b"  <?xml version='1.0'?>"),
    Answer(203, b"be right back", {"content-type": "text/html; charset=rot13"}),
]


@pytest.mark.parametrize(
    ("answer", "expected", "tries"),
    [
        *[(answer, MalformedReply, 2) for answer in MALFORMED],
        *[(answer, MalformedReply, 3) for answer in CUT],
        *[(answer, ModelUnavailable, 3) for answer in PAGES],
    ],
)
async def test_what_is_no_reply_is_asked_for_again(answer: Answer, expected: type[ModelError], tries: int) -> None:
    """A server with another protocol gets one more try; truncated replies and proxy pages are like a 5xx."""
    with running(answer) as server, pytest.raises(expected, match=r"expected an OpenAI|a page and no reply") as caught:
        await ask(model_at(server.url))
    assert type(caught.value) is expected
    assert len(server.chats) == tries
    with running(answer, chat("well")) as server:
        assert (await ask(model_at(server.url))).text == "well"


async def test_a_page_costs_a_call_and_no_tokens() -> None:
    """A proxy, and not a model, sends the page when its server is gone."""
    with running(PAGES[0]) as server:
        fault = await failed(model_at(server.url))
    assert (type(fault.final), fault.tries, fault.usage, fault.cut_off) == (ModelUnavailable, 3, None, False)


@pytest.mark.parametrize(("text", "tokens"), [("no JSON " * 8, 16), ("no JSON " * 80, 70)])
async def test_what_a_malformed_reply_has_cost_is_estimated(text: str, tokens: int) -> None:
    """The estimate is from the received text, and at most what the request allowed."""
    with running(Answer(200, text.encode())) as server:
        fault = await failed(model_at(server.url))
    assert (fault.usage, fault.cut_off) == (Usage(1, tokens, estimated=True), False)
    assert (type(fault.final), fault.tries) == (MalformedReply, 3)


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ("", Usage(5, 50, estimated=True)),
        (', "usage": null', Usage(5, 50, estimated=True)),
        (', "usage": {"prompt_tokens": 9}', Usage(9, 50, estimated=True)),
        (', "usage": {"prompt_tokens": 0, "completion_tokens": 0}', Usage(5, 50, estimated=True)),
        (', "usage": {"prompt_tokens": 9, "completion_tokens": 60}', Usage(9, 60)),
        (', "usage": {"prompt_tokens": 9, "completion_tokens": 200}', Usage(9, 200)),
        (', "usage": {"prompt_tokens": 9, "completion_tokens": 201}', Usage(9, 50, estimated=True)),
        (', "usage": {"prompt_tokens": 9, "completion_tokens": 10000000}', Usage(9, 50, estimated=True)),
        (', "usage": {"prompt_tokens": 20000, "completion_tokens": 60}', Usage(20_000, 60)),
        (', "usage": {"prompt_tokens": 21000, "completion_tokens": 60}', Usage(5, 60, estimated=True)),
    ],
)
async def test_what_a_server_does_not_count_is_estimated(counted: str, expected: Usage) -> None:
    """Missing counts are estimated at four characters a token, marked as estimated, and priced like others.

    So are a count above the allowed and received tokens, and one for a prompt that is far longer than its bytes.
    """
    said = f'{{"choices": [{{"message": {{"content": "{"word " * 40}"}}}}]{counted}}}'
    with running(Answer(body=said.encode())) as server:
        model = model_at(server.url, price=(1.0, 1.0), params={"max_tokens": 70})
        async with model.open():
            reply = await model.complete([{"role": "user", "content": "x" * 20}], {})
    assert (reply.usage, reply.cost) == (expected, expected.total)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_estimate_is_at_most_what_the_request_allowed(name: str) -> None:
    """I10: a budget has reserved that much."""
    with running(Answer(body=b'{"choices": [{"message": {"content": "incomprehensibilities"}}]}')) as server:
        reply = await ask(model_at(server.url), **{name: 3})
    assert reply.usage == Usage(1, 3, estimated=True)


async def test_no_content_is_empty_text() -> None:
    """A reasoning model that is truncated before its answer sends null."""
    with running(chat(None, finish="length")) as server:
        reply = await ask(model_at(server.url))
    assert (reply.text, reply.truncated) == ("", True)


async def test_the_only_model_is_found_when_opened() -> None:
    """Without a name, the server's single model is used."""
    with running(models=["solo"]) as server:
        model = model_at(server.url, "")
        await ask(model)
    assert model.model == "solo"
    assert server.chats[0].body["model"] == "solo"


@pytest.mark.parametrize("models", [["a", "b"], [], None])
async def test_a_missing_name_is_a_mistake_unless_there_is_one_model(models: list[str] | None) -> None:
    """Several models, none, or no list of models are errors."""
    with running(models=models) as server, pytest.raises(DataError, match="#MODEL"):
        await ask(model_at(server.url, ""))


async def test_cancelling_closes_the_connection() -> None:
    """The server sees its client disconnect, and the model continues with other requests."""
    with running(until_closed, chat("next")) as server:
        model = model_at(server.url)
        async with model.open():
            async with anyio.create_task_group() as group:
                group.start_soon(model.complete, HELLO, {})
                assert await anyio.to_thread.run_sync(server.holding.wait, 10)
                group.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(server.closed.wait, 10)
            assert (await model.complete(HELLO, {})).text == "next"


async def test_parallel_requests_share_the_client() -> None:
    """More requests than connections all end."""
    with running() as server:
        model = model_at(server.url, limit=2)
        async with model.open(), anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(model.complete, HELLO, {})
    assert len(server.chats) == 8


async def test_use_without_open_is_told() -> None:
    """This is a bug of the caller, not a fault of the model."""
    with pytest.raises(RuntimeError, match="not open"):
        await model_at("http://127.0.0.1:1").complete(HELLO, {})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "http://h/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h/v1/", "http://h/v1"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai"),
        ("https://models.github.ai/inference", "https://models.github.ai/inference"),
        ("https://d.example/serving-endpoints", "https://d.example/serving-endpoints"),
        ("https://d.example/serving-endpoints/chat/completions/", "https://d.example/serving-endpoints"),
        ("https://api.perplexity.ai/chat/completions", "https://api.perplexity.ai"),
    ],
)
async def test_v1_is_added_where_it_is_missing(url: str, expected: str) -> None:
    """It is added to a host alone: a path is kept, and a full path of chat completions is used."""
    model = HttpModel(url, "m")
    assert (model.url, str(model._chat)) == (expected, f"{expected}/chat/completions")


@pytest.mark.parametrize(("path", "base"), [("/proxy", "/proxy/v1"), ("/proxy/chat/completions", "/proxy")])
async def test_a_server_behind_a_path(path: str, base: str) -> None:
    """The list of models shows whether ``/v1`` belongs there."""
    with running() as server:
        server.listed_at = "/proxy/v1/models"
        model = model_at(server.url + path)
        async with model.open():
            await model.complete(HELLO, {})
    assert server.chats[0].path == f"{base}/chat/completions"
    assert model.url == server.url + base


@pytest.mark.parametrize("url", ["http://h?api-version=1", "http://h/v1?key=sk-123456", "http://h#m"])
async def test_what_an_address_cannot_hold_is_refused(url: str) -> None:
    """It would be lost otherwise; a key in it is not shown."""
    with pytest.raises(DataError, match=r"without query and fragment.\nFix: ") as caught:
        HttpModel(url, "m")
    assert "sk-123456" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://user:sk-123456@[bad", "ftp://user:sk-123456@h", "http://user:sk-123456@h"])
async def test_a_password_in_an_address_is_not_shown(url: str) -> None:
    """It stays hidden, whatever else is wrong with the address."""
    with pytest.raises(DataError) as caught:
        HttpModel(url, "m")
    assert "sk-123456" not in str(caught.value)


async def test_extra_body() -> None:
    """It is merged into the request, as in OpenAI's client, but cannot change the request's cost."""
    with running() as server:
        model = model_at(server.url, params={"extra_body": {"top_a": 0.5}})
        await ask(model, temperature=0)
        assert server.chats[0].body["top_a"] == 0.5
        assert "extra_body" not in server.chats[0].body
        for wrong in ({"max_tokens": 10**6}, {"stream": True}, {"n": 2}, [1]):
            with pytest.raises(DataError, match="extra_body"):
                await ask(model, extra_body=wrong)
        with pytest.raises(DataError, match="best_of=2"):
            await ask(model, extra_body={"best_of": 2})


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", "h"])
async def test_bad_addresses_are_refused_when_made(url: str) -> None:
    """The error comes when the model is made, not when it is first used."""
    with pytest.raises(DataError, match=r"expected http\(s\)"):
        HttpModel(url, "m")


@pytest.mark.parametrize(
    ("make", "cost"),
    [
        (lambda: HttpModel("http://127.0.0.1:1", "m"), 0.0),
        (lambda: HttpModel("http://localhost:1", "m"), 0.0),
        (lambda: HttpModel("http://[::1]:1", "m"), 0.0),
        (lambda: HttpModel("https://api.example.com", "m"), None),
        (lambda: HttpModel("https://api.example.com", "m", price=(1e-6, 2e-6)), 200e-6),
    ],
)
async def test_worst_cost(make: Callable[[], HttpModel], cost: float | None) -> None:
    """A model is free on this machine, has a given price, or else an unknown cost."""
    assert make().worst_cost(100, 50) == (pytest.approx(cost) if cost else cost)


async def test_it_is_a_model() -> None:
    """The protocol holds at run time too."""
    assert isinstance(HttpModel("http://h", "m"), Model)
