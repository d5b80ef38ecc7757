"""``flashgraph runs [FOLDER]``: a table of stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.cli.stored import folder_argument, json_option, say_json
from flashgraph.text.terminal import say, say_table

__all__ = ["command"]


@click.command("runs", short_help="List stored runs.")
@folder_argument
@json_option
def command(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (default: runs/), newest first, with status, best score and use.

    Reading a run in progress does not delay it. The status "killed" means that the run's process died; `flashgraph
    resume` continues such a run.
    """
    from flashgraph.observe.records import UNREADABLE, Summary, summary_json
    from flashgraph.observe.runs import runs_table
    from flashgraph.run.journal.folders import runs_in

    runs = runs_in(folder)
    for link in filter(Path.is_symlink, runs):
        say(f"{link}: skipped, because it is a symbolic link", err=True)
    own = (run for run in runs if not run.is_symlink())
    found = sorted(map(Summary.read, own), key=lambda run: (run.opened or "", run.name), reverse=True)
    if as_json:
        say_json([summary_json(run) for run in found])
        return
    if not found:
        say(f"no runs in {folder}")
        return
    say_table(runs_table(found))
    for run in found:
        if run.status == UNREADABLE:
            say(f"{run.name}: {run.reason}", err=True)
        if run.damage:
            say(f"{run.name}: damaged: {run.damage}", err=True)
