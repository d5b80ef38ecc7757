"""`LiteLLMModel` against LiteLLM itself: its mocked replies, and a loopback server for its errors."""

from __future__ import annotations

import builtins
import json
import os
import socket
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

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
from flashgraph.llm.lite import LiteLLMModel
from flashgraph.llm.protocol import Model, Quota, ToolCall, Usage
from flashgraph.llm.retry import Retry
from flashgraph.run.patience import reply_of

from .server import Answer, chat, error, running, until_closed

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def installed() -> None:
    # Without importorskip, because `LiteLLMModel` must import the package itself.
    if find_spec("litellm") is None:
        pytest.skip("litellm is an extra and not installed")


def at(url: str) -> LiteLLMModel:
    return LiteLLMModel(
        "openai/tiny", params={"api_base": f"{url}/v1", "api_key": "sk-x"}, retry=Retry(tries=2, backoff=0.001)
    )


async def ask(model: Model, **params: Any) -> Any:
    async with model.open():
        return await model.complete(HELLO, params)


@pytest.mark.usefixtures("installed")
async def test_a_reply_has_its_price_from_the_table() -> None:
    """Text and usage are the reply's, and the cost is by LiteLLM's prices."""
    model = LiteLLMModel("gpt-4o-mini", params={"mock_response": "hi"})
    reply = await ask(model)
    assert reply.text == "hi"
    assert reply.cost is not None
    assert reply.cost == pytest.approx(model.worst_cost(reply.usage.prompt, reply.usage.completion))
    assert reply.cost > 0


@pytest.mark.usefixtures("installed")
async def test_a_model_without_a_price_has_no_cost() -> None:
    """The cost is None, not zero."""
    with running(chat("hi", finish="length")) as server:
        reply = await ask(at(server.url))
    assert (reply.text, reply.cost, reply.finish, reply.usage.total) == ("hi", None, "length", 10)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("answer", "expected", "tries"),
    [
        (error(401, "bad key"), KeyRefused, 1),
        (error(404, "no such model"), UnknownModel, 1),
        (error(400, "This model's maximum context length is 8", "context_length_exceeded"), ContextTooLong, 1),
        (error(400, "The request was rejected as a result of the safety system"), ContentFiltered, 1),
        (error(400, "temperature must be a number"), RequestFailed, 1),
        (error(429, "slow down"), ModelUnavailable, 2),
        (error(500, "oops"), ModelUnavailable, 2),
        (error(503, "loading"), ModelUnavailable, 2),
        (Answer(-1), ModelUnavailable, 2),
    ],
)
async def test_its_errors_become_ours(answer: Answer, expected: type[ModelError], tries: int) -> None:
    """Each kind of fault has its number of tries."""
    with running(answer) as server:
        model = at(server.url)
        async with model.open():
            with pytest.raises(ModelError) as caught:
                await reply_of(model, HELLO, {})
    assert type(caught.value) is expected
    assert len(server.chats) == tries


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("answer", "final", "cut_off"),
    [
        (error(503, "loading"), ModelUnavailable, False),
        (Answer(-1), ModelUnavailable, True),
        (until_closed, TimedOut, True),
    ],
)
async def test_what_a_try_has_cost_that_failed(answer: Any, final: type[ModelError], cut_off: bool) -> None:
    """It is unknown without an answer, because the server may have worked on the request."""
    with running(answer) as server, pytest.raises(PassingFault) as caught:
        await ask(at(server.url), timeout=0.5)
    assert (type(caught.value.final), caught.value.cut_off, caught.value.usage) == (final, cut_off, None)


@pytest.mark.usefixtures("installed")
async def test_a_connection_that_was_never_made_has_cost_nothing() -> None:
    """Nothing listens at the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(PassingFault) as caught:
        await ask(at(f"http://127.0.0.1:{port}"))
    assert (caught.value.cut_off, caught.value.usage) == (False, None)


@pytest.mark.usefixtures("installed")
async def test_what_a_malformed_reply_has_cost_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM passes on something that is not a completion."""
    model = LiteLLMModel("gpt-4o-mini")

    async def nothing(**request: Any) -> Any:
        return SimpleNamespace(choices=[])

    async with model.open():
        monkeypatch.setattr("litellm.acompletion", nothing)
        with pytest.raises(PassingFault) as caught:
            await model.complete(HELLO, {})
    assert (type(caught.value.final), caught.value.tries) == (MalformedReply, 2)
    assert caught.value.usage == Usage(1, 0, estimated=True)


