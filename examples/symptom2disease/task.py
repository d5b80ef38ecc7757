"""Diagnosis: which of 22 diseases a patient describes (Symptom2Disease, as Meta-Harness uses it).

Only the exact name scores.  The seed prompt does not list the names, so they are learned from the feedback.
``train.jsonl`` is divided 3 : 1 into train and test with seed 0, ``val.jsonl`` is val.  From the hub, the first 200
rows of its train split and the first 50 of its test split replace these files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.tasks import final_answer

SOURCE = "{split}.jsonl from github.com/stanford-iris-lab/meta-harness (text_classification/data/symptom_diagnosis)"
HUB = "hf:gretelai/symptom_to_diagnosis@{split}"
HUB_COLUMNS = {"question": "input_text", "answer": "output_text"}
LABELS = (
    "allergy",
    "arthritis",
    "bronchial asthma",
    "cervical spondylosis",
    "chicken pox",
    "common cold",
    "dengue",
    "diabetes",
    "drug reaction",
    "fungal infection",
    "gastroesophageal reflux disease",
    "hypertension",
    "impetigo",
    "jaundice",
    "malaria",
    "migraine",
    "peptic ulcer disease",
    "pneumonia",
    "psoriasis",
    "typhoid",
    "urinary tract infection",
    "varicose veins",
)


@attrs.frozen
class Patient:
    """A patient's description, and the name of the disease."""

    dataset: ClassVar[str] = "symptom2disease"
    question: str
    answer: str

    def __str__(self) -> str:
        return self.question


def patient(row: data.Row) -> Patient:
    """Return the sample of a row."""
    return Patient(row.text("question"), row.label("answer", LABELS))


def rows(split: str, hub: str, take: int) -> tuple[Patient, ...]:
    """Return the patients of ``<split>.jsonl``, or the first ones of the hub's split ``hub``."""
    file = data.locate(f"symptom2disease/{split}.jsonl", download=SOURCE.format(split=split), hub=HUB.format(split=hub))
    return data.samples(data.read(file, HUB_COLUMNS, take=take) if file.startswith("hf:") else data.read(file), patient)


def named(output: str) -> str:
    """Return the disease that an answer names: the whole answer, or its last line, with or without ``Diagnosis:``."""
    answer = final_answer(output)
    last = (answer.splitlines() or [""])[-1]
    for text in (answer, last, last.rpartition(":")[2]):
        name = re.sub(r"\s+", " ", text.strip(" \t\n.*'\"`")).casefold()
        if name in LABELS:
            return name
    return re.sub(r"\s+", " ", last).strip()


async def attempt(candidate: Mapping[str, str], sample: Patient, llm: fg.Llm) -> str:
    """Ask for the disease."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=256,
    )
    return reply.text.strip()


def score(sample: Patient, output: str) -> fg.Score:
    """Score 1 for the exact name in any case; the feedback names the right one."""
    found = named(output)
    if found == sample.answer:
        return fg.Score(1, f"Correct: {sample.answer}.")
    why = (
        f"These complaints point to {sample.answer} rather than to {found}."
        if found in LABELS
        else f"{found[:80]!r} is none of the names in use; answer with the name alone."
    )
    return fg.Score(0, f"Wrong, the right answer is {sample.answer!r}. {why}")


parts = data.split(rows("train", "train", 200), {"train": 3, "test": 1})
task = fg.Task(
    name="symptom2disease",
    train=parts["train"],
    val=rows("val", "test", 50),
    test=parts["test"],
    seed={"instruction": "Name the disease that the patient has. Answer with its name only."},
    attempt=attempt,
    score=score,
)
