"""``flashgraph best`` and `fg.load_best`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flashgraph as fg

from .conftest import Cli

TASK = (
    "import flashgraph as fg\n"
    "def answer(messages):\n"
    "    if messages[0]['role'] == 'system':\n"
    "        return 'yes' if 'Say yes.' in messages[0]['content'] else 'no'\n"
    "    return '```\\nSay yes.\\n```'\n"
    "task = fg.Task('t', ['a', 'b', 'c'], ['a', 'b', 'c', 'd'], seed={'one': 'x', 'two/three': 'y'},\n"
    "    score=lambda sample, output: fg.Score(float(output == 'yes')))\n"
)


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Path:
    (tmp_path / "t.py").write_text(TASK)
    words = ("--task", str(tmp_path / "t.py"), "--model", f"{tmp_path}/t.py:answer", "--proposals", "6")
    assert cli("run", "gepa", *words, "--out", str(tmp_path / "mine")).code == 0
    return tmp_path / "mine"


def test_texts_on_stdout_and_evidence_beside_them(cli: Cli, run: Path) -> None:
    ended = cli("best", str(run))
    assert ended.code == 0
    assert "# one\n" in ended.out
    assert "# two/three\n" in ended.out
    assert "Say yes." in ended.out
    assert ended.err.startswith("mine: artifact ")
    assert " of 4, " in ended.err


def test_saved_and_loaded_again(cli: Cli, run: Path, tmp_path: Path) -> None:
    """A text file for each component, and everything in best.json; a run's folder is loaded in the same way."""
    ended = cli("best", str(run), "-o", str(tmp_path / "prompts"))
    assert ended.code == 0
    assert {path.name for path in (tmp_path / "prompts").iterdir()} == {"best.json", "one.txt", "two_three.txt"}
    found = fg.load_best(tmp_path / "prompts")
    assert found == fg.load_best(tmp_path / "prompts" / "best.json") == fg.load_best(run)
    assert "Say yes." in " ".join(found.texts.values())
    assert found.evidence["of"] == 4
    assert found.models["task"].endswith("t.py:answer")
    assert (tmp_path / "prompts" / "one.txt").read_text() == found.texts["one"] + "\n"
    stored = json.loads(cli("best", str(run), "--json").out)
    assert stored["hash"] == found.hash


def test_another_artifact(cli: Cli, run: Path) -> None:
    """The seed is number 0."""
    assert cli("best", str(run), "--artifact", "0").out == "# one\nx\n# two/three\ny\n"
    ended = cli("best", str(run), "--artifact", "99")
    assert ended.code == 1
    assert "has no artifact 99; they are numbered 0 to" in ended.err


def test_files_that_cannot_be_loaded(cli: Cli, run: Path, tmp_path: Path) -> None:
    """An edited text is noticed by the hash."""
    folder = tmp_path / "prompts"
    cli("best", str(run), "-o", str(folder))
    data = json.loads((folder / "best.json").read_text())
    for change, said in (
        ({"texts": {"one": "edited"}}, "its texts were changed after it was written"),
        ({"hash": None}, "its texts were changed after it was written"),
        ({"texts": 3}, "not a file of `flashgraph best`"),
        ({"format": 99}, "a newer flashgraph wrote it: found format 99"),
    ):
        (folder / "best.json").write_text(json.dumps({**data, **change}))
        with pytest.raises(fg.DataError, match=said):
            fg.load_best(folder)
    (folder / "best.json").write_text("{")
    with pytest.raises(fg.DataError, match="not a file of `flashgraph best`"):
        fg.load_best(folder)
    with pytest.raises(fg.DataError):
        fg.load_best(tmp_path / "nothing")


def test_a_new_run_begins_with_the_best_of_an_old_one(cli: Cli, run: Path, tmp_path: Path) -> None:
    """A resumed run keeps its seed, even if the old run is gone."""
    best = fg.load_best(run).texts
    words = ("run", "gepa", "--task", str(tmp_path / "t.py"), "--model", f"{tmp_path}/t.py:answer", "--evaluations")
    new = tmp_path / "new"
    assert cli(*words, "4", "--seed-from", str(run), "--out", str(new)).code == 0
    for path in sorted(run.iterdir()):
        path.rename(tmp_path / f"gone-{path.name}")
    assert cli("resume", str(new), "--evaluations", "60").code == 0
    with fg.StoredRun.open(new) as stored:
        assert stored.artifact(0).texts == best
    failed = cli(*words, "4", "--seed-from", str(run), "--out", str(tmp_path / "none"))
    assert failed.code == 1
    assert "no such run" in failed.err
    assert not (tmp_path / "none").exists()
