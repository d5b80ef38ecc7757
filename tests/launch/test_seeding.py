"""Warm starts: `fg.run(seed_from=...)` and ``flashgraph run --seed-from``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.launch.seeding import seeded, texts_from

SEED = {"one": "x", "two": "y"}
BETTER = "```\nSay yes.\n```"


def score(sample: str, output: str) -> fg.Score:
    return fg.Score(float(output == "yes"))


def model(messages: Any) -> str:
    if messages[0]["role"] == "system":
        return "yes" if "Say yes." in messages[0]["content"] else "no"
    return BETTER


TASK = fg.Task("t", list("abc"), list("abcd"), seed=SEED, score=score)


def first_of(folder: Path) -> Mapping[str, str]:
    """Return the texts of artifact 0, which is the seed."""
    with fg.StoredRun.open(folder) as stored:
        return dict(stored.artifact(0).texts)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "old"
    assert fg.run("gepa", TASK, models=model, budget=fg.Budget(proposals=4), folder=folder).best is not None
    return folder


def test_a_run_begins_with_the_best_of_an_old_one(old: Path, tmp_path: Path) -> None:
    """From its folder, its journal, what `flashgraph best` writes, or the texts."""
    best = dict(fg.load_best(old).texts)
    assert "Say yes." in best.values()
    fg.load_best(old).write(tmp_path / "prompts")
    for source in (old, old / "journal.db", tmp_path / "prompts", tmp_path / "prompts" / "best.json", best):
        assert seeded(TASK, source).seed == best, source
    result = fg.run("gepa", TASK, models=model, budget=fg.Budget(evaluations=8), seed_from=old, folder=tmp_path / "new")
    assert first_of(tmp_path / "new") == best
    assert result.best is not None
    assert result.best.score == 1.0
    more = fg.Budget(evaluations=60)
    fg.run("gepa", TASK, models=model, budget=more, seed_from=old, folder=tmp_path / "new", resume=True)
    assert first_of(tmp_path / "new") == best


def test_a_component_without_a_text_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text('{"two": "z"}')
    assert seeded(TASK, tmp_path / "some.json").seed == {"one": "x", "two": "z"}
    assert seeded(TASK, None) is TASK


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"tow": "z"}', "component 'tow', but task 't' has one, two"),
        ("{}", "expected a text for each component"),
        ("[1]", "expected a text for each component"),
        ('{"one": 1}', "expected a text for each component"),
        ('{"texts": {"one": null}}', "expected a text for each component"),
        ("x", "cannot be read as JSON"),
        ("\udcff", "cannot be read as JSON"),
        (None, "no such run"),
    ],
)
def test_sources_that_are_refused(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(fg.DataError, match=said):
        seeded(TASK, file)


def test_a_run_without_a_champion_is_refused(tmp_path: Path) -> None:
    fg.run("gepa", TASK, models=model, budget=fg.Budget(evaluations=1), folder=tmp_path / "r")
    with pytest.raises(fg.DataError, match="no champion yet"):
        texts_from(tmp_path / "r")
