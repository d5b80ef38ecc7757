"""Texts of reflection: showing attempts to a model, and reading a rewritten text out of its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flashgraph.evaluation import Attempt
from flashgraph.task import Task

__all__ = ["examples", "fenced", "rewrite_prompt"]

_LANGUAGE = re.compile(r"^\S*\n")


def examples(attempts: Sequence[Attempt], task: Task, split: str = "train") -> str:
    """Attempts as plain sections: input, answer and feedback (GEPA's reflective data set).

    Plain lines, because small models copy Markdown headings into the text that they write.
    """
    samples = task.samples(split)
    return "\n\n".join(
        f"Input: {samples[a.index]}\nAnswer: {a.output}\nFeedback: {a.feedback or f'score {a.score:g}'}"
        for a in attempts
    )


def rewrite_prompt(text: str, attempts: Sequence[Attempt], task: Task) -> str:
    """Ask for a better text, given the current one and what happened when it was used."""
    return (
        "An assistant works by this instruction:\n"
        f"```\n{text}\n```\n\n"
        "Here is what it was given, what it answered, and what was right or wrong about each answer:\n\n"
        f"{examples(attempts, task)}\n\n"
        "Rewrite the instruction so that the assistant, which sees nothing but it and a new input, answers right. "
        "First say what the task is and what an answer must look like. Then list the rules, one a line: all that the "
        "instruction has now, and all that the feedback reveals, with every code and fact, in the words of the "
        "feedback. Do not repeat the inputs or the answers.\n\n"
        "Give only the new instruction, once, as plain text between ``` fences."
    )


def fenced(answer: str) -> str:
    """What stands between the first and the last fence, without a language word; the whole answer where there is
    no pair of fences (GEPA's rule)."""
    first, last = answer.find("```"), answer.rfind("```")
    if first == last:
        return answer.replace("```", "").strip() if first >= 0 else answer.strip()
    return _LANGUAGE.sub("", answer[first + 3 : last], count=1).strip()
