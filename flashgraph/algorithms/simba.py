"""SIMBA-like search (after DSPy's SIMBA): learn from samples on which good and bad candidates differ most.

    seed --> score --> programs
    programs --> step --> run --> introspect --> retry --> choose --> score --> programs

`step` draws candidates by their scores, and a minibatch. `run` tries each. `introspect` finds the samples with the
largest gap between the best and the worst attempt. From each it makes a child: it adds the best attempt as an
example, or a rule for which the model compares the two. `retry` tries the children on the same samples, and `choose`
keeps the best. `score` tries that one on the validation samples.
"""

import math
from collections.abc import Mapping

import attrs
from attrs.validators import ge, gt

import flashgraph as fg
from flashgraph.parts import Archive, Attempt, Candidate, Work, attempt, fenced_answers, same_text


@attrs.frozen
class Params:
    """``programs`` candidates are tried on ``minibatch`` samples; ``children`` come from the largest gaps."""

    programs: int = attrs.field(default=4, validator=ge(2))
    minibatch: int = attrs.field(default=6, validator=ge(1))
    children: int = attrs.field(default=4, validator=ge(1))
    temperature: float = attrs.field(default=0.2, validator=gt(0))


@attrs.frozen
class Programs:
    """Candidates that are tried on the same samples."""

    texts: tuple[Mapping[str, str], ...]
    samples: tuple[int, ...]

    def work(self) -> list[Work]:
        """Return one piece of work for each candidate and sample, the first candidate's first."""
        return [Work(text, "train", index) for text in self.texts for index in self.samples]


graph = fg.Graph("simba", doc=__doc__, params=Params)
programs = graph.pool("programs", Archive)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own text."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=programs, window=2, focus=False)
def step(ctx: fg.Draw[Archive, Params]) -> Programs | None:
    """Draw candidates by a softmax over their scores, with repetition, and a minibatch."""
    known, params = list(ctx.view.artifacts.values()), ctx.params
    if not known:
        return None
    weights = [math.exp((a.score or 0.0) / params.temperature) for a in known]
    drawn = ctx.random.choices(known, weights, k=params.programs)
    ctx.parents(*{a.id: a for a in drawn}.values())
    samples = ctx.random.sample(range(len(ctx.task.train)), min(params.minibatch, len(ctx.task.train)))
    return Programs(tuple(dict(a.value.text) for a in drawn), tuple(samples))


run = graph.stage(attempt, name="run", model="task", counts="evaluations")
retry = graph.stage(attempt, name="retry", model="task", counts="evaluations")
score = graph.stage(attempt, name="score", model="task", counts="evaluations")


@graph.stage(model="reflection", counts="proposals")
async def introspect(tried: fg.Group[Programs, Attempt], ctx: fg.Context[None, Params]) -> Programs | None:
    """Make children from the samples with the largest gaps, by an example and by a rule in turn.

    Where all attempts were equally bad there is no good example, and the child gets a rule.
    """
    drew, size, found = tried.origin, len(tried.origin.samples), list[Mapping[str, str]]()
    for number, (best, worst) in enumerate(gaps(tried)[: ctx.params.children]):
        text, sample = drew.texts[best.index // size], str(ctx.task.train[drew.samples[best.index % size]])
        good, bad = best.value, worst.value
        if good is None or bad is None:
            continue
        if good.score > bad.score and number % 2 == 0:
            found.append({name: f"{own}\n\nInput: {sample}\nAnswer: {good.output}" for name, own in text.items()})
            continue
        shown = {"sample": sample, "good": good.output, "bad": bad.output, "feedback": bad.feedback}
        asked = {name: RULE.format(text=own, number=number, **shown) for name, own in text.items()}
        try:
            rules = await fenced_answers(ctx.llm, asked)
        except fg.UnusableReply:
            continue  # the other samples count
        found.append({name: f"{own}\n{rules[name]}" if name in rules else own for name, own in text.items()})
    return Programs(tuple(found), drew.samples) if found else None


def gaps(tried: fg.Group[Programs, Attempt]) -> list[tuple[fg.Member[Attempt], fg.Member[Attempt]]]:
    """Return the best and the worst attempt of each sample, the largest gap first, without samples that all solve."""
    found = []
    for place in range(len(tried.origin.samples)):
        there = [m for m in tried.members[place :: len(tried.origin.samples)] if m.value is not None]
        ranked = sorted(there, key=lambda m: (-m.value.score, m.index) if m.value else (0.0, 0))
        if ranked and ranked[0].value and ranked[-1].value and not ranked[-1].value.passed:
            found.append((ranked[0].value.score - ranked[-1].value.score, ranked[0], ranked[-1]))
    return [(best, worst) for _, best, worst in sorted(found, key=lambda each: -each[0])]


@graph.stage
def choose(tried: fg.Group[Programs, Attempt], ctx: fg.Context) -> Candidate:
    """Keep the child with the highest sum of scores; of equally good ones the first."""
    drew, size = tried.origin, len(tried.origin.samples)
    sums = [
        sum(m.value.score for m in tried.members[i * size : (i + 1) * size] if m.value) for i in range(len(drew.texts))
    ]
    return Candidate(drew.texts[max(range(len(sums)), key=lambda i: (sums[i], -i))], len(ctx.task.val))


RULE = """An assistant works by this instruction:
```
{text}
```
For the input {sample} it answered well once: {good}
And badly once: {bad}
{feedback}

Write instruction number {number}: one rule to add, so that it answers like the first time. Give only the rule, between
``` fences."""


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count both batches, and the child's validation."""
    params = ctx.params
    least = params.programs * params.minibatch
    return fg.Costs(least=least, most=least + params.children * params.minibatch, seeds=1, children=1)


graph.edge(seed, score, scatter=Candidate.work, distinct=same_text)
graph.edge(step, run, scatter=Programs.work)
graph.edge(run, introspect, gather=True)
graph.edge(introspect, retry, scatter=Programs.work)
graph.edge(retry, choose, gather=True)
graph.edge(choose, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, programs, gather=True, stale=fg.discard(above=64))
