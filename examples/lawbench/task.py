"""Criminal law: the charges that fit the facts of a Chinese case (LawBench's task 3-3, as Meta-Harness uses it).

The score is 1 for the right set of charges.  Only semicolons, ASCII or full-width, divide charges, because a charge may
hold other punctuation.  ``train.jsonl`` is divided 3 : 1 into train and test with seed 0, ``val.jsonl`` is val.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer

SOURCE = "{split}.jsonl from github.com/stanford-iris-lab/meta-harness (text_classification/data/crime_prediction)"
SEMICOLONS = re.compile("[;\N{FULLWIDTH SEMICOLON}]")
MARKED = re.compile("\\[罪名\\](.*?)(?:<eoa>|\n|$)")
NAMED = re.compile("罪名[:\N{FULLWIDTH COLON}](.*)")


@attrs.frozen
class Case:
    """The facts of a case with the benchmark's own instruction, and the charges."""

    dataset: ClassVar[str] = "lawbench"
    instruction: str
    facts: str
    charges: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.instruction}\n{self.facts}"

    @property
    def answer(self) -> str:
        return f"[罪名]{';'.join(self.charges)}<eoa>"


def case(row: data.Row) -> Case:
    """Return the sample of a row."""
    found = tuple(part.strip() for part in SEMICOLONS.split(NAMED.sub(r"\1", row.text("answer"))))
    if not all(found):
        raise row.wrong("answer", "charges with semicolons between them")
    return Case(row.text("instruction"), row.text("question"), found)


def rows(split: str) -> tuple[Case, ...]:
    """Return the cases of ``<split>.jsonl``."""
    file = data.locate(f"lawbench/{split}.jsonl", download=SOURCE.format(split=split))
    return data.samples(data.read(file), case)


def charged(output: str) -> frozenset[str]:
    """Return the charges of an answer: between ``[罪名]`` and ``<eoa>``, after ``罪名:``, or the whole answer."""
    answer = final_answer(output, ";")
    found = MARKED.findall(answer) or NAMED.findall(answer) or [answer]
    return frozenset(part.strip(" 。.\n") for part in SEMICOLONS.split(found[-1].replace("<eoa>", "")) if part.strip())


async def attempt(candidate: Mapping[str, str], sample: Case, llm: fg.Llm) -> str:
    """Ask for the charges."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=512,
    )
    return reply.text.strip()


def score(sample: Case, output: str) -> fg.Score:
    """Score 1 for exactly the right set of charges; the feedback is Chinese, as the task is."""
    right, found = frozenset(sample.charges), charged(output)
    names = ";".join(sample.charges)
    if found == right:
        return fg.Score(1, f"正确。罪名是:{names}。")
    parts = [f"遗漏:{';'.join(sorted(right - found))}。"] if right - found else []
    parts += [f"多余或名称不准确:{';'.join(sorted(found - right))[:200]}。"] if found - right else []
    if frozenset(part.removesuffix("罪") for part in found) == right:
        parts.append("罪名后面不要加“罪”字。")
    return fg.Score(0, f"错误。正确的罪名是:{names}。{''.join(parts)}")


parts = data.split(rows("train"), {"train": 3, "test": 1})
task = fg.Task(
    name="lawbench",
    train=parts["train"],
    val=rows("val"),
    test=parts["test"],
    seed={"instruction": "你是一名法官。请根据案件事实判断罪名。"},
    attempt=attempt,
    score=score,
)
