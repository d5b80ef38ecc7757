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
from flashgraph.tasks.trace import FEEDBACK, INPUTS, OUTPUT, Record
from flashgraph.tasks.workers import from_any_thread, is_async, run_in
from flashgraph.text.replies import fenced

__all__ = ["examples", "fenced_answers", "fenced_text", "records_of", "rewrite_prompt", "rewriting", "rewritten"]


HEADINGS = {INPUTS: "Input", OUTPUT: "Answer"}
"""Headings of records, as they are shown."""


def records_of(attempt: Attempt, component: str, sample: Any) -> list[Record]:
    """Return what an attempt shows of a component: its own records with feedback, or the whole attempt."""
    feedback = attempt.by_component.get(component, attempt.feedback) or f"score {attempt.score:g}"
    own = attempt.records.get(component) or ({INPUTS: str(sample), OUTPUT: attempt.output},)
    return [record if FEEDBACK in record else {**record, FEEDBACK: feedback} for record in own]


def examples(
    attempts: Sequence[Attempt], task: Task, split: str = "train", component: str = "", *, tokens: int = SHOWN_TOKENS
) -> str:
    """Return attempts as plain sections: input, answer and feedback (GEPA's reflective data set).

    Attempts with records of the ``component`` show those.

    The sections have no Markdown headings, because small models copy those into the text that they write. The texts
    have about ``tokens`` tokens in total at most: the longest are clipped first, with a warning in the log.
    """
    samples = task.samples(split)
    records = [record for a in attempts for record in records_of(a, component, samples[a.index])]
    shown = iter(within([text for record in records for text in record.values()], tokens, f"task {task.name!r}"))
    return "\n\n".join(
        "\n".join(f"{HEADINGS.get(heading, heading)}: {next(shown)}" for heading in record) for record in records
    )


def rewrite_prompt(
    text: str, attempts: Sequence[Attempt], task: Task, component: str = "", *, tokens: int = SHOWN_TOKENS
) -> str:
    """Return a prompt that asks for a better text, given the current one and its attempts in about ``tokens`` tokens.

    ``component`` is its name if the candidate has several.
    """
    return rewriting(text, examples(attempts, task, component=component, tokens=tokens), task, component)


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
"""A prompt, or a function that returns one with at most that many tokens of examples."""


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


async def _own(
    task: Task, llm: Llm, whole: Mapping[str, str], texts: Mapping[str, str], attempts: Sequence[Attempt]
) -> dict[str, str]:
    """Return the new texts of the task's own ``rewrite``. Raises `UnusableReply` if it gives none."""
    plain = not is_async(rewrite := task.rewrite or rewritten)
    given = from_any_thread(llm) if plain else llm
    arguments = (given, dict(whole), tuple(texts), tuple(attempts))
    found: Any = await run_in("thread" if plain else "loop", task.workers, rewrite, *arguments)
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for text in found.values()):
        raise UnusableReply(f"task {task.name!r}: rewrite returned {found!r:.80}, expected texts by component")
    kept = {name: text for name, text in found.items() if name in texts}
    if not kept:
        raise UnusableReply(f"task {task.name!r}: rewrite returned no text for {', '.join(texts)}")
    return kept


async def rewritten(
    llm: Llm,
    texts: Mapping[str, str],
    attempts: Sequence[Attempt],
    task: Task,
    *,
    tokens: int = SHOWN_TOKENS,
    whole: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Let the model rewrite named texts, each given the same attempts; texts with an unusable reply are left out.

    A task with its own ``rewrite`` does this instead, given the ``whole`` candidate.

    The prompt shows about ``tokens`` tokens of the attempts, or fewer if the model's context is shorter. Raises
    `UnusableReply` if no reply can be used.
    """

    if task.rewrite is not None:
        return await _own(task, llm, texts if whole is None else whole, texts, attempts)

    def prompt(name: str, tokens: int) -> str:
        return rewrite_prompt(texts[name], attempts, task, name, tokens=tokens)

    return await fenced_answers(llm, {name: partial(prompt, name) for name in texts}, tokens=tokens)
