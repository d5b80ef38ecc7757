"""The DSL: its declarations, the mistakes that it notes, and composition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.errors import Place
from flashgraph.graph.handles import PoolNode, Source, Stage
from tests.graph.parameters import params_like

from .kit import Scores, Seed, Value, plain


def value(seed: Seed) -> Value:
    return Value()


def test_declarations_keep_their_order_and_places() -> None:
    """The spec has nodes and edges in the order of their declaration, each with its line."""
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    spec = graph.spec
    assert list(spec.nodes) == ["scores", "draw", "value"]
    assert [e.name for e in spec.edges] == ["draw->value", "value->scores"]
    here = spec.edges[0].place
    assert here.file == __file__
    assert spec.edges[1].place == Place(here.file, here.line + 1)
    assert spec.edge("draw->value") is spec.edges[0]
    assert spec.edge("value->draw") is None


def test_a_spec_is_a_frozen_copy() -> None:
    """Later declarations do not change a spec."""
    graph, draw, pool = plain()
    before = graph.spec
    graph.edge(draw, graph.stage(value))
    assert list(before.nodes) == ["scores", "draw"]
    assert before.edges == ()
    assert before.params == {}
    assert pool.name == "scores"


def test_nodes_by_call_and_by_decorator() -> None:
    """A function is declared with or without options, by a call or by a decorator."""
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    assert graph.source(draw, reads=pool, rounds=2) == graph.handle("draw")
    assert graph.stage(value) == Stage("value", graph)
    assert graph.stage(name="other", counts=["proposals"])(value) == Stage("other", graph)
    spec = graph.spec
    assert (spec.sources[0].reads, spec.sources[0].rounds) == (("scores",), 2)
    assert [s.counts for s in spec.stages] == [(), ("proposals",)]
    kinds = [type(graph.handle(n)) for n in ("scores", "draw", "value")]
    assert kinds == [PoolNode, Source, Stage]


def test_spends_is_one_name_or_several() -> None:
    """A string is one budget, not its letters."""
    graph = fg.Graph("g")
    graph.stage(value, name="one", counts="proposals")
    graph.stage(value, name="two", counts=("proposals", "evaluations"))
    assert [s.counts for s in graph.spec.stages] == [("proposals",), ("proposals", "evaluations")]


def test_params() -> None:
    """A parameter has a name, a default, a type and a place."""
    graph = fg.Graph("g", params=params_like({"size": 3}))
    assert [(p.name, p.default, p.kind) for p in graph.spec.params.values()] == [("size", 3, int)]
    assert graph.spec.params["size"].place is not None


def test_notes_are_not_raised_before_check() -> None:
    """A file with mistakes loads, and the mistakes are noted with their lines."""
    graph, draw, pool = plain()
    graph.edge(draw, "nowhere")  # type: ignore[call-overload]
    assert [p.code for p in graph.noted] == ["foreign-node"]
    assert graph.left_out == {"draw"}
    assert pool.name == "scores"
    with pytest.raises(fg.GraphError):
        graph.checked()


def test_a_second_node_of_a_name_is_kept_apart() -> None:
    """Its edges are checked as its own, so that one mistake does not cause five messages."""
    graph, draw, pool = plain()
    one, two = graph.stage(value), graph.stage(value)
    graph.edge(draw, one)
    graph.edge(draw, two)
    graph.edge(two, pool)
    graph.edge(one, pool)
    assert (one.name, two.name) == ("value", "value#2")
    assert [p.code for p in graph.check()] == ["duplicate-node"]


def test_annotations_may_name_classes_of_the_enclosing_function() -> None:
    """A graph that is built in a function resolves its local classes."""
    import attrs

    @attrs.frozen
    class Local:
        n: int

    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Local:
        return Local(1)

    @graph.stage
    def score(item: Local) -> Value:
        return Value()

    def early(item: Local) -> bool:
        return True

    graph.edge(draw, score, when=early)
    graph.edge(score, pool)
    assert graph.check() == ()


class Shelf:
    """A resource that no run opens."""

    def open(self) -> Any:
        raise AssertionError


# ---- include ---------------------------------------------------------------------------------------------


def refine() -> fg.Graph:
    """A part: a stage that repairs stale items, a parameter, and a pool."""
    part = fg.Graph("refine", params=params_like({"size": 3}))
    pool = part.pool("scores", Scores)
    stage = part.stage(value, reads=None)

    @part.stage(reads=pool)
    def patch(stale: fg.Stale[Value], ctx: fg.Context[Scores]) -> fg.Verdict[Value]:
        return fg.Verdict.accept()

    part.edge(stage, pool, stale=fg.discard(above=9) | fg.repair(patch), capacity=7)
    return part


def test_include_copies_under_a_prefix() -> None:
    """Nodes, parameters, edges, pools that are read and repair stages get the prefix."""
    graph, draw, _ = plain()
    part = graph.include(refine(), "part", params={"size": 5})
    graph.edge(draw, part["value"])
    spec = graph.spec
    assert list(spec.nodes) == ["scores", "draw", "part.scores", "part.value", "part.patch"]
    assert spec.params["part.size"].default == 5
    patch = spec.nodes["part.patch"]
    assert getattr(patch, "reads", None) == ("part.scores",)
    assert getattr(patch, "prefix", None) == "part."
    edge = spec.edge("part.value->part.scores")
    assert edge is not None
    assert edge.capacity == 7
    assert spec.repairers == {"part.patch"}


def test_include_with_a_pool_of_this_graph() -> None:
    """A replaced pool is not copied; the part's readers and its handle refer to this graph's pool."""
    graph, draw, pool = plain()
    part = graph.include(refine(), "part", pools={"scores": pool})
    graph.edge(draw, part["value"])
    assert part["scores"] == pool
    assert "part.scores" not in graph.spec.nodes
    assert getattr(graph.spec.nodes["part.patch"], "reads", None) == ("scores",)
    assert graph.check() == ()


def test_include_nests() -> None:
    """A part of a part has both prefixes, also in the names of its parameters."""
    middle = fg.Graph("middle")
    middle.include(refine(), "inner")
    graph, draw, _ = plain()
    part = graph.include(middle, "outer")
    graph.edge(draw, part["inner.value"])
    assert "outer.inner.value" in graph.spec.nodes
    assert getattr(graph.spec.nodes["outer.inner.value"], "prefix", None) == "outer.inner."
    assert "outer.inner.size" in graph.spec.params


def test_include_without_a_node() -> None:
    """A node that is left out is not copied, nor are its edges; another stage can replace it."""
    graph, draw, _ = plain()
    part = graph.include(refine(), "part", without=["value"])
    stage = graph.stage(value, name="own")
    graph.edge(draw, stage)
    graph.edge(stage, part["scores"])
    assert list(graph.spec.nodes) == ["scores", "draw", "part.scores", "part.patch", "own"]
    assert [e.name for e in graph.spec.edges] == ["draw->own", "own->part.scores"]
    other, *_ = plain()
    other.include(refine(), "part", without=["valu", "scores"])
    assert [p.code for p in other.noted] == ["unknown-in-part", "unknown-in-part"]


def test_include_renames_roles() -> None:
    """The part's model roles get the names that the outer graph gives."""
    part = fg.Graph("part")

    @part.stage(model="reflection")
    async def think(seed: Seed, ctx: fg.Context) -> Value:
        return Value()

    graph, *_ = plain()
    graph.include(part, "one", roles={"reflection": "curator"})
    graph.include(part, "two")
    assert [s.model for s in graph.spec.stages] == ["curator", "reflection"]
    graph.include(part, "three", roles={"reflections": "curator"})
    assert [p.code for p in graph.noted] == ["unknown-in-part"]


def test_include_shares_resources() -> None:
    """Parts with a resource of the same name and factory share it."""
    graph, *_ = plain()
    for prefix in ("one", "two"):
        part = fg.Graph("part")
        part.resource("shelf", Shelf)
        graph.include(part, prefix)
    assert list(graph.spec.resources) == ["shelf"]
    assert graph.noted == []


@pytest.mark.parametrize("times", [2, 3])
def test_include_several_times(times: int) -> None:
    """Each copy is independent of the others."""
    graph, draw, _ = plain()
    part = refine()
    for i in range(times):
        included: Any = graph.include(part, f"part{i}")
        graph.edge(draw, included["value"])
    assert len(graph.spec.nodes) == 2 + 3 * times
    assert [p.code for p in graph.check()] == ["pool-without-edge"]


@pytest.mark.parametrize("load", [fg.load_graph, fg.load_task])
def test_options_after_a_python_file_are_named(load: Any, tmp_path: Path) -> None:
    """Model servers take options in their address; files do not."""
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(fg.DataError, match=r"found the options '\?limit=4', but a Python file takes none"):
        load(str(tmp_path / "mine.py:thing?limit=4"))
