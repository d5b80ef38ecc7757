"""Graphs that mypy must accept: every form of declaration, and edges whose types fit."""

from __future__ import annotations

from typing import Any, assert_type

import attrs

import flashgraph as fg
from flashgraph.graph.handles import PoolNode, Source, Stage
from flashgraph.parts import Archive, ParetoFrontier
from flashgraph.parts.evaluation import Attempt, Candidate, Validated, attempt


@attrs.frozen
class Seed:
    n: int

    def parts(self) -> list[Part]:
        return [Part(self.n)]

    def big(self) -> bool:
        return self.n > 9


@attrs.frozen
class Special(Seed):
    pass


@attrs.frozen
class Part:
    n: int


@attrs.frozen
class Value:
    x: float


@attrs.frozen
class Params:
    size: int = 3
    words: tuple[str, ...] = ("short", "long")


graph = fg.Graph("accepted", params=Params)

frontier = graph.pool("frontier", ParetoFrontier)
assert_type(frontier, PoolNode[fg.Group[Candidate | Validated, Attempt], ParetoFrontier])
archive = graph.pool("archive", lambda: Archive(threshold=0.5))


@graph.source(reads=frontier, state=0)
def draw(ctx: fg.Draw[ParetoFrontier, Params, int]) -> fg.Emit[Seed, int] | None:
    assert_type(ctx.random.choice(ctx.params.words), str)  # a call whose argument may be of a wider type
    return fg.Emit(Seed(ctx.params.size), ctx.state + 1)


@graph.source
def once(ctx: fg.Draw) -> Special | None:
    return None


@graph.source(rounds=1)
def first(ctx: fg.Draw) -> Candidate:
    return Candidate({}, 0)


assert_type(draw, Source[Seed])
assert_type(once, Source[Special])


@graph.stage
def plain(seed: Seed) -> Value:
    return Value(0.0)


@graph.stage
def with_context(seed: Seed, ctx: fg.Context) -> Value | None:
    return None


@graph.stage(name="other", workers=2)
async def asynchronous(seed: Seed) -> Value | None:
    return None


@graph.stage(model="task", reads=frontier, counts=("proposals", "evaluations"))
async def reading(seed: Seed, ctx: fg.Context[ParetoFrontier]) -> Value:
    return Value(0.0)


@graph.stage(fanout=3)
def several(seed: Seed) -> fg.Several[Part]:
    return fg.Several([])


@graph.stage(model="task", fanout=3)
async def several_async(seed: Seed, ctx: fg.Context) -> fg.Several[Part] | None:
    return None


@graph.stage
def several_with_context(seed: Seed, ctx: fg.Context) -> fg.Several[Part] | None:
    return None


@graph.stage
async def several_async_alone(seed: Seed) -> fg.Several[Part]:
    return fg.Several([])


assert_type(plain, Stage[Seed, Value])
assert_type(with_context, Stage[Seed, Value])
assert_type(asynchronous, Stage[Seed, Value])
assert_type(reading, Stage[Seed, Value])
assert_type(several, Stage[Seed, Part])
assert_type(several_async, Stage[Seed, Part])
assert_type(several_with_context, Stage[Seed, Part])
assert_type(several_async_alone, Stage[Seed, Part])


def score(part: Part) -> Value:
    return Value(0.0)


async def score_async(part: Part, ctx: fg.Context) -> Value | None:
    return None


scored = graph.stage(score)
again = graph.stage(score, name="again", workers=3)
by_model = graph.stage(score_async, name="by_model", model="task", reads=frontier, counts="evaluations")
assert_type(scored, Stage[Part, Value])
assert_type(by_model, Stage[Part, Value])


options: dict[str, Any] = {"model": "task", "workers": 2}
with_options = graph.stage(score_async, name="with_options", **options)
graph.edge(several, with_options)


@graph.stage
def mean(batch: fg.Group[Seed, Value]) -> Value:
    return batch.values[0]


@graph.stage
def either(item: Value | Part) -> Value:
    return Value(0.0)


@graph.stage(reads=frontier)
def patch(stale: fg.Stale[Seed], ctx: fg.Context[ParetoFrontier]) -> fg.Verdict[Seed]:
    return fg.Verdict.patch(stale.value)


validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")

graph.edge(draw, plain)
graph.edge(once, plain)  # a subclass
graph.edge(plain, either)  # a member of a union
graph.edge(several, scored, capacity=4, order=fg.freshest())
graph.edge(draw, scored, scatter=Seed.parts, fanout=3, order=fg.discriminative(), stale=fg.repair(patch))
graph.edge(once, again, scatter=Seed.parts)
graph.edge(draw, with_context, when=Seed.big)
graph.edge(draw, asynchronous, when=lambda seed: seed.n < 3, stale=fg.discard(above=1) | fg.accept())
graph.edge(draw, reading, otherwise=True, stale=fg.refresh(), orphans="keep")
graph.edge(scored, mean, gather=True, release=fg.fraction(0.5), late="amend", on_failure=fg.fail_above(0.5))
graph.edge(again, mean, gather=True, release=fg.decided(lambda group: len(group.values) > 1), late="drop")
graph.edge(first, validate, scatter=Candidate.work)
graph.edge(validate, frontier, gather=True, stale=fg.discard(above=4))
graph.edge(validate, archive, gather=True)

part = graph.include(fg.Graph("part"), "part", params={"size": 3}, pools={"pool": frontier})
graph.edge(draw, part["first"])
