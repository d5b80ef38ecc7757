"""``flashgraph export RUN --to KIND -o OUT``: write a stored run for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.text.terminal import say

__all__ = ["command"]

KINDS = ("jsonl", "csv", "parquet", "mlflow")


@click.command("export", short_help="Write a stored run as JSON lines, CSV, Parquet or to MLflow.")
@click.argument("run")
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="The format.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write (jsonl), or the folder (csv, parquet, mlflow).",
)
def command(run: str, kind: str, output: Path) -> None:
    """Export RUN (a folder, or a name in runs/): its artifacts and its model calls.

    \b
    jsonl    one file with lines of the kinds "run", "artifact" and "call"
    csv      artifacts.csv and calls.csv in a folder
    parquet  artifacts.parquet and calls.parquet; needs pip install 'flashgraph[data]'
    mlflow   a run in the MLflow store OUT/mlflow.db; needs pip install 'flashgraph[mlflow]'.
             View it with: mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db

    Existing files are replaced; an existing MLflow store gains a run.
    """
    from flashgraph.observe.export import to_csv, to_jsonl, to_mlflow, to_parquet
    from flashgraph.run.journal.reading import StoredRun

    write = {"jsonl": to_jsonl, "csv": to_csv, "parquet": to_parquet, "mlflow": to_mlflow}[kind]
    with StoredRun.open(run) as found:
        for path in write(found, output):
            say(f"written: {path}")
