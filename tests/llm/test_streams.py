"""Streamed replies: shown as they come, equal to whole ones, and refused by name where a backend has none."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import MalformedReply, ModelError, PassingFault
from flashgraph.llm.completions import Completion, Malformed
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.parsing import asked
from flashgraph.llm.protocol import TokenLogprob, ToolCall
from flashgraph.llm.streams import Stream
from tests.llm.server import Answer, chat, running

HELLO = [{"role": "user", "content": "hello"}]
HEAD = {"id": "c", "object": "chat.completion.chunk", "model": "tiny"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def events(*chunks: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ("".join([": comment\n\n", *lines]) + ("data: [DONE]\n\n" if done else "")).encode()


def piece(finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}]}


def streamed(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    return events(piece(role="assistant", content=""), *deltas, piece(finish), {**HEAD, "choices": [], "usage": USAGE})


def call(index: int, arguments: str, **first: Any) -> dict[str, Any]:
    named = {name: first.pop(name) for name in ("name",) if name in first}
    return piece(tool_calls=[{"index": index, **first, "function": {**named, "arguments": arguments}}])


@given(pieces=st.lists(st.text(max_size=5), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_any_cut_of_the_bytes_gives_the_same_text(pieces: list[str], cuts: list[int]) -> None:
    """The text so far only grows, and ends as the whole; no piece is shown twice."""
    body = streamed(*[piece(content=text) for text in pieces])
    shown: list[str] = []
    stream = Stream(shown.append)
    for end in sorted(cuts):
        stream.take(bytearray(body[:end]))
    said = Completion.of(stream.whole(body))
    assert (said.text, said.prompt, said.completion, said.finish) == ("".join(pieces), 9, 4, "stop")
    assert all(later.startswith(earlier) and later != earlier for earlier, later in pairwise(shown))
    assert (shown or [""])[-1] == "".join(pieces)


def test_calls_of_tools_and_log_probabilities_are_put_together() -> None:
    """As servers send them: the name first, the arguments in pieces, two calls in turn."""
    logprobs = {"content": [{"token": "hm", "logprob": -0.5, "top_logprobs": []}]}
    body = streamed(
        piece(reasoning_content="th"), piece(reasoning_content="ink"), piece(content="hm", logprobs=logprobs),
        call(0, "", id="a", name="find"), call(0, '{"x"'), call(1, "{}", id="b", name="count"), call(0, ": 1}"),
        finish="tool_calls",
    )  # fmt: skip
    said = Completion.of(Stream(lambda text: None).whole(body))
    assert said.tool_calls == (ToolCall("a", "find", '{"x": 1}'), ToolCall("b", "count", "{}"))
    assert (said.thoughts, said.text, said.finish) == ("think", "hm", "tool_calls")
    assert said.logprobs == (TokenLogprob("hm", -0.5),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "tool_calls", "function", "index", "logprobs", "error"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3))
def test_any_stream_is_a_completion_or_malformed(chunks: list[Any]) -> None:
    with suppress(Malformed):
        Completion.of(Stream(lambda text: None).whole(events(*chunks)))


async def complete(model: Any, **params: Any) -> fg.Reply:
    async with model.open():
        return await asked(model_call(model), HELLO, **params)


def model_call(model: Any) -> Any:
    async def ask(messages: Any, **params: Any) -> fg.Reply:
        reply: fg.Reply = await model.complete(messages, params)
        return reply

    return ask


def test_a_server_s_stream() -> None:
    shown: list[str] = []
    answer = Answer(
        body=streamed(piece(content="he"), piece(content="llo")), headers={"content-type": "text/event-stream"}
    )
    with running(answer) as server:
        reply = anyio.run(lambda: complete(HttpModel(server.url, "tiny"), stream=shown.append))
    assert (reply.text, reply.usage, shown[-1]) == ("hello", fg.Usage(9, 4), "hello")
    assert server.chats[0].body["stream"] is True
    assert server.chats[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "body",
    [
        events(piece(content="he"), done=False),
        events(piece(content="he"), {"error": {"message": "overloaded", "code": 503}}, done=False),
        events([1]),
        events(piece(content=3)),
        b"data: {\n\n",
    ],
)
def test_a_broken_stream_may_be_tried_again(body: bytes) -> None:
    with running(Answer(body=body)) as server, pytest.raises(ModelError) as caught:
        anyio.run(lambda: complete(HttpModel(server.url, "tiny"), stream=print))
    assert isinstance(caught.value, PassingFault)
    assert isinstance(caught.value.final, MalformedReply | ModelError)


def test_the_whole_text_comes_at_once_from_others() -> None:
    """From a function, and from a server that ignores the parameter."""
    shown: list[str] = []
    with running(chat("all")) as server:
        for model in (FunctionModel(lambda _: "all"), HttpModel(server.url, "tiny")):
            anyio.run(lambda model=model: complete(model, stream=shown.append))  # type: ignore[misc]
    assert shown == ["all", "all"]


@pytest.mark.parametrize(
    ("params", "message"),
    [({"stream": True}, "expected a function of the text so far"), ({"stream": print, "n": 2}, "n=2 with stream")],
)
def test_other_streams_are_refused(params: Any, message: str) -> None:
    with running() as server, pytest.raises(fg.DataError, match=message):
        anyio.run(lambda: complete(HttpModel(server.url, "tiny"), **params))
    assert server.chats == []


def test_a_callback_that_raises_ends_its_attempt_alone() -> None:
    """The others continue, and the run's requests are the same with a callback and without."""

    def show(text: str) -> None:
        if text == "b":
            raise ValueError("enough")

    async def attempt(candidate: Any, sample: str, llm: fg.Llm) -> str:
        return (await llm(sample, stream=show)).text

    task: fg.Task[Any, Any] = fg.Task("s", ["a"], ["a", "b", "c"], score=lambda s, o: fg.Score(0.5), attempt=attempt)
    models: Any = {"task": lambda m: m[-1]["content"], "reflection": lambda m: "```\nx\n```"}
    result = fg.run("gepa", task, models=models, budget=fg.Budget(evaluations=3), schedule="lockstep")
    assert result.best is not None
    assert result.best.score == pytest.approx(1 / 3)
