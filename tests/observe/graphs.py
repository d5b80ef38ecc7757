"""Graphs of other shapes than GEPA's, to draw and explain: a bounded loop, routes, two pools, a map and a reduce."""

from __future__ import annotations

import attrs

import flashgraph as fg
from flashgraph.parts import Archive

__all__ = ["mapped", "playbook"]


@attrs.frozen
class Trace:
    """The record of one attempt and the number of reflections on it."""

    text: str
    score: float
    again: int = 0

    def parts(self) -> list[Part]:
        return [Part(self.text)]


@attrs.frozen
class Part:
    text: str
    score: float = 0.0


def playbook() -> fg.Graph:
    """ACE's shape: reflection in a bounded loop, and a curator that reads the pool."""
    graph = fg.Graph("playbook", doc="ACE (arXiv:2510.04618): generate, reflect, curate.")
    pool = graph.pool("playbook", Archive)
    log = graph.pool("log", Archive)

    @graph.source(reads=pool)
    def sample(ctx: fg.Draw[Archive]) -> Trace:
        return Trace("x", 0.0)

    @graph.stage(model="generator", counts="evaluations")
    async def generate(trace: Trace, ctx: fg.Context) -> Trace:
        return trace

    @graph.stage(model="reflector", workers=4)
    async def reflect(trace: Trace, ctx: fg.Context) -> Trace:
        return attrs.evolve(trace, again=trace.again + 1)

    @graph.stage(model="curator", reads=pool, counts="proposals")
    async def curate(trace: Trace, ctx: fg.Context[Archive]) -> Trace:
        return trace

    @graph.stage(model="generator")
    async def verify(part: Part, ctx: fg.Context) -> Part:
        return part

    @graph.stage(model="curator", reads=pool)
    async def rebase(stale: fg.Stale[Trace], ctx: fg.Context[Archive]) -> fg.Verdict[Trace]:
        return fg.Verdict.accept()

    def unclear(trace: Trace) -> bool:
        return trace.again < 3

    graph.edge(sample, generate)
    graph.edge(generate, reflect)
    graph.edge(reflect, reflect, when=unclear, loop=3)
    graph.edge(reflect, curate, otherwise=True, capacity=8)
    graph.edge(curate, verify, scatter=Trace.parts, fanout=4, stale=fg.discard(above=9) | fg.repair(rebase))
    graph.edge(verify, pool, gather=True, release=fg.deadline(30), late="drop", on_failure=fg.fail_above(0.5))
    graph.edge(verify, log, gather=True, release=fg.count(2), late="drop")
    return graph


def mapped() -> fg.Graph:
    """Combee's shape: two branches from one source that meet again."""
    graph = fg.Graph("mapped")
    pool = graph.pool("notes", Archive)

    @graph.source(reads=pool, rounds=5)
    def draw(ctx: fg.Draw[Archive]) -> Trace:
        return Trace("x", 0.0)

    @graph.stage(model="task")
    async def short(trace: Trace, ctx: fg.Context) -> Trace:
        return trace

    @graph.stage(model="task")
    async def long(trace: Trace, ctx: fg.Context) -> Trace:
        return trace

    @graph.stage
    def shuffle(trace: Trace) -> Trace:
        return trace

    @graph.stage(model="task")
    async def score(part: Part, ctx: fg.Context) -> Part:
        return part

    graph.edge(draw, short, when=lambda trace: trace.score < 0.5, order=fg.freshest())
    graph.edge(draw, long, otherwise=True)
    graph.edge(short, shuffle)
    graph.edge(long, shuffle, stale=fg.discard(above=2))
    graph.edge(shuffle, score, scatter=Trace.parts)
    graph.edge(score, pool, gather=True)
    return graph
