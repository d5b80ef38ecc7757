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
    from flashgraph.observe.records import Summary

__all__ = ["command"]

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
STATUSES = ("completed", "budget", "failed", "cancelled", "stopped", "killed", "unreadable")


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)([mhdw])", value)
    if found is None:
        raise click.BadParameter(f"found {value!r}, expected a number with the unit m, h, d or w, e.g. 30d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.command("prune", short_help="Remove stored runs, or make one smaller.")
@folder_argument
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep the N newest runs, even if they match the other options.",
)
@click.option(
    "--older-than",
    callback=_span,
    metavar="30d",
    help="Only runs that did no work for this long, in m(inutes), h(ours), d(ays) or w(eeks).",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    help="Only runs with this status. Repeatable.",
)
@click.option(
    "--vacuum",
    metavar="RUN",
    help="Remove no run; delete the messages and replies of this run's calls. The run can then not be resumed.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(
    folder: Path,
    keep: int | None,
    older_than: timedelta | None,
    statuses: tuple[str, ...],
    vacuum: str | None,
    yes: bool,
) -> int:
    """Remove the runs in FOLDER (default: runs/) that match all of the given options.

    The command lists the runs and asks before it removes any. It never touches a run in progress, nor files that belong
    to no run.

    \b
    flashgraph prune --keep 20
    flashgraph prune --older-than 30d --status killed --status failed
    flashgraph prune --vacuum gepa-tickets-20260801-120000
    """
    if vacuum is not None:
        if keep is not None or older_than is not None or statuses:
            raise click.UsageError("--vacuum RUN takes none of --keep, --older-than and --status")
        return _vacuum(vacuum, yes)
    if keep is None and older_than is None and not statuses:
        raise click.UsageError("give at least one of --keep N, --older-than 30d and --status killed")
    return _prune(_chosen(folder, keep, older_than, statuses), folder, yes)


def _chosen(folder: Path, keep: int | None, older_than: timedelta | None, statuses: tuple[str, ...]) -> list[Summary]:
    from flashgraph.errors import DataError
    from flashgraph.observe.records import Summary
    from flashgraph.run.journal.folders import is_held, runs_in

    if folder.is_symlink():
        raise DataError(
            f"{folder}: found a symbolic link, expected the folder itself; nothing is removed through a link.\n"
            f"Fix: flashgraph prune {folder.resolve()}"
        )
    found = runs_in(folder)
    for link in filter(Path.is_symlink, found):
        say(f"{link}: skipped, because it is a symbolic link", err=True)
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
    """Return when a session of the run last opened or closed, or when its journal was written if that is unreadable."""
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
            # Try the other runs too.
            say_error(error)
            code = WRONG
            continue
        say(f"removed: {run.folder}" + (f"; kept files of other programs: {', '.join(left)}" if left else ""))
    return code


def _vacuum(name: str, yes: bool) -> int:
    from flashgraph.run.journal.folders import find_run
    from flashgraph.run.journal.keeper import JOURNAL
    from flashgraph.run.journal.retention import vacuum

    journal = find_run(name) / JOURNAL
    before = journal.stat().st_size
    question = (
        f"Delete the messages and replies of {name}'s calls? Artifacts, scores and costs stay; "
        "the run can then not be resumed."
    )
    if not _agreed(question, yes):
        return WRONG
    vacuum(journal.parent)
    say(f"{journal}: {before / 1e6:,.1f} MB -> {journal.stat().st_size / 1e6:,.1f} MB")
    return DONE


def _agreed(question: str, yes: bool) -> bool:
    if yes or agreed(question):
        return True
    say("nothing was changed; --yes skips the question", err=True)
    return False
