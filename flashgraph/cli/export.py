"""``flashgraph export RUN --to KIND -o OUT``: write a stored run for other programs, or as a page."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.text.terminal import say

__all__ = ["command"]

KINDS = ("jsonl", "csv", "parquet", "mlflow", "html", "trace")


@click.command("export", short_help="Write a stored run as a page, a trace, JSON lines, CSV, Parquet or to MLflow.")
@click.argument("run")
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="The format.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write (jsonl, html, trace), or the folder (csv, parquet, mlflow).",
)
@click.option(
    "--redact", is_flag=True, help="Leave out the texts of prompts, replies, artifacts and errors (html, trace)."
)
def command(run: str, kind: str, output: Path, redact: bool) -> None:
    """Export RUN (a folder, or a name in runs/): its artifacts and its model calls.

    \b
    html     one page that works from disk, with the whole run; at most 5 MB
    trace    requests and jobs over time, for https://ui.perfetto.dev or chrome://tracing
    jsonl    one file with lines of the kinds "run", "artifact" and "call"
    csv      artifacts.csv and calls.csv in a folder
    parquet  artifacts.parquet and calls.parquet; needs pip install 'flashgraph[data]'
    mlflow   a run in the MLflow store OUT/mlflow.db; needs pip install 'flashgraph[mlflow]'.
             View it with: mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db

    Existing files are replaced; an existing MLflow store gains a run.
    """
    from flashgraph.observe.export import to_csv, to_jsonl, to_mlflow, to_parquet
    from flashgraph.run.journal.reading import StoredRun

    if redact and kind not in ("html", "trace"):
        raise click.UsageError(f"--redact is for --to html and --to trace; found --to {kind}")
    if kind in ("html", "trace"):
        from flashgraph.view.export import to_html, to_trace

        draw = to_html if kind == "html" else to_trace
        with StoredRun.open(run) as found:
            for path in draw(found, output, redact=redact):
                say(f"written: {path}")
        return
    write = {"jsonl": to_jsonl, "csv": to_csv, "parquet": to_parquet, "mlflow": to_mlflow}[kind]
    with StoredRun.open(run) as found:
        for path in write(found, output):
            say(f"written: {path}")
