"""A task as Meta-Harness reads it: samples by data set, lessons from the training split, and what must be there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flashgraph.errors import DataError
from flashgraph.harness.interface import lacks
from flashgraph.harness.items import OVERALL
from flashgraph.task import Split, Task

__all__ = ["dataset_of", "datasets", "lesson", "require"]


def dataset_of(task: Task, sample: Any) -> str:
    """The data set that a sample belongs to: its ``dataset``, or the task as a whole."""
    return str(getattr(sample, "dataset", task.name))


def datasets(task: Task, split: Split) -> dict[str, tuple[int, ...]]:
    """The indices of a split's samples by data set, in order of first appearance."""
    found: dict[str, list[int]] = {}
    for index, sample in enumerate(task.samples(split)):
        found.setdefault(dataset_of(task, sample), []).append(index)
    return {name: tuple(indices) for name, indices in found.items()}


def lesson(task: Task, dataset: str, indices: Iterable[int] | None = None) -> list[dict[str, str]]:
    """Training samples of a data set, solved, as `learn_from_batch` gets them; all of them by default.

    The feedback is what the task says to the right answer, which often names the rule behind it.
    """
    chosen = datasets(task, "train").get(dataset, ()) if indices is None else indices
    samples = [task.train[index] for index in chosen]
    return [
        {"input": str(s), "answer": str(s.answer), "feedback": task.judge(s, str(s.answer)).feedback} for s in samples
    ]


def require(task: Task) -> None:
    """See to it that a task is one for harness programs, before any model is called.

    Raises `DataError` for a seed without a program or whose program lacks the interface, for a training sample without
    an answer, and for a data set that has no samples to learn from or none to be scored on.
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
            "learn_from_batch, get_state and set_state.\nFix: see docs/meta-harness.md, or start from "
            "flashgraph.harness.NO_MEMORY."
        )
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