@pytest.mark.usefixtures("installed")
@pytest.mark.usefixtures("installed")
async def test_a_reply_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies and error texts are bounded here, because LiteLLM has no bound."""
    monkeypatch.setattr("flashgraph.llm.lite.LARGEST_BODY", 100)
    with running(chat("x" * 101), chat("x" * 100), error(400, "bad " * 10**6)) as server:
        model = at(server.url)
        async with model.open():
            with pytest.raises(PassingFault, match="a reply of more than 100 characters"):
                await model.complete(HELLO, {})
            assert (await model.complete(HELLO, {})).text == "x" * 100
            with pytest.raises(RequestFailed) as caught:
                await model.complete(HELLO, {})
    assert len(str(caught.value)) < 2000


async def test_the_pause_of_too_many_requests_is_told() -> None:
    """Retry-After reaches the caller that waits."""
    with running(error(429, "slow down", retry_after="7")) as server, pytest.raises(Throttled) as caught:
        await ask(at(server.url))
    assert (caught.value.pause, caught.value.tries) == (7.0, 2)


@pytest.mark.usefixtures("installed")
async def test_what_the_provider_says_of_its_rates_is_handed_on() -> None:
    """LiteLLM passes on its headers, with replies and errors; a mocked reply has none."""
    told = {
        "x-ratelimit-limit-requests": "200",
        "x-ratelimit-remaining-requests": "199",
        "x-ratelimit-reset-requests": "7m12s",
    }
    refused = error(429, "slow down", **{name.replace("-", "_"): text for name, text in told.items()})
    with running(Answer(body=chat("hi").body, headers=told), refused) as server:
        model = at(server.url)
        reply = await ask(model)
        with pytest.raises(Throttled) as caught:
            await ask(model)
    assert reply.quotas == caught.value.quotas == (Quota("requests", 200, 199, 432),)
    assert (await ask(LiteLLMModel("gpt-4o-mini", params={"mock_response": "hi"}))).quotas == ()


@pytest.mark.usefixtures("installed")
async def test_an_unknown_provider_is_refused() -> None:
    """The error names the form that LiteLLM expects."""
    with pytest.raises(ModelRefused, match="write litellm:PROVIDER/MODEL"):
        await ask(LiteLLMModel("nobody-knows-this"))


def body(message: Any = None, **more: Any) -> Answer:
    said = {"role": "assistant", "content": "hi"} if message is None else {"role": "assistant", **message}
    choice = {"index": 0, "message": said, "finish_reason": "stop", **more.pop("choice", {})}
    data = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return Answer(200, json.dumps({**data, "usage": usage, **more}).encode(), {"content-type": "application/json"})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("answer", "expected", "final"),
    [
        (body(error={"message": "slow", "code": 429}), Throttled, ModelUnavailable),
        (body({"content": ""}, error={"message": "bad", "code": 502}), PassingFault, ModelUnavailable),
        (body(choice={"error": {"message": "bad", "code": 502}}), PassingFault, ModelUnavailable),
        (body(choice={"finish_reason": "error"}), PassingFault, ModelUnavailable),
        (body(choice={"finish_reason": {}}), PassingFault, MalformedReply),
        (body(model=["tiny"]), PassingFault, MalformedReply),
        (body(usage="much"), PassingFault, MalformedReply),
        (body({"content": 7}), PassingFault, MalformedReply),
        (body(choices=[]), PassingFault, MalformedReply),
        (Answer(200, b"<html></html>"), PassingFault, MalformedReply),
        (Answer(200, b"[" * 10_000), PassingFault, MalformedReply),
        (body({"content": None, "refusal": "no"}), ContentFiltered, None),
    ],
)
async def test_what_is_no_reply_is_a_failed_request(
    answer: Answer, expected: type[ModelError], final: type[ModelError] | None
) -> None:
    """Whatever it is; LiteLLM hides some of them."""
    with running(answer) as server, pytest.raises(ModelError) as caught:
        await ask(at(server.url))
    assert type(caught.value) is expected
    assert final is None or type(getattr(caught.value, "final", None)) is final
    assert "Traceback" not in str(caught.value)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("count", [-5, 2**63])
async def test_counts_that_cannot_be_true_are_estimated(count: int) -> None:
    """It is as with any other backend."""
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count}
    with running(body({"content": "four and more"}, usage=usage)) as server:
        assert (await ask(at(server.url))).usage == Usage(1, 3, estimated=True)


@pytest.mark.usefixtures("installed")
async def test_thoughts_and_tool_calls_are_given() -> None:
    """They are given beside the text."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with running(body({"content": "a", "reasoning_content": "b", "tool_calls": [call]})) as server:
        reply = await ask(at(server.url))
    assert (reply.text, reply.thoughts, reply.tool_calls) == ("a", "b", (ToolCall("1", "f", "{}"),))


