"""All terminal output: without control characters, in the terminal's encoding, and safe against write errors.

Replies, errors, candidates, and names of tasks and files are untrusted text. A terminal obeys some characters: they set
its title or the clipboard, erase text, or write from right to left. No other module prints.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live
    from rich.table import Table

__all__ = [
    "Frame",
    "SafeStream",
    "Screen",
    "Styled",
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
    "width_of",
]  # fmt: skip

COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls except tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of writing
    "\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line ends, and invisible
    "\ud800-\udfff]"  # surrogate halves, which no encoding has
)

WIDE = 10_000
"""The columns of an output that is no terminal: nothing is truncated or wrapped there."""

DIFF = {"+": "green", "-": "red", "@": "cyan"}


def clean(text: str) -> str:
    r"""Return ``text`` with each character that a terminal obeys or hides written as an escape, such as ``\x1b``."""
    return COMMANDS.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("ascii", "backslashreplace").decode() if ord(found[0]) > 127 else f"\\x{ord(found[0]):02x}"


def width_of(text: str) -> int:
    """Return the width of a text in terminal columns, after cleaning; CJK characters and emoji take two."""
    from rich.cells import cell_len

    return cell_len(clean(text))


# ---- lines -----------------------------------------------------------------------------------------------


@attrs.frozen
class Styled:
    """A text with a colour or a weight, on terminals that have them."""

    text: str
    how: dict[str, Any]

    def __str__(self) -> str:
        return click.style(clean(self.text), **self.how)


def style(text: str, **how: Any) -> Styled:
    """Return a text for `say`, styled as `click.style` does."""
    return Styled(text, how)


def say(*parts: object, err: bool = False, sep: str = " ", end: str = "\n") -> None:
    """Print the cleaned parts, separated by ``sep``; on stderr with ``err``."""
    text = sep.join(str(part) if isinstance(part, Styled) else clean(str(part)) for part in parts)
    click.echo(text + end, file=sys.stderr if err else sys.stdout, nl=False)


def say_error(text: object) -> None:
    """Print an error message on stderr."""
    say(style("error:", fg="red", bold=True), text, err=True)


def say_diff(lines: Iterable[str]) -> None:
    """Print lines, with the colours of a unified diff."""
    for line in lines:
        say(style(line, fg=DIFF[line[0]]) if line[:1] in DIFF else line)


def say_json(text: str) -> None:
    """Print JSON; JSON escapes replace characters that the terminal would obey or its encoding lacks."""
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
    """Return whether the user answers yes to a question; False if there is no input."""
    try:
        return click.confirm(clean(question), err=True)
    except (click.Abort, OSError, RuntimeError):  # the input has ended or does not exist, or Ctrl-C
        say(err=True)
        return False


# ---- tables and live displays ------------------------------------------------------------------------------


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]], right: Sequence[str] = (), least: int = 0
) -> Table:
    """Return a table without lines.

    A cell is a text, or a text and its style. The columns named in ``right`` hold numbers, at least ``least``
    characters wide.
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
        # Text objects, because rich would interpret markup in plain strings.
        table.add_row(*(Text(clean(cell)) if isinstance(cell, str) else Text(clean(cell[0]), cell[1]) for cell in row))
    return table


@attrs.frozen
class Frame:
    """Styled lines, made by a function of the window's width, its height, and whether it only has ASCII."""

    lines: Callable[[int, int, bool], Iterable[tuple[str, str]]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        # The last line of a window stays free, because a display that fills it scrolls.
        for line, style in self.lines(options.max_width, max(1, console.height - 1), options.ascii_only):
            yield Text(clean(line), style, no_wrap=True, overflow="ellipsis")


def say_table(table: RenderableType) -> None:
    """Print a table; if stdout is not a terminal, at its full width."""
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
    """Return the console of stderr, for displays that redraw themselves."""
    from rich.console import Console

    return Console(stderr=True)


def live(first: RenderableType) -> Live:
    """Return a live display on stderr; ``update(..., refresh=True)`` redraws it."""
    from rich.live import Live

    return Live(first, console=console(), auto_refresh=False, transient=False)


def progress_bar(length: int, label: str) -> Any:
    """Return a progress bar on stderr; ``update(steps)`` advances it."""
    return click.progressbar(length=length, label=clean(label), file=sys.stderr)


class Screen:
    """A `flashgraph.llm.weights.Report` that draws on stderr: a bar if the size is known, otherwise a line."""

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
    """Return whether stderr is a terminal, where a live display makes sense."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


# ---- streams ---------------------------------------------------------------------------------------------


class SafeStream:
    """A stream whose writes never raise.

    Characters that its encoding lacks are escaped. If the stream is closed, full, or has no reader, it keeps the first
    ``error``: the output is lost, but the work is not.
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
        except (OSError, ValueError) as error:  # ValueError: the program itself closed it
            self.error = self.error or error
            return None

    @property
    def readerless(self) -> bool:
        """Whether the reading program has closed the pipe, as ``head`` does."""
        return isinstance(self.error, BrokenPipeError)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[tuple[SafeStream, SafeStream]]:
    """Yield guarded stdout and stderr, which may be closed, full, or without a reader.

    Logged warnings go through `say`, unless the user's own code has set up logging.
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
    """Prints logged warnings as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)


def _fill() -> None:
    """Open closed standard streams on the null device; otherwise the next opened file would become one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _give_up(number: int, stream: SafeStream) -> None:
    """Redirect a failed stream, so that Python's own flush at exit does not fail."""
    with suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def flush() -> None:
    """Flush stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def last_word(text: str) -> None:
    """Print a line from a signal handler, just before the process ends."""
    with suppress(OSError):
        os.write(2, f"{clean(text)}\n".encode("ascii", "backslashreplace"))
