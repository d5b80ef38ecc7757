"""A race: candidates are tried on a part of their samples, and the most promising ones on more.

Candidate ``c<N>`` passes sample ``<index>`` if a hash of both is below its quality: a tenth of ``N`` plus a fifth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.parts import ParetoFrontier
from flashgraph.parts.evaluation import Attempt, Candidate, Validated, Work
from flashgraph.testing.tokens import draw

__all__ = ["SIZE", "TASK", "Asked", "answer", "passes", "race", "slowly"]

SIZE = 40


async def _attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm(f"{candidate['text']} {sample}")).text


TASK = fg.Task(
    "race",
    train=[0],
    val=range(SIZE),
    seed={"text": "c0"},
    attempt=_attempt,
    score=lambda sample, output: fg.Score(float(output)),
)


@attrs.frozen
class Asked:
    """By artifact, the number of samples that it was sent out on."""

    samples: Mapping[int, int] = attrs.field(factory=dict)


def passes(text: str, index: int) -> float:
    """Return the score of a candidate on a sample."""
    return float(draw(text, index) < 0.2 + 0.1 * int(text[1:]))


def answer(messages: Sequence[Message]) -> str:
    """Return the verdict of the judge on ``<text> <index>``."""
    text, index = messages[-1]["content"].split()
    return str(passes(text, int(index)))


async def slowly(messages: Sequence[Message]) -> str:
    """Return the same after half a second to two seconds, by a hash of the prompt."""
    # Sixty-fourths add up without rounding: equal instants are equal on every clock.
    await anyio.sleep(round(32 + 96 * draw("seconds", messages[-1]["content"])) / 64)
    return answer(messages)


def race(candidates: int = 6, sent: int = 10, share: float = 0.5, **edge: Any) -> fg.Graph:
    """Return the graph; each candidate is a child of the best one before it."""
    graph = fg.Graph("race")
    frontier = graph.pool("frontier", ParetoFrontier)

    def pick(ctx: fg.Draw[ParetoFrontier]) -> Candidate:
        if (best := ctx.view.best()) is not None:
            ctx.parents(best)
        return Candidate({"text": f"c{ctx.emission}"}, SIZE)

    def confirm(ctx: fg.Draw[ParetoFrontier, None, Asked]) -> fg.Emit[Validated, Asked] | None:
        asked = ctx.state.samples if ctx.open else {}
        found = ctx.view.contender(ctx.random, asked, ctx.champion)
        if found is None:
            return None
        done = len(ctx.view.tried[found.artifact].sent)
        ctx.parents(found.artifact)
        return fg.Emit(found, Asked({**asked, found.artifact: done + len(found.samples)}))

    async def judge(work: Work, ctx: fg.Context) -> Attempt:
        reply = await ctx.llm(f"{work.text['text']} {work.index}")
        return Attempt(work.index, float(reply.text), reply.text)

    first = graph.source(name="pick", reads=frontier, rounds=candidates)(pick)
    more = graph.source(name="confirm", reads=frontier, state=Asked(), evidence=True)(confirm)
    validate = graph.stage(name="validate", model="judge")(judge)
    measure = graph.stage(name="measure", model="judge")(judge)
    graph.edge(first, validate, scatter=Candidate.work, order=fg.discriminative(window=2))
    options = {"release": fg.sampled(sent, share=share), "late": "amend", **edge}
    graph.edge(validate, frontier, gather=True, **options)
    graph.edge(more, measure, scatter=Validated.work)
    graph.edge(measure, frontier, gather=True, release=fg.fraction(0.5), late="amend")
    return graph
