"""Rows from files and the hub, and the whole message of every mistake."""

from __future__ import annotations

import builtins
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flashgraph.errors import DataError, Place
from flashgraph.tasks import data

JSONL = '{"context": "France?", "target": "Paris"}\n\n{"context": "Peru\u2028or?", "target": "Lima"}\n'


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def message(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value)


def test_jsonl_rows_know_their_lines(tmp_path: Path) -> None:
    """Blank lines count, and a line separator inside a JSON string does not end a line."""
    path = written(tmp_path / "val.jsonl", JSONL)
    first, second = data.read(path, {"question": "context", "answer": "target"})
    assert dict(first) == {"question": "France?", "answer": "Paris"}
    assert second["question"] == "Peru\u2028or?"
    assert [row.place for row in (first, second)] == [Place(path, 1), Place(path, 3)]


def test_without_columns_a_row_has_all_of_them(tmp_path: Path) -> None:
    """Without ``columns``, a row has all columns under their own names."""
    (row, _) = data.read(written(tmp_path / "val.jsonl", JSONL))
    assert (list(row), len(row), row.get("other")) == (["context", "target"], 2, None)


def test_csv_rows_know_the_line_they_begin_on(tmp_path: Path) -> None:
    """A quoted cell may span lines, and a byte order mark is not part of the first column's name."""
    path = written(tmp_path / "val.csv", '\ufeffquestion,answer\n"one,\ntwo",3\nx,4\n')
    first, second = data.read(path)
    assert (dict(first), first.place.line) == ({"question": "one,\ntwo", "answer": "3"}, 2)
    assert (second.whole("answer", 0, 9), second.place.line) == (4, 4)


def test_parquet(tmp_path: Path) -> None:
    """Numbers and lists keep their types."""
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    path = tmp_path / "val.parquet"
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"n": [1, 2], "tags": [["a"], ["b", "c"]]}), path)
    assert [dict(row) for row in data.read(path)] == [{"n": 1, "tags": ["a"]}, {"n": 2, "tags": ["b", "c"]}]
    assert data.read(path)[1].entries("tags") == ["b", "c"]
    bad = written(tmp_path / "bad.parquet", "no parquet at all")
    assert message(lambda: data.read(bad)).startswith(f"{bad}: not a parquet file (")


@pytest.mark.parametrize(("take", "lines"), [(2, [1, 2]), (slice(1, 3), [2, 3]), (slice(-1, None), [4]), (None, 4)])
def test_take(tmp_path: Path, take: int | slice | None, lines: Any) -> None:
    """``take`` selects the first rows, or any slice."""
    path = written(tmp_path / "val.jsonl", '{"a": 1}\n' * 4)
    found = [row.place.line for row in data.read(path, take=take)]
    assert found == (lines if take else [1, 2, 3, 4])


def test_bad_rows_are_reported_together_and_the_first_few_in_full(tmp_path: Path) -> None:
    """Bad rows are reported together, the first few with place, finding, expectation and fix."""
    path = written(
        tmp_path / "val.jsonl",
        '{"context": 1}\n{"contxt": 1}\nnonsense\n[1]\n{"context": 1}\n{}\n{"other": 1}\n',
    )
    assert message(lambda: data.read(path, {"question": "context"})) == (
        f"{path}: 5 of 7 rows cannot be used\n"
        f"{path}:2: column 'context' [missing-column]\n"
        "    found:    columns 'contxt'\n"
        "    expected: a column 'context', for 'question'\n"
        "    fix:      did you mean 'contxt'?\n"
        f"{path}:3: this line [no-object]\n"
        "    found:    'nonsense' (str)\n"
        "    expected: a JSON object\n"
        "    fix:      correct or delete the line (Expecting value: line 1 column 1 (char 0))\n"
        f"{path}:4: this line [no-object]\n"
        "    found:    '[1]' (str)\n"
        "    expected: a JSON object\n"
        "    fix:      correct or delete the line (it is another kind of JSON)\n"
        "... and 2 more"
    )


def test_a_csv_cell_may_be_long(tmp_path: Path) -> None:
    """A cell may exceed the 131,072 characters of Python's reader, whose own limit does not change."""
    path = written(tmp_path / "val.csv", f"question,answer\n{'x' * 300_000},3\n")
    before = csv.field_size_limit()
    (row,) = data.read(path)
    assert len(row["question"]) == 300_000
    assert csv.field_size_limit() == before


