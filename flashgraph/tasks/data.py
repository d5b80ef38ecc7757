"""Read the rows of a data set from a file or the Hugging Face hub, and check them before any model is called.

`read` returns rows that know their file and line. `samples` makes a task's samples of them and reports the bad rows
together. `split` divides one data set. `locate` finds the file of a public data set.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

import attrs

from flashgraph.errors import DataError, Place, Problem, did_you_mean
from flashgraph.tasks.splitting import split
from flashgraph.tasks.tables import rows_in

__all__ = ["VARIABLE", "BadRow", "Row", "locate", "read", "samples", "split"]

VARIABLE = "FLASHGRAPH_DATA"
"""The environment variable that names the folder in which `locate` looks."""

_ELSEWHERE = (
    f"read a file with its rows ({VARIABLE} names the folder of the examples' files: docs/how-to/example-tasks.md)"
)
LONGEST_CELL = 1 << 26
"""The most characters in a cell of a csv file."""

SHOWN = 3  # bad rows that one message describes
R = TypeVar("R")
S = TypeVar("S")
_HUB = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([\w.-]+))?@([\w.-]+)")


class BadRow(DataError):
    """A row that cannot be used; `samples` collects these."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@attrs.frozen(eq=False)
class Row(Mapping[str, Any]):
    """One row: a mapping from column names to the file's values, with the ``place`` of the row.

    ``row["answer"]`` returns the raw value. `text`, `number`, `whole`, `label` and `entries` return a checked value,
    and raise `BadRow` if the column is missing or holds something else. A csv file holds only text, so text that spells
    a number counts as a number.
    """

    place: Place
    cells: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.cells[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def text(self, name: str) -> str:
        """Return the text in a column; blank text is wrong."""
        value = self._cell(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "a text that is not blank")
        return value

    def number(self, name: str, expected: str = "a number") -> float:
        """Return the finite number in a column."""
        value = self._cell(name)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.wrong(name, expected)
        return number

    def whole(self, name: str, low: int, high: int) -> int:
        """Return the whole number from ``low`` to ``high`` in a column."""
        expected = f"a whole number from {low} to {high}"
        number = self.number(name, expected)
        if not number.is_integer() or not low <= number <= high:
            raise self.wrong(name, expected)
        return int(number)

    def label(self, name: str, among: Sequence[str]) -> str:
        """Return the text in a column, which must be one of the given labels."""
        value = self.text(name)
        if value not in among:
            raise self.wrong(name, f"one of {len(among)} labels", did_you_mean(value, among), "unknown-label")
        return value

    def entries(self, name: str) -> Sequence[Any]:
        """Return the list in a column, which must not be empty."""
        value = self._cell(name)
        if not isinstance(value, list | tuple) or not value:
            raise self.wrong(name, "a list that is not empty")
        return value

    def wrong(self, name: str, expected: str, fix: str = "", code: str = "wrong-value") -> BadRow:
        """Return the error for the column ``name``, which should hold what ``expected`` says; a task's own checks raise
        it."""
        fix = fix or f"correct the row, or map another column: columns={{{name!r}: ...}}"
        return BadRow(Problem(code, self.place, f"column {name!r}", _shown(self._cell(name)), expected, fix))

    def _cell(self, name: str) -> Any:
        if name not in self.cells:
            raise BadRow(_missing(self.place, name, name, self.cells))
        return self.cells[name]


def read(source: Any, columns: Mapping[str, str] | None = None, *, take: int | slice | None = None) -> tuple[Row, ...]:
    """Return the rows of a jsonl, csv or parquet file, or of a split on the hub: ``hf:owner/name[/config]@split``.

    ``source`` may also be a table of pandas, polars or Arrow, a Hugging Face data set, or any iterable or async
    iterable of mappings. Such a row's place is the type of the source and the row's number, from 1.

    ``columns`` maps a row's names to the columns of the file (``{"question": "context"}``); by default a row has all
    columns under their own names. ``take`` is the number of rows from the start, or a slice of the rows. Parquet needs
    pyarrow, and the hub needs ``datasets``. ``flashgraph[data]`` installs both; they are imported only here.

    Raises `DataError` if the file does not exist or has no row, the library is missing, or the hub cannot be reached.
    Rows that are no JSON object or lack a column raise it too; the message describes the first few together.
    """
    if isinstance(source, str | PurePath):
        name = str(source)
        found = list(_hub_rows(name) if name.startswith("hf:") else _file_rows(Path(source)))
    else:
        name = f"<{type(source).__name__}>"
        found = [_given(Place(name, number), row) for number, row in enumerate(rows_in(source), 1)]
    if not found:
        raise DataError(f"{name}: it has no rows.\nFix: give at least one row.")
    wanted = slice(take) if isinstance(take, int) else take or slice(None)
    if not (taken := found[wanted]):
        raise DataError(
            f"{name}: take={take!r} selects none of its {len(found)} rows.\nFix: a slice within 0:{len(found)}."
        )
    return samples(taken, lambda row: _mapped(row, columns))


def samples(rows: Sequence[R], make: Callable[[R], S]) -> tuple[S, ...]:
    """Return ``make`` of each row; one message reports the first few bad rows together.

    Raises `DataError` with the faults that `Row`'s checks found.
    """
    made: list[S] = []
    problems: list[Problem] = []
    for row in rows:
        try:
            made.append(make(row))
        except BadRow as bad:
            problems.append(bad.problem)
    if problems:
        head = f"{problems[0].place.file}: {len(problems)} of {len(rows)} rows cannot be used"
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([head, *map(str, problems[:SHOWN]), *more]))
    return tuple(made)


