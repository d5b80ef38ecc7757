"""Reflection prompts, and reading the rewritten text from a reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio

from flashgraph.errors import UnusableReply
from flashgraph.llm.protocol import Reply
from flashgraph.parts.clipping import SHOWN_TOKENS, call_within, within
from flashgraph.parts.evaluation import Attempt
from flashgraph.tasks.task import Llm, Task
from flashgraph.text.replies import fenced

__all__ = ["examples", "fenced_answers", "fenced_text", "rewrite_prompt", "rewriting", "rewritten"]


def examples(attempts: Sequence[Attempt], task: Task, split: str = "train", *, tokens: int = SHOWN_TOKENS) -> str:
    """Return attempts as plain sections: input, answer and feedback (GEPA's reflective data set).

    The sections have no Markdown headings, because small models copy those into the text that they write. The texts
    have about ``tokens`` tokens in total at most: the longest are clipped first, with a warning in the log.
    """
    samples = task.samples(split)
    parts = [text for a in attempts for text in (str(samples[a.index]), a.output, a.feedback or f"score {a.score:g}")]
    shown = within(parts, tokens, f"task {task.name!r}")
    return "\n\n".join(
        f"Input: {shown[at]}\nAnswer: {shown[at + 1]}\nFeedback: {shown[at + 2]}" for at in range(0, len(shown), 3)
    )


def rewrite_prompt(
    text: str, attempts: Sequence[Attempt], task: Task, component: str = "", *, tokens: int = SHOWN_TOKENS
) -> str:
    """Return a prompt that asks for a better text, given the current one and its attempts in about ``tokens`` tokens.

    ``component`` is its name if the candidate has several.
    """
    return rewriting(text, examples(attempts, task, tokens=tokens), task, component)


def rewriting(text: str, shown: str, task: Task, component: str = "") -> str:
    """Return the prompt of `rewrite_prompt`, given the examples as text."""
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
    """Return the text between the fences of a reply.

    Raises `UnusableReply` if the reply cannot be used, or has no text there.
    """
    text = fenced(reply.usable())
    if not text:
        raise UnusableReply("the reply holds no text between its ``` fences")
    return text


Prompt = str | Callable[[int], str]
"""A prompt, or a function that returns one with at most so many tokens of examples."""


async def fenced_answers(
    llm: Llm, prompts: Mapping[str, Prompt], *, tokens: int = SHOWN_TOKENS, **sampling: Any
) -> dict[str, str]:
    """Send several prompts side by side and return the fenced texts of the replies, without unusable ones.

    A prompt that is a function is called with ``tokens``, or fewer if the model's context is shorter. ``sampling`` goes
    with each request. Raises `UnusableReply` if no reply can be used.
    """
    answers: dict[str, str] = {}
    refused: list[tuple[str, UnusableReply]] = []

    async def ask(name: str) -> None:
        prompt = prompts[name]
        try:
            if isinstance(prompt, str):
                answers[name] = fenced_text(await llm(prompt, **sampling))
            else:
                answers[name] = fenced_text(await call_within(llm, prompt, tokens, **sampling))
        except UnusableReply as error:
            refused.append((name, error))

    async with anyio.create_task_group() as asking:
        for name in prompts:
            asking.start_soon(ask, name)
    if refused and not answers:
        raise min(refused, key=lambda entry: list(prompts).index(entry[0]))[1]
    return {name: answers[name] for name in prompts if name in answers}


async def rewritten(
    llm: Llm, texts: Mapping[str, str], attempts: Sequence[Attempt], task: Task, *, tokens: int = SHOWN_TOKENS
) -> dict[str, str]:
    """Let the model rewrite named texts, each given the same attempts; texts with an unusable reply are left out.

    The prompt shows about ``tokens`` tokens of the attempts, or fewer if the model's context is shorter. Raises
    `UnusableReply` if no reply can be used.
    """

    def prompt(name: str, tokens: int) -> str:
        return rewrite_prompt(texts[name], attempts, task, name, tokens=tokens)

    return await fenced_answers(llm, {name: partial(prompt, name) for name in texts}, tokens=tokens)