def test_a_ragged_csv_row(tmp_path: Path) -> None:
    """Too many cells come from a comma that is not quoted."""
    path = written(tmp_path / "val.csv", "question,answer\na,b,c\n\nd,e\n")
    assert message(lambda: data.read(path)) == (
        f"{path}: 1 of 2 rows cannot be used\n"
        f"{path}:2: this row [ragged]\n"
        "    found:    3 cells\n"
        "    expected: 2, as in line 1\n"
        "    fix:      quote cells that hold commas"
    )


FILE_MISTAKES: list[tuple[str, str | bytes | None, dict[str, Any], str]] = [
    ("vall.jsonl", None, {}, "{path}: no such file.\nFix: in its folder, did you mean 'val.jsonl'?"),
    ("none/x.csv", None, {}, "{path}: no such file.\nFix: in its folder, none exists"),
    ("empty.jsonl", "\n", {}, "{path}: it has no rows.\nFix: give at least one row."),
    ("empty.csv", "a,b\n", {}, "{path}: it has no rows.\nFix: give at least one row."),
    ("one.jsonl", "{}", {"take": 0}, "{path}: take=0 selects none of its 1 rows.\nFix: a slice within 0:1."),
    (
        "rows.json",
        "[]",
        {},
        "{path}: .json; expected a file that ends in .jsonl, .csv, .parquet.\n"
        "Fix: convert it, or give hf:owner/name@split for a data set on the hub.",
    ),
    (
        "latin.jsonl",
        b'{"a": "\xe9"}',
        {},
        "{path}: cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 7: invalid continuation byte.\n"
        "Fix: save it as UTF-8 text.",
    ),
]


@pytest.mark.parametrize(("name", "content", "options", "expected"), FILE_MISTAKES)
def test_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: str | bytes | None, options: Mapping[str, Any], expected: str
) -> None:
    """Each mistake is one message with the path, the finding and the fix."""
    (tmp_path / "val.jsonl").write_text(JSONL, encoding="utf-8")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message(lambda: data.read(path, **options)) == expected.format(path=path)


ROW = data.Row(
    Place("f.jsonl", 7),
    {
        "text": "hi",
        "blank": " ",
        "n": 3,
        "part": 0.5,
        "csv": "12.0",
        "yes": True,
        "list": [1],
        "none": None,
        "big": "1e999",
    },
)


def test_checked_values() -> None:
    """Text that spells a number is a number, because csv holds only text."""
    assert ROW.text("text") == "hi"
    assert (ROW.number("n"), ROW.number("part"), ROW.number("csv")) == (3.0, 0.5, 12.0)
    assert ROW.whole("csv", 0, 12) == 12
    assert ROW.label("text", ("ho", "hi")) == "hi"
    assert ROW.entries("list") == [1]


FIX = "    fix:      correct the row, or map another column: columns={%r: ...}"
VALUE_MISTAKES: list[tuple[Callable[[], object], str, str, str, str]] = [
    (lambda: ROW.text("blank"), "blank", "' ' (str)", "a text that is not blank", FIX % "blank"),
    (lambda: ROW.text("n"), "n", "3 (int)", "a text that is not blank", FIX % "n"),
    (lambda: ROW.number("text"), "text", "'hi' (str)", "a number", FIX % "text"),
    (lambda: ROW.number("yes"), "yes", "True (bool)", "a number", FIX % "yes"),
    (lambda: ROW.number("none"), "none", "None (NoneType)", "a number", FIX % "none"),
    (lambda: ROW.number("big"), "big", "'1e999' (str)", "a number", FIX % "big"),
    (lambda: ROW.whole("part", 0, 9), "part", "0.5 (float)", "a whole number from 0 to 9", FIX % "part"),
    (lambda: ROW.whole("n", 5, 9), "n", "3 (int)", "a whole number from 5 to 9", FIX % "n"),
    (lambda: ROW.whole("text", 0, 9), "text", "'hi' (str)", "a whole number from 0 to 9", FIX % "text"),
    (lambda: ROW.entries("text"), "text", "'hi' (str)", "a list that is not empty", FIX % "text"),
]