@pytest.mark.usefixtures("installed")
async def test_what_a_reply_cannot_show_is_refused() -> None:
    """The parameter is named."""
    with running() as server, pytest.raises(DataError, match="best_of=2"):
        await ask(at(server.url), best_of=2)
    with pytest.raises(DataError, match="found parameter stream="):
        await ask(at(server.url), stream=print)
    assert server.asked == []


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("gpt-4o", "OPENAI_API_KEY"),
        ("anthropic/claude-3-haiku", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY"),
        ("azure/mine", "AZURE_API_KEY"),
    ],
)
async def test_no_key_is_a_refused_key_at_once(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not an outage: the message names the variable."""
    for known in [known for known in os.environ if known.endswith("_API_KEY")]:
        monkeypatch.delenv(known)
    with pytest.raises(KeyRefused, match=variable) as caught:
        await ask(LiteLLMModel(name))
    assert caught.value.certain


@pytest.mark.usefixtures("installed")
async def test_keys_are_stripped_refused_and_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys from the environment and from Python are checked, also when a server repeats one."""
    secret = "sk-very-secret-0123456789"
    with running(chat("hi"), error(400, f"no {secret}")) as server:
        options = {"api_base": f"{server.url}/v1"}
        monkeypatch.setenv("OPENAI_API_KEY", f" {secret}\r\n")
        assert (await ask(LiteLLMModel("openai/tiny", params=options))).text == "hi"
        assert server.chats[0].headers["authorization"] == f"Bearer {secret}"
        with pytest.raises(RequestFailed) as caught:
            await ask(LiteLLMModel("openai/tiny", params=options))
        assert secret not in f"{caught.value!r}"
        with pytest.raises(KeyRefused, match=r"the key in `api_key` has U\+000D") as refused:
            await ask(LiteLLMModel("openai/tiny", params={**options, "api_key": f"sk\r{secret}"}))
    assert secret not in str(refused.value)


@pytest.mark.usefixtures("installed")
async def test_a_temperature_that_is_refused_is_left_out() -> None:
    """The provider or LiteLLM itself may refuse it."""
    refusal = error(400, "Unsupported value: 'temperature' does not support 0 with this model.", "unsupported_value")
    with running(refusal, chat("one"), chat("two")) as server:
        model = at(server.url)
        async with model.open():
            texts = [(await model.complete(HELLO, {"temperature": 0})).text for _ in range(2)]
        assert texts == ["one", "two"]
        assert ["temperature" in asked.body for asked in server.chats] == [True, False, False]
        options = {"api_base": f"{server.url}/v1", "api_key": "sk-x"}
        assert (await ask(LiteLLMModel("o3-mini", params=options), temperature=0)).text == "two"


async def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message contains the command that installs it."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "litellm":
            raise ImportError("No module named 'litellm'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'flashgraph\[litellm\]'"):
        await ask(LiteLLMModel("gpt-4o-mini"))


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told() -> None:
    """LiteLLM needs asyncio."""
    with pytest.raises(DataError, match="asyncio only"):
        await ask(LiteLLMModel("gpt-4o-mini"))
