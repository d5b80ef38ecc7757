"""The fingerprint of a run's task, and what a changed task means for the run.

Scores on other samples or by another scorer cannot be compared with the run's scores.  With such a task a run restarts
from its best artifact, which is scored again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.run.journal.digests import digest, function_digest
from flashgraph.tasks.task import Task

__all__ = ["SPLITS", "changes_of_task", "task_fingerprint"]

SPLITS = ("train", "val", "test")

HOW = "2"
"""The version of `function_digest`: digests of different versions are not compared."""


def task_fingerprint(task: Task[Any, Any]) -> dict[str, Any]:
    """Return digests of all that a run takes from its task, as plain values.

    They cover the seed's texts by component, the samples of each split, ``attempt`` and ``score``; the bounds are as
    they are.
    """
    return {
        "seed": {name: digest(text) for name, text in task.seed.items()},
        **{split: [digest(sample) for sample in task.samples(split)] for split in SPLITS},
        "attempt": _attempt(task),
        "score": function_digest(task.score) if type(task) is Task else digest((type(task), task.score)),
        "how": HOW,
        "bounds": [float(bound) for bound in task.bounds],
    }


def _attempt(task: Task[Any, Any]) -> str:
    """Return a digest of how a candidate attempts a sample."""
    found = function_digest(task.attempt_batch or task.attempt)
    return found if task.repeats == 1 else digest((found, task.repeats))


def changes_of_task(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the differences of two fingerprints in words: those that make a run restart, and the others.

    Returns none if ``before`` is empty, as in journals of 0.1.0.
    """
    if not before:
        return [], []
    restart, risky = _seeds(before["seed"], now["seed"])
    for split in SPLITS:
        if said := _samples(split, before[split], now[split]):
            grown = now[split][: len(before[split])] == before[split]
            # A run draws new training samples after all earlier ones, and each session makes the test again.
            harmless = split == "test" or (split == "train" and grown)
            (risky if harmless else restart).append(said)
    for name in ("attempt", "score") if before.get("how") == now["how"] else ():
        if before[name] != now[name]:
            restart.append(f"{name}: another function, or what it uses has changed ({before[name]} -> {now[name]})")
    if before["bounds"] != now["bounds"]:
        shown = " -> ".join("{:g} to {:g}".format(*bounds) for bounds in (before["bounds"], now["bounds"]))
        restart.append(f"bounds: {shown}")
    return restart, risky


def _seeds(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    if list(before) != list(now):
        return [f"components of the seed: {', '.join(before)} -> {', '.join(now)}"], []
    return [], [f"seed: the text of {name!r} has changed" for name in before if before[name] != now[name]]


def _samples(split: str, before: Sequence[str], now: Sequence[str]) -> str:
    """Return how the samples of a split differ, in words; empty if they do not."""
    if before == now:
        return ""
    many = f"{split}: {len(before)} samples -> {len(now)}"
    if len(now) > len(before) and now[: len(before)] == before:
        return f"{many}: samples were added at the end"
    if len(now) < len(before) and before[: len(now)] == now:
        return f"{many}: samples were removed from the end"
    if Counter(before) == Counter(now):
        return f"{split}: the same {len(now)} samples in another order"
    first = next((i for i, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]), 0)
    others = (Counter(now) - Counter(before)).total()
    return f"{many}, {others} of them new; sample {first} is the first that differs"
