"""Retrosynthesis: the precursors of a molecule for a given type of reaction (USPTO-50k, as Meta-Harness uses it).

The score is 1 if the parts between the dots are the right set of SMILES strings, in any order.  Another spelling of the
same molecule counts as wrong, as it does upstream.  ``train.jsonl`` is divided 3 : 2 into train and test with seed 0,
``val.jsonl`` is val.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer

SOURCE = "{split}.jsonl from github.com/stanford-iris-lab/meta-harness (text_classification/data/uspto)"
SMILES = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$/\\%.:*]+")


@attrs.frozen
class Reaction:
    """A product and its type of reaction, and the precursors as SMILES with dots between them."""

    dataset: ClassVar[str] = "uspto"
    question: str
    answer: str

    def __str__(self) -> str:
        return self.question


def reaction(row: data.Row) -> Reaction:
    """Return the sample of a row."""
    target = row.text("target").strip()
    if not SMILES.fullmatch(target):
        raise row.wrong("target", "SMILES with dots between them")
    return Reaction(row.text("question"), target)


def rows(split: str) -> tuple[Reaction, ...]:
    """Return the reactions of ``<split>.jsonl``."""
    file = data.locate(f"uspto/{split}.jsonl", download=SOURCE.format(split=split))
    return data.samples(data.read(file), reaction)


def precursors(answer: str) -> frozenset[str]:
    """Return the parts of the longest word in an answer's last line that could be SMILES."""
    last = (answer.strip().splitlines() or [""])[-1]
    words = SMILES.findall(last.replace("`", " ").replace(" . ", "."))
    return frozenset(part for part in max(words, key=len, default="").split(".") if part)


async def attempt(candidate: Mapping[str, str], sample: Reaction, llm: fg.Llm) -> str:
    """Ask for the precursors."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=512,
    )
    return reply.text.strip()


def score(sample: Reaction, output: str) -> fg.Score:
    """Score 1 for exactly the right set of precursors; the feedback separates missing and needless ones."""
    right, found = precursors(sample.answer), precursors(final_answer(output, "."))
    if found == right:
        return fg.Score(1, f"Correct: {sample.answer}.")
    missing, needless = sorted(right - found), sorted(found - right)
    parts = [f"Missing: {' and '.join(missing)}."] if missing else []
    parts += [f"Not a precursor in this spelling: {' and '.join(needless)}."] if needless else []
    return fg.Score(0, f"Wrong, the right answer is {sample.answer}. {' '.join(parts)}")


parts = data.split(rows("train"), {"train": 3, "test": 2})
task = fg.Task(
    name="uspto",
    train=parts["train"],
    val=rows("val"),
    test=parts["test"],
    seed={"instruction": "Give the precursors of the molecule. Answer with SMILES only, with dots between molecules."},
    attempt=attempt,
    score=score,
)
