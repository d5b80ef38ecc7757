"""What a stage gives to `at.llm`: checked there, so that a mistake is its own failure; parts go through like texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.journal.reading import StoredRun
from flashgraph.testing import SlowModel
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

PARTS = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]


def graph_of(messages: Any) -> fg.Graph:
    """Three rounds; the second asks with ``messages``."""
    graph = fg.Graph("asks")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=3)
    def draw(at: fg.Draw) -> int:
        return at.emission

    @graph.stage(llm="task")
    async def ask(n: int, at: fg.Context) -> str:
        reply = await at.llm(messages if n == 1 else [{"role": "user", "content": "a text"}])
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
    "a part": ([{"role": "user", "content": ["x"]}], "the content of message 0 is ['x'] (list); expected a text"),
    "a long one": ([["x" * 90]], f"message 0 is ['{'x' * 77}…; expected a mapping"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("budget", [fg.Budget(), fg.Budget(tokens=10**6)], ids=["free", "tokens"])
def test_messages_of_another_form_fail_their_member_only(
    case: str, budget: fg.Budget, tmp_path: Path, virtually: Virtually
) -> None:
    """With what was found and expected, before anything is reserved; the other rounds are admitted, and kept."""
    messages, said = BAD[case]
    model = {"task": SlowModel(answer)}
    result = watched(graph_of(messages), virtually, models=model, budget=budget, folder=tmp_path / "run")
    assert result.status == "completed"
    assert sorted(str(a.value) for a in result.artifacts) == ["0: text", "2: text"]
    (failed,) = [e for e in of(result, ev.JobEnded) if e.how == "failed"]
    assert failed.reason.startswith(f"DataError: llm(messages): {said}")
    assert result.spent.calls == 2


class Sized(SlowModel):
    """Counts the prompt by its messages' number: it takes contents of parts."""

    async def complete(self, messages: Sequence[fg.Message], params: Any) -> fg.Reply:
        return fg.Reply(answer(messages), fg.Usage(len(messages), 1), 0.0)


@pytest.mark.parametrize("budget", [fg.Budget(), fg.Budget(tokens=10**6)], ids=["free", "tokens"])
def test_contents_of_parts_are_sent_and_kept(budget: fg.Budget, tmp_path: Path, virtually: Virtually) -> None:
    """As they are to the model, and as JSON in the journal."""
    folder = tmp_path / "run"
    graph, models = graph_of([{"role": "user", "content": PARTS}]), {"task": Sized(answer)}
    result = watched(graph, virtually, models=models, budget=budget, folder=folder)
    assert sorted(str(a.value) for a in result.artifacts) == ["0: text", "1: 2 parts", "2: text"]
    with StoredRun.open(folder) as run:
        kept = sorted((text for call in run.calls() for _, text in call.messages), key=len)
    assert kept[:2] == ["a text"] * 2
    assert json.loads(kept[2]) == PARTS
