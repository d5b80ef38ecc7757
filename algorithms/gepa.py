"""GEPA (arXiv:2507.19457): reflect on a minibatch, keep what improves it, validate, admit to a Pareto frontier.

    frontier --> select --> rollout --> propose --> trial --> gate --> validate --> frontier

The policies on the edges are about overlap, and the `lockstep` schedule ignores them: a proposal may start before the
slowest rollout is in, a candidate enters the frontier on a part of its validation and is amended by the rest, and one
that the frontier has moved away from is merged with the newest best before it is validated.
"""

import attrs

import flashgraph as fg
from flashgraph.evaluation import Attempt, Candidate, Work, attempt
from flashgraph.pools import ParetoFrontier
from flashgraph.reflection import fenced, rewrite_prompt

graph = fg.Graph("gepa", doc=__doc__)
minibatch = graph.param("minibatch", 3)
perfect = graph.param("perfect_score", 1.0)
frontier = graph.pool("frontier", ParetoFrontier)


@attrs.frozen
class Trial:
    """A parent and the minibatch it is tried on."""

    text: dict[str, str]
    batch: tuple[int, ...]

    def work(self) -> list[Work]:
        return [Work(self.text, "train", index) for index in self.batch]


@attrs.frozen
class Proposal:
    """A child, the part of the minibatch its parent was seen on, and the parent's sum of scores there."""

    text: dict[str, str]
    batch: tuple[int, ...]
    to_beat: float

    def work(self) -> list[Work]:
        return [Work(self.text, "train", index) for index in self.batch]


@graph.source(rounds=1)
def seed(at: fg.Draw) -> Candidate:
    """The seed candidate is validated first."""
    return Candidate(dict(at.task.seed), len(at.task.val))


@graph.source(reads=frontier, stream="sequential", cursor=fg.Epochs())
def select(at: fg.Draw[ParetoFrontier, fg.Epochs]) -> Trial | None:
    """A parent from the frontier, and the next minibatch of the shuffled training set."""
    parent = at.view.draw(at.random)
    if parent is None:
        return None
    at.uses(parent)
    batch, at.cursor = at.cursor.next(at.emission, at[minibatch], len(at.task.train), at.random)
    return Trial(parent.value, batch)


rollout = graph.stage(attempt, name="rollout", llm="task", spends="evaluations")


@graph.stage(llm="reflection", spends="proposals", reads=frontier)
async def propose(batch: fg.Group[Trial, Attempt], at: fg.Context[ParetoFrontier]) -> Proposal | None:
    """Reflect on what the parent did; nothing to learn from a perfect minibatch.

    Under a refresh rule what was learned is written into the newest best text instead of the parent's."""
    seen = batch.values
    if not seen or all(a.score >= at[perfect] for a in seen):
        return None
    base = batch.origin.text
    if at.refreshed and (best := at.view.best()):
        base = best.value
        at.uses(best)
    (component, text), *_ = base.items()
    reply = await at.llm(rewrite_prompt(text, seen, at.task))
    if not (new := fenced(reply.text)):
        return None
    return Proposal({**base, component: new}, tuple(a.index for a in seen), sum(a.score for a in seen))


trial = graph.stage(attempt, name="trial", llm="task", spends="evaluations")


@graph.stage
def gate(batch: fg.Group[Proposal, Attempt], at: fg.Context) -> Candidate | None:
    """Keep a child that does strictly better than the drawn parent on the same samples."""
    if sum(a.score for a in batch.values) <= batch.origin.to_beat:
        return None
    return Candidate(batch.origin.text, len(at.task.val))


validate = graph.stage(attempt, name="validate", llm="task", spends="evaluations")


@graph.stage(llm="reflection", reads=frontier)
async def patch(stale: fg.Stale[Candidate], at: fg.Context[ParetoFrontier]) -> fg.Verdict[Candidate]:
    """Merge a child whose frontier has moved on with the best that is there now."""
    best = at.view.best()
    if best is None or not any(c.kind == "admitted" and c.artifact.id == best.id for c in stale.changes):
        return fg.Verdict.accept()
    (component, text), *_ = stale.value.text.items()
    reply = await at.llm(MERGE.format(best=best.value[component], text=text))
    if not (new := fenced(reply.text)):
        return fg.Verdict.discard("the merge is empty")
    at.uses(best)
    return fg.Verdict.patch(Candidate({**stale.value.text, component: new}, stale.value.size))


MERGE = """Two instructions for the same assistant were improved apart from each other.
The best one so far:
```
{best}
```
Another one, which learned from different examples:
```
{text}
```
Write one instruction that keeps every fact and rule of the best one and adds what only the other one knows. Where they
contradict each other, follow the best one. Give only the new instruction, between ``` fences."""

graph.edge(select, rollout, scatter=Trial.work)
graph.edge(rollout, propose, gather=True, release=fg.fraction(0.67), late="cancel")
graph.edge(propose, trial, scatter=Proposal.work)
graph.edge(trial, gate, gather=True)
graph.edge(seed, validate, scatter=Candidate.work)
graph.edge(gate, validate, scatter=Candidate.work, order=fg.discriminative(window=3), stale=fg.repair(patch, above=0))
graph.edge(validate, frontier, gather=True, release=fg.fraction(0.25), late="amend", stale=fg.discard(above=8))