@pytest.mark.parametrize(("call", "name", "found", "expected", "fix"), VALUE_MISTAKES)
def test_values_of_the_wrong_kind(call: Callable[[], object], name: str, found: str, expected: str, fix: str) -> None:
    """The error gives place, column, finding with its type, expectation and fix."""
    assert message(call) == (
        f"f.jsonl:7: column {name!r} [wrong-value]\n    found:    {found}\n    expected: {expected}\n{fix}"
    )


def test_a_label_that_is_not_in_the_set() -> None:
    """The nearest label is suggested."""
    assert message(lambda: ROW.label("text", ("his", "hers"))) == (
        "f.jsonl:7: column 'text' [unknown-label]\n"
        "    found:    'hi' (str)\n"
        "    expected: one of 2 labels\n"
        "    fix:      did you mean 'his'?"
    )


def test_a_column_that_a_sample_asks_for_and_is_not_there() -> None:
    """A missing column is reported like one that `read` requires."""
    row = data.Row(Place("f.csv", 2), {"answr": "x"})
    assert message(lambda: row.whole("answer", 0, 9)) == (
        "f.csv:2: column 'answer' [missing-column]\n"
        "    found:    columns 'answr'\n"
        "    expected: a column 'answer'\n"
        "    fix:      did you mean 'answr'?"
    )


def test_samples_reports_bad_rows_together(tmp_path: Path) -> None:
    """Faults found by a task's own checks are collected over all rows; long values are clipped."""
    path = written(tmp_path / "val.csv", f"answer\n1\nx\n2\n{'y' * 200}\n")
    assert data.samples(data.read(path, take=1), lambda row: row.number("answer")) == (1.0,)
    assert message(lambda: data.samples(data.read(path), lambda row: row.number("answer"))) == (
        f"{path}: 2 of 4 rows cannot be used\n"
        f"{path}:3: column 'answer' [wrong-value]\n    found:    'x' (str)\n    expected: a number\n{FIX % 'answer'}\n"
        f"{path}:5: column 'answer' [wrong-value]\n    found:    '{'y' * 76}... (str)\n    expected: a number\n"
        f"{FIX % 'answer'}"
    )


def test_splits_are_seeded_and_complete() -> None:
    """Equal seeds give equal parts, other seeds give others, and every row is used once."""
    parts = data.split(range(10), {"train": 3, "val": 1, "test": 1})
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert sorted(row for part in parts.values() for row in part) == list(range(10))
    assert parts == data.split(range(10), {"train": 3, "val": 1, "test": 1})
    assert parts != data.split(range(10), {"train": 3, "val": 1, "test": 1}, seed=1)
    assert parts["val"] == data.split(range(10), {"train": 0.6, "val": 0.2, "test": 0.2})["val"]


@pytest.mark.parametrize(
    ("rows", "shares", "expected"),
    [
        (1, {"a": 1, "b": 1}, "split: 1 rows in shares {'a': 1, 'b': 1} leave none for a."),
        (0, {"a": 1, "b": 1}, "split: 0 rows in shares {'a': 1, 'b': 1} leave none for a, b."),
        (9, {"a": 1, "b": 0}, "split: shares {'a': 1, 'b': 0}; expected numbers over 0."),
        (9, {}, "split: shares {}; expected numbers over 0."),
    ],
)
def test_splits_that_cannot_be_made(rows: int, shares: dict[str, float], expected: str) -> None:
    """A split that would leave a part empty is refused."""
    assert message(lambda: data.split(range(rows), shares)).splitlines()[0] == expected


