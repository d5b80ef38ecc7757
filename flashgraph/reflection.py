"""Texts of reflection: showing attempts to a model, and reading a rewritten text out of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from flashgraph.errors import UnusableReply
from flashgraph.evaluation import Attempt
from flashgraph.llm.protocol import Reply
from flashgraph.replies import fenced
from flashgraph.task import Llm, Task

__all__ = ["examples", "fenced_answers", "fenced_text", "rewrite_prompt", "rewriting"]


def examples(attempts: Sequence[Attempt], task: Task, split: str = "train") -> str:
    """Attempts as plain sections: input, answer and feedback (GEPA's reflective data set).

    Plain lines, because small models copy Markdown headings into the text that they write.
    """
    samples = task.samples(split)
    return "\n\n".join(
        f"Input: {samples[a.index]}\nAnswer: {a.output}\nFeedback: {a.feedback or f'score {a.score:g}'}"
        for a in attempts
    )


def rewrite_prompt(text: str, attempts: Sequence[Attempt], task: Task, component: str = "") -> str:
    """Ask for a better text, given the current one and what happened when it was used.

    ``component`` is its name where the candidate has several.
    """
    return rewriting(text, examples(attempts, task), task, component)


def rewriting(text: str, shown: str, task: Task, component: str = "") -> str:
    """`rewrite_prompt` with the examples as they are shown."""
    which = (
        f"several instructions. This is its {component!r}" if component and len(task.seed) > 1 else "this instruction"
    )
    return (
        f"An assistant works by {which}:\n"
        f"```\n{text}\n```\n\n"
        "Here is what it was given, what it answered, and what was right or wrong about each answer:\n\n"
        f"{shown}\n\n"
        "Rewrite the instruction so that the assistant, which sees nothing but it and a new input, answers right. "
        "First say what the task is and what an answer must look like. Then list the rules, one a line: all that the "
        "instruction has now, and all that the feedback reveals, with every code and fact, in the words of the "
        "feedback. Do not repeat the inputs or the answers.\n\n"
        "Give only the new instruction, once, as plain text between ``` fences."
    )


def fenced_text(reply: Reply) -> str:
    """Return the text that a reply holds between fences.

    Raises `UnusableReply` when the reply cannot be used, or holds nothing there.
    """
    text = fenced(reply.usable())
    if not text:
        raise UnusableReply("the reply holds no text between its ``` fences")
    return text


async def fenced_answers(llm: Llm, prompts: Mapping[str, str], **sampling: Any) -> dict[str, str]:
    """Ask several prompts side by side and return the fenced texts of the answers, without those that cannot be used.

    ``sampling`` goes with each request.  Raises `UnusableReply` when none can be used.
    """
    answers: dict[str, str] = {}
    refused: list[tuple[str, UnusableReply]] = []

    async def ask(name: str) -> None:
        try:
            answers[name] = fenced_text(await llm(prompts[name], **sampling))
        except UnusableReply as error:
            refused.append((name, error))

    async with anyio.create_task_group() as asking:
        for name in prompts:
            asking.start_soon(ask, name)
    if refused and not answers:
        raise min(refused, key=lambda entry: list(prompts).index(entry[0]))[1]
    return {name: answers[name] for name in prompts if name in answers}
