"""Several answers to one request, and the log probabilities of tokens: parsed, paid, stored, and never dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.llm.completions import Completion, Malformed
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import TokenLogprob
from flashgraph.run.budget import reservation
from tests.llm.server import Answer, running


def body(*choices: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
    numbered = [{"index": i, "finish_reason": "stop", **choice} for i, choice in enumerate(choices)]
    return {"id": "c", "object": "chat.completion", "model": "tiny", "choices": numbered, "usage": usage}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": said}, **more}


LOGPROBS = {
    "content": [
        {"token": "y", "logprob": -0.1, "bytes": [121], "top_logprobs": [{"token": "y", "logprob": -0.1}]},
        {"token": "es", "logprob": -9999.0, "bytes": None, "top_logprobs": []},
    ],
    "refusal": None,
}  # fmt: skip


def asked(model: Any, **params: Any) -> fg.Reply:
    """Return the reply of a model as a stage gets it."""
    replies: list[fg.Reply] = []
    task: fg.Task[Any, Any] = fg.Task(
        "asks", [1], [1], score=lambda s, o: fg.Score(0.0), attempt=attempt(params, replies)
    )
    budget = fg.Budget(evaluations=1)
    result = fg.run("gepa", task, models=model, budget=budget, schedule="lockstep")
    if not replies:
        raise AssertionError(result.reason)
    return replies[0]


def attempt(params: dict[str, Any], replies: list[fg.Reply]) -> Any:
    async def ask(candidate: Any, sample: Any, llm: fg.Llm) -> str:
        replies.append(await llm("hello", **params))
        return replies[-1].text

    return ask


def test_a_server_s_choices_and_logprobs() -> None:
    several = Answer(body=json.dumps(body(text("a"), text("<think>hm</think>b"), text("c"))).encode())
    certain = Answer(body=json.dumps(body(text("yes", logprobs=LOGPROBS))).encode())
    with running(several, several, certain) as server:
        model = HttpModel(server.url, "tiny")
        assert asked(model, n=3).choices == ("a", "b", "c")
        assert asked(HttpModel(server.url, "tiny", params={"n": 3})).choices == ("a", "b", "c")
        reply = asked(model, logprobs=True, top_logprobs=1)
    assert reply.logprobs == (TokenLogprob("y", -0.1, {"y": -0.1}), TokenLogprob("es", -9999.0))
    assert [chat.body.get("n") for chat in server.chats] == [3, 3, None]
    assert server.chats[2].body["top_logprobs"] == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 3}, "n=3 has 1 of 3 choices; this backend does not support n"),
        ({"logprobs": True}, "logprobs has none; this backend does not support logprobs"),
        ({"n": 0}, "n=0; expected a whole number from 1 to 128"),
        ({"n": 2.0}, "n=2.0; expected"),
        ({"n": True}, "n=True; expected"),
    ],
)
@pytest.mark.parametrize("backend", ["function", "server"])
def test_a_backend_without_them_is_named(backend: str, params: dict[str, Any], message: str) -> None:
    """A parameter that has no effect is an error, whatever the backend: a function, or a server that ignores it."""
    with running(Answer(body=json.dumps(body(text("a"))).encode())) as server:
        model = HttpModel(server.url, "tiny") if backend == "server" else FunctionModel(lambda _: "a", name="mine")
        with pytest.raises(AssertionError, match=message):
            asked(model, **params)


@pytest.mark.parametrize(
    ("choices", "wanted", "message"),
    [
        ((text("a"), text("b")), 1, "2 choices, expected one"),
        ((text("a"), text("b"), text("c")), 2, "3 choices, expected 2"),
        ((text("a"), {}), 2, "the message is null"),
        ((text("a"), {"message": {}}), 2, "the message has no content"),
        ((text("a", logprobs={"content": [3]}),), 1, "the token is a number"),
        ((text("a", logprobs={"content": [{"token": "a"}]}),), 1, "log probabilities of another form"),
        ((text("a", logprobs={"content": [{"token": "a", "logprob": -1, "top_logprobs": [{}]}]}),), 1, "another form"),
    ],
)
def test_other_forms_are_malformed(choices: Any, wanted: int, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        Completion.of(body(*choices), wanted)


def test_one_truncated_choice_truncates_the_reply() -> None:
    said = Completion.of(body(text("a"), text("b", finish_reason="length")), 2)
    assert (said.finish, said.more, said.written) == ("length", ("b",), "ab")
    withheld = Completion.of(body(text("a", finish_reason="length"), text("", finish_reason="content_filter")), 2)
    assert withheld.finish == "content_filter"


@given(n=st.integers(1, 128), most=st.integers(1, 5000))
def test_a_budget_reserves_every_answer(n: int, most: int) -> None:
    """Each answer may be as long as the bound."""
    model = FunctionModel(lambda _: "", price=(0.01, 0.1))
    one, several = (
        reservation([model], [], {"max_tokens": most, "n": count}, {"tokens": 1.0, "usd": 1.0}) for count in (1, n)
    )
    assert several["tokens"] - one["tokens"] == (n - 1) * most
    assert several["usd"] - one["usd"] == pytest.approx(0.1 * (n - 1) * most)


def test_a_killed_run_gets_its_choices_back(tmp_path: Path) -> None:
    """The journal keeps them: an attempt that was interrupted after its first call pays it once."""
    sent: list[Any] = []
    seen: list[Any] = []

    def reply(messages: Any, params: Any) -> fg.Reply:
        sent.append(messages)
        if messages[-1]["content"] == "again":
            return fg.Reply("last", fg.Usage(1, 1))
        tokens = [TokenLogprob("a", -0.5)] if params.get("logprobs") else []
        return fg.Reply("a", fg.Usage(1, 2), more=["b"] * (params.get("n", 1) - 1), logprobs=tokens)

    async def twice(candidate: Any, sample: Any, llm: fg.Llm) -> str:
        several, certain = await llm("x", n=2), await llm("y", logprobs=True)
        seen.append((several.choices, certain.logprobs))
        return (await llm("again")).text

    task: fg.Task[Any, Any] = fg.Task("twice", [1], [1], score=lambda s, o: fg.Score(0.0), attempt=twice)
    options: Any = {"models": {"task": FunctionModel(reply), "reflection": FunctionModel(lambda _: "x")},
                    "schedule": "lockstep", "folder": tmp_path / "run"}  # fmt: skip
    fg.run("gepa", task, budget=fg.Budget(calls=2), **options)
    assert len(sent) == 2
    fg.run("gepa", task, budget=fg.Budget(calls=3), resume=True, **options)
    assert len(sent) == 3
    assert seen == [(("a", "b"), (TokenLogprob("a", -0.5),))] * 2
