"""What the commands that read stored runs share: options, and printing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["echo_diff", "echo_json", "echo_table", "folder_argument", "json_option"]

F = TypeVar("F", bound=Callable[..., Any])

WIDE = 10_000
"""Columns of what is no terminal: nothing is cut or wrapped there."""

folder_argument = click.argument(
    "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), required=False
)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def echo_json(value: Any) -> None:
    from flashgraph.run.journal.jsontext import printed

    click.echo(printed(value, indent=2))


def echo_table(table: RenderableType) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console = Console(highlight=False, width=WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def echo_diff(lines: Iterable[str]) -> None:
    """Print lines, those of a unified diff in its colours."""
    for line in lines:
        click.echo(click.style(line, fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1])))
