"""EvoPrompt (arXiv:2309.08532): a genetic algorithm whose crossover and mutation are requests to a model.

    seed --> vary --> score --> population
    population --> select --> breed --> score --> population

`vary` makes the first population from the task's instruction. `select` draws two parents by their scores. `breed` lets
the model cross them and mutate the result (``operator="ga"``), or apply the difference of two others to the best
(``"de"``, differential evolution). `score` tries the child on the validation samples. Parents are drawn from the best
``size`` individuals. The paper breeds ``size`` children before it selects; here selection follows each child.
"""

from typing import Literal

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Candidate, attempt, fenced_answers, same_text


@attrs.frozen
class Params:
    """The parameters; ``size`` is the paper's population (section 4.1)."""

    size: int = attrs.field(default=10, validator=ge(3))
    operator: Literal["ga", "de"] = "ga"
    temperature: float = attrs.field(default=0.7, validator=ge(0))


graph = fg.Graph("evoprompt", doc=__doc__, params=Params)
population = graph.pool("population", Archive)


@attrs.frozen
class Mating:
    """The texts that a child is made from: two parents (GA), or the base, the best and two others (DE)."""

    texts: tuple[dict[str, str], ...]


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own instruction."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.stage(model="reflection", counts="proposals", fanout=64)
async def vary(first: Candidate, ctx: fg.Context[None, Params]) -> fg.Several[Candidate]:
    """Return the first instruction and variants, up to the size of the population."""
    found = [first]
    for number in range(1, ctx.params.size):
        asked = {name: VARY.format(text=text, number=number) for name, text in first.text.items()}
        try:
            new = await fenced_answers(ctx.llm, asked, temperature=ctx.params.temperature)
        except fg.UnusableReply:
            continue  # a smaller first population
        found.append(Candidate({**first.text, **new}, first.size))
    return fg.Several(found)


@graph.source(reads=population, focus=False)
def select(ctx: fg.Draw[Archive, Params]) -> Mating | None:
    """Draw parents from the best individuals: by a roulette wheel over their scores (GA), or at random (DE)."""
    known = ctx.view.ranked(ctx.params.size)
    if len(known) < 3:
        return None
    if ctx.params.operator == "de":
        base = ctx.random.choice(known)
        drawn = [base, known[0], *ctx.random.sample([a for a in known if a is not base], 2)]
    else:
        least = min(a.score or 0.0 for a in known)
        weights = [(a.score or 0.0) - least + 1e-6 for a in known]
        first = ctx.random.choices(known, weights)[0]
        others = [(a, w) for a, w in zip(known, weights, strict=True) if a is not first]
        drawn = [first, ctx.random.choices([a for a, _ in others], [w for _, w in others])[0]]
    ctx.parents(*{a.id: a for a in drawn}.values())
    return Mating(tuple(dict(a.value.text) for a in drawn))


@graph.stage(model="reflection", counts="proposals")
async def breed(mating: Mating, ctx: fg.Context[None, Params]) -> Candidate:
    """Let the model make the child's texts from those of its parents."""
    form = CROSS if ctx.params.operator == "ga" else DIFFER
    asked = {name: form.format(*(text[name] for text in mating.texts)) for name in mating.texts[0]}
    new = await fenced_answers(ctx.llm, asked, temperature=ctx.params.temperature)
    return Candidate({**mating.texts[0], **new}, len(ctx.task.val))


score = graph.stage(attempt, name="score", model="task", counts="evaluations")

VARY = """Write instruction number {number} that asks for the same as this one in other words, and adds a rule that may
help:
```
{text}
```
Give only the new instruction, between ``` fences."""

CROSS = """Two instructions for the same assistant:
```
{0}
```
```
{1}
```
1. Cross them: write one instruction that joins the rules of both.
2. Mutate the result: change a part of it so that the assistant may do better.
Give only the final instruction, between ``` fences."""

DIFFER = """Four instructions for the same assistant. The base:
```
{0}
```
The best one:
```
{1}
```
Two others:
```
{2}
```
```
{3}
```
1. Find the parts in which the two others differ, and change these parts.
2. Put the changed parts into the best instruction.
3. Cross the result with the base.
Give only the final instruction, between ``` fences."""


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the validations: the first population's, and one in each round."""
    return fg.Costs(seeds=ctx.params.size, children=1)


graph.edge(seed, vary)
graph.edge(vary, score, scatter=Candidate.work, distinct=same_text)
graph.edge(select, breed)
graph.edge(breed, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, population, gather=True, stale=fg.discard(above=64))
