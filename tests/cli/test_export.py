"""``flashgraph export``: the files that other programs read."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.observe import export
from flashgraph.run.journal.reading import StoredRun
from tests.journal.small import small_run

from .conftest import Cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("export") / "run"
    small_run(folder, schedule="pipelined", budget=fg.Budget(proposals=16))
    return folder


def test_json_lines(cli: Cli, run: Path, tmp_path: Path) -> None:
    """The file has a line for the run, then for all artifacts, then for all calls."""
    ended = cli("export", run, "--to", "jsonl", "-o", tmp_path / "run.jsonl")
    assert (ended.code, ended.out, ended.err) == (0, f"written: {tmp_path / 'run.jsonl'}\n", "")
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    with StoredRun.open(run) as stored:
        artifacts, calls = stored.artifacts(), list(stored.calls())
    kinds = [line["kind"] for line in lines]
    assert kinds == ["run", *["artifact"] * len(artifacts), *["call"] * len(calls)]
    assert lines[0]["name"] == "run"
    assert lines[1]["value"] == artifacts[0].value
    assert lines[-1]["messages"] == [list(message) for message in calls[-1].messages]
    assert lines[-1]["reply"] == calls[-1].reply


def test_csv(cli: Cli, run: Path, tmp_path: Path) -> None:
    """There are two tables; a cell with neither number nor text holds JSON."""
    ended = cli("export", run, "--to", "csv", "-o", tmp_path / "out")
    names = ("artifacts.csv", "calls.csv")
    assert ended.out == "".join(f"written: {tmp_path / 'out' / name}\n" for name in names)
    with StoredRun.open(run) as stored:
        known, count = stored.artifacts(), len(list(stored.calls()))
    with (tmp_path / "out" / "artifacts.csv").open(newline="") as file:
        artifacts = list(csv.DictReader(file))
    assert [json.loads(row["value"]) for row in artifacts] == [a.value for a in known]
    assert [row["state"] for row in artifacts] == [a.state for a in known]
    with (tmp_path / "out" / "calls.csv").open(newline="") as file:
        calls = list(csv.DictReader(file))
    assert len(calls) == count
    assert json.loads(calls[0]["messages"])[0][0] == "system"


def test_parquet(cli: Cli, run: Path, tmp_path: Path) -> None:
    """The tables are the same as in CSV, with their types."""
    parquet = pytest.importorskip("pyarrow.parquet")
    cli("export", run, "--to", "parquet", "-o", tmp_path / "out")
    with StoredRun.open(run) as stored:
        known, spend = stored.artifacts(), stored.spend()
    artifacts = parquet.read_table(tmp_path / "out" / "artifacts.parquet").to_pylist()
    assert [(row["id"], row["score"]) for row in artifacts] == [(a.id, a.score) for a in known]
    calls = parquet.read_table(tmp_path / "out" / "calls.parquet")
    assert calls.num_rows == spend.calls
    assert str(calls.schema.field("prompt_tokens").type) == "int64"


def test_mlflow(cli: Cli, run: Path, tmp_path: Path) -> None:
    """Parameters, metrics by step and the best text are in a store, and the next export adds to it."""
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    out = tmp_path / "out"
    ended = cli("export", run, "--to", "mlflow", "-o", out)
    assert (ended.code, ended.out) == (0, f"written: {out / 'mlflow.db'}\n")
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gepa on world-1")
    (found,) = client.search_runs([experiment.experiment_id])
    with StoredRun.open(run) as stored:
        best, curve, spend = stored.best(), stored.curve(), stored.spend()
    assert best is not None
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "run"
    assert (found.data.params["schedule"], found.data.params["limits/proposals"]) == ("pipelined", "16")
    assert found.data.metrics["best_score"] == best.score
    assert found.data.metrics["calls"] == spend.calls
    history = client.get_metric_history(found.info.run_id, "best_score")
    assert [(m.step, m.value) for m in history] == [(p.calls, p.score) for p in curve]
    (text,) = (out / "artifacts").rglob("best/instruction.txt")
    assert text.read_text() == best.texts["instruction"]
    assert cli("export", run, "--to", "mlflow", "-o", out).code == 0
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize(("kind", "extra", "module"), [("parquet", "data", "pyarrow"), ("mlflow", "mlflow", "mlflow")])
def test_a_library_that_is_not_installed(
    cli: Cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, extra: str, module: str
) -> None:
    """A missing library gets a message with its extra, and nothing is written."""
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, package)

    monkeypatch.setattr("flashgraph.observe.export.import_module", missing)
    ended = cli("export", run, "--to", kind, "-o", tmp_path / "out")
    assert ended.code == 1
    assert ended.err == f"error: --to {kind}: {module} is not installed.\nFix: pip install 'flashgraph[{extra}]'\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "out", "fix"),
    [("jsonl", "no/run.jsonl", "mkdir -p {}/no."), ("csv", "file/out", "give -o a path that you may write.")],
)
def test_where_nothing_can_be_written(cli: Cli, run: Path, tmp_path: Path, kind: str, out: str, fix: str) -> None:
    """An output that cannot be written gets a message, with the command that makes a missing folder."""
    (tmp_path / "file").write_text("in the way")
    ended = cli("export", run, "--to", kind, "-o", tmp_path / out)
    assert ended.code == 1
    assert f"{tmp_path / out}: cannot be written: " in ended.err
    assert f"Fix: {fix.format(tmp_path)}" in ended.err


@pytest.mark.parametrize(("kind", "name"), [("jsonl", ""), ("csv", "calls.csv"), ("parquet", "calls.parquet")])
def test_an_export_that_is_interrupted_leaves_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """After Ctrl-C in mid export, an earlier file is complete and no other file is left."""
    out = tmp_path / "out"
    write = getattr(export, f"to_{kind}")
    with StoredRun.open(run) as stored:
        write(stored, out)
        before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
        calls = list(stored.calls())

        def interrupted(self: StoredRun) -> Iterator[Any]:
            yield calls[0]
            raise KeyboardInterrupt

        monkeypatch.setattr(StoredRun, "calls", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(stored, out)
    assert (out / name if name else out).is_file()
    assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())


def test_another_kind_is_a_usage_error(cli: Cli, run: Path) -> None:
    """Another kind is a usage error that lists the kinds."""
    ended = cli("export", run, "--to", "xml", "-o", "x")
    assert (ended.code, "'jsonl', 'csv', 'parquet', 'mlflow'" in ended.err) == (2, True)
