"""CAPO (arXiv:2504.16005): crossover and mutation by a model, races with a statistical test, and a price for length.

    seed --> begin --> score --> population
    population --> step --> breed --> join --> race --> compare --> promote --> score --> population
                                               ^-----------'

`step` takes the best `size` prompts and draws pairs of parents. `breed` lets a model cross each pair and mutate the
child. Parents and children race over blocks of training samples. After each block, `compare` drops the prompts that at
least `size` others beat by a paired t-test. A prompt's score is its mean less `penalty` times its relative length.
`score` tries the last `size` prompts on the validation samples.
"""

from collections.abc import Mapping

import attrs
from attrs.validators import ge, gt, le, lt

import flashgraph as fg
from flashgraph.parts import (
    Archive,
    Attempt,
    Candidate,
    Finalists,
    PairedRace,
    attempt,
    fenced_answers,
    promoted,
    same_text,
)


@attrs.frozen
class Params:
    """The parameters; the defaults are smaller than the paper's (section 4), which has 10 prompts and blocks of 30."""

    size: int = attrs.field(default=6, validator=ge(2))
    children: int = attrs.field(default=3, validator=ge(1))
    block: int = attrs.field(default=6, validator=ge(2))
    blocks: int = attrs.field(default=4, validator=ge(1))
    alpha: float = attrs.field(default=0.2, validator=[gt(0), lt(0.5)])
    penalty: float = attrs.field(default=0.05, validator=[ge(0), le(1)])


@attrs.frozen
class Couple:
    """Two parents, and the number of their child."""

    texts: tuple[Mapping[str, str], Mapping[str, str]]
    number: int


@attrs.frozen
class Brood:
    """The population, the couples of a step, and the blocks of samples of its race."""

    texts: tuple[Mapping[str, str], ...]
    couples: tuple[Couple, ...]
    blocks: tuple[tuple[int, ...], ...]

    def each(self) -> list[Couple]:
        """Return the couples one by one."""
        return list(self.couples)


@attrs.frozen
class Bred:
    """A child before its race."""

    text: dict[str, str]


graph = fg.Graph("capo", doc=__doc__, params=Params)
population = graph.pool("population", Archive)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own prompt."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.stage(model="reflection", counts="proposals", fanout=lambda params: params.size)
async def begin(first: Candidate, ctx: fg.Context[None, Params]) -> fg.Several[Candidate]:
    """Return the first prompt and variants, up to the size of the population."""
    found = [first]
    for number in range(1, ctx.params.size):
        asked = {name: MUTATE.format(text=text, number=number) for name, text in first.text.items()}
        try:
            found.append(Candidate({**first.text, **await fenced_answers(ctx.llm, asked)}, first.size))
        except fg.UnusableReply:
            continue  # a smaller first population
    return fg.Several(found)


@graph.source(reads=population, window=1, focus=False)
def step(ctx: fg.Draw[Archive, Params]) -> Brood | None:
    """Draw the best prompts, couples of them, and the blocks of the race."""
    params = ctx.params
    best = ctx.view.ranked(params.size)
    if len(best) < 2:
        return None
    ctx.parents(*best)
    texts = [dict(a.value.text) for a in best]
    drawn = [ctx.random.sample(texts, 2) for _ in range(params.children)]
    couples = tuple(Couple((first, second), number) for number, (first, second) in enumerate(drawn, 1))
    every = ctx.random.sample(range(len(ctx.task.train)), min(params.block * params.blocks, len(ctx.task.train)))
    blocks = [tuple(every[start : start + params.block]) for start in range(0, len(every), params.block)]
    return Brood(tuple(texts), couples, tuple(blocks))


@graph.stage(model="reflection", counts="proposals")
async def breed(couple: Couple, ctx: fg.Context) -> Bred:
    """Cross two prompts, and mutate the child."""
    (first, second), number = couple.texts, couple.number
    asked = {name: CROSS.format(first[name], second[name], number=number) for name in first}
    child = {**first, **await fenced_answers(ctx.llm, asked)}
    asked = {name: MUTATE.format(text=text, number=number) for name, text in child.items()}
    return Bred({**child, **await fenced_answers(ctx.llm, asked)})


@graph.stage
def join(bred: fg.Group[Brood, Bred], ctx: fg.Context[None, Params]) -> PairedRace:
    """Let the population and its children race, without equal prompts."""
    texts = {tuple(text.items()): text for text in (*bred.origin.texts, *(child.text for child in bred.values))}
    params, length = ctx.params, sum(len(text.split()) for text in ctx.task.seed.values())
    return PairedRace.of(texts.values(), bred.origin.blocks, params.size, params.alpha, params.penalty / max(1, length))


race = graph.stage(attempt, name="race", model="task", counts="evaluations")
score = graph.stage(attempt, name="score", model="task", counts="evaluations")


@graph.stage
def compare(tried: fg.Group[PairedRace, Attempt], ctx: fg.Context) -> PairedRace | Finalists:
    """Drop the prompts that enough others beat."""
    return tried.origin.compared(tried.members, ctx.task.bounds)


promote = graph.stage(promoted, name="promote", fanout=lambda params: params.size)


CROSS = """Two instructions for the same assistant:
```
{0}
```
```
{1}
```
Write instruction number {number}, which joins the best of both. Give only the new instruction, between ``` fences."""

MUTATE = """An instruction for an assistant:
```
{text}
```
Write instruction number {number}: the same with one useful change. Give only the new one, between ``` fences."""


def racing(params: Params) -> int:
    """Return how many attempts one block has, at most."""
    return (params.size + params.children) * params.block


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the blocks of the race, and the validations."""
    size, block = ctx.params.size, racing(ctx.params)
    return fg.Costs(least=block, most=block * ctx.params.blocks, seeds=size, children=size)


graph.edge(seed, begin)
graph.edge(begin, score, scatter=Candidate.work, distinct=same_text)
graph.edge(step, breed, scatter=Brood.each, fanout=lambda params: params.children)
graph.edge(breed, join, gather=True)
graph.edge(join, race, scatter=PairedRace.work, fanout=racing)
graph.edge(race, compare, gather=True)
graph.edge(compare, race, only=PairedRace, scatter=PairedRace.work, fanout=racing, loop=lambda params: params.blocks)
graph.edge(compare, promote, only=Finalists)
graph.edge(promote, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, population, gather=True, stale=fg.discard(above=64))
