"""GEPA (arXiv:2507.19457): reflect on a minibatch, keep what improves it, validate, admit to a Pareto frontier.

    seed --> baseline --> frontier
    frontier --> select --> rollout --> propose --> trial --> gate --> validate --> frontier
    frontier --> cross  --------------------------> trial
    frontier --> confirm --> measure --> frontier

`select` draws a parent and a minibatch of training samples, and `rollout` scores the parent on it. `propose` lets a
model rewrite the parent, given the feedback. `trial` scores the child on the same samples, and `gate` drops it unless
it does better. `validate` scores it on the validation split. For each validation sample, the frontier keeps the
candidates that are best there; they become the parents. `cross` joins components of two candidates, and `confirm` sends
the champion and the most promising candidates to more validation samples.

The policies on the edges apply only where rounds overlap; `lockstep` ignores them. They let a proposal start before the
slowest rollout ends, and admit a candidate on a random part of its validation. `patch` merges a stale child with the
current best.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
from attrs.validators import ge, le

import flashgraph as fg
from flashgraph.parts import (
    SHOWN_TOKENS,
    Attempt,
    Candidate,
    Epochs,
    Frontier,
    ParetoFrontier,
    RoundRobin,
    Validated,
    Work,
    attempt,
    fenced_answers,
    reachable,
    reflecting,
    rewritten,
    same_text,
)
from flashgraph.parts.gepa import Crossings


@attrs.frozen
class Params:
    """The parameters, under the names of the `gepa` package where it has them."""

    minibatch: int = attrs.field(default=3, validator=ge(1))
    perfect_score: float | None = None
    acceptance: Literal["strict_improvement", "improvement_or_equal"] = "strict_improvement"
    components: Literal["round_robin", "all"] = "round_robin"
    frontier: Frontier = "instance"
    selection: Literal["pareto", "best", "epsilon_greedy", "top_k"] = "pareto"
    epsilon: float = attrs.field(default=0.1, validator=[ge(0), le(1)])
    top_k: int = attrs.field(default=5, validator=ge(1))
    parents: int = attrs.field(default=1, validator=ge(1))
    samples: int = attrs.field(default=1, validator=ge(1))
    merge: bool = False
    max_merge_invocations: int = attrs.field(default=5, validator=ge(0))
    merge_val_overlap_floor: int = attrs.field(default=5, validator=ge(1))
    reflection_tokens: int = attrs.field(default=SHOWN_TOKENS, validator=ge(1))


graph = fg.Graph("gepa", doc=__doc__, params=Params)
frontier = graph.pool("frontier", ParetoFrontier)

# ---- what flows ------------------------------------------------------------------------------------------


@attrs.frozen
class Trial:
    """A parent, its minibatch of training samples, and the components that its child rewrites."""

    text: dict[str, str]
    batch: tuple[int, ...]
    parent: int
    components: tuple[str, ...]

    def work(self) -> list[Work]:
        return [Work(self.text, "train", index) for index in self.batch]


@attrs.frozen
class Trials:
    """Several trials drawn from one view of the frontier."""

    trials: tuple[Trial, ...]


@attrs.frozen
class Proposal:
    """A child, the samples of its trial, and the sum of scores that it must exceed (or reach, if ``reaching``)."""

    text: dict[str, str]
    split: str
    batch: tuple[int, ...]
    to_beat: float
    reaching: bool
    bounds: tuple[float, float]
    rewritten: tuple[str, ...] = ()

    def work(self) -> list[Work]:
        return [Work(self.text, self.split, index) for index in self.batch]

    def passes(self, reached: float) -> bool:
        """Return whether a child with this sum of scores passes its trial."""
        return reached > self.to_beat or (self.reaching and reached == self.to_beat)


@attrs.frozen
class Child(Candidate):
    """A candidate that passed its trial, and the components in which it differs from its parent."""

    rewritten: tuple[str, ...] = ()


@attrs.frozen
class Turns:
    """The position in the epoch's minibatches, and the next component of each candidate."""

    epochs: Epochs = attrs.field(factory=Epochs)
    components: RoundRobin = attrs.field(factory=RoundRobin)


