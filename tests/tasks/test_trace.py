"""Records and feedback of components, and rewriting by the task itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import UnusableReply
from flashgraph.parts import Attempt, Work, examples, rewritten
from flashgraph.tasks import Trace

SEED = {"writer": "Write.", "answerer": "Answer."}


async def two_steps(candidate: Mapping[str, str], sample: str, llm: Any, trace: Trace) -> str:
    draft = f"a draft on {sample}"
    trace.record("writer", sample, draft)
    trace.record("answerer", draft, "42", feedback="The unit is missing.")
    return "42"


def score(sample: str, output: str) -> fg.Score:
    return fg.Score(0.0, feedback={"writer": "Name the source.", "answerer": "unused"})


def task(**options: Any) -> fg.Task[Any, Any]:
    return fg.Task("t", ["tides", "winds"], ["rain"], seed=SEED, **{"attempt": two_steps, "score": score, **options})


def tried(made: fg.Task[Any, Any], index: int = 0) -> Attempt:
    async def once() -> Attempt:
        trace = Trace()
        output = await made.answer(SEED, made.train[index], None, trace)  # type: ignore[arg-type]
        return await Attempt.judged(made, Work(SEED, "train", index), output, trace=trace)

    return anyio.run(once)


def test_a_component_is_shown_its_own_records() -> None:
    """Each with its own feedback, or that of the score on the component."""
    made = task()
    found = tried(made)
    assert found.feedback == "writer: Name the source.\nanswerer: unused"
    assert examples([found], made, component="writer") == (
        "Input: tides\nAnswer: a draft on tides\nFeedback: Name the source."
    )
    assert examples([found], made, component="answerer") == (
        "Input: a draft on tides\nAnswer: 42\nFeedback: The unit is missing."
    )
    assert examples([found], made) == f"Input: tides\nAnswer: 42\nFeedback: {found.feedback}"


def test_records_of_other_headings_and_without_feedback() -> None:
    """The score replaces feedback that is missing."""

    async def attempt(candidate: Any, sample: str, llm: Any, trace: Trace) -> str:
        trace.add("writer", {"Tool": "search", "Found": 3})
        return ""

    made = task(attempt=attempt, score=lambda sample, output: fg.Score(0.25))
    assert examples([tried(made)], made, component="writer") == "Tool: search\nFound: 3\nFeedback: score 0.25"


def test_records_are_clipped() -> None:
    async def attempt(candidate: Any, sample: str, llm: Any, trace: Trace) -> str:
        trace.record("writer", "x" * 1_000_000, "y")
        return ""

    kept = tried(task(attempt=attempt)).records["writer"][0]["Inputs"]
    assert len(kept) < 21_000
    assert "characters left out" in kept


def test_records_survive_a_journal(tmp_path: Any) -> None:
    """A resumed run reflects on what the first session recorded."""
    prompts: list[str] = []

    def reflect(messages: Any) -> str:
        prompts.append(messages[-1]["content"])
        return "```\nbetter\n```"

    models = {"task": lambda messages: "", "reflection": reflect}
    options: dict[str, Any] = {"models": models, "folder": tmp_path / "run", "schedule": "lockstep"}
    fg.run("gepa", task(), budget=fg.Budget(proposals=1), **options)
    fg.run("gepa", task(), budget=fg.Budget(proposals=3), resume=True, **options)
    assert len(prompts) == 3
    assert any("Answer: a draft on " in text and "Feedback: Name the source." in text for text in prompts)
    assert any("Feedback: The unit is missing." in text for text in prompts)


@pytest.mark.parametrize("plain", [True, False])
def test_a_task_rewrites_by_itself(plain: bool) -> None:
    """With the model, the texts and the attempts, in place of the reflection's own prompt."""

    def blocking(llm: Any, candidate: Any, components: Any, attempts: Sequence[Attempt]) -> dict[str, str]:
        return {name: llm(f"{candidate[name]} {len(attempts)}").text for name in components}

    async def later(llm: Any, candidate: Any, components: Any, attempts: Sequence[Attempt]) -> dict[str, str]:
        return {name: (await llm(f"{candidate[name]} {len(attempts)}")).text for name in components}

    async def llm(prompt: str) -> fg.Reply:
        return fg.Reply(f"<{prompt}>")

    made = task(rewrite=blocking if plain else later)

    async def once() -> dict[str, str]:
        return await rewritten(llm, {"writer": "Write."}, [Attempt(0, 0.0, "")], made)  # type: ignore[arg-type]

    assert anyio.run(once) == {"writer": "<Write. 1>"}


@pytest.mark.parametrize("given", [None, "text", {"other": "text"}, {"writer": 3}, {}])
def test_a_rewrite_that_gives_no_text_fails(given: Any) -> None:
    made = attrs.evolve(task(), rewrite=lambda llm, candidate, components, attempts: given)

    async def once() -> None:
        await rewritten(None, {"writer": "Write."}, [], made)  # type: ignore[arg-type]

    with pytest.raises(UnusableReply, match="task 't': rewrite returned"):
        anyio.run(once)
