"""A graph with a bounded loop, a scatter and its gather, early release with amendment, and repair of stale items.

Two of its stages call the model several times, one of them concurrently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.parts import Archive

__all__ = ["TASK", "answer", "build"]


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


@attrs.frozen
class Idea:
    """A candidate: ``text`` grows with every rewrite; ``passes`` counts the rewrites."""

    text: str
    passes: int = 0

    @property
    def rough(self) -> bool:
        return digest(self.text, "rough") % 3 == 0

    def angles(self) -> list[Angle]:
        return [Angle(self.text, index) for index in range(5)]


@attrs.frozen
class Angle:
    text: str
    index: int


@attrs.frozen
class Mark:
    """The score of an idea from one angle; ``word`` is the reply of its judge."""

    index: int
    score: float
    word: str


TASK = fg.Task("cyclic", train=[0], val=[0], seed={"text": "-"}, score=lambda s, o: fg.Score(1.0))


def answer(messages: Sequence[Message]) -> str:
    """Answer for both roles; some replies are so long that the journal stores their texts apart."""
    key = digest(messages[-1]["content"])
    return f"w{key % 100_000}" + "." * (300 if key % 7 == 0 else 0)


def build(rounds: int = 8) -> fg.Graph:
    """Build a graph that makes ``rounds`` ideas, each from the best known one at its start."""
    graph = fg.Graph("cyclic")
    archive = graph.pool("archive", lambda: Archive(threshold=0.35))

    @graph.source(reads=archive, rounds=rounds, stream="sequential", state=())
    def pick(ctx: fg.Draw[Archive, None, tuple[int, ...]]) -> fg.Emit[Idea, tuple[int, ...]]:
        state = (*ctx.state[-2:], ctx.random.randrange(100))
        best = ctx.view.best()
        ctx.parents(*([best] if best else []))
        return fg.Emit(Idea(f"{best.value.text if best else '-'} {state}"[-120:]), state)

    @graph.stage(model="writer", counts="proposals")
    async def write(idea: Idea, ctx: fg.Context) -> Idea:
        """Make two calls in sequence and two concurrently."""
        plan = await ctx.llm(f"plan {idea.text}")
        parts: dict[str, str] = {}

        async def part(name: str) -> None:
            parts[name] = (await ctx.llm(f"{name} of {plan.text} for {idea.text}")).text

        async with anyio.create_task_group() as tasks:
            for name in ("head", "body"):
                tasks.start_soon(part, name)
        last = await ctx.llm(f"join {parts['head']} and {parts['body']} {ctx.random.random()}")
        return Idea(f"{idea.text}/{last.text}"[-400:], idea.passes + 1)

    @graph.stage(model="judge", counts="evaluations")
    async def judge(angle: Angle, ctx: fg.Context) -> Mark:
        """Make two calls; some angles fail."""
        first = await ctx.llm(f"judge {angle}")
        if digest(angle, "fails") % 11 == 0:
            raise ValueError(f"angle {angle.index}")
        second = await ctx.llm(f"sure? {angle} {first.text}")
        return Mark(angle.index, digest(second.text) % 100 / 100, second.text)

    @graph.stage(reads=archive, model="writer")
    async def renew(stale: fg.Stale[Idea], ctx: fg.Context[Archive]) -> fg.Verdict[Idea]:
        reply = await ctx.llm(f"renew {stale.value.text} after {stale.lag}")
        if digest(reply.text) % 5 == 0:
            return fg.Verdict.discard("nothing left of it")
        return fg.Verdict.patch(attrs.evolve(stale.value, text=f"{stale.value.text}+{reply.text}"[-400:]))

    @graph.stage
    def polish(idea: Idea) -> Idea:
        return idea

    graph.edge(pick, write)
    graph.edge(write, polish)
    graph.edge(polish, write, when=_rough, loop=2)
    graph.edge(polish, judge, otherwise=True, scatter=Idea.angles, stale=fg.repair(renew, above=1))
    graph.edge(judge, archive, gather=True, release=fg.fraction(0.5), late="amend", stale=fg.discard(above=6))
    return graph


def _rough(idea: Idea) -> bool:
    return idea.rough


def models() -> Mapping[str, None]:
    return {"writer": None, "judge": None}
