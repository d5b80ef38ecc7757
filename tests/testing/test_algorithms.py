"""What `check_algorithm` says of an algorithm that is not sound: the thing, the place, what was found, and the fix."""

from __future__ import annotations

import attrs
import pytest

import flashgraph as fg
from flashgraph.testing import InvariantViolation, PoolViolation, check_algorithm
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


SEEN: list[None] = []


@attrs.frozen
class Drawing(Log):
    """A pool that depends on more than what it is told."""

    def apply(self, event: fg.PoolEvent[str]) -> Drawing:
        SEEN.append(None)
        return Drawing({**self.artifacts, event.artifact: fg.Artifact(event.artifact, f"{len(SEEN)}")})


def wrong_graph(wrong: str) -> fg.Graph:
    """A source that reads its pool, a stage that takes time, and what is ``wrong``."""
    graph = fg.Graph("wrong")
    seen: list[int] = []
    pool = graph.pool("pool", Drawing if wrong == "pool" else Log)

    @graph.source(reads=pool, rounds=60)
    def draw(at: fg.Draw[Log]) -> int:
        if wrong == "source":
            at.view.artifacts.clear()  # type: ignore[attr-defined]  # the mistake under test
        return at.emission

    @graph.stage(llm="task")
    async def name(number: int, at: fg.Context) -> str:
        seen.append(number)
        more = f" {len(seen)}" if wrong == "stage" else ""
        return (await at.llm(f"{number}{more}")).text

    graph.edge(draw, name)
    graph.edge(name, pool)
    return graph


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "pool",
            r"^I13: turn \d+ of \d+, replayed, makes the same log and another state of pool 'pool'\.\nFix: make po",
        ),
        ("source", r"^pool 'pool': the value of version \d+ was changed after apply returned it\n    expected: "),
        (
            "stage",
            r"^I14: the same seed and latencies made another log on another event loop:\n(.*\n)+Fix: make the node",
        ),
    ],
)
def test_what_depends_on_more_than_its_arguments(wrong: str, said: str) -> None:
    """Which node or pool it is, or the event that shows it, and what to do."""
    with pytest.raises(InvariantViolation, match=said):
        check_algorithm(wrong_graph(wrong), TASK, lambda messages: messages[-1]["content"], thorough=True)


def test_a_pools_violation_names_the_pool() -> None:
    """A graph may have several."""

    class Bare(Log):
        def focus(self) -> Log:
            return Log()

    graph = fg.Graph("bare")
    pool = graph.pool("mine", Bare)

    @graph.source(rounds=2)
    def draw(at: fg.Draw) -> str:
        return "text"

    graph.edge(draw, pool)
    with pytest.raises(PoolViolation, match=r"^pool 'mine': a new pool: focus\(\) is a Log"):
        check_algorithm(graph, TASK, lambda messages: "")
