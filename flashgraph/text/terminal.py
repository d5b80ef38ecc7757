"""All that goes to a terminal: cleaned, in an encoding that it has, and never the end of what was worked on.

Replies, errors, candidates, and the names of tasks and files come from elsewhere.  On a terminal some characters are
commands: to set its title or the clipboard, to erase, to write from right to left.  No other module prints.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

__all__ = [
    "SafeStream",
    "Screen",
    "Styled",
    "above",
    "agreed",
    "clean",
    "console",
    "flush",
    "grid",
    "guarded",
    "is_live",
    "last_word",
    "live",
    "progress_bar",
    "say",
    "say_diff",
    "say_error",
    "say_json",
    "say_table",
    "style",
]  # fmt: skip

COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all controls but the tab and the end of a line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # that change the direction of writing
    "\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # that end lines, or are not seen
    "\ud800-\udfff]"  # halves of characters, which no encoding has
)

WIDE = 10_000
"""Columns of what is no terminal: nothing is cut or wrapped there."""

DIFF = {"+": "green", "-": "red", "@": "cyan"}


def clean(text: str) -> str:
    r"""Return ``text`` with what a terminal would obey, or not show, written out: an escape as ``\x1b``."""
    return COMMANDS.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("ascii", "backslashreplace").decode() if ord(found[0]) > 127 else f"\\x{ord(found[0]):02x}"


# ---- lines -----------------------------------------------------------------------------------------------


@attrs.frozen
class Styled:
    """A text with a colour or a weight, where the terminal has them."""

    text: str
    how: dict[str, Any]

    def __str__(self) -> str:
        return click.style(clean(self.text), **self.how)


def style(text: str, **how: Any) -> Styled:
    """Return a text for `say`, styled as `click.style` does."""
    return Styled(text, how)


def say(*parts: object, err: bool = False, sep: str = " ", end: str = "\n") -> None:
    """Print the parts, cleaned, with ``sep`` between two; on stderr with ``err``."""
    text = sep.join(str(part) if isinstance(part, Styled) else clean(str(part)) for part in parts)
    click.echo(text + end, file=sys.stderr if err else sys.stdout, nl=False)


def say_error(text: object) -> None:
    """Print what went wrong on stderr."""
    say(style("error:", fg="red", bold=True), text, err=True)


def say_diff(lines: Iterable[str]) -> None:
    """Print lines, those of a unified diff in its colours."""
    for line in lines:
        say(style(line, fg=DIFF[line[0]]) if line[:1] in DIFF else line)


def say_json(text: str) -> None:
    """Print JSON; what the terminal would obey, or its encoding has not, stands in escapes of JSON's."""
    text = COMMANDS.sub(lambda found: _escaped(found[0]), text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if not _has(text, encoding):
        text = "".join(c if _has(c, encoding) else _escaped(c) for c in text)
    click.echo(text, file=sys.stdout)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) != 127 else "\\u007f"


def _has(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def agreed(question: str) -> bool:
    """Return whether the user says yes; no where there is nobody to ask."""
    try:
        return click.confirm(clean(question), err=True)
    except (click.Abort, OSError, RuntimeError):  # the input has ended, or there is none; or Ctrl-C
        say(err=True)
        return False


# ---- tables, and what moves ------------------------------------------------------------------------------


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]], right: Sequence[str] = (), least: int = 0
) -> Table:
    """Return a table without lines.

    A cell is a text, or a text and its style.  The columns named in ``right`` are numbers, of ``least`` signs at least.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        if name in right:
            table.add_column(clean(name), justify="right", min_width=least)
        else:
            table.add_column(clean(name))
    for row in rows:
        # Not as strings: a text of the run may hold what rich takes for markup.
        table.add_row(*(Text(clean(cell)) if isinstance(cell, str) else Text(clean(cell[0]), cell[1]) for cell in row))
    return table


def above(table: Table, lines: Iterable[str]) -> RenderableType:
    """Return a table with lines below it."""
    from rich.console import Group
    from rich.text import Text

    return Group(table, *(Text(clean(line)) for line in lines))


def say_table(table: RenderableType) -> None:
    """Print a table; where there is no terminal, as wide as it is."""
    from rich.console import Console

    shown = Console(highlight=False)
    if shown.is_terminal:
        shown.print(table)
        return
    shown = Console(highlight=False, width=WIDE)
    with shown.capture() as captured:
        shown.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def console() -> Console:
    """Return the console of stderr, for what is drawn there again and again."""
    from rich.console import Console

    return Console(stderr=True)


def live(first: RenderableType) -> Live:
    """Return a picture on stderr that is drawn anew by its ``update(..., refresh=True)``."""
    from rich.live import Live

    return Live(first, console=console(), auto_refresh=False, transient=False)


def progress_bar(length: int, label: str) -> Any:
    """Return a bar on stderr that is moved on by its ``update(steps)``."""
    return click.progressbar(length=length, label=clean(label), file=sys.stderr)


class Screen:
    """A `flashgraph.llm.weights.Report` that draws on stderr: a bar for what has a size, a line for what has none."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console(), transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._progress.console.print(clean(what), highlight=False, markup=False)
            self._tasks[what] = self._progress.add_task(clean(what), visible=total > 0)
        self._progress.update(self._tasks[what], completed=done, total=total)


def is_live() -> bool:
    """Return whether somebody looks at stderr: a table that moves is of use there."""
    return sys.stderr is not None and sys.stderr.isatty()


# ---- streams ---------------------------------------------------------------------------------------------


class SafeStream:
    """A stream on which writing never fails.

    What its encoding has not is written out, and a stream that is closed, full, or read by nobody keeps the first
    ``error``: what was to be said is lost, and not what was worked on.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None)
        if encoding and not text.isascii() and not _has(text, encoding):
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        return self._tried(self._stream.write, text) or len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, what: Any, *given: Any) -> Any:
        try:
            return what(*given)
        except (OSError, ValueError) as error:  # ValueError: it was closed by the program itself
            self.error = self.error or error
            return None

    @property
    def readerless(self) -> bool:
        """Whether its reader has had enough, as ``head`` has."""
        return isinstance(self.error, BrokenPipeError)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[tuple[SafeStream, SafeStream]]:
    """Guard stdout and stderr, which may be closed, full, or without a reader; give the two.

    Warnings that are logged go through `say`, unless the user's own code has set up logging.
    """
    _fill()
    before = sys.stdout, sys.stderr, logging.lastResort
    missing = [stream is None for stream in before[:2]]
    with open(os.devnull, "w") as nowhere:
        out, err = SafeStream(sys.stdout or nowhere), SafeStream(sys.stderr or nowhere)
        out.error = OSError("stdout is closed") if missing[0] else None
        sys.stdout, sys.stderr, logging.lastResort = out, err, _Lines(logging.WARNING)
        try:
            yield out, err
        finally:
            sys.stdout, sys.stderr, logging.lastResort = before
            for number, stream in enumerate((out, err), 1):
                stream.flush()
                if stream.error is not None and not missing[number - 1]:
                    _give_up(number, stream)


class _Lines(logging.Handler):
    """Logged warnings as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)


def _fill() -> None:
    """Give standard streams that are closed to nowhere: else the next file that is opened would be one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _give_up(number: int, stream: SafeStream) -> None:
    """Let Python end in peace, which writes what is left and would fail."""
    with suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def flush() -> None:
    """Have seen what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def last_word(text: str) -> None:
    """Say something from a signal handler, before the process is ended at once."""
    with suppress(OSError):
        os.write(2, f"{clean(text)}\n".encode("ascii", "backslashreplace"))
