"""``flashgraph prune``: remove stored runs, or make one smaller."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flashgraph.cli.failures import DONE, WRONG
from flashgraph.cli.stored import folder_argument
from flashgraph.text.terminal import agreed, say, say_error, say_table

if TYPE_CHECKING:
    from flashgraph.observe.runs import Summary

__all__ = ["command"]

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
STATUSES = ("completed", "budget", "failed", "cancelled", "stopped", "killed", "unreadable")


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)([mhdw])", value)
    if found is None:
        raise click.BadParameter(f"found {value!r}, expected a number of m, h, d or w, e.g. 30d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.command("prune")
@folder_argument
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the N newest runs, whatever else is said.")
@click.option(
    "--older-than", callback=_span, metavar="30d", help="Only runs that were last worked on so long ago: m, h, d, w."
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    help="Only runs with this status. May be given often.",
)
@click.option(
    "--vacuum",
    metavar="RUN",
    help="Remove no run, but drop the messages and replies of this one's calls; it cannot be resumed after that.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    folder: Path,
    keep: int | None,
    older_than: timedelta | None,
    statuses: tuple[str, ...],
    vacuum: str | None,
    yes: bool,
) -> int:
    """Remove runs in FOLDER (by default runs/): those that fulfil all that is said. They are listed first, and only
    removed when you say yes. A run that goes on is never touched, and neither are files that are no run's.

    \b
    flashgraph prune --keep 20
    flashgraph prune --older-than 30d --status killed --status failed
    flashgraph prune --vacuum gepa-tickets-20260801-120000
    """
    if vacuum is not None:
        if keep is not None or older_than is not None or statuses:
            raise click.UsageError("--vacuum RUN makes one run smaller: leave out --keep, --older-than and --status")
        return _vacuum(vacuum, yes)
    if keep is None and older_than is None and not statuses:
        raise click.UsageError("say which runs: --keep N, --older-than 30d or --status killed")
    return _prune(_chosen(folder, keep, older_than, statuses), folder, yes)


def _chosen(folder: Path, keep: int | None, older_than: timedelta | None, statuses: tuple[str, ...]) -> list[Summary]:
    from flashgraph.observe.runs import Summary
    from flashgraph.run.journal.folders import is_held, runs_in

    found = runs_in(folder)
    for link in filter(Path.is_symlink, found):
        say(f"{link}: left alone: it is a symbolic link", err=True)
    own = (run for run in found if not run.is_symlink())
    runs = sorted(map(Summary.read, own), key=_last, reverse=True)
    before = datetime.now(UTC) - older_than if older_than is not None else None
    return [
        run
        for place, run in enumerate(runs)
        if not (keep is not None and place < keep)
        and not (before is not None and _last(run) > before)
        and not (statuses and run.status not in statuses)
        and not is_held(Path(run.folder))
    ]


def _last(run: Summary) -> datetime:
    """When a run was last worked on; where it does not say, when its journal was last written."""
    from flashgraph.run.journal.keeper import JOURNAL

    if run.touched is not None:
        return datetime.fromisoformat(run.touched)
    return datetime.fromtimestamp((Path(run.folder) / JOURNAL).stat().st_mtime, UTC)


def _prune(runs: list[Summary], folder: Path, yes: bool) -> int:
    from flashgraph.errors import FlashgraphError
    from flashgraph.observe.runs import runs_table
    from flashgraph.observe.words import counted
    from flashgraph.run.journal.retention import remove

    if not runs:
        say(f"nothing to remove in {folder}")
        return DONE
    say_table(runs_table(runs))
    size = sum(run.size or 0 for run in runs)
    if not _agreed(f"\nRemove {counted(len(runs), 'run')} ({size / 1e6:,.1f} MB)?", yes):
        return WRONG
    code = DONE
    for run in runs:
        try:
            left = remove(Path(run.folder))
        except FlashgraphError as error:
            # The others are removed all the same: each stands for itself.
            say_error(error)
            code = WRONG
            continue
        say(f"removed: {run.folder}" + (f"; not the run's, and left: {', '.join(left)}" if left else ""))
    return code


def _vacuum(name: str, yes: bool) -> int:
    from flashgraph.run.journal.folders import find_run
    from flashgraph.run.journal.keeper import JOURNAL
    from flashgraph.run.journal.retention import vacuum

    journal = find_run(name) / JOURNAL
    before = journal.stat().st_size
    question = (
        f"Drop the messages and replies of {name}'s calls? Artifacts, scores and costs stay; "
        "it cannot be resumed after that."
    )
    if not _agreed(question, yes):
        return WRONG
    vacuum(journal.parent)
    say(f"{journal}: {before / 1e6:,.1f} MB -> {journal.stat().st_size / 1e6:,.1f} MB")
    return DONE


def _agreed(question: str, yes: bool) -> bool:
    if yes or agreed(question):
        return True
    say("nothing was changed; --yes does it without asking", err=True)
    return False
