"""Messages that a stage passes to `ctx.llm`: a mistake fails only that stage's job; parts are passed on like texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.errors import DataError, RequestFailed
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.messages import checked, text_of
from flashgraph.llm.protocol import Model, text_in
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.parts.meta_harness.meter import Meter
from flashgraph.run import events as ev
from flashgraph.run.budget import prompt_estimate
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.recorded import ReplayModel
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.testing import SlowModel
from flashgraph.testing.runs import TASK
from tests.run.endpoints import ran, requests
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

PARTS = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]


def graph_of(messages: Any) -> fg.Graph:
    """Return a graph of three rounds; the second calls the model with ``messages``."""
    graph = fg.Graph("asks")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw) -> int:
        return ctx.emission

    @graph.stage(model="task")
    async def ask(n: int, ctx: fg.Context) -> str:
        reply = await ctx.llm(messages if n == 1 else [{"role": "user", "content": "a text"}])
        return f"{n}: {reply.text}"

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    return graph


def answer(messages: Sequence[fg.Message]) -> str:
    content: Any = messages[-1]["content"]
    return "text" if isinstance(content, str) else f"{len(content)} parts"


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ([], "the messages are [] (list); expected a list of messages"),
    "a number": (7, "the messages are 7 (int); expected a list of messages"),
    "texts": (["Hello"], "message 0 is 'Hello' (str); expected a mapping with role and content"),
    "no role": ([{"content": "x"}], "message 0 has no role; it has 'content'; expected both"),
    "no content": ([{"role": "user", "text": "x"}], "message 0 has no content; it has 'role', 'text'; expected both"),
    "a role": ([{"role": 1, "content": "x"}], "the role of message 0 is 1 (int); expected a text"),
    "a content": ([{"role": "user", "content": 5}], "the content of message 0 is 5 (int); expected a text, or parts"),
    "no part": ([{"role": "user", "content": []}], "the content of message 0 is [] (list); expected a text, or parts"),
    "a part": (
        [{"role": "user", "content": ["x"]}],
        "part 0 of message 0 is 'x' (str); expected a mapping with a type",
    ),
    "a part without a type": (
        [{"role": "user", "content": [*PARTS, {"text": "x"}]}],
        "part 2 of message 0 is {'text': 'x'} (dict); expected a mapping with a type",
    ),
    "a part without its text": (
        [{"role": "user", "content": [{"type": "text"}]}],
        "part 0 of message 0 is {'type': 'text'} (dict); expected one with a text",
    ),
    "a long one": ([["x" * 90]], f"message 0 is ['{'x' * 77}…; expected a mapping"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("budget", [fg.Budget(), fg.Budget(tokens=10**6)], ids=["free", "tokens"])
def test_messages_of_another_form_fail_their_member_only(
    case: str, budget: fg.Budget, tmp_path: Path, virtually: Virtually
) -> None:
    """The error says what was found and expected, and nothing is reserved; the other rounds are admitted and stored."""
    messages, said = BAD[case]
    model = {"task": SlowModel(answer)}
    result = watched(graph_of(messages), virtually, models=model, budget=budget, folder=tmp_path / "run")
    assert result.status == "completed"
    assert sorted(str(a.value) for a in result.artifacts) == ["0: text", "2: text"]
    (failed,) = [e for e in of(result, ev.JobEnded) if e.how == "failed"]
    assert failed.reason.startswith(f"DataError: llm(messages): {said}")
    assert result.spent.calls == 2


@pytest.mark.parametrize("budget", [fg.Budget(), fg.Budget(tokens=10**6)], ids=["free", "tokens"])
def test_contents_of_parts_are_sent_and_kept(budget: fg.Budget, tmp_path: Path, virtually: Virtually) -> None:
    """The model gets them unchanged, and the journal has their JSON; the estimate of tokens counts texts only."""
    folder = tmp_path / "run"
    graph, models = graph_of([{"role": "user", "content": PARTS}]), {"task": SlowModel(answer)}
    result = watched(graph, virtually, models=models, budget=budget, folder=folder)
    assert sorted(str(a.value) for a in result.artifacts) == ["0: text", "1: 2 parts", "2: text"]
    assert sorted(e.prompt_tokens for e in of(result, ev.CallEnded)) == [1, 1, len("What is this?") // 4]
    with StoredRun.open(folder) as run:
        kept = sorted((text for call in run.calls() for _, text in call.messages), key=len)
    assert kept[:2] == ["a text"] * 2
    assert json.loads(kept[2]) == PARTS


def test_what_counts_of_a_message() -> None:
    """Texts and text parts count, in estimates of prompts, of usage, and for meters."""
    messages: list[fg.Message] = [
        {"role": "system", "content": "x" * 40},
        {"role": "user", "content": [*PARTS, {"type": "text", "text": "y" * 27}]},
        {"role": "assistant", "content": None},
    ]
    assert [len(text_in(message)) for message in messages] == [40, 40, 0]
    assert (prompt_estimate(messages), fg.Usage.estimate(messages, "zz" * 4)) == (20.0, fg.Usage(20, 2, estimated=True))


@pytest.mark.anyio
async def test_models_that_read_what_they_are_told(tmp_path: Path) -> None:
    """A simulated model, an ensemble, a meter and a replayed run read contents of parts."""
    parts: list[fg.Message] = [{"role": "user", "content": PARTS}]
    function = FunctionModel(answer, name="f")
    simulated = SimModel(PROFILES["vllm"].faster(1e6))
    model: Model
    for model, said in ((simulated, "What is this?"), (Ensemble(((function, 1.0),)), "2 parts"), (function, "2 parts")):
        async with model.open():
            assert (await model.complete(parts, {})).text == said
    meter = Meter(lambda messages, **params: function.complete(messages, params))
    await meter(parts)
    assert meter.characters == len("What is this?") + len("user")
    await fg.arun(graph_of(parts), TASK, models={"task": answer}, folder=tmp_path / "run")
    replayed = ReplayModel(str(tmp_path / "run"))
    async with replayed.open():
        assert (await replayed.complete(parts, {})).text == "2 parts"
        with pytest.raises(RequestFailed, match=r"no answer to '\[\{\"type\": \"text\"\}\]'"):
            await replayed.complete([{"role": "user", "content": [{"type": "text"}]}], {})


@pytest.mark.parametrize("given", [None, "text", {"text": "x"}, ("x", 1)])
def test_what_a_model_gives_that_is_no_reply(given: Any) -> None:
    """It is a failed sample with the reason, and the run continues."""

    class Odd(ScriptedModel):
        async def complete(self, *request: Any) -> Any:
            return given

    result = ran(requests(3), {"task": Odd([])})
    assert result.status == "completed"
    (reason, *_) = [event.reason for event in of(result, ev.JobEnded) if event.how == "failed"]
    assert reason.startswith("DataError: model scripted: complete returned ")
    assert "Fix: return fg.Reply(" in reason


@pytest.mark.parametrize(
    "messages",
    [
        "cut \ud83d off",
        [{"role": "user", "content": "cut \ud83d off"}],
        [{"role": "user", "content": [{"type": "text", "text": "cut \ud83d off"}]}],
    ],
)
def test_half_a_character_goes_as_its_substitute(messages: Any) -> None:
    """A sample or an output may contain one and a request cannot, so that each reflection on it would fail."""
    (sent,) = checked(messages)
    assert text_in(sent) == "cut \ufffd off"
    json.dumps(sent, ensure_ascii=False).encode()


def test_whole_messages_are_not_copied() -> None:
    """An image may have megabytes."""
    message = {"role": "user", "content": PARTS}
    assert checked([message])[0] is message


def test_no_content_beside_calls_of_tools() -> None:
    """An assistant's message that only calls tools has no content, as the API returns it."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    sent = checked([{"role": "user", "content": "x"}, said, {"role": "tool", "tool_call_id": "1", "content": "y"}])
    assert sent[1] == said
    assert [text_of(message["content"]) for message in sent] == ["x", "", "y"]
    with pytest.raises(DataError, match="the content of message 0 is None"):
        checked([{"role": "user", "content": None}])
