"""Coevolution (Hillis, Physica D 42, 1990): instructions evolve against tests that evolve against them.

    seed --> score --> instructions
    instructions, tests --> revise --> run --> propose --> score --> instructions
    tests, instructions --> challenge --> face --> tests

A test is a small set of training samples. `challenge` keeps half of the hardest test and draws new samples for the
rest. `face` runs the champion on them, and the share of its failures is the test's hardness. `revise` shows a model how
one of the best instructions did on the hardest test, and `propose` rewrites it. `score` tries the result on the
validation samples. In the paper hosts are sorting networks, and parasites are sets of inputs for them.
"""

from collections.abc import Mapping

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Attempt, Candidate, Trial, attempt, fenced_answers, rewrite_prompt, same_text


@attrs.frozen
class Params:
    """``size`` samples make a test; ``parents`` instructions and ``kept`` tests take part."""

    size: int = attrs.field(default=4, validator=ge(2))
    parents: int = attrs.field(default=4, validator=ge(1))
    kept: int = attrs.field(default=8, validator=ge(1))


@attrs.frozen
class Tests:
    """The hardest ``kept`` tests; the score of one is the share of its samples that the instruction failed."""

    kept: int
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[fg.Group[Trial, Attempt]]) -> "Tests":
        """Add a test, and drop the easiest beyond ``kept``; of equally hard ones the older."""
        solved = sum(attempt.passed for attempt in event.value.values)
        hardness = 1 - solved / max(1, event.value.size)
        found = {**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value.origin, score=hardness)}
        hardest = sorted(found, key=lambda number: (found[number].score or 0.0, number))[-self.kept :]
        return attrs.evolve(self, artifacts={number: found[number] for number in sorted(hardest)})

    def best(self) -> fg.Artifact | None:
        """Return the hardest test; of equally hard ones the newest."""
        return max(self.artifacts.values(), key=lambda a: (a.score or 0.0, a.id), default=None)


graph = fg.Graph("coevolution", doc=__doc__, params=Params)
instructions = graph.pool("instructions", Archive)
tests = graph.pool("tests", lambda params: Tests(params.kept))
graph.result(instructions)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own instruction."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=(instructions, tests), focus=False)
def revise(ctx: fg.Draw[tuple[Archive, Tests], Params]) -> Trial | None:
    """Draw one of the best instructions, and the hardest test."""
    known, hard = ctx.view
    best = known.ranked(ctx.params.parents)
    if not best:
        return None
    parent, test = ctx.random.choice(best), hard.best()
    ctx.parents(parent, of=instructions)
    return Trial(dict(parent.value.text), test.value.samples if test else drawn(ctx, ctx.params.size))


@graph.source(reads=(tests, instructions), window=2, focus=False)
def challenge(ctx: fg.Draw[tuple[Tests, Archive], Params]) -> Trial | None:
    """Mutate the hardest test, and let the champion face the result."""
    hard, known = ctx.view
    champion, test = known.best(), hard.best()
    if champion is None:
        return None
    kept = ctx.random.sample(test.value.samples, len(test.value.samples) // 2) if test else []
    if test:
        ctx.parents(test, of=tests)
    return Trial(dict(champion.value.text), (*kept, *drawn(ctx, ctx.params.size - len(kept), kept)))


def drawn(ctx: fg.Draw[tuple[Archive, Tests], Params] | fg.Draw[tuple[Tests, Archive], Params], count: int,
          known: list[int] | None = None) -> tuple[int, ...]:  # fmt: skip
    """Return training samples that are not known yet."""
    others = [index for index in range(len(ctx.task.train)) if index not in (known or ())]
    return tuple(ctx.random.sample(others, min(count, len(others))))


run = graph.stage(attempt, name="run", model="task", counts="evaluations")
face = graph.stage(attempt, name="face", model="task", counts="evaluations")
score = graph.stage(attempt, name="score", model="task", counts="evaluations")


@graph.stage(model="reflection", counts="proposals")
async def propose(match: fg.Group[Trial, Attempt], ctx: fg.Context) -> Candidate | None:
    """Let the model rewrite the instruction after the test; nothing is proposed where all of it was solved."""
    text, attempts = match.origin.text, match.values
    if not attempts or all(each.passed for each in attempts):
        return None
    asked = {name: rewrite_prompt(own, attempts, ctx.task, name) for name, own in text.items()}
    return Candidate({**text, **await fenced_answers(ctx.llm, asked)}, len(ctx.task.val))


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count both rounds together: a test, a match, and the child's validation."""
    return fg.Costs(least=2 * ctx.params.size, most=2 * ctx.params.size, seeds=1, children=1)


graph.edge(seed, score, scatter=Candidate.work, distinct=same_text)
graph.edge(challenge, face, scatter=Trial.work)
graph.edge(face, tests, gather=True, stale=fg.discard(above=8, of=instructions))
graph.edge(revise, run, scatter=Trial.work)
graph.edge(run, propose, gather=True)
graph.edge(propose, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, instructions, gather=True, stale=fg.discard(above=64, of=instructions))
