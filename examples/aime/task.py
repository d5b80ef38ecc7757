"""Competition mathematics: the 90 problems of AIME 2022 to 2024, whose answers are whole numbers from 0 to 999.

The hub has them as one split (AI-MO/aimo-validation-aime), divided 1 : 1 : 1 into train, val and test with seed 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer, last_number

HUB = "hf:AI-MO/aimo-validation-aime@train"
SOURCE = "the rows of huggingface.co/datasets/AI-MO/aimo-validation-aime (columns problem, solution, answer)"
SOLUTION_SHOWN = 1500


@attrs.frozen
class Problem:
    """One problem, its answer, and a solution for the feedback."""

    dataset: ClassVar[str] = "aime"
    problem: str
    solution: str
    number: int

    def __str__(self) -> str:
        return self.problem

    @property
    def answer(self) -> str:
        return str(self.number)


def problem(row: data.Row) -> Problem:
    """Return the sample of a row."""
    return Problem(row.text("problem"), row.text("solution"), row.whole("answer", 0, 999))


async def attempt(candidate: Mapping[str, str], sample: Problem, llm: fg.Llm) -> str:
    """Ask for the number."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=8192,
    )
    return reply.text.strip()


def score(sample: Problem, output: str) -> fg.Score:
    """Score 1 for the right number; the feedback shows a solution."""
    found = last_number(final_answer(output))
    if found == sample.number:
        return fg.Score(1, f"Correct: {sample.number}.")
    read = "no number in the answer" if found is None else f"read as {found:.12g}"
    form = "" if found is not None and found in range(1000) else " Answers are whole numbers from 0 to 999."
    solution = sample.solution[:SOLUTION_SHOWN]
    return fg.Score(0, f"Wrong ({read}), the right answer is {sample.number}.{form} A solution: {solution}")


parts = data.split(
    data.samples(data.read(data.locate("aime/train.jsonl", download=SOURCE, hub=HUB)), problem),
    {"train": 1, "val": 1, "test": 1},
)
task = fg.Task(
    name="aime",
    train=parts["train"],
    val=parts["val"],
    test=parts["test"],
    seed={"instruction": "Solve the problem. Write the answer on the last line, after 'Answer:'."},
    attempt=attempt,
    score=score,
)
