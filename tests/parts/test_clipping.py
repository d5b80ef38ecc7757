"""Model input is clipped to fit: the longest texts first, and requests to the model's context."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import ContextTooLong
from flashgraph.parts.clipping import LEAST, call_within, clipped, fitted, within
from flashgraph.parts.evaluation import Attempt
from flashgraph.parts.reflection import examples, rewrite_prompt, rewritten
from flashgraph.run import events as ev

MARK = len("\n[... 1000000 characters left out ...]\n")


def test_a_text_is_cut_in_its_middle() -> None:
    """A text loses its middle, because errors are reported at the end."""
    assert clipped("a" * 50 + "b" * 50, 9) == f"aaa\n[... 91 characters left out ...]\n{'b' * 6}"
    assert clipped("short", 9) == "short"
    assert clipped("x", 0) == "\n[... 1 characters left out ...]\n"


@given(st.lists(st.integers(0, 400), max_size=8), st.integers(0, 1500))
def test_the_longest_are_clipped_first(lengths: list[int], most: int) -> None:
    """The longest texts are clipped to one length, no shorter text is clipped, and as little as possible is lost."""
    texts = ["x" * length for length in lengths]
    shown = fitted(texts, most)
    if sum(lengths) <= most:
        assert shown == texts
        return
    kept = [text.count("x") for text in shown]
    assert sum(kept) <= max(most, LEAST * len(texts))
    whole = [length for length, left in zip(lengths, kept, strict=True) if left == length]
    cut = {left for length, left in zip(lengths, kept, strict=True) if left < length}
    assert len(cut) <= 1
    assert max(whole, default=0) <= min(cut, default=10**9)
    if cut and min(cut) > LEAST:
        assert sum(kept) > most - len(texts)
    assert all(len(text) <= left + MARK for text, left in zip(shown, kept, strict=True))


def test_clipping_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log warns once for each task and number of tokens, and not if nothing is clipped."""
    assert within(["short", "texts"], 100, "task 'said once'") == ["short", "texts"]
    assert not caplog.records
    for _ in range(3):
        assert within(["x" * 1000, "short"], 100, "task 'said once'")[1] == "short"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "task 'said once': the texts of a reflection prompt were clipped to about 100 tokens" in record.getMessage()


class Short:
    """A model whose context has ``characters`` characters."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sent: list[int] = []

    async def __call__(self, messages: str | Sequence[fg.Message], **params: Any) -> fg.Reply:
        self.sent.append(len(messages))
        if len(messages) > self.most:
            raise ContextTooLong("too long")
        return fg.Reply("```\nfine\n```", fg.Usage(1, 1))


def test_a_prompt_is_halved_until_it_fits() -> None:
    """No prompt is sent twice: neither if halving does not change it yet, nor if nothing is left to halve."""
    model = Short(5000)
    reply = anyio.run(call_within, model, lambda tokens: "x" * min(20_000, 4 * tokens), 32_000)
    assert reply.text == "```\nfine\n```"
    assert model.sent == [20_000, 16_000, 8_000, 4_000]
    for prompt in ("x" * 9000, "x"):
        hopeless = Short(0)
        with pytest.raises(ContextTooLong):
            anyio.run(call_within, hopeless, lambda _, prompt=prompt: prompt, 32_000)
        assert hopeless.sent == [len(prompt)]


def task(feedback: str, name: str = "clipped") -> fg.Task[int, str]:
    async def attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
        return (await llm("question")).text

    return fg.Task(name, range(6), range(3), attempt=attempt, score=lambda *_: fg.Score(0.5, feedback))


def test_a_reflection_shows_short_texts_in_full() -> None:
    """A reflection shows short texts in full, and the ends of long ones."""
    attempts = [Attempt(0, 0.0, "out", "wrong: " + "trace " * 1000 + "KeyError"), Attempt(1, 0.0, "out 1", "brief")]
    shown = examples(attempts, task("f"), tokens=500)
    assert "Input: 0\nAnswer: out\nFeedback: wrong: trace" in shown
    assert "characters left out" in shown
    assert shown.endswith("KeyError\n\nInput: 1\nAnswer: out 1\nFeedback: brief")
    assert len(shown) < 2200
    assert len(rewrite_prompt("text", attempts, task("f"), tokens=500)) < 3500


def test_several_texts_are_rewritten_within_a_context() -> None:
    """Each text is rewritten by a request of its own."""
    model = Short(4000)
    attempts = [Attempt(0, 0.0, "x" * 90_000, "wrong")]
    found = anyio.run(rewritten, model, {"a": "A", "b": "B"}, attempts, task("f"))
    assert found == {"a": "fine", "b": "fine"}
    assert max(model.sent) > 80_000


@pytest.mark.parametrize("graph", ["gepa", "combee", "ace"])
def test_long_feedback_is_learned_from(graph: str) -> None:
    """With feedback longer than the model's context, no reflection is lost, and the short feedback is shown in full."""
    seen: list[int] = []

    def model(messages: Sequence[fg.Message]) -> fg.Reply:
        content = str(messages[-1]["content"])
        if len(content) > 9_000:
            raise ContextTooLong("the context has 3,000 tokens")
        seen.append(len(content))
        if "JSON object" in content:
            return fg.Reply('{"final_answer": "x", "key_insight": "k", "operations": []}')
        return fg.Reply(f"```\nrewritten {len(seen)}\n```")

    roles = {"ace": ("generator", "reflector", "curator")}.get(graph, ("task", "reflection"))
    result = fg.run(
        graph,
        task("needs " + "a long explanation " * 1200 + "and the rule R7", f"long {graph}"),
        models=dict.fromkeys(roles, model),
        schedule="lockstep",
        budget=fg.Budget(proposals=4),
    )
    assert result.status in ("budget", "completed")
    failed = [e for e in result.events if isinstance(e, ev.JobEnded) and e.how == "failed"]
    assert failed == []
    assert len([e for e in result.events if isinstance(e, ev.CallEnded) and e.how == "failed"]) > 0
    assert max(seen) > 1500
