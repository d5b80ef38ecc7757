"""A function that returns another class than it declares fails, and the reason names both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NewType, Protocol, TypedDict, TypeVar

import pytest

import flashgraph as fg
from flashgraph.graph.types import classes_of
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

T = TypeVar("T")
Name = NewType("Name", str)


class Named(Protocol):
    name: str


class Row(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("hint", "classes"),
    [
        (int, {int}),
        (float, {float, int}),
        (complex, {complex, int, float}),
        (list[int], {list}),
        (Mapping[str, int], {Mapping}),
        (Callable[[int], str], {Callable}),
        (fg.Several[int], {fg.Several}),
        (int | None, {int, type(None)}),
        (None, {type(None)}),
        (Literal["a", 1], {str, int}),
        (Name, {str}),
        (Row, {dict}),
        (Any, None),
        (int | Any, None),
        (T, None),
        (Named, None),
        (Sequence, {Sequence}),
    ],
    ids=str,
)
def test_the_classes_of_a_type(hint: Any, classes: set[Any] | None) -> None:
    """A type has its classes without the arguments of a generic; None if the class does not tell."""
    found = classes_of(hint)
    assert (None if found is None else {getattr(kind, "__name__", kind) for kind in found}) == (
        None if classes is None else {getattr(kind, "__name__", kind) for kind in classes}
    )


def graph_of(wrong: str) -> fg.Graph:
    """Return a graph with one number through a source and stages: plain, with a context, async, and with several
    results.
    """
    graph = fg.Graph("declares")
    pool = graph.pool("pool", Log)
    other: Any = ["something else"]

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw) -> int | None:
        return other if wrong == "draw" else 1

    @graph.stage
    def plain(n: int) -> int:
        return other if wrong == "plain" else n

    @graph.stage
    def seeing(n: int, ctx: fg.Context) -> int:
        return None if wrong == "seeing" else n  # type: ignore[return-value]  # the mistake under test

    @graph.stage
    async def later(n: int) -> Any:
        return n

    @graph.stage(fanout=2)
    async def several(n: int, ctx: fg.Context) -> fg.Several[str]:
        return other if wrong == "several" else fg.Several([str(n), str(n + 1)])

    graph.edge(draw, plain)
    graph.edge(plain, seeing)
    graph.edge(seeing, later)
    graph.edge(later, several)
    graph.edge(several, pool)
    assert graph.check() == ()
    return graph


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("plain", "stage 'plain' returned a list; it declares int"),
        ("seeing", "stage 'seeing' returned None; it declares int"),
        (
            "several",
            "stage 'several' returned a list; it declares Several[str]. Fix: return fg.Several(...) of them",
        ),
    ],
)
def test_another_type_than_declared_fails_the_item(wrong: str, said: str, virtually: Virtually) -> None:
    """The item would be lost silently at the next edge."""
    result = watched(graph_of(wrong), virtually, schedule="lockstep")
    failed = [e.reason for e in of(result, ev.JobEnded) if e.how == "failed"]
    assert failed == [f"TypeError: {said}"]
    assert result.artifacts == ()


def test_a_source_that_emits_something_else_ends_the_run(virtually: Virtually) -> None:
    """A source that returns another type ends the run, as one that raises does."""
    result = watched(graph_of("draw"), virtually, schedule="lockstep")
    assert (result.status, result.reason) == (
        "failed",
        "source 'draw' failed: TypeError: source 'draw' returned a list; it declares int | None",
    )


def test_what_was_declared_passes(virtually: Virtually) -> None:
    """Both items of the last stage pass."""
    assert [a.value for a in watched(graph_of(""), virtually, schedule="lockstep").artifacts] == ["1", "2"]