@attrs.frozen
class SamplesSent:
    """For each artifact id, the number of validation samples that it was sent to."""

    samples: Mapping[int, int] = attrs.field(factory=dict)


# ---- sources ---------------------------------------------------------------------------------------------


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's seed as the first candidate."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=frontier, stream="sequential", state=Turns())
def select(ctx: fg.Draw[ParetoFrontier, Params, Turns]) -> fg.Emit[Trial | Trials, Turns] | None:
    """Draw parents from the frontier, and for each the next minibatches of the shuffled training set."""
    params, names, trials = ctx.params, tuple(ctx.task.seed), list[Trial]()
    epochs, turns = ctx.state.epochs, ctx.state.components.joined(ctx.view.artifacts)
    for _ in range(params.parents):
        if (parent := drawn(ctx)) is None:
            return None
        for _ in range(params.samples):
            batch, epochs = epochs.next(
                ctx.turn, params.minibatch, len(ctx.task.train), ctx.random, further=len(trials)
            )
            turn, turns = turns.next(parent.id, len(names))
            chosen = names if params.components == "all" else (names[turn],)
            trials.append(Trial(parent.value, batch, parent.id, chosen))
    if len(trials) > 1:  # named here, all would be parents of every child
        return fg.Emit(Trials(tuple(trials)), Turns(epochs, turns))
    ctx.parents(trials[0].parent)
    return fg.Emit(trials[0], Turns(epochs, turns))


def drawn(ctx: fg.Draw[ParetoFrontier, Params, Turns]) -> fg.Artifact | None:
    """Return one parent, chosen by ``selection``; None while the frontier is empty."""
    if not ctx.view.artifacts:
        return None
    if ctx.params.selection == "best":
        return ctx.view.best()
    if ctx.params.selection == "epsilon_greedy":
        explore = ctx.random.random() < ctx.params.epsilon
        return ctx.random.choice(list(ctx.view.artifacts.values())) if explore else ctx.view.best()
    return ctx.view.draw(ctx.random, ctx.params.frontier, ctx.params.top_k if ctx.params.selection == "top_k" else None)


@graph.source(reads=frontier, stream="sequential", state=Crossings())
def cross(ctx: fg.Draw[ParetoFrontier, Params, Crossings]) -> fg.Emit[Proposal, Crossings] | None:
    """Cross two candidates once a child was admitted: each gives the components that it changed since a common
    ancestor."""
    held = ctx.view.artifacts
    if not ctx.params.merge or len(held) < 3:
        return None
    grown, crossings = ctx.state.count(held, ctx.params.max_merge_invocations)
    if not grown or crossings.due <= len(ctx.open):
        return fg.Emit(None, crossings)
    found, crossings = crossings.draw(
        held, ctx.view.dominators(ctx.params.frontier), ctx.params.merge_val_overlap_floor, ctx.random
    )
    if found is None:
        return fg.Emit(None, crossings)
    ctx.parents(*found.parents)
    merged = Proposal(found.text, "val", found.samples, found.to_reach, True, ctx.task.bounds)
    return fg.Emit(merged, crossings)


@graph.source(reads=frontier, state=SamplesSent(), evidence=True)
def confirm(ctx: fg.Draw[ParetoFrontier, Params, SamplesSent]) -> fg.Emit[Validated, SamplesSent] | None:
    """Send the most promising candidate that lacks evidence to more validation samples."""
    sent = ctx.state.samples if ctx.open else {}
    found = ctx.view.contender(ctx.random, sent, ctx.champion)
    if found is None:
        return None
    ctx.parents(found.artifact)
    done = len(ctx.view.tried[found.artifact].sent) + len(found.samples)
    return fg.Emit(found, SamplesSent({**sent, found.artifact: done}))


# ---- stages ----------------------------------------------------------------------------------------------


@graph.stage
def spread(several: Trials) -> fg.Several[Trial]:
    """Split the trials of one draw into separate items."""
    return fg.Several(several.trials)


baseline = graph.stage(attempt, name="baseline", model="task", counts="evaluations")
rollout = graph.stage(attempt, name="rollout", model="task", counts="evaluations")


