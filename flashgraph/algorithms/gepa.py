"""GEPA (arXiv:2507.19457): reflect on a minibatch, keep what improves it, validate, admit to a Pareto frontier.

    seed --> baseline --> frontier
    frontier --> select --> rollout --> propose --> trial --> gate --> validate --> frontier
    frontier --> merge  --------------------------> trial
    frontier --> prune  --------------------------> trial
    frontier --> confirm --> measure --> frontier

`select` draws a parent and a minibatch of training samples, and `rollout` scores the parent on it. `propose` lets a
model rewrite the parent, given the feedback. `trial` scores the child on the same samples, and `gate` drops it unless
it does better. `validate` scores it on the validation split. For each validation sample, the frontier keeps the
candidates that are best there; they become the parents. `merge` joins components of two candidates, `prune` drops
sentences of one, and `confirm` sends the champion and the most promising candidates to more validation samples.

The policies on the edges apply only where rounds overlap; `lockstep` ignores them. They let a proposal start before the
slowest rollout ends, and admit a candidate on a random part of its validation. `rebase` joins a stale child with the
current best.
"""

from typing import Literal

import attrs
from attrs.validators import ge, le

import flashgraph as fg
from flashgraph.parts import (
    SHOWN_TOKENS,
    Attempt,
    Candidate,
    Frontier,
    ParetoFrontier,
    Validated,
    attempt,
    reachable,
    reflecting,
    rewritten,
    same_text,
)
from flashgraph.parts.gepa import (
    Child,
    Merges,
    Minibatch,
    Minibatches,
    Proposal,
    Prunings,
    SamplesSent,
    Turns,
    rebased,
    settled,
    solved,
)


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
    prunes: int = attrs.field(default=0, validator=ge(0))
    reflection_tokens: int = attrs.field(default=SHOWN_TOKENS, validator=ge(1))


graph = fg.Graph("gepa", doc=__doc__, params=Params)
frontier = graph.pool("frontier", ParetoFrontier)

# ---- sources ---------------------------------------------------------------------------------------------


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's seed as the first candidate."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=frontier, stream="sequential", state=Turns())
def select(ctx: fg.Draw[ParetoFrontier, Params, Turns]) -> fg.Emit[Minibatch | Minibatches, Turns] | None:
    """Draw parents from the frontier, and for each the next minibatches of the shuffled training set."""
    params, names, batches = ctx.params, tuple(ctx.task.seed), list[Minibatch]()
    epochs, turns = ctx.state.epochs, ctx.state.components.joined(ctx.view.artifacts)
    for _ in range(params.parents):
        if (parent := drawn(ctx)) is None:
            return None
        for _ in range(params.samples):
            batch, epochs = epochs.next(
                ctx.turn, params.minibatch, len(ctx.task.train), ctx.random, further=len(batches)
            )
            turn, turns = turns.next(parent.id, len(names))
            chosen = names if params.components == "all" else (names[turn],)
            batches.append(Minibatch(parent.value, batch, parent.id, chosen))
    if len(batches) > 1:  # named here, all would be parents of every child
        return fg.Emit(Minibatches(tuple(batches)), Turns(epochs, turns))
    ctx.parents(batches[0].parent)
    return fg.Emit(batches[0], Turns(epochs, turns))


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


@graph.source(reads=frontier, stream="sequential", state=Merges())
def merge(ctx: fg.Draw[ParetoFrontier, Params, Merges]) -> fg.Emit[Proposal, Merges] | None:
    """Merge two candidates once a child was admitted: each gives what it changed since a common ancestor."""
    held = ctx.view.artifacts
    if not ctx.params.merge or len(held) < 3:
        return None
    grown, merges = ctx.state.count(held, ctx.params.max_merge_invocations)
    if not grown or merges.due <= len(ctx.open):
        return fg.Emit(None, merges)
    found, merges = merges.draw(
        held, ctx.view.dominators(ctx.params.frontier), ctx.params.merge_val_overlap_floor, ctx.random
    )
    if found is None:
        return fg.Emit(None, merges)
    ctx.parents(*found.parents)
    merged = Proposal(found.text, "val", found.samples, found.to_reach, True, ctx.task.bounds)
    return fg.Emit(merged, merges)


