"""A task as Meta-Harness reads it: samples by data set, lessons from the training split, and its requirements."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

from flashgraph.errors import DataError
from flashgraph.parts.meta_harness.interface import lacks
from flashgraph.parts.meta_harness.items import OVERALL
from flashgraph.tasks.task import Split, Task

__all__ = ["dataset_of", "datasets", "lesson", "require_datasets"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
PLAIN = (str, int, float)
"""Types of samples that are their own text, and hold no answer."""

_log = logging.getLogger("flashgraph")


def dataset_of(task: Task, sample: Any) -> str:
    """Return the data set that a sample belongs to: its ``dataset``, or the task as a whole."""
    return str(getattr(sample, "dataset", task.name))


def datasets(task: Task, split: Split) -> dict[str, tuple[int, ...]]:
    """Return the indices of a split's samples by data set, in order of first appearance."""
    found: dict[str, list[int]] = {}
    for index, sample in enumerate(task.samples(split)):
        found.setdefault(dataset_of(task, sample), []).append(index)
    return {name: tuple(indices) for name, indices in found.items()}


async def lesson(task: Task, dataset: str, indices: Iterable[int] | None = None) -> list[dict[str, str]]:
    """Return solved training samples of a data set, as `learn_from_batch` gets them; all of them by default.

    The feedback is the task's feedback on the right answer, which often names the rule behind it.
    """
    chosen = datasets(task, "train").get(dataset, ()) if indices is None else indices
    samples = [task.train[index] for index in chosen]
    feedback = [(await task.judge(s, str(s.answer))).feedback for s in samples]
    return [
        {"input": str(s), "answer": str(s.answer), "feedback": said} for s, said in zip(samples, feedback, strict=True)
    ]


def require_datasets(task: Task) -> None:
    """Check that a task suits harness programs, before any model is called.

    Raises `DataError` for:

    - a seed without a program, or whose program lacks the interface;
    - a training sample without an answer;
    - a sample with Python's default text, which may show its answer;
    - a data set without samples to learn from, or without samples to be scored on.

    Warns in the log if answers occur in the texts of their samples.
    """
    where = f"task {task.name!r}"
    if "program" not in task.seed:
        raise DataError(
            f"{where}: its seed holds no program; found {', '.join(map(repr, task.seed))}, expected 'program'.\n"
            'Fix: Task(..., seed={"program": CODE}), the text of a Python module with a class MemorySystem.'
        )
    if lack := lacks(task.seed["program"]):
        raise DataError(
            f"{where}: its seed program cannot be a harness: {lack}; expected a class MemorySystem(llm) with predict, "
            "learn_from_batch, get_state and set_state.\nFix: see docs/algorithms/meta-harness.md, or start from "
            "flashgraph.parts.meta_harness.NO_MEMORY."
        )
    for split in SPLITS:
        _require_texts(task, split)
    for index, sample in enumerate(task.train):
        if not hasattr(sample, "answer"):
            raise DataError(
                f"{where}: train sample {index} ({str(sample)!r:.60}) has no answer; found a {type(sample).__name__} "
                "without .answer, expected the right answer, which programs learn from.\n"
                "Fix: give the samples' class a field or property `answer`."
            )
    train, val = datasets(task, "train"), datasets(task, "val")
    for name in dict.fromkeys([*train, *val]):
        if name == OVERALL:
            raise DataError(f"{where}: a data set is named {OVERALL!r}, which means all of them.\nFix: rename it.")
        if name not in train or name not in val:
            empty, other = ("train", val) if name not in train else ("val", train)
            raise DataError(
                f"{where}: the {empty} split of data set {name!r} is empty; found 0 samples there beside "
                f"{len(other[name])} in the other split, expected at least 1 in each.\n"
                f"Fix: add {empty} samples of {name!r}, or leave the data set out."
            )


def _shown_answer(sample: Any) -> str:
    """Return how the text of a sample names its answer, as that of a class of pydantic does; empty if it does not."""
    if isinstance(sample, PLAIN) or not hasattr(sample, "answer"):
        return ""
    text, answer = str(sample), sample.answer
    forms = (f"answer={answer!r}", f"'answer': {answer!r}", f'"answer": {json.dumps(answer, default=repr)}')
    return next((form for form in forms if form in text), "")


def _require_texts(task: Task, split: Split) -> None:
    """Raise `DataError` for a sample whose class defines no text or whose text names its answer.

    Warn if answers occur in the texts otherwise.
    """
    found = []
    for index, sample in enumerate(task.samples(split)):
        own = any("__str__" in vars(kind) for kind in type(sample).__mro__ if kind is not object)
        if not own and not isinstance(sample, PLAIN):
            kind = type(sample).__name__
            raise DataError(
                f"task {task.name!r}: {split} sample {index} is a {kind} without a text of its own; found "
                f"{str(sample)!r:.60}, which may show its answer, expected the input for a program.\n"
                f"Fix: give class {kind} a method __str__ that returns only the input."
            )
        if shown := _shown_answer(sample):
            kind = type(sample).__name__
            raise DataError(
                f"task {task.name!r}: {split} sample {index} is a {kind} whose text shows its answer: {shown!r:.60}; "
                "expected the input for a program.\n"
                f"Fix: give class {kind} a method __str__ that returns only the input."
            )
        answer = str(getattr(sample, "answer", "")).strip()
        if answer and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", str(sample)):
            found.append((index, answer))
    if found:
        index, answer = found[0]
        _log.warning(
            "task %r: %d of its %d %s samples have their answer in the text that programs see, such as sample "
            "%d (%r). That is right if the text lists the choices.\nFix: otherwise, return only the input "
            "from the samples' __str__.",
            task.name, len(found), len(task.samples(split)), split, index, answer[:60],
        )  # fmt: skip
