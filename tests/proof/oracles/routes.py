"""Reference model of routes: the edges that take a result, by its class, their conditions and the other edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from tests.proof.oracles.small import Kept, run_small
from tests.proof.tried import Property, expect

__all__ = ["ROUTES"]


@attrs.frozen
class Left:
    number: int


@attrs.frozen
class Right:
    number: int


@attrs.frozen
class Way:
    """An edge: the class that it takes, and the divisor of the numbers that it takes; None takes all."""

    only: type | None = None
    every: int | None = None

    def takes(self, value: Left | Right) -> bool:
        return (self.only is None or isinstance(value, self.only)) and value.number % (self.every or 1) == 0


def takes_its_own(ways: Sequence[Way], rest: bool, lefts: Sequence[bool], several: int, schedule: fg.Schedule) -> None:
    """I1: each edge takes the results of its class that meet its condition.

    The edge for the ``rest`` takes what no other edge has taken.  An item is filtered if no edge takes any of its
    ``several`` results.  ``lefts`` says of each emission whether it is a `Left`.
    """
    # As `check` asks for: each class has an edge, and the edge for the rest can get something.
    ways = [attrs.evolve(way, every=way.every or 2) for way in ways] if rest else [*ways, Way(every=3)]
    graph = fg.Graph("routes")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=len(lefts))
    def emit(ctx: fg.Draw[Kept]) -> Left | Right:
        return (Left if lefts[ctx.emission] else Right)(ctx.emission)

    @graph.stage(fanout=several)
    def split(value: Left | Right) -> fg.Several[Left | Right]:
        return fg.Several(_results(value, several))

    def left(value: Left) -> Left:
        return value

    def right(value: Right) -> Right:
        return value

    def either(value: Left | Right) -> Left | Right:
        return value

    bodies: Mapping[type | None, Callable[[Any], Any]] = {Left: left, Right: right, None: either}
    origin: Any = split
    graph.edge(emit, origin)
    for number, way in enumerate(ways):
        stage: Any = graph.stage(name=f"way{number}")(bodies[way.only])
        options: dict[str, Any] = {"only": way.only} if way.only is not None else {}
        if way.every is not None:
            options["when"] = lambda value, every=way.every: value.number % every == 0
        graph.edge(origin, stage, **options)
        graph.edge(stage, pool)
    if rest:
        others: Any = graph.stage(name="others")(either)
        graph.edge(split, others, otherwise=True)
        graph.edge(others, pool)

    result = run_small(graph, schedule)
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    edges = {e.item: e.edge for e in result.events if isinstance(e, ev.Created)}
    ends = [e for e in result.events if isinstance(e, ev.Ended) and edges[e.item] == "emit->split"]
    expected: Counter[Left | Right] = Counter()
    nothing = 0
    for emission, is_left in enumerate(lefts):
        taken = Counter[Left | Right]()
        for value in _results((Left if is_left else Right)(emission), several):
            taken[value] += sum(way.takes(value) for way in ways) or rest
        expected += taken
        nothing += not taken.total()
    found = Counter(a.value for a in result.artifacts)
    expect(found == expected, f"I1: {ways} have let {found} pass, expected {expected}")
    filtered = sum(e.how == "filtered" for e in ends)
    expect(filtered == nothing, f"I1: {filtered} items were filtered, and of {nothing} nothing was taken")


def _results(value: Left | Right, several: int) -> list[Left | Right]:
    return [type(value)(value.number + 7 * place) for place in range(several)]


ROUTES: Mapping[str, Property] = {
    "model of routes": Property(
        ("I1",),
        takes_its_own,
        {
            "ways": st.lists(
                st.builds(Way, st.sampled_from([None, Left, Right]), st.sampled_from([None, 2, 3])),
                min_size=1,
                max_size=4,
            ),
            "rest": st.booleans(),
            "lefts": st.lists(st.booleans(), min_size=1, max_size=6),
            "several": st.integers(1, 3),
            "schedule": st.sampled_from([fg.lockstep(), fg.pipelined(3, focus=0.0)]),
        },
        2,
    ),
}