def solved(seen: Sequence[Attempt], score: float | None) -> bool:
    """Return whether all attempts score at least ``score``; None means the task's greatest score, if it has one."""
    return all(a.passed if score is None else a.score >= score for a in seen)


@graph.stage(model="reflection", counts="proposals", reads=frontier)
async def propose(batch: fg.Group[Trial, Attempt], ctx: fg.Context[ParetoFrontier, Params]) -> Proposal | None:
    """Reflect on the parent's attempts and rewrite its components; skip a perfect minibatch.

    Under a refresh rule, the rewrite changes the newest best text instead of the parent's.
    """
    seen, drew = batch.values, batch.origin
    if not seen or solved(seen, ctx.params.perfect_score):
        return None
    ctx.parents(drew.parent)
    base = drew.text
    if ctx.refreshed and (best := ctx.view.best()):
        base = best.value
        ctx.parents(best)
    texts = {name: base[name] for name in drew.components}
    new = await rewritten(ctx.llm, texts, seen, ctx.task, tokens=ctx.params.reflection_tokens, whole=base)
    indices, to_beat = tuple(a.index for a in seen), sum(a.score for a in seen)
    reaching = ctx.params.acceptance == "improvement_or_equal"
    return Proposal({**base, **new}, "train", indices, to_beat, reaching, ctx.task.bounds, tuple(new))


trial = graph.stage(attempt, name="trial", model="task", counts="evaluations")


def settled(batch: fg.Group[Proposal, Attempt]) -> bool:
    """Return whether the trials that are still open can no longer change the gate's decision."""
    least, most = reachable(batch, batch.origin.bounds)
    return batch.origin.passes(least) or not batch.origin.passes(most)


@graph.stage
def gate(batch: fg.Group[Proposal, Attempt], ctx: fg.Context) -> Child | None:
    """Pass a child that beats its parent on the same samples, or a cross that equals its better parent."""
    child = batch.origin
    if not child.passes(reachable(batch, child.bounds)[0]):
        return None
    return Child(child.text, len(ctx.task.val), child.rewritten)


validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")
measure = graph.stage(attempt, name="measure", model="task", counts="evaluations")


@graph.stage(model="reflection", reads=frontier)
async def patch(stale: fg.Stale[Child], ctx: fg.Context[ParetoFrontier]) -> fg.Verdict[Child]:
    """Merge a stale child with the current best: rewrite the best's text in the components that the child changed."""
    child, best = stale.value, ctx.view.best()
    if best is None or not child.rewritten:
        return fg.Verdict.accept()
    if not any(c.kind == "admitted" and c.artifact.id == best.id for c in stale.changes):
        return fg.Verdict.accept()
    prompts = {n: MERGE.format(best=best.value[n], text=child.text[n]) for n in child.rewritten}
    new = await fenced_answers(ctx.llm, prompts)
    ctx.parents(best)
    return fg.Verdict.patch(attrs.evolve(child, text={**best.value, **new}))


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


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the evaluations of a round: each child and its parent on one minibatch."""
    return reflecting(ctx.params.minibatch, ctx.params.parents * ctx.params.samples)


graph.edge(select, rollout, only=Trial, scatter=Trial.work)
graph.edge(select, spread, only=Trials)
graph.edge(spread, rollout, scatter=Trial.work)
graph.edge(rollout, propose, gather=True, release=fg.fraction(0.67), late="cancel")
graph.edge(propose, trial, scatter=Proposal.work, distinct=same_text)
graph.edge(cross, trial, scatter=Proposal.work, distinct=same_text)
graph.edge(trial, gate, gather=True, release=fg.decided(settled), late="cancel")
most, hardest, newest = fg.sampled(24, share=0.67), fg.discriminative(window=3), fg.repair(patch, above=0)
graph.edge(seed, baseline, scatter=Candidate.work, distinct=same_text)
graph.edge(baseline, frontier, gather=True, release=most)
graph.edge(gate, validate, scatter=Candidate.work, order=hardest, stale=newest, distinct=same_text)
graph.edge(validate, frontier, gather=True, release=most, late="amend", stale=fg.discard(above=24))
graph.edge(confirm, measure, scatter=Validated.work)
graph.edge(measure, frontier, gather=True, release=fg.fraction(0.75), late="amend")
