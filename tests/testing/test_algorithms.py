"""`check_algorithm` reports an unsound algorithm with the node, the place, what was found and the fix."""

from __future__ import annotations

import attrs
import pytest

import flashgraph as fg
from flashgraph.testing import InvariantViolation, PoolViolation, check_algorithm
from flashgraph.testing.runs import TASK
from tests.run.test_sources import Log


def broken_graph(raising: str) -> fg.Graph:
    """Return a graph of a source, a stage and a pool, with a function that raises."""
    graph = fg.Graph("broken")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=30)
    def draw(ctx: fg.Draw[Log]) -> int:
        return ctx.emission

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
    """A single error of a function on an edge is a violation."""
    with pytest.raises(
        InvariantViolation, match=r"^the when of edge name->pool raised KeyError: 'boom'\n    at:  .*py:\d"
    ):
        check_algorithm(broken_graph("when"), TASK, lambda messages: "")


def test_a_run_that_failed() -> None:
    """A failed run is a violation, because its stage never worked."""
    with pytest.raises(InvariantViolation, match=r"^the run failed: stage 'name' failed 20 times in a row"):
        check_algorithm(broken_graph("stage"), TASK, lambda messages: "")


SEEN: list[None] = []


@attrs.frozen
class Drawing(Log):
    """A pool that depends on more than its arguments."""

    def apply(self, event: fg.PoolEvent[str]) -> Drawing:
        SEEN.append(None)
        return Drawing({**self.artifacts, event.artifact: fg.Artifact(event.artifact, f"{len(SEEN)}")})


def wrong_graph(wrong: str) -> fg.Graph:
    """Return a graph of a source that reads its pool, a slow stage, and the part that is ``wrong``."""
    graph = fg.Graph("wrong")
    seen: list[int] = []
    pool = graph.pool("pool", Drawing if wrong == "pool" else Log)

    @graph.source(reads=pool, rounds=60)
    def draw(ctx: fg.Draw[Log]) -> int:
        if wrong == "source":
            ctx.view.artifacts.clear()  # type: ignore[attr-defined]  # the mistake under test
        return ctx.emission

    @graph.stage(model="task")
    async def name(number: int, ctx: fg.Context) -> str:
        seen.append(number)
        more = f" {len(seen)}" if wrong == "stage" else ""
        return (await ctx.llm(f"{number}{more}")).text

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
    """The message names the node, the pool or the event, and the fix."""
    with pytest.raises(InvariantViolation, match=said):
        check_algorithm(wrong_graph(wrong), TASK, lambda messages: messages[-1]["content"], thorough=True)


def test_a_pools_violation_names_the_pool() -> None:
    """The message names the pool, because a graph may have several."""

    class Bare(Log):
        def best_line(self) -> Log:
            return Log()

    graph = fg.Graph("bare")
    pool = graph.pool("mine", Bare)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> str:
        return "text"

    graph.edge(draw, pool)
    with pytest.raises(PoolViolation, match=r"^pool 'mine': a new pool: best_line\(\) is a Log"):
        check_algorithm(graph, TASK, lambda messages: "")
