"""The result of a run, and its judgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.result import texts_of


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a prompt", {"text": "a prompt"}),
        ({"one": "a", "two": "b"}, {"one": "a", "two": "b"}),
        ({}, {}),
        (SimpleNamespace(text="a prompt"), {"text": "a prompt"}),
        (SimpleNamespace(text={"one": "a"}), {"one": "a"}),
        (SimpleNamespace(text=SimpleNamespace(text="within")), {"text": "within"}),
        ({"one": 1}, None),
        (SimpleNamespace(text=3), None),
        (7, None),
        (None, None),
    ],
)
def test_texts_of_values(value: Any, texts: dict[str, str] | None) -> None:
    """A mapping has components, an object its own texts, a text itself; other values have None."""
    assert texts_of(value) == texts


def test_a_run_whose_stages_failed_and_that_accepted_nothing_has_failed() -> None:
    """It has failed although it ended in order; the reason names the stage, its failures and their error."""

    def broken(messages: object) -> str:
        raise ZeroDivisionError("division by zero")

    task = fg.Task("t", range(3), range(3), score=lambda sample, output: fg.Score(1.0))
    result = fg.run("gepa", task, models={"task": broken, "reflection": broken}, budget=fg.Budget(proposals=2))
    assert (result.status, result.best) == ("failed", None)
    assert result.reason.startswith("stage 'baseline' failed 3 of 3 times, most often with: ")
    assert "ZeroDivisionError: division by zero" in result.reason


@attrs.frozen
class Text:
    text: str
    score: float


@attrs.frozen
class Held:
    """A pool that keeps every text; the best has the greatest score."""

    artifacts: dict[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Text]) -> Held:
        made = fg.Artifact(event.artifact, event.value, event.parents, event.value.score)
        return Held({**self.artifacts, event.artifact: made})

    def best(self) -> fg.Artifact | None:
        return max(self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def best_line(self) -> Held:
        return self


def numbered(name: str) -> Callable[[fg.Draw], Text]:
    def draw(ctx: fg.Draw) -> Text:
        return Text(f"{name} {ctx.emission}", ctx.emission / 10)

    return draw


def arms_race(attacks: int, defences: int, result: str | None) -> fg.Graph:
    """Return a graph with two pools that get that many texts each."""
    graph = fg.Graph("race")
    pools = {name: graph.pool(name, Held) for name in ("attacks", "defences")}
    for name, count in (("attacks", attacks), ("defences", defences)):
        source = graph.source(numbered(name), name=f"draw_{name}", rounds=count)

        graph.edge(source, pools[name])
    if result is not None:
        graph.result(pools[result])
    return graph


TASK = fg.Task("t", range(3), range(3), score=lambda sample, output: fg.Score(1.0))


@pytest.mark.parametrize(
    ("result", "best"),
    [(None, "attacks 3"), ("attacks", "attacks 3"), ("defences", "defences 2")],
)
def test_the_result_is_of_the_pool_that_the_graph_names(result: str | None, best: str, tmp_path: Path) -> None:
    """The result is that of the result pool, here and in the journal; every pool has its last value."""
    found = fg.run(arms_race(4, 3, result), TASK, folder=tmp_path / "run")
    assert found.best is not None
    assert found.best.value.text == best
    assert {name: len(pool.artifacts) for name, pool in found.pools.items()} == {"attacks": 4, "defences": 3}
    stored = fg.StoredRun.open(tmp_path / "run").best()
    assert stored is not None
    assert (stored.pool, stored.id) == (found.best.pool, found.best.id)


def test_a_result_pool_that_stays_empty_hands_out_nothing() -> None:
    """The champion of another pool is not handed out in its place."""
    graph = arms_race(4, 1, "defences")
    edge = next(edge for edge in graph.spec.edges if edge.dst == "defences")
    graph._edges[graph._edges.index(edge)] = attrs.evolve(edge, when=lambda text: False)
    assert fg.run(graph, TASK).best is None


def test_a_run_that_admits_nothing_has_failed() -> None:
    """A run that admits nothing has failed; the reason says where its items went, or that no source emitted."""
    graph = fg.Graph("filtered")
    pool = graph.pool("pool", Held)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw) -> Text:
        return Text("t", 0.0)

    @graph.stage
    def drop(text: Text) -> Text | None:
        return None

    graph.edge(draw, drop)
    graph.edge(drop, pool)
    result = fg.run(graph, TASK)
    assert (result.status, result.cause) == ("failed", "fruitless")
    assert result.reason == "no pool admitted anything in 3 rounds: 3 filtered at draw->drop"


def test_pools_that_wait_for_each_other_fail() -> None:
    graph = fg.Graph("waiting")
    first, second = graph.pool("first", Held), graph.pool("second", Held)
    for reads, into in ((first, second), (second, first)):

        def draw(ctx: fg.Draw[Held]) -> Text | None:
            best = ctx.view.best()
            return None if best is None else Text("t", 0.0)

        graph.edge(graph.source(draw, name=f"from_{reads.name}", reads=reads), into)
    result = fg.run(graph, TASK, budget=fg.Budget(seconds=60))
    assert result.status == "failed"
    assert result.reason.startswith("no source ever emitted anything: each waits for a pool")


def test_one_model_for_all_roles() -> None:
    """One model for all roles may be a function or a model string."""
    task = fg.Task("t", range(3), range(3), score=lambda sample, output: fg.Score(float(output == "yes")))
    result = fg.run("gepa", task, models=lambda messages: "yes", budget=fg.Budget(evaluations=3))
    assert result.best is not None
    assert result.best.score == 1
