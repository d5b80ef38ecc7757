"""Financial tagging: which of 139 US GAAP tags fits each of four numbers (FiNER-139, four questions per row, as in
ACE).

An answer is four tags, separated by commas.  The score is the share of positions that are right, and 1 only for exactly
four right tags.  The 100 rows come as one file, divided 2 : 1 : 2 into train, val and test with seed 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer

SOURCE = "100 lines of finer_val_batched_500_samples.jsonl from github.com/ace-agent/ace (eval/finance/data)"
COLUMNS = {"question": "context", "target": "target"}
ASKED = re.compile(r"^\d+\. What is best tag for entity \"(.*?)\" in sentence", re.M)
NUMBERING = re.compile(r"^\W*(?:\d+[.):]\s*)?")


@attrs.frozen
class Filing:
    """Four questions about numbers in filings, the list of tags to choose from, and the four right tags."""

    dataset: ClassVar[str] = "finer"
    question: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return self.question

    @property
    def answer(self) -> str:
        return ",".join(self.tags)


def filing(row: data.Row) -> Filing:
    """Return the sample of a row."""
    found = tags(row.text("target"))
    if len(found) != 4 or not all(found):
        raise row.wrong("target", "4 tags with commas between them")
    return Filing(row.text("question"), found)


def tags(answer: str) -> tuple[str, ...]:
    """Return the tags of an answer, on one line or one per line, without numbering and quotes."""
    parts = [NUMBERING.sub("", part).strip(" \t'\"`*.[]") for part in re.split(r"[,\n]", answer)]
    return tuple(part for part in parts if part)


async def attempt(candidate: Mapping[str, str], sample: Filing, llm: fg.Llm) -> str:
    """Ask for the four tags."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=512,
    )
    return reply.text.strip()


def score(sample: Filing, output: str) -> fg.Score:
    """Score the share of positions with the right tag; the feedback names the right tag of each wrong one."""
    found = tags(final_answer(output, ","))
    right = sum(a == b for a, b in zip(found, sample.tags, strict=False))
    value = right / max(len(found), len(sample.tags))
    if value == 1:
        return fg.Score(1, f"Correct: {sample.answer}.")
    count = "" if len(found) == 4 else f"Found {len(found)} tags; give exactly 4, separated by commas. "
    return fg.Score(value, f"{right} of 4 right. {count}{' '.join(mistakes(sample, found))}")


def mistakes(sample: Filing, found: Sequence[str]) -> list[str]:
    """Return a sentence for each position with a wrong tag."""
    asked = ASKED.findall(sample.question) or [""] * len(sample.tags)
    padded = [*found, *["nothing"] * len(sample.tags)]
    return [
        f"Number {number} ({entity!r}): {tag} is right, not {given}."
        for number, (entity, tag, given) in enumerate(zip(asked, sample.tags, padded, strict=False), 1)
        if tag != given
    ]


parts = data.split(
    data.samples(data.read(data.locate("finer/val_100.jsonl", download=SOURCE), COLUMNS), filing),
    {"train": 2, "val": 1, "test": 2},
)
task = fg.Task(
    name="finer",
    train=parts["train"],
    val=parts["val"],
    test=parts["test"],
    seed={"instruction": "Answer with the tags only, separated by commas."},
    attempt=attempt,
    score=score,
)
