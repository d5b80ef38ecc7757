"""Corner cases of `check` that the graphs of mistakes do not cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.check import check
from flashgraph.graph.signatures import admits
from flashgraph.graph.types import narrowed, show, unstorable

from .kit import Batch, Part, Scores, Seed, Value, plain


def part(item: Part) -> Value:
    return Value()


def anything(item: Any) -> Value:
    return Value()


def bare(seed: Seed) -> list:  # type: ignore[type-arg]
    return []


def whole() -> tuple[fg.Graph, Any, Any]:
    """Return a graph without mistakes, its source and its last stage."""
    graph, draw, pool = plain()
    stage = graph.stage(anything)
    graph.edge(stage, pool)
    return graph, draw, stage


def test_the_members_of_a_bare_list_may_be_anything() -> None:
    """A scatter that returns a bare list is accepted, with unknown members."""
    graph, draw, stage = whole()
    graph.edge(draw, stage, scatter=bare)
    assert [p.code for p in graph.check() if "type" in p.code] == []


@pytest.mark.parametrize("both", [True, False])
def test_groups_of_two_scatters_have_either_origin(both: bool) -> None:
    """A consumer of groups from two scatters must take both origins."""
    graph, draw, pool = plain()

    @graph.source(rounds=1)
    def other(ctx: fg.Draw) -> Batch:
        return Batch()

    def of_both(group: fg.Group[Seed | Batch, Value]) -> Value:
        return Value()

    def of_one(group: fg.Group[Seed, Value]) -> Value:
        return Value()

    stage, last = graph.stage(part), graph.stage(of_both if both else of_one)
    graph.edge(draw, stage, scatter=Seed.parts)
    graph.edge(other, stage, scatter=Batch.parts)
    graph.edge(stage, last, gather=True)
    graph.edge(last, pool)
    found = list(graph.check())
    assert [p.code for p in found] == ([] if both else ["type-mismatch"])
    assert both or "Group[Seed | Batch, Value]" in str(found[0])


def test_a_scatter_that_cannot_be_read_is_reported_once() -> None:
    """The edge that gathers its groups does not report it again."""
    graph, draw, pool = plain()
    stage = graph.stage(anything)

    def gathered(group: fg.Group[Seed, Value]) -> Value:
        return Value()

    last = graph.stage(gathered)
    graph.edge(draw, stage, scatter=lambda seed: [seed])
    graph.edge(stage, last, gather=True)
    graph.edge(last, pool)
    assert [p.code for p in graph.check()] == ["scatter-unannotated"]


def test_types_of_nodes_are_known() -> None:
    """A checked graph has the types that each node takes and gives."""
    graph, draw, stage = whole()
    graph.edge(draw, stage)
    assert graph.check() == ()
    assert check(graph).ports.takes["anything"] is Any
    assert check(graph).ports.gives["anything"] is Value


def test_a_method_of_one_member_of_a_union_is_refused() -> None:
    """The other member of the union has no such method."""

    def either(seed: Seed) -> Seed | Batch:
        return seed

    graph, draw, stage = whole()
    first = graph.stage(either)
    graph.edge(draw, first)
    graph.edge(first, stage, when=Seed.big)
    graph.edge(first, stage, otherwise=True)
    assert "when-of-another-type" in [p.code for p in graph.check()]


def test_a_pool_does_not_attempt_the_held_out_samples() -> None:
    """``tests_with`` refuses a pool: it takes a stage."""
    graph, draw, pool = plain()
    stage = graph.stage(anything)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.tests_with(pool)
    (problem,) = (p for p in graph.check() if p.code == "bad-tests-with")
    assert f"tests_with('{pool.name}', a pool)" in str(problem)


def test_a_source_whose_result_cannot_be_stored_gives_nothing() -> None:
    """The mistake is reported at the source alone, not again at its edges."""
    graph, _, pool = plain()

    @graph.source(rounds=1)
    def other(ctx: fg.Draw) -> Callable[[], int] | None:
        return None

    stage = graph.stage(anything)
    graph.edge(other, stage)
    graph.edge(stage, pool)
    assert any("source 'other'" in str(p) for p in graph.check())
    assert not any("other->" in str(p) for p in graph.check())


class NoArtifacts:
    def apply(self, event: fg.PoolEvent[Value]) -> NoArtifacts:
        return self

    best = apply


class Unreadable(NoArtifacts):
    artifacts: dict[int, fg.Artifact]

    def apply(self, event: Nowhere) -> Unreadable:  # type: ignore[name-defined]  # noqa: F821 - wrong on purpose
        return self


class Annotated(NoArtifacts):
    """A pool class that annotates its artifacts and sets them later."""

    artifacts: dict[int, fg.Artifact]


def test_the_missing_part_of_a_pool_is_named() -> None:
    """The message names missing artifacts, or an annotation that cannot be resolved."""
    with pytest.raises(TypeError, match="it has no artifacts"):
        admits(NoArtifacts)
    with pytest.raises(TypeError, match="the annotations of apply cannot be read: name 'Nowhere' is not defined"):
        admits(Unreadable)
    assert admits(Annotated) is Value
    assert admits(Scores) is not None


def test_a_union_is_narrowed_to_a_class() -> None:
    """``only`` leaves the members of that class; of a base class, it leaves the class itself."""
    assert narrowed(Any, Seed) is Seed
    assert narrowed(object, Seed) is Seed
    assert narrowed(Seed | Batch, Seed) is Seed
    assert narrowed(Batch, Seed) is None


def test_fields_that_cannot_be_resolved_are_left_to_the_values() -> None:
    """A field that names a class inside a function passes: only its values can be checked."""

    class Inner:
        pass

    @attrs.frozen
    class Outer:
        inner: Inner

    assert unstorable(Outer) is None
    assert isinstance(Outer(Inner()).inner, Inner)


def test_types_without_a_name_are_shown_as_they_are() -> None:
    """Types that `typing` makes without a name are shown by their repr."""

    class Shown:
        def __str__(self) -> str:
            return "shown"

    assert show(Shown()) == "shown"


class Pair(NamedTuple):
    left: int
    right: str


def test_a_hint_that_is_no_class_cannot_be_stored() -> None:
    """A hint that is no class is reported as not storable."""
    odd = pytest.approx
    assert unstorable(odd) is odd
    assert unstorable(Pair) is None


def test_several_can_be_iterated() -> None:
    """A Several iterates over its items, in order."""
    assert list(fg.Several([3, 1, 2])) == [3, 1, 2]


def test_a_schedule_is_shown_by_its_name() -> None:
    """Messages and reports show a schedule by its name."""
    assert [str(fg.lockstep()), str(fg.pipelined())] == ["lockstep", "pipelined"]
