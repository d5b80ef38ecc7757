"""What the command line says when something went wrong, and the exit codes."""

from __future__ import annotations

import click

from flashgraph.errors import FlashgraphError, GraphError, ModelError
from flashgraph.extras import missing

__all__ = ["DEFECT", "DONE", "FAILED", "INTERRUPTED", "WRONG", "cause", "tell"]

DONE = 0
WRONG = 1
FAILED = 3
DEFECT = 70
INTERRUPTED = 130


def cause(error: Exception) -> Exception:
    """The one error that task groups have wrapped; the group itself if there are several."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def tell(error: Exception) -> int:
    """Print ``error`` on stderr and return its exit code: one message for what the user can mend, a traceback and
    a request to report it for a defect of flashgraph."""
    error = cause(error)
    if isinstance(error, GraphError):
        click.echo(_problems(error), err=True)
        return WRONG
    if isinstance(error, FlashgraphError):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        return FAILED if isinstance(error, ModelError) else WRONG
    if (needed := missing(error)) is not None:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {needed}", err=True)
        return WRONG
    import traceback

    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(
        "This is a defect of flashgraph, not of your graph or task: please report it with the lines above.", err=True
    )
    return DEFECT


def _problems(error: GraphError) -> str:
    colours = {"found:": "red", "expected:": "yellow", "fix:": "green"}
    lines = []
    for number, line in enumerate(str(error).splitlines()):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if number == 0:
            line = f"{click.style('error:', fg='red', bold=True)} {line}"
        elif word in colours:
            line = line.replace(word, click.style(word, fg=colours[word]), 1)
        elif not line.startswith(" "):
            line = click.style(line, bold=True)
        lines.append(line)
    return "\n".join(lines)
