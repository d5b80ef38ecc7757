"""Export of stored runs for other programs: JSON lines, CSV, Parquet, MLflow."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.evidence import Evidence
from flashgraph.observe.records import artifact_json, evidence_json, run_json
from flashgraph.observe.report import file_name
from flashgraph.observe.words import unwritable
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.reading import StoredRun

__all__ = ["to_csv", "to_jsonl", "to_mlflow", "to_parquet"]

BATCH = 1000
"""The number of rows in a Parquet row group, and of metrics in one request to MLflow."""

MLFLOW = ("mlflow.tracking", "mlflow.entities", "mlflow.exceptions", "sqlalchemy", "alembic")
ENDS = {"failed": "FAILED", "killed": "KILLED", "cancelled": "KILLED"}

PARAMS = 100
"""The most parameters in one request to MLflow."""

FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""The first character of a text that a spreadsheet runs as a formula; some locales accept the full-width signs."""
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

UNUSUAL = re.compile(r"[^\w\-. :/]+")

ARTIFACTS = {
    "pool": "string",
    "id": "int64",
    "version": "int64",
    "at": "float64",
    "parents": "json",
    "score": "float64",
    "scores": "json",
    "lag": "int64",
    "state": "string",
    "estimate": "float64",
    "low": "float64",
    "high": "float64",
    "tried": "int64",
    "of": "int64",
    "failed": "int64",
    "mean": "float64",
    "value": "json",
}
CALLS = {
    "id": "int64",
    "job": "int64",
    "stage": "string",
    "role": "string",
    "endpoint": "string",
    "how": "string",
    "model": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "usd": "float64",
    "seconds": "float64",
    "finish": "string",
    "at": "float64",
    "messages": "json",
    "reply": "string",
}
"""The columns of the two tables and their types; ``json`` is a string that holds JSON."""


def to_jsonl(run: StoredRun, out: Path) -> list[Path]:
    """Write one file: a line for the run, then one for each artifact and each call, distinguished by ``kind``."""
    with run.snapshot(), _writing(out), _at_once(out) as new, new.open("w", encoding="utf-8") as file:
        lines = chain(
            [{"kind": "run", **run_json(run)}],
            ({"kind": "artifact", **artifact_json(artifact)} for artifact in run.artifacts()),
            ({"kind": "call", **attrs.asdict(call)} for call in run.calls()),
        )
        file.writelines(f"{printed(line)}\n" for line in lines)
    return [out]


def to_csv(run: StoredRun, out: Path) -> list[Path]:
    """Write ``artifacts.csv`` and ``calls.csv`` into a folder.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, because a formula can fetch a URL.
    Plain numbers stay as they are.
    """
    written = []
    with run.snapshot(), _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, columns, rows in _tables(run):
            path = out / f"{name}.csv"
            with _at_once(path) as new, new.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows({c: _literal(cell) for c, cell in row.items()} for row in rows)
            written.append(path)
    return written


def to_parquet(run: StoredRun, out: Path) -> list[Path]:
    """Write ``artifacts.parquet`` and ``calls.parquet`` into a folder.  Raises `DataError` without pyarrow."""
    arrow, parquet = _needed("parquet", "data", "pyarrow", "pyarrow.parquet")
    written = []
    with run.snapshot(), _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, columns, rows in _tables(run):
            path = out / f"{name}.parquet"
            types = {
                column: arrow.string() if kind == "json" else getattr(arrow, kind)() for column, kind in columns.items()
            }
            schema = arrow.schema(list(types.items()))
            with _at_once(path) as new, parquet.ParquetWriter(new, schema) as writer:
                while batch := list(islice(rows, BATCH)):
                    writer.write_table(arrow.Table.from_pylist(batch, schema))
            written.append(path)
    return written


