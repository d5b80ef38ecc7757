"""Warm starts: replace a task's seed by the best artifact of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.reading import StoredRun
from flashgraph.tasks.task import Task

__all__ = ["seeded", "texts_from"]

FILE = "best.json"
"""The file that `flashgraph best` writes."""

FORM = '{"COMPONENT": "TEXT", ...}'


def seeded(task: Task[Any, Any], source: str | Path | Mapping[str, str] | None) -> Task[Any, Any]:
    """Return the task with the texts of ``source`` as its seed; components that it lacks keep their texts.

    ``source`` is a run, a file (`texts_from`), the texts by component, or None for the task as it is.

    Raises `DataError` for a component that the task does not have, and for the reasons of `texts_from`.
    """
    if source is None:
        return task
    texts = dict(source) if isinstance(source, Mapping) else texts_from(source)
    if unknown := [name for name in texts if name not in task.seed]:
        raise DataError(
            f"seed_from: found the component {unknown[0]!r}, but task {task.name!r} has {', '.join(task.seed)}.\n"
            f"Fix: {did_you_mean(unknown[0], list(task.seed))}; or name a run of a task with the same components."
        )
    return attrs.evolve(task, seed={**task.seed, **texts})


def texts_from(source: str | Path) -> dict[str, str]:
    """Return the texts of a stored run's champion, of ``best.json``, or of a JSON file of texts by component.

    Raises `DataError` for a run without a champion of texts, and for a file of another form.
    """
    path = Path(source)
    file = path / FILE if (path / FILE).is_file() and not (path / JOURNAL).exists() else path
    if not file.is_file() or file.suffix == ".db":
        return _champion(source)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"seed_from: {file} cannot be read as JSON: {error}.\nFix: name a file with {FORM}.") from error
    texts = data["texts"] if isinstance(data, dict) and isinstance(data.get("texts"), dict) else data
    if not isinstance(texts, dict) or not texts or not all(isinstance(text, str) for text in texts.values()):
        raise DataError(f"seed_from: {file}: expected a text for each component.\nFix: name a file with {FORM}.")
    return texts


def _champion(source: str | Path) -> dict[str, str]:
    with StoredRun.open(source) as stored:
        found = stored.best()
        if found is None or not found.texts:
            what = "no champion yet" if found is None else "a champion without texts"
            raise DataError(
                f"seed_from: run {stored.name}: found {what}.\nFix: name a run whose best artifact has texts."
            )
        return dict(found.texts)
