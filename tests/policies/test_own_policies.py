"""The policies of docs/how-to/write-a-policy.md keep to their protocol, decide, and are explained."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.graph.dsl import Graph
from flashgraph.graph.loading import load_graph
from flashgraph.observe.explanation import explain
from flashgraph.policies import Control, Rule
from flashgraph.testing import check_policy
from tests.docs.pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-policy.md"
FILE, RUN, CHECKS = (block.text for block in blocks(PAGE) if block.language == "python")
TASK = fg.Task("t", train=[1, 2], val=[1, 2, 3], score=lambda sample, output: fg.Score(len(output) / 99))


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that the page's file defines; the file is saved where the page's other blocks expect it."""
    (tmp_path / "climb.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("climb")
    monkeypatch.setitem(sys.modules, "climb", module)
    found = vars(module)
    exec(compile(FILE, str(tmp_path / "climb.py"), "exec"), found)  # the page is ours
    return found


def graph(names: dict[str, Any]) -> Graph:
    found: Graph = names["graph"]
    return found


def test_they_are_sound(names: dict[str, Any]) -> None:
    """The page's own checks pass for classes that derive from the exported bases."""
    exec(CHECKS, names)
    assert issubclass(names["DiscardUnrepaired"], Rule)
    assert issubclass(names["OldestRound"], Control)
    check_policy(names["DiscardUnrepaired"](above=2) | fg.repair("renew", above=0))


def test_the_file_runs(names: dict[str, Any]) -> None:
    """The graph passes its checks and evolves under its rule and the call's control policy."""
    said = iter(range(10**6))
    models = {"task": lambda messages: messages[0]["content"], "reflection": lambda messages: "x" * next(said)}
    names |= {"task": TASK, "models": models, "budget": fg.Budget(proposals=12)}
    assert not load_graph("climb.py").check()
    exec(RUN, names)
    result = names["result"]
    assert (result.status, result.spent.proposals) == ("budget", 12), result.reason
    assert result.best is not None
    assert (result.best.score or 0) > 0


def test_they_are_explained(names: dict[str, Any]) -> None:
    """The explanation names them; in lockstep neither applies."""
    said = " ".join(explain(graph(names), schedule=fg.pipelined(control=names["OldestRound"]())).split())
    assert "stale items are judged by discard_unrepaired(8), or else sent through renew above lag 0" in said
    assert "discard_unrepaired" not in explain(graph(names), schedule="lockstep")