@contextmanager
def _at_once(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` once it is complete; yield a device or pipe itself."""
    if path.exists() and not path.is_file():
        yield path
        return
    new = path.with_name(f".{path.name[:200]}.{os.getpid()}.new")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _tables(run: StoredRun) -> Iterator[tuple[str, Mapping[str, str], Iterator[dict[str, Any]]]]:
    """Yield the tables of a run: name, columns with their types, rows."""
    yield "artifacts", ARTIFACTS, (_row(artifact_json(artifact), ARTIFACTS) for artifact in run.artifacts())
    yield "calls", CALLS, (_row(attrs.asdict(call), CALLS) for call in run.calls())


def _row(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    return {name: printed(values[name]) if kind == "json" else _whole(values[name]) for name, kind in columns.items()}


def _whole(value: Any) -> Any:
    """Return a value; lone surrogates in a text become escapes, because no encoding has them."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _literal(cell: Any) -> Any:
    formula = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def to_mlflow(run: StoredRun, out: Path) -> list[Path]:
    """Add a run to the MLflow store in a folder; make the store if it does not exist.

    Settings become parameters, scores become metrics, and the best artifact's texts become files.  The store is a
    SQLite file, because MLflow no longer takes folders of files.  Raises `DataError` without MLflow.
    """
    tracking, entities, exceptions, *_ = _needed("mlflow", "mlflow", *MLFLOW)
    store = out / "mlflow.db"
    with run.snapshot(), _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            # A separate client leaves this process's own MLflow tracking alone.
            client = tracking.MlflowClient(tracking_uri=f"sqlite:///{store.resolve()}")
            _log(run, client, entities, (out / "artifacts").resolve().as_uri())
        except exceptions.MlflowException as error:
            raise DataError(f"{store}: MLflow cannot use it: {error}.\nFix: -o with a new folder.") from error
    return [store]


def _log(run: StoredRun, client: Any, entities: Any, artifacts: str) -> None:
    """Write a stored run as an MLflow run."""
    header, sessions, best = run.header, run.sessions(), run.best()
    began = int(datetime.fromisoformat(sessions[0].opened).timestamp() * 1000) if sessions else 0
    name = _whole(f"{header.graph} on {header.task}")
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known is not None else client.create_experiment(name, artifacts)
    tags = {"flashgraph.cause": run.cause or "", "flashgraph.reason": _whole(run.reason)}
    made = client.create_run(experiment, began, tags, run.name).info.run_id
    params = [entities.Param(key, value) for key, value in _params(run)]
    for start in range(0, len(params), PARAMS):
        client.log_batch(made, params=params[start : start + PARAMS])
    metrics = [entities.Metric(key, value, began + int(at * 1000), step) for key, value, at, step in _metrics(run)]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(made, metrics=metrics[start : start + BATCH])
    for part, text in best.texts.items() if best is not None else ():
        client.log_text(made, _whole(text), f"best/{file_name(part)}.txt")
    if run.status != "running":
        client.set_terminated(made, ENDS.get(run.status, "FINISHED"), began + int(run.seconds() * 1000))


def _params(run: StoredRun) -> list[tuple[str, str]]:
    header = run.header
    found = {"graph": header.graph, "task": header.task, "schedule": header.schedule, "seed": header.seed}
    named = {"limits": run.limits(), "params": header.params, "policies": header.policies}
    values = [*found.items(), *((f"{kind}/{name}", v) for kind, of in named.items() for name, v in of.items())]
    # MLflow restricts the characters of a name (no "->" of an edge) and takes at most 6,000 in a value.
    return [(UNUSUAL.sub("-", name), _whole(str(value))[:6000]) for name, value in values]


def _metrics(run: StoredRun) -> list[tuple[str, float, float, int]]:
    """Return (name, value, seconds, step) of each metric.

    The champion's score and evidence are by calls, each artifact's by version; the run's total spend comes last.
    """
    spend = run.spend()
    found = []
    for point in run.curve():
        found.append(("best_score", point.score, point.at, point.calls))
        found += [(f"best_{name}", v, point.at, point.calls) for name, v in _numbers(point.evidence)]
    for artifact in run.artifacts():
        if artifact.score is not None and not artifact.retracted:
            found.append(("score", artifact.score, artifact.at, artifact.version))
            found += [(name, v, artifact.at, artifact.version) for name, v in _numbers(artifact.evidence)]
    return found + [(name, float(value), spend.seconds, spend.calls) for name, value in attrs.asdict(spend).items()]


def _numbers(evidence: Evidence | None) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in evidence_json(evidence).items() if value is not None]


def _needed(kind: str, extra: str, *modules: str) -> list[Any]:
    try:
        return [import_module(module) for module in modules]
    except ImportError as error:
        raise DataError(
            f"--to {kind}: {error.name} is not installed.\nFix: pip install 'flashgraph[{extra}]'"
        ) from error


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(out, error) from error
