"""Replies that call tools are stored whole: a resumed agent pays for no turn of its loop a second time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.llm.protocol import TokenLogprob, ToolCall
from flashgraph.llm.responses import _decoded, _encoded
from flashgraph.parts import Archive, Attempt, Candidate, Work
from flashgraph.run.journal.columns import UNUSABLE
from flashgraph.run.journal.tools import beside_text, written
from flashgraph.testing.runs import TASK
from tests.journal.kit import rows, sound
from tests.journal.test_migration import as_of

TOOL = {"type": "function", "function": {"name": "height", "parameters": {"type": "object"}}}
CALLS = (ToolCall("1", "height", '{"of": "K2"}'), ToolCall("2", "height", '{"of": "\U0001f5fb", '))


def agent(folder: Path, calls: int, **options: Any) -> tuple[fg.Result, list[int]]:
    """Run an agent that loops over tools, and return the numbers of messages in the requests that were sent."""
    graph = fg.Graph("agent")
    archive = graph.pool("archive", Archive)
    sent: list[int] = []

    @graph.source(rounds=1)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": "How high is it?"}, 1)

    @graph.stage(model="task")
    async def act(work: Work, ctx: fg.Context) -> Attempt:
        messages: list[fg.Message] = [{"role": "user", "content": work.text["text"]}]
        while (reply := await ctx.llm(messages, tools=[TOOL])).tool_calls:
            called = [{"id": c.id, "function": {"name": c.name, "arguments": c.arguments}} for c in reply.tool_calls]
            messages.append({"role": "assistant", "content": None, "tool_calls": called})
            messages += [{"role": "tool", "tool_call_id": c.id, "content": "8611"} for c in reply.tool_calls]
        return Attempt(work.index, 1.0, f"{reply.text} {messages[1]['tool_calls'][0]['function']['arguments']}")

    def model(messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        assert params["tools"] == [TOOL]
        sent.append(len(messages))
        if len(messages) < 7:
            return fg.Reply("", fg.Usage(5, 5), 0.0, "stop" if len(messages) > 1 else "tool_calls", tool_calls=CALLS)
        return fg.Reply("high", fg.Usage(5, 5), 0.0)

    graph.edge(pick, act, scatter=Candidate.work)
    graph.edge(act, archive, gather=True)
    models = {"task": model, **options.pop("models", {})}
    return fg.run(graph, TASK, models=models, budget=fg.Budget(calls=calls), folder=folder, **options), sent


def test_a_resumed_loop_goes_on(tmp_path: Path) -> None:
    """Turns that were answered are served with their calls, whatever their finish reason, and with equal results."""
    whole, sent = agent(tmp_path / "whole", 9)
    assert sent == [1, 4, 7]
    for calls in (1, 2):
        folder = tmp_path / f"cut-{calls}"
        first, before = agent(folder, calls)
        assert (first.status, first.artifacts) == ("budget", ())
        then, after = agent(folder, 9, resume=True)
        assert before + after == [1, 4, 7]
        assert [a.score for a in then.artifacts] == [a.score for a in whole.artifacts] == [1.0]
        sound(folder)


def test_a_run_of_an_older_schema_asks_again(tmp_path: Path) -> None:
    """Its replies have lost their calls, so they are not served."""
    folder = tmp_path / "old"
    agent(folder, 1)
    as_of(folder, 5)
    _, sent = agent(folder, 9, resume=True)
    assert sent == [1, 4, 7]


def test_a_run_as_a_model(tmp_path: Path) -> None:
    """A replayed run gives the same calls of tools."""
    agent(tmp_path / "whole", 9)
    again, sent = agent(tmp_path / "again", 9, models={"task": f"replay:{tmp_path / 'whole'}"})
    assert (sent, again.spent.calls, len(again.artifacts)) == ([], 3, 1)


def test_a_vacuumed_run_has_none(tmp_path: Path) -> None:
    """Arguments of tools are contents like the text of a reply."""
    from flashgraph.run.journal.retention import vacuum

    folder = tmp_path / "whole"
    agent(folder, 9)
    assert [json.loads(tools)[0] for (tools,) in rows(folder, "SELECT tools FROM calls WHERE tools NOTNULL")] == [
        ["1", "height", '{"of": "K2"}']
    ] * 2
    vacuum(folder)
    assert rows(folder, "SELECT count(tools) FROM calls") == [(0,)]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "3",
        "[3]",
        '[["1", "2"]]',
        '[["1", "2", 3]]',
        '[["1", "2", "3", "4"]]',
        b"[]",
        5,
        '{"tools": []}x',
        '{"tools": [], "seen": 1}',
        '{"more": []}',
        '{"tools": [], "more": [3]}',
        '{"tools": [], "logprobs": [["a", -1]]}',
        '{"tools": [], "logprobs": [["a", "b", {}]]}',
    ],
)
def test_damaged_calls(value: Any) -> None:
    """Another value in the column is refused."""
    with pytest.raises(UNUSABLE):
        beside_text(value)


REPLIES = [
    fg.Reply("x", tool_calls=CALLS),
    fg.Reply("a", more=("b", "")),
    fg.Reply("hi", logprobs=[TokenLogprob("h", -0.5, {"h": -0.5, "H": -1}), TokenLogprob("i", -math.inf)]),
]


@pytest.mark.parametrize("reply", REPLIES)
def test_the_parts_beside_the_text_survive(reply: fg.Reply) -> None:
    assert attrs.evolve(fg.Reply(reply.text), **beside_text(written(reply))) == reply
    assert _decoded(_encoded(reply)) == attrs.evolve(reply, cost=0.0)


def test_a_reply_of_text_alone_has_an_empty_column() -> None:
    assert written(fg.Reply("x")) is None
    assert beside_text(None) == {}