class Hub:
    """An imitation of the library, as `read` uses it."""

    def __init__(self, rows: Sequence[Mapping[str, Any]] = (), error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.calls: list[tuple[str | None, ...]] = []

    def load_dataset(self, repo: str, config: str | None, *, split: str) -> Any:
        self.calls.append((repo, config, split))
        if self.error:
            raise self.error
        label = SimpleNamespace(int2str=lambda number: ("no", "yes")[number])
        hub = self

        class Table:
            features = {"text": object(), "label": label}  # noqa: RUF012

            def __iter__(self) -> Any:
                return iter(hub.rows)

        return Table()


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split is found by its name, with or without a config; labels get their names if known."""
    hub = Hub([{"text": "a", "label": 1}, {"text": "b", "label": -1}])
    monkeypatch.setitem(sys.modules, "datasets", hub)
    rows = data.read("hf:owner/name/main@train", {"q": "text", "a": "label"})
    assert [dict(row) for row in rows] == [{"q": "a", "a": "yes"}, {"q": "b", "a": -1}]
    assert str(rows[1].place) == "hf:owner/name/main@train:2"
    assert len(data.read("hf:owner/name@train", take=1)) == 1
    assert hub.calls == [("owner/name", "main", "train"), ("owner/name", None, "train")]


def test_a_hub_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any error of the library becomes one message."""
    monkeypatch.setitem(sys.modules, "datasets", Hub(error=ConnectionError("Couldn't reach it.\nmore")))
    assert message(lambda: data.read("hf:owner/name@train")) == (
        "hf:owner/name@train: cannot be loaded: Couldn't reach it.\n"
        "Fix: look at https://huggingface.co/datasets/owner/name for its configs and splits; without a network, read "
        "a file with its rows (FLASHGRAPH_DATA names the folder of the examples' files: docs/how-to/example-tasks.md)."
    )
    assert message(lambda: data.read("hf:owner/name")) == (
        "hf:owner/name: not a data set on the hub.\nFix: hf:owner/name@split or hf:owner/name/config@split."
    )


def test_the_real_library_on_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library accepts a folder as a data set, which tests its real interface without a network."""
    pytest.importorskip("datasets", reason="the hub needs datasets")
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"q": "a", "n": 1}\n{"q": "b", "n": 2}\n')
    monkeypatch.chdir(tmp_path)
    assert [dict(row) for row in data.read("hf:owner/name@train")] == [{"q": "a", "n": 1}, {"q": "b", "n": 2}]
    assert "cannot be loaded: Unknown split" in message(lambda: data.read("hf:owner/name@tran"))


@pytest.mark.parametrize(("library", "source"), [("datasets", "hf:owner/name@train"), ("pyarrow", "val.parquet")])
def test_a_library_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, source: str
) -> None:
    """The message names the extra."""
    real = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.chdir(tmp_path)
    Path("val.parquet").touch()
    monkeypatch.setattr(builtins, "__import__", importing)
    hub = library == "datasets"
    needs = "the hub needs" if hub else "parquet needs"
    files = (
        ", or read a file with its rows "
        "(FLASHGRAPH_DATA names the folder of the examples' files: docs/how-to/example-tasks.md)"
    )
    assert message(lambda: data.read(source)) == (
        f"{source}: {needs} {library} (No module named {library!r}).\n"
        f"Fix: pip install 'flashgraph[data]'{files if hub else ''}."
    )


def test_public_data_sets_are_located(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is read from the variable's folder, else from the hub; a half-downloaded set is an error."""
    monkeypatch.delenv(data.VARIABLE, raising=False)
    assert message(lambda: data.locate("set/val.jsonl", download="v.jsonl from example.org")) == (
        "set/val.jsonl: FLASHGRAPH_DATA is not set; expected this file in the folder that FLASHGRAPH_DATA names.\n"
        "Fix: download v.jsonl from example.org, save it as DIR/set/val.jsonl and set FLASHGRAPH_DATA=DIR."
    )
    assert data.locate("set/val.jsonl", download="it", hub="hf:o/n@val") == "hf:o/n@val"
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "typo"))
    assert f"{tmp_path / 'typo' / 'set' / 'val.jsonl'} is not there" in message(
        lambda: data.locate("set/val.jsonl", download="it", hub="hf:o/n@val")
    )
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    assert data.locate("set/val.jsonl", download="it", hub="hf:o/n@val") == "hf:o/n@val"
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "val.jsonl"
    assert message(lambda: data.locate("set/val.jsonl", download="it", hub="hf:o/n@val")) == (
        f"set/val.jsonl: {path} is not there; expected this file in the folder that FLASHGRAPH_DATA names.\n"
        f"Fix: download it, save it as {path}."
    )
    path.write_text(json.dumps({"a": 1}))
    assert data.locate("set/val.jsonl", download="it", hub="hf:o/n@val") == str(path)


def test_importing_loads_no_data_library() -> None:
    """Importing flashgraph loads no library that could use a network."""
    program = "import flashgraph.tasks.data, sys; print({'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
