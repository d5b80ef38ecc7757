"""``flashgraph draw`` and ``flashgraph explain``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from .conftest import FILES, Cli

STARTS = {"svg": b"<svg", "png": b"\x89PNG", "md": b"# gepa", "html": b"<!DOCTYPE html>", "dot": b"digraph"}


@pytest.mark.parametrize("kind", STARTS)
def test_each_kind_of_file(cli: Cli, tmp_path: Path, kind: str) -> None:
    """The file's suffix sets the format."""
    out = tmp_path / f"x.{kind}"
    ended = cli("draw", "gepa", "-o", out)
    assert (ended.code, ended.out) == (0, f"drawn: {out}\n")
    assert out.read_bytes().startswith(STARTS[kind])


def test_another_ending_is_a_usage_error(cli: Cli) -> None:
    """Another suffix is a usage error that lists the formats."""
    ended = cli("draw", "gepa", "-o", "x.pdf")
    assert ended.code == 2
    assert "found 'x.pdf', expected a name that ends in one of .svg, .png, .md, .html, .dot" in ended.err


def test_a_file_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    """An output that cannot be written gets a message, not a traceback."""
    ended = cli("draw", "gepa", "-o", tmp_path / "no" / "x.md")
    assert ended.code == 1
    assert f"cannot be written: No such file or directory.\nFix: mkdir -p {tmp_path / 'no'}." in ended.err


def test_without_matplotlib(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the message names the extra, and other formats still work."""
    found = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr("flashgraph.observe.figure.import_module", missing)
    ended = cli("draw", "gepa", "-o", tmp_path / "x.png")
    assert ended.code == 1
    assert "pip install 'flashgraph[draw]'" in ended.err
    assert cli("draw", "gepa", "-o", tmp_path / "x.md").code == 0
    assert cli("draw", "gepa", "-o", tmp_path / "x.svg").code == 0


def test_a_wrong_graph_is_not_drawn(cli: Cli, tmp_path: Path) -> None:
    """A wrong graph gets the report of its mistakes."""
    ended = cli("draw", FILES / "three_mistakes.py", "-o", tmp_path / "x.md")
    assert ended.code == 1
    assert "has 3 problems" in ended.err
    assert not (tmp_path / "x.md").exists()


def test_explain_takes_schedule_and_settings(cli: Cli) -> None:
    """The schedule and the settings appear in the words."""
    assert "up to 4 rounds of each source are open" in cli("explain", "gepa", "--set", "window=4").out
    assert "one round and one stage at a time" in cli("explain", "gepa", "--schedule", "lockstep").out
    said = cli("explain", "gepa", "--set", "validate->frontier.stale=discard(3)").out
    assert "stale items are discarded above lag 3" in " ".join(said.split())


def test_explain_with_an_unknown_setting(cli: Cli) -> None:
    """An unknown setting gets the nearest name."""
    ended = cli("explain", "gepa", "--set", "minibatsch=4")
    assert ended.code == 1
    assert "did you mean 'minibatch'?" in ended.err
