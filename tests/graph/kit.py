"""Items, pools and stages of the small graphs in these tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

import flashgraph as fg

__all__ = ["MISTAKES", "Batch", "Boxes", "Mistake", "Part", "Scores", "Seed", "Value", "grouped", "mistake", "plain"]


@attrs.frozen
class Part:
    """A member of a scattered `Seed`."""

    n: int = 0


@attrs.frozen
class Seed:
    """The item that sources emit."""

    n: int = 0

    def parts(self) -> list[Part]:
        return [Part(i) for i in range(self.n)]

    @property
    def ready(self) -> bool:
        return self.n > 0

    def big(self) -> bool:
        return self.n > 9


@attrs.frozen
class Batch:
    """Another item with a method of the same name."""

    n: int = 0

    def parts(self) -> list[Part]:
        return [Part(self.n)]

    def big(self) -> bool:
        return True


@attrs.frozen
class Value:
    """The item that pools admit."""

    x: float = 0.0


@attrs.frozen
class Scores:
    """A pool of single values."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Value]) -> Scores:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Scores:
        return self


@attrs.frozen
class Boxes:
    """A pool of groups."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[fg.Group[Seed, Value]]) -> Boxes:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Boxes:
        return self


def plain(graph: fg.Graph | None = None) -> tuple[fg.Graph, Any, Any]:
    """Return a graph with a pool of values and a source of seeds that reads it; the test adds the rest."""
    graph = graph or fg.Graph("plain")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return graph, draw, pool


def grouped() -> tuple[fg.Graph, Any, Any, Any]:
    """Return a graph whose source scatters its seeds to stage ``score``; the pool admits the gathered values."""
    graph = fg.Graph("grouped")
    pool = graph.pool("boxes", Boxes)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    @graph.stage
    def score(part: Part) -> Value:
        return Value()

    graph.edge(draw, score, scatter=Seed.parts)
    return graph, draw, score, pool


@attrs.frozen
class Mistake:
    """A graph with mistakes, and the messages that `check` must give for it."""

    build: Callable[[], fg.Graph]
    expected: str


MISTAKES: list[Mistake] = []


def mistake(expected: str) -> Callable[[Callable[[], fg.Graph]], Callable[[], fg.Graph]]:
    """Register a graph; in ``expected`` FILE is its place, the line that ends with ``# <- CODE``."""

    def register(build: Callable[[], fg.Graph]) -> Callable[[], fg.Graph]:
        MISTAKES.append(Mistake(build, expected))
        return build

    return register
