"""Financial formulas: compute a number from a short story (FinLoRA's Formula, as ACE uses it).

Only the exact number scores.  A prompt must therefore learn the form of the answer keys: two decimals, a plain number,
a share rather than a percentage.  All of ``train.jsonl`` is train; ``val.jsonl`` is divided 1 : 2 into val and test
with seed 0, because every candidate is validated on all of val.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer, last_number

SOURCE = "{file} from github.com/ace-agent/ace (eval/finance/data)"
COLUMNS = {"question": "context", "target": "target"}


@attrs.frozen
class Question:
    """One question with its formula, and its answer in the spelling of the answer key."""

    dataset: ClassVar[str] = "formula"
    question: str
    answer: str

    def __str__(self) -> str:
        return self.question

    @property
    def number(self) -> float:
        return float(self.answer)


def question(row: data.Row) -> Question:
    """Return the sample of a row."""
    row.number("target")
    return Question(row.text("question"), str(row["target"]))


def rows(split: str, upstream: str) -> tuple[Question, ...]:
    """Return the questions of ``<split>.jsonl``, named ``upstream`` in the source."""
    file = data.locate(f"formula/{split}.jsonl", download=SOURCE.format(file=upstream))
    return data.samples(data.read(file, COLUMNS), question)


async def attempt(candidate: Mapping[str, str], sample: Question, llm: fg.Llm) -> str:
    """Ask for the number."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=512,
    )
    return reply.text.strip()


def score(sample: Question, output: str) -> fg.Score:
    """Score 1 for exactly the number of the answer key; the feedback says how a wrong one differs."""
    found = last_number(final_answer(output))
    if found == sample.number:
        return fg.Score(1, f"Correct: {sample.answer}.")
    if found is None:
        return fg.Score(0, f"Wrong: no number in the answer. The right answer is {sample.answer}, a number alone.")
    return fg.Score(
        0, f"Wrong: read as {found:.12g}; the right answer is {sample.answer}. {reason(found, sample.number)}"
    )


def reason(found: float, right: float) -> str:
    """Return how a wrong number differs from the right one."""
    if round(found, 2) == right:
        return "Round to two decimals."
    if round(found / 100, 2) == right:
        return "Give the ratio as a plain number, not as a percentage."
    if round(found * 100, 2) == right:
        return "Give this formula's result as a percentage, without the sign."
    if found == -right:
        return "The sign is wrong."
    return "Insert the numbers of the question into the given formula, in full (a million is 1000000), step by step."


val = data.split(rows("val", "formula_val_subset_300.jsonl"), {"val": 1, "test": 2})
task = fg.Task(
    name="formula",
    train=rows("train", "formula_train_subset_500.jsonl"),
    val=val["val"],
    test=val["test"],
    seed={"instruction": "Answer the question with a number."},
    attempt=attempt,
    score=score,
)
