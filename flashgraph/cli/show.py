"""``flashgraph show RUN``: the status of a stored run and its artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flashgraph.cli.stored import json_option, say_json
from flashgraph.text.terminal import say, say_diff, say_table, style

if TYPE_CHECKING:
    from flashgraph.run.journal.reading import StoredRun
    from flashgraph.run.journal.stored import StoredArtifact

__all__ = ["command"]


@click.command("show", short_help="Show a stored run: status, spend, best artifact, lineage.")
@click.argument("run")
@click.option("--artifact", metavar="[POOL:]ID", help="Show this artifact instead of the best one.")
@click.option("--artifacts", is_flag=True, help="List all artifacts instead.")
@click.option("--calls", type=click.IntRange(min=1), metavar="N", help="List the newest N model calls instead.")
@click.option("--failures", is_flag=True, help="List the failures of stages and edges instead.")
@json_option
def command(run: str, artifact: str | None, artifacts: bool, calls: int | None, failures: bool, as_json: bool) -> None:
    """Show RUN (a folder, or a name in runs/): its status, its use of the budget, and its best artifact with lineage.

        The lineage has a diff for each step. Reading a run in progress does not delay it.

    \b
    flashgraph show gepa-tickets-20260801-120000
    flashgraph show runs/mine --artifact 12
    flashgraph show mine --calls 20 --json
    """
    if (artifact is not None) + artifacts + (calls is not None) + failures > 1:
        raise click.UsageError("give only one of --artifact, --artifacts, --calls and --failures")
    from flashgraph.run.journal.reading import StoredRun

    with StoredRun.open(run) as found, found.snapshot():
        if as_json:
            say_json(_json(found, artifact, artifacts, calls, failures))
            return
        _head(found)
        if calls is not None or failures or artifacts:
            _listing(found, calls, failures)
        else:
            _artifact(found, _chosen(found, artifact))


def _chosen(run: StoredRun, named: str | None) -> StoredArtifact | None:
    """Return the artifact with the given name, or the best one."""
    if named is None:
        return run.best()
    pool, _, number = named.rpartition(":")
    if not number.isdecimal():
        raise click.BadParameter(
            f"found {named!r}, expected ID or POOL:ID, where ID is a number; --artifacts lists them",
            param_hint="'--artifact'",
        )
    return run.artifact(int(number), pool or None)


def _head(run: StoredRun) -> None:
    from flashgraph.observe.runs import head, sessions_table

    for line in head(run):
        say(line)
    if len(sessions := run.sessions()) > 1:
        say()
        say_table(sessions_table(sessions))
    say()


def _listing(run: StoredRun, calls: int | None, failures: bool) -> None:
    from flashgraph.observe.runs import artifacts_table, calls_table, failures_table

    if calls is not None:
        say_table(calls_table(list(run.calls(last=calls))))
    elif failures:
        found = run.failures()
        say_table(failures_table(found)) if found else say("no stage or edge has failed")
    else:
        say_table(artifacts_table(run.artifacts()))


def _artifact(run: StoredRun, artifact: StoredArtifact | None) -> None:
    from flashgraph.observe.runs import artifact_head, lineage_lines

    if artifact is None:
        say("nothing was accepted: there is no best artifact")
        return
    say(artifact_head(artifact))
    for name, text in artifact.texts.items():
        say()
        say(style(name, bold=True))
        say(text)
    if artifact.parents:
        say("\nlineage:")
        say_diff(lineage_lines(run.lineage(artifact)))


def _json(run: StoredRun, named: str | None, artifacts: bool, calls: int | None, failures: bool) -> dict[str, Any]:
    import attrs

    from flashgraph.observe.records import artifact_json, lineage_json, run_json

    found: dict[str, Any] = {"run": run_json(run)}
    if calls is not None:
        found["calls"] = [attrs.asdict(call) for call in run.calls(last=calls)]
    elif failures:
        found["failures"] = [attrs.asdict(failure) for failure in run.failures()]
    elif artifacts:
        found["artifacts"] = [artifact_json(a, value=False) for a in run.artifacts()]
    else:
        chosen = _chosen(run, named)
        found["artifact"] = None if chosen is None else artifact_json(chosen)
        found["lineage"] = [] if chosen is None else lineage_json(run.lineage(chosen))
    return found
