"""``flashgraph check`` and ``flashgraph algorithms``."""

from __future__ import annotations

from pathlib import Path

from flashgraph.graph.loading import load_graph

from .conftest import FILES, Cli


def test_a_sound_graph_is_ok_with_its_counts(cli: Cli) -> None:
    """A graph without mistakes prints one line on stdout, with exit code 0."""
    ended, spec = cli("check", "gepa"), load_graph("gepa").spec
    counts = f"{len(spec.sources)} sources, {len(spec.stages)} stages, {len(spec.edges)} edges, 1 pool"
    assert (ended.code, ended.out, ended.err) == (0, f"ok: gepa ({counts})\n", "")


def test_three_mistakes_are_reported_together(cli: Cli) -> None:
    """Each mistake has its line, what was found, what was expected and the fix, without traceback and colours."""
    ended = cli("check", FILES / "three_mistakes.py")
    assert ended.code == 1
    assert ended.err.startswith("error: graph 'crooked' has 3 problems\n")
    for part in ("found:", "expected:", "fix:"):
        assert ended.err.count(part) == 3
    assert ended.err.count("three_mistakes.py:") == 3
    assert "Traceback" not in ended.err
    assert "\x1b" not in ended.err


def test_a_graph_that_is_not_there(cli: Cli) -> None:
    """A missing graph gets the nearest name."""
    ended = cli("check", "gpea")
    assert ended.code == 1
    assert ended.err.startswith("error: graph 'gpea': no such file")
    assert "gepa" in ended.err


def test_algorithms_are_listed_with_their_first_line(cli: Cli) -> None:
    """Each shipped algorithm has a line with its name."""
    ended = cli("algorithms")
    assert ended.code == 0
    assert any(line.startswith("gepa ") and "arXiv:2507.19457" in line for line in ended.out.splitlines())


def test_a_misspelled_name_of_flashgraph(cli: Cli, tmp_path: Path) -> None:
    """A misspelt name of flashgraph gets the nearest name and its line."""
    (tmp_path / "mine.py").write_text("import flashgraph as fg\n\nRULE = fg.discrad(above=8)\n")
    ended = cli("check", "mine.py")
    assert ended.code == 1
    assert "mine.py:3: the file could not be loaded: AttributeError: " in ended.err
    assert "Fix: did you mean 'discard'?" in ended.err
