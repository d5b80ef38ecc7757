"""Every example of README.md and the pages works as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.policies.schedule import pipelined
from flashgraph.policies.settings import apply_settings
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[1]


def test_the_smallest_graph(tmp_path: Path) -> None:
    """The smallest graph passes its checks, uses all its imports, and scores the seed before it requests another
    wording."""
    (source,) = [block.text for block in blocks(ROOT / "README.md") if block.title == "hill.py"]
    path = tmp_path / "hill.py"
    path.write_text(source)
    for name in re.findall(r"import (.*)", source):
        for part in name.split(", "):
            assert len(re.findall(rf"\b{part.split(' as ')[-1]}\b", source)) > 1, part
    graph = load_graph(path)
    assert not graph.check()
    task = fg.Task("t", train=[1], val=[1, 2], score=lambda sample, output: fg.Score(len(output) / 99))
    models = {"task": lambda messages: messages[0]["content"], "reflection": lambda messages: messages[0]["content"]}
    result = fg.run(graph, task, models=models, budget=fg.Budget(proposals=3))
    assert result.artifacts[0].value.text == dict(task.seed)
    assert result.best is not None
    assert (result.best.score or 0) > (result.artifacts[0].score or 0)


@pytest.mark.parametrize("page", ["how-to/forecast.md", "explanation/concepts.md", "algorithms/combee.md"])
def test_settings_of_edges(page: str) -> None:
    """Each ``EDGE.option=value`` that names an edge of a shipped graph fits it, also with several values in a sweep."""
    text = (ROOT / "docs" / page).read_text()
    specs = [load_graph(name).spec for name in ("gepa", "combee")]
    found = re.findall(r"'([\w.]+->[\w.]+\.\w+)=([^']+)'", text)
    assert found or page == "explanation/concepts.md"
    for name, values in found:
        (spec,) = [s for s in specs if s.edge(name.rpartition(".")[0]) is not None]
        for value in re.split(r",(?![^(]*\))", values):
            apply_settings(spec, pipelined(), {}, {name: value})


def test_security_names_tests_that_there_are() -> None:
    """Every claim of the security page names an existing test."""
    claimed, file = [], ""
    for named in re.findall(
        r"`([\w/]*\.py)?(?:::(\w+))?`", (ROOT / "docs" / "explanation" / "security.md").read_text()
    ):
        file = named[0] or file
        if file:
            claimed.append((file, named[1]))
    assert len(claimed) > 80
    for path, test in claimed:
        source = (ROOT / "tests" / path).read_text()
        assert not test or re.search(rf"^(async )?def {test}\(", source, re.M), f"{path}::{test}"
