"""Options and printing of the commands that read stored runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flashgraph.text import terminal

__all__ = ["folder_argument", "json_option", "say_json"]

F = TypeVar("F", bound=Callable[..., Any])

folder_argument = click.argument(
    "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), required=False
)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    from flashgraph.run.journal.jsontext import printed

    terminal.say_json(printed(value, indent=2))
