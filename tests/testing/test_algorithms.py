"""What `check_algorithm` says of an algorithm that is not sound: the thing, the place, what was found, and the fix."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.testing import InvariantViolation, check_algorithm
from flashgraph.testing.runs import TASK
from tests.run.test_sources import Log


def broken_graph(raising: str) -> fg.Graph:
    """A source, a stage and a pool, of which a function on the way raises."""
    graph = fg.Graph("broken")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=30)
    def draw(at: fg.Draw[Log]) -> int:
        return at.emission

    @graph.stage
    def name(number: int) -> str:
        if raising == "stage":
            raise KeyError("boom")
        return f"{number}"

    def passes(text: str) -> bool:
        if raising == "when" and text == "3":
            raise KeyError("boom")
        return True

    graph.edge(draw, name)
    graph.edge(name, pool, when=passes)
    return graph


def test_a_function_on_an_edge_that_raises() -> None:
    """Once is enough: whoever wrote it did not think of what it was given."""
    with pytest.raises(
        InvariantViolation, match=r"^the when of edge name->pool raised KeyError: 'boom'\n    at:  .*py:\d"
    ):
        check_algorithm(broken_graph("when"), TASK, lambda messages: "")


def test_a_run_that_failed() -> None:
    """It shows nothing about the invariants: the stage never worked."""
    with pytest.raises(InvariantViolation, match=r"^the run failed: stage 'name' failed 20 times in a row"):
        check_algorithm(broken_graph("stage"), TASK, lambda messages: "")
