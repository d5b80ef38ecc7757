"""Texts of reflection: showing attempts to a model, and reading a rewritten text out of its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flashgraph.evaluation import Attempt
from flashgraph.task import Task

__all__ = ["examples", "fenced", "rewrite_prompt"]

_LANGUAGE = re.compile(r"^\S*\n")


def examples(attempts: Sequence[Attempt], task: Task, split: str = "train") -> str:
    """Attempts as Markdown sections: inputs, outputs and feedback (GEPA's reflective data set)."""
    samples = task.samples(split)
    return "\n\n".join(
        f"# Example {number}\n## Inputs\n{samples[a.index]}\n\n## Generated Outputs\n{a.output}\n\n"
        f"## Feedback\n{a.feedback or f'score {a.score:g}'}"
        for number, a in enumerate(attempts, 1)
    )


def rewrite_prompt(text: str, attempts: Sequence[Attempt], task: Task, note: str = "") -> str:
    """Ask for a better text, given the current one and what happened when it was used."""
    return (
        "An assistant works by this instruction:\n"
        f"```\n{text}\n```\n\n"
        "Here is what it was given, what it answered, and what was right or wrong about each answer:\n\n"
        f"{examples(attempts, task)}\n\n"
        f"{note}"
        "Write a better instruction for the assistant. Say what the task is and what an answer must look like. State "
        "every fact, rule, code and special case that the feedback reveals, because the assistant will not see the "
        "feedback, and keep what already works in the current instruction. State general rules, not single cases.\n\n"
        "Give only the new instruction, between ``` fences."
    )


def fenced(answer: str) -> str:
    """What stands between the first and the last fence, without a language word; the whole answer where there is
    no pair of fences (GEPA's rule)."""
    first, last = answer.find("```"), answer.rfind("```")
    if first == last:
        return answer.replace("```", "").strip() if first >= 0 else answer.strip()
    return _LANGUAGE.sub("", answer[first + 3 : last], count=1).strip()
