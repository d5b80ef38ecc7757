"""Reflection prompts, and reading their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt
from flashgraph.parts.reflection import fenced_answers, rewrite_prompt
from flashgraph.testing.runs import TASK


def test_a_component_is_named_where_there_are_several() -> None:
    """A component is named if there are several; a single one is "the instruction"."""
    attempts = [Attempt(0, 0.0, "out", "wrong")]
    several = fg.Task("t", [0], [0], seed={"a": "A", "b": "B"}, attempt=TASK.attempt, score=TASK.score)
    assert "several instructions. This is its 'b':\n```\nB\n```" in rewrite_prompt("B", attempts, several, "b")
    assert "by this instruction:\n```\nB\n```" in rewrite_prompt("B", attempts, TASK, "text")


def test_answers_are_asked_side_by_side_and_empty_ones_left_out() -> None:
    """Replies come in the order of their prompts, whichever is first, without the empty ones."""

    async def llm(messages: str | Sequence[fg.Message], **params: Any) -> fg.Reply:
        await anyio.sleep({"one": 0.02, "two": 0, "three": 0.01}[str(messages)])
        return fg.Reply("" if messages == "three" else f"```\n{messages}!\n```", fg.Usage(1, 1))

    answers = anyio.run(fenced_answers, llm, {"a": "one", "b": "two", "c": "three"})
    assert list(answers.items()) == [("a", "one!"), ("b", "two!")]
    with pytest.raises(fg.UnusableReply, match="the reply is empty"):
        anyio.run(fenced_answers, llm, {"a": "three"})
