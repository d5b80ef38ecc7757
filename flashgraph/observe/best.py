"""The artifact that a run hands out, as files that programs can load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from cattrs import ClassValidationError, Converter

from flashgraph.errors import DataError
from flashgraph.observe.records import evidence_json
from flashgraph.observe.report import file_name
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.private import write_text
from flashgraph.run.journal.reading import StoredRun

__all__ = ["HandedOut", "best_of", "load_best"]

FILE = "best.json"
FORMAT = 1
"""The number of this form of the file: increase it when its meaning changes."""


@attrs.frozen
class HandedOut:
    """An artifact that a run hands out.

    ``texts`` are by component.  ``score`` and ``evidence`` (samples tried, interval) are those of the validation.
    ``run``, ``graph``, ``task`` and ``models`` say where it comes from; ``artifact`` is its number in ``pool``.
    """

    texts: Mapping[str, str]
    score: float | None
    evidence: Mapping[str, Any]
    run: str
    graph: str
    task: str
    models: Mapping[str, str]
    pool: str
    artifact: int

    @property
    def hash(self) -> str:
        """The SHA-256 of the texts, which tells deployments apart."""
        return hashlib.sha256(json.dumps(dict(self.texts), sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> list[str]:
        """Write the texts as ``COMPONENT.txt`` and everything as ``best.json``; return the names of the files.

        Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for component, text in self.texts.items():
            names.append(f"{file_name(component)}.txt")
            write_text(folder / names[-1], text if text.endswith("\n") else text + "\n")
        write_text(folder / FILE, printed({"format": FORMAT, **attrs.asdict(self), "hash": self.hash}, indent=2) + "\n")
        return [*names, FILE]


def best_of(run: str | Path, artifact: int | None = None, pool: str | None = None) -> HandedOut:
    """Return the champion of a stored run, or another of its artifacts by number.

    Raises `DataError` if the run has no champion yet, no such artifact, or an artifact without texts.
    """
    with StoredRun.open(run) as stored:
        found = stored.best() if artifact is None else stored.artifact(artifact, pool)
        if found is None:
            raise DataError(
                f"run {stored.name}: found no champion yet.\nFix: flashgraph resume {run}, with a larger limit"
            )
        if not found.texts:
            raise DataError(f"run {stored.name}: artifact {found.id} of pool {found.pool!r} is not made of texts.")
        header = stored.header
        models = {str(role): str(spec) for role, spec in dict(header.order.get("models") or {}).items()}
        return HandedOut(
            found.texts, found.score, evidence_json(found.evidence), stored.name, header.graph, header.task, models,
            found.pool, found.id,
        )  # fmt: skip


def load_best(path: str | Path) -> HandedOut:
    """Return what `flashgraph best RUN -o FOLDER` wrote into a folder or file, or a stored run's champion.

    Raises `DataError` for a path without either, and for texts that do not match the file's hash.
    """
    given = Path(path)
    file = given / FILE if given.is_dir() else given
    if not file.is_file() or (given / JOURNAL).exists():
        return best_of(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        found, recorded, form = Converter().structure(data, HandedOut), str(data["hash"]), int(data["format"])
    except (ValueError, KeyError, TypeError, ClassValidationError) as error:
        raise DataError(
            f"{file}: not a file of `flashgraph best` ({type(error).__name__}).\n"
            f"Fix: flashgraph best RUN -o {file.parent}"
        ) from error
    if form > FORMAT:
        raise DataError(
            f"{file}: a newer flashgraph wrote it: found format {form}, expected at most {FORMAT}.\n"
            "Fix: pip install --upgrade flashgraph"
        )
    if found.hash != recorded:
        raise DataError(
            f"{file}: its texts were changed after it was written: their hash is {found.hash[:12]}, the file's is "
            f"{recorded:.12}.\nFix: flashgraph best RUN -o {file.parent}, or remove the edit."
        )
    return found