@graph.source(reads=frontier, state=Prunings(), focus=False)
def prune(ctx: fg.Draw[ParetoFrontier, Params, Prunings]) -> fg.Emit[Proposal, Prunings] | None:
    """Drop sentences that seem to lower the score of a leading candidate, with at most ``prunes`` rounds open."""
    if len(ctx.open) >= ctx.params.prunes or len(ctx.view.artifacts) < 3:
        return None
    parent = ctx.view.best_line().draw(ctx.random)
    if parent is None:
        return None
    found, prunings = ctx.state.draw(ctx.view.artifacts, parent, ctx.task.bounds, ctx.random)
    if found is None:
        return None
    ctx.parents(found.parent)
    shorter = Proposal(found.text, "val", found.samples, found.to_reach, True, ctx.task.bounds)
    return fg.Emit(shorter, prunings)


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
def spread(several: Minibatches) -> fg.Several[Minibatch]:
    """Split the minibatches of one draw into separate items."""
    return fg.Several(several.batches)


baseline = graph.stage(attempt, name="baseline", model="task", counts="evaluations")
rollout = graph.stage(attempt, name="rollout", model="task", counts="evaluations")


@graph.stage(model="reflection", counts="proposals", reads=frontier)
async def propose(batch: fg.Group[Minibatch, Attempt], ctx: fg.Context[ParetoFrontier, Params]) -> Proposal | None:
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


@graph.stage
def gate(batch: fg.Group[Proposal, Attempt], ctx: fg.Context) -> Child | None:
    """Pass a child that beats its parent on the same samples, or a merge that equals its better parent."""
    child = batch.origin
    if not child.passes(reachable(batch, child.bounds)[0]):
        return None
    return Child(child.text, len(ctx.task.val), child.rewritten)


validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")
measure = graph.stage(attempt, name="measure", model="task", counts="evaluations")


@graph.stage(model="reflection", reads=frontier)
async def rebase(stale: fg.Stale[Child], ctx: fg.Context[ParetoFrontier]) -> fg.Verdict[Child]:
    """Rewrite the best's text in the components that the stale child changed."""
    child, best = stale.value, ctx.view.best()
    news = best and any(c.kind == "admitted" and c.artifact.id == best.id for c in stale.changes)
    if best is None or not news or not child.rewritten:
        return fg.Verdict.accept()
    ctx.parents(best)
    return fg.Verdict.patch(await rebased(child, best.value, ctx.llm))


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the evaluations of a round: each child and its parent on one minibatch."""
    return reflecting(ctx.params.minibatch, ctx.params.parents * ctx.params.samples)


graph.edge(select, rollout, only=Minibatch, scatter=Minibatch.work)
graph.edge(select, spread, only=Minibatches)
graph.edge(spread, rollout, scatter=Minibatch.work)
graph.edge(rollout, propose, gather=True, release=fg.fraction(0.67), late="cancel")
graph.edge(propose, trial, scatter=Proposal.work, distinct=same_text)
graph.edge(merge, trial, scatter=Proposal.work, distinct=same_text)
graph.edge(prune, trial, scatter=Proposal.work, distinct=same_text)
graph.edge(trial, gate, gather=True, release=fg.decided(settled), late="cancel")
most, hardest, newest = fg.sampled(24, share=0.67), fg.discriminative(window=3), fg.repair(rebase, above=0)
graph.edge(seed, baseline, scatter=Candidate.work, distinct=same_text)
graph.edge(baseline, frontier, gather=True, release=most)
graph.edge(gate, validate, scatter=Candidate.work, order=hardest, stale=newest, distinct=same_text)
graph.edge(validate, frontier, gather=True, release=most, late="amend", stale=fg.discard(above=24))
graph.edge(confirm, measure, scatter=Validated.work)
graph.edge(measure, frontier, gather=True, release=fg.fraction(0.75), late="amend")
