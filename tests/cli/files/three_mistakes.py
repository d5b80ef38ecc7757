"""A graph with three mistakes: an option, a type, and a fraction."""

import flashgraph as fg
from flashgraph.parts import Archive

graph = fg.Graph("crooked")
pool = graph.pool("pool", Archive)


@graph.source(reads=pool)
def draw(ctx: fg.Draw[Archive]) -> list[str]:
    return ["x"]


@graph.stage
def count(word: int) -> int:
    return word


def words(batch: list[str]) -> list[str]:
    return batch


graph.edge(draw, count, scatter=words)  # type: ignore[arg-type]
graph.edge(count, pool, gather=True, release=fg.fraction(1.5), colour="red")  # type: ignore[call-overload]