def locate(file: str, *, download: str, hub: str | None = None) -> str:
    """Return the place to read a public data set's ``file`` from, such as ``"formula/train.jsonl"``.

    The file in the folder that ``FLASHGRAPH_DATA`` names comes first. If the data set's folder was not downloaded, the
    result is ``hub``, if given. Otherwise raises `DataError`, which says what to ``download`` and which variable to
    set.
    """
    root = os.environ.get(VARIABLE)
    path = Path(root or "", file)
    if root and path.is_file():
        return str(path)
    if hub and (not root or (Path(root).is_dir() and not path.parent.is_dir())):
        return hub
    where = f"{path} is not there" if root else f"{VARIABLE} is not set"
    then = "" if root else f" and set {VARIABLE}=DIR"
    raise DataError(
        f"{file}: {where}; expected this file in the folder that {VARIABLE} names.\n"
        f"Fix: download {download}, save it as {Path(root or 'DIR', file)}{then}."
    )


def _file_rows(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of a local file, and a `BadRow` for each line that is none."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise DataError(
            f"{path}: {path.suffix or 'no suffix'}; expected a file that ends in {', '.join(readers)}.\n"
            "Fix: convert it, or give hf:owner/name@split for a data set on the hub."
        )
    if not path.is_file():
        near = [file.name for file in path.parent.glob("*.*") if file.suffix in readers]
        raise DataError(f"{path}: no such file.\nFix: in its folder, {did_you_mean(path.name, near)}")
    try:
        yield from readers[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}.\nFix: save it as UTF-8 text.") from None


def _jsonl(path: Path) -> Iterator[Row | BadRow]:
    # Lines end at "\n" only: `str.splitlines` would also split at a U+2028 inside a JSON string.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                yield _object(Place(str(path), line), text.strip())


def _object(place: Place, text: str) -> Row | BadRow:
    try:
        value, reason = json.loads(text), "it is another kind of JSON"
    except (ValueError, RecursionError) as error:
        value, reason = None, str(error)
    if isinstance(value, dict):
        return Row(place, value)
    fix = f"correct or delete the line ({reason})"
    return BadRow(Problem("no-object", place, "this line", _shown(text), "a JSON object", fix))


def _csv(path: Path) -> Iterator[Row | BadRow]:
    with path.open(encoding="utf-8-sig", newline="") as file, _cells_of(LONGEST_CELL):
        reader = csv.reader(file)
        names, end = next(reader, []), reader.line_num
        read = [(cells, reader.line_num) for cells in reader]
    for cells, last in read:
        place, end = Place(str(path), end + 1), last
        if len(cells) == len(names):
            yield Row(place, dict(zip(names, cells, strict=True)))
        elif cells:
            found, expected = f"{len(cells)} cells", f"{len(names)}, as in line 1"
            yield BadRow(Problem("ragged", place, "this row", found, expected, "quote cells that hold commas"))


@contextmanager
def _cells_of(characters: int) -> Iterator[None]:
    """Let csv read cells of that many characters. Its own limit, 131,072, holds for the whole process."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet

        table = parquet.read_table(path)
    except ImportError as error:
        raise DataError(f"{path}: parquet needs pyarrow ({error}).\nFix: pip install 'flashgraph[data]'.") from None
    except ArrowException as error:
        raise DataError(f"{path}: not a parquet file ({error}).\nFix: download it again.") from None
    yield from (Row(Place(str(path), number), cells) for number, cells in enumerate(table.to_pylist(), 1))


def _hub_rows(source: str) -> Iterator[Row]:
    """Yield the rows of a split on the hub; class labels become their names."""
    if not (match := _HUB.fullmatch(source)):
        raise DataError(
            f"{source}: not a data set on the hub.\nFix: hf:owner/name@split or hf:owner/name/config@split."
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"{source}: the hub needs datasets ({error}).\nFix: pip install 'flashgraph[data]', or {_ELSEWHERE}."
        ) from None
    try:
        table = load_dataset(match[1], match[2], split=match[3])
    except Exception as error:  # the library passes on the errors of its network, parser and builder layers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{source}: cannot be loaded: {reason}.\nFix: look at https://huggingface.co/datasets/{match[1]} for "
            f"its configs and splits; without a network, {_ELSEWHERE}."
        ) from error
    yield from (Row(Place(source, number), cells) for number, cells in enumerate(rows_in(table), 1))


def _given(place: Place, row: Any) -> Row | BadRow:
    """Return a member of the user's own data as a row; a `Row` keeps its place."""
    if isinstance(row, Row):
        return row
    if isinstance(row, Mapping):
        return Row(place, dict(row))
    return BadRow(
        Problem("no-object", place, "this row", _shown(row), "a mapping from names to values", "{'text': ...}")
    )


def _mapped(row: Row | BadRow, columns: Mapping[str, str] | None) -> Row:
    """Return the row with its columns renamed, or raise if it is a `BadRow`."""
    if isinstance(row, BadRow):
        raise row
    if columns is None:
        return row
    for new, old in columns.items():
        if old not in row:
            raise BadRow(_missing(row.place, new, old, row.cells))
    return Row(row.place, {new: row[old] for new, old in columns.items()})


def _missing(place: Place, new: str, old: str, cells: Mapping[str, Any]) -> Problem:
    have = sorted(map(str, cells))
    expected = f"a column {old!r}" + (f", for {new!r}" if new != old else "")
    found = f"columns {', '.join(map(repr, have))}" if have else "no columns"
    return Problem("missing-column", place, f"column {old!r}", found, expected, did_you_mean(old, have))


def _shown(value: Any) -> str:
    """Return a value and its type, short enough for a message."""
    text = repr(value)
    return f"{text[:77] + '...' if len(text) > 80 else text} ({type(value).__name__})"
