"""Model texts in exported tables: spreadsheet formulas and lone surrogates."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

import flashgraph as fg
from flashgraph.llm.protocol import Message
from tests.journal.small import WORLD, small_run

from .conftest import Cli

FORMULAS = [
    "=1+1",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x", "y")',
    "\uff1d1",
]
PLAIN = ["-5", "+1.5e3", "3", "a=b", " - a list", "'quoted", "half \ud83d", "", "x\x00y"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model has replied with each of these texts."""
    folder = tmp_path_factory.mktemp("texts") / "run"
    waiting = [*FORMULAS, *PLAIN]

    async def answer(messages: Sequence[Message]) -> str:
        return waiting.pop() if waiting else "no"

    small_run(folder, models={"task": answer, "reflection": answer}, budget=fg.Budget(proposals=8))
    assert not waiting
    return folder


def test_no_text_is_a_formula(cli: Cli, run: Path, tmp_path: Path) -> None:
    """A text that would be a formula gets an apostrophe; numbers and other texts are unchanged."""
    ended = cli("export", run, "--to", "csv", "-o", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    with (tmp_path / "out" / "calls.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    replies = {row["reply"] for row in rows}
    assert {f"'{text}" for text in FORMULAS} <= replies
    assert {text.replace("\ud83d", "\ufffd") for text in PLAIN} <= replies
    assert not any(cell[:1] in "=@\t\r" for row in rows for cell in row.values() if cell)
    assert all(float(row["seconds"]) >= 0 and int(row["prompt_tokens"]) > 0 for row in rows)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "mlflow"])
def test_halves_of_characters(cli: Cli, tmp_path: Path, kind: str) -> None:
    """Every format exports lone surrogates as escapes."""
    pytest.importorskip({"parquet": "pyarrow", "mlflow": "mlflow"}.get(kind, "json"))
    task = attrs.evolve(WORLD.task(), seed={"instruction": "half \ud83d of one"}, name="=\ud83d")
    small_run(tmp_path / "run", task=task, budget=fg.Budget(proposals=1))
    out = tmp_path / "out"
    assert cli("export", tmp_path / "run", "--to", kind, "-o", out).code == 0
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        values = parquet.read_table(out / "artifacts.parquet").column("value").to_pylist()
    elif kind == "csv":
        with (out / "artifacts.csv").open(newline="", encoding="utf-8") as file:
            values = [row["value"] for row in csv.DictReader(file)]
    elif kind == "jsonl":
        found = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        values = [json.dumps(line["value"]) for line in found if line["kind"] == "artifact"]
    else:
        values = [json.dumps({"instruction": path.read_text()}) for path in out.rglob("best/instruction.txt")]
    assert json.loads(values[0])["instruction"].encode(errors="backslashreplace").startswith(b"half \\ud83d")
