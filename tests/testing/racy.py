"""A pool with a race that is easy to write: it keeps a tally outside of its value.

docs/how-to/test-your-work.md shows this file and the messages about it.
"""

from collections.abc import Mapping

import attrs

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt, Candidate, attempt

SEEN: list[float] = []


@attrs.frozen
class AboveMean:
    """A pool that keeps artifacts that score more than the mean of all it was ever given."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[fg.Group[Candidate, Attempt]]) -> "AboveMean":
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if event.kind == "retract":
            return attrs.evolve(self, artifacts=rest)
        score = sum(a.score for a in event.value.values) / max(1, len(event.value.values))
        SEEN.append(score)
        if score < sum(SEEN) / len(SEEN):
            return attrs.evolve(self, artifacts=rest)
        made = fg.Artifact(event.artifact, event.value.origin, event.parents, score, provisional=event.partial)
        return attrs.evolve(self, artifacts=dict(sorted({**rest, event.artifact: made}.items())))

    def best(self) -> fg.Artifact | None:
        return max(self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def best_line(self) -> "AboveMean":
        return self


graph = fg.Graph("racy")
pool = graph.pool("pool", AboveMean)


@graph.source(reads=pool)
def pick(ctx: fg.Draw[AboveMean]) -> Candidate:
    best = ctx.view.best()
    ctx.parents(*([best] if best else []))
    return best.value if best else Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.stage(model="reflection", counts="proposals")
async def rewrite(candidate: Candidate, ctx: fg.Context) -> Candidate:
    (name, text), *_ = candidate.text.items()
    return Candidate({name: (await ctx.llm(f"Reword this instruction:\n\n{text}")).text}, candidate.size)


validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")

graph.edge(pick, rewrite)
graph.edge(rewrite, validate, scatter=Candidate.work)
graph.edge(validate, pool, gather=True, release=fg.fraction(0.5), late="amend")
