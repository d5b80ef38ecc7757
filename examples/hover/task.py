"""Claims that take two to four Wikipedia articles to check (HoVer): name the articles, and say whether they support it.

Half of the score is the label, the other half the share of needed articles among the first ten named.  The prompt shows
no article, so the model answers from memory.  There are 200 claims each of two, three and four hops.  They come as one
file, divided 2 : 1 : 3 into train, val and test with seed 0.  From the hub they are the first 600 claims of its
validation split.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer, json_object

HUB = "hf:hover-nlp/hover@validation"
SOURCE = "hover_dev_release_v1.1.json of github.com/hover-nlp/hover, 200 claims each of 2, 3 and 4 hops, one a line"
LABELS = ("SUPPORTED", "NOT_SUPPORTED")
COUNTED = 10
BULLET = re.compile(r"^\s*(?:[-*]|\d+[.)])\s+")
LABEL = re.compile(r"\b(not[ _-]?)?supported\b", re.I)


@attrs.frozen
class Claim:
    """A claim, its label, and the titles of the articles that decide it."""

    dataset: ClassVar[str] = "hover"
    claim: str
    label: str
    titles: tuple[str, ...]

    def __str__(self) -> str:
        return self.claim

    @property
    def answer(self) -> str:
        return "\n".join([self.label, *self.titles])


def claim(row: data.Row) -> Claim:
    """Return the sample of a row; the file has supporting facts as pairs, the hub as mappings."""
    titles = [title_in(fact) for fact in row.entries("facts")]
    if not all(titles):
        raise row.wrong("facts", "pairs of an article's title and a sentence's number")
    return Claim(row.text("claim"), row.label("label", LABELS), tuple(dict.fromkeys(titles)))


def title_in(fact: Any) -> str:
    """Return the title in a supporting fact; blank without one."""
    title = fact.get("key") if isinstance(fact, dict) else fact[0] if isinstance(fact, list) and fact else None
    return title if isinstance(title, str) else ""


def key(title: str) -> str:
    """Return a title without irrelevant differences in case, spacing and encoding."""
    plain = unicodedata.normalize("NFKC", html.unescape(title)).replace("_", " ")
    return re.sub(r"\s+", " ", plain).strip(" \t'\"`*.").casefold()


def judged(output: str) -> tuple[str | None, Sequence[str]]:
    """Return the label and the titles of an answer: a JSON object, or plain text with the label first and a title per
    line.

    Titles on a single line are divided by semicolons.
    """
    found = json_object(output)
    if found and "titles" in found:
        given: Any = found["titles"]
        return label_in(str(found.get("label"))), [str(t) for t in given] if isinstance(given, list) else [str(given)]
    lines = [BULLET.sub("", line) for line in final_answer(output, "\n").splitlines() if line.strip()]
    label = next((line for line in lines if LABEL.search(line)), "")
    titles = [line for line in lines if line != label]
    return label_in(label), titles[0].split(";") if len(titles) == 1 else titles


def label_in(text: str) -> str | None:
    """Return the first label that a text names."""
    found = LABEL.search(text)
    return None if found is None else LABELS[1 if found[1] else 0]


async def attempt(candidate: Mapping[str, str], sample: Claim, llm: fg.Llm) -> str:
    """Ask for the label and the titles."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=512,
    )
    return reply.text.strip()


def score(sample: Claim, output: str) -> fg.Score:
    """Score the mean of label accuracy and of the share of needed titles; the feedback names what was missed."""
    label, named = judged(output)
    keys = {key(title) for title in named[:COUNTED]}
    missed = [title for title in sample.titles if key(title) not in keys]
    objectives = {"label": float(label == sample.label), "titles": 1 - len(missed) / len(sample.titles)}
    parts = [
        f"The label {label} is right." if label == sample.label else f"The label is {sample.label}, not {label}.",
        f"Titles missed: {'; '.join(missed)}." if missed else "All needed titles are named.",
        f"The claim needs {len(sample.titles)} articles: {'; '.join(sample.titles)}.",
    ]
    parts += [f"Only the first {COUNTED} titles count."] if len(named) > COUNTED else []
    return fg.Score(sum(objectives.values()) / 2, " ".join(parts), objectives)


source = data.locate("hover/dev_600.jsonl", download=SOURCE, hub=HUB)
columns = {"claim": "claim", "label": "label", "facts": "supporting_facts"}
parts = data.split(
    data.samples(data.read(source, columns, take=600), claim),
    {"train": 2, "val": 1, "test": 3},
)
task = fg.Task(
    name="hover",
    train=parts["train"],
    val=parts["val"],
    test=parts["test"],
    seed={
        "instruction": "Is the claim SUPPORTED or NOT_SUPPORTED by Wikipedia? Write the label on the first line, and "
        "then the titles of the Wikipedia articles that are needed to decide, one a line."
    },
    attempt=attempt,
    score=score,
)
