"""The command line: one module for each command, with its `click` command under the name ``command``.

Only click is imported before the command is known, so that ``flashgraph --help`` starts fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from io import StringIO
from typing import NoReturn

import click

import flashgraph
from flashgraph.cli.failures import DEFECT, DONE, FAILED, INTERRUPTED, WRONG, cause, report_error
from flashgraph.errors import did_you_mean
from flashgraph.text.terminal import guarded, say, say_error

__all__ = ["main"]

COMMANDS = (
    "run", "resume", "check", "draw", "explain", "algorithms", "runs", "view", "show", "best", "export", "diff",
    "prune", "simulate", "tune", "sim-server",
)  # fmt: skip

KEPT = ("run", "resume", "view", "draw", "export", "prune", "sim-server")
"""Commands that write files or serve pages: a failed write to stdout does not change their exit code."""

EXIT_CODES = f"""\b
Exit codes:
  {DONE:<4} success: the run completed, or reached a limit of its budget
  {WRONG:<4} a mistake in the graph, the task or an option, or a fault of the machine; the message names the fix
  2    a mistake in the command line
  {FAILED:<4} the run failed (model down, key refused, broken stage); it reports what it reached
  {DEFECT:<4} a defect of flashgraph
  {INTERRUPTED:<4} interrupted; the run reports what it reached"""


class Commands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"flashgraph.cli.{cmd_name.replace('-', '_')}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"no command {name!r}; {did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(flashgraph.__version__, prog_name="flashgraph")
def cli() -> None:
    """Evolve prompts, playbooks and agents with algorithms written as typed graphs.

    GRAPH is a Python file that defines a fg.Graph (FILE or FILE:NAME), or the name of a shipped algorithm.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; a user's mistake prints one message, never a traceback."""
    words = sys.argv[1:] if args is None else list(args)
    with guarded() as (out, _):
        code = _exit_code(words)
        command = next((word for word in words if not word.startswith("-")), "")
        out.flush()
        if code == DONE and command not in KEPT and out.error is not None and not out.readerless:
            say_error(f"cannot write the output: {getattr(out.error, 'strerror', None) or out.error}")
            code = WRONG
    sys.exit(code)


def _exit_code(args: list[str]) -> int:
    try:
        code = cli.main(args, prog_name="flashgraph", standalone_mode=False)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        say(shown.getvalue(), err=True, end="")
        return error.exit_code
    except click.Abort:
        say("interrupted", err=True)
        return INTERRUPTED
    except BaseException as error:
        if isinstance(cause(error), KeyboardInterrupt | click.Abort):
            say("interrupted", err=True)
            return INTERRUPTED
        return report_error(error)
    return int(code or DONE)
