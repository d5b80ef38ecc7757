"""ProTeGi (arXiv:2305.03495): criticise prompts by their errors, edit them by the criticism, and race the edits.

    seed --> score --> beam
    beam --> step --> each --> run --> edit --> race --> try_on --> halve --> promote --> score --> beam
                                                            ^---------'

`step` takes the best `width` prompts and a minibatch. `run` tries each prompt on it. `edit` lets a model say what is
wrong with the prompt (the paper's gradient), and rewrite it by each criticism. `race` joins the prompts and all edits.
`try_on` and `halve` are successive halving (section 3.3): each rung tries the prompts on new samples, twice as many as
the last, and drops the worse half. `score` tries the last `width` on the validation samples.
"""

from collections.abc import Mapping

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import (
    Archive,
    Attempt,
    Candidate,
    Finalists,
    Race,
    Trial,
    attempt,
    examples,
    fenced_answers,
    promoted,
    same_text,
)


@attrs.frozen
class Params:
    """The parameters; ``rung`` counts the samples of a race's first rung."""

    width: int = attrs.field(default=4, validator=ge(1))
    gradients: int = attrs.field(default=3, validator=ge(1))
    minibatch: int = attrs.field(default=6, validator=ge(1))
    rung: int = attrs.field(default=2, validator=ge(1))

    @property
    def most(self) -> int:
        """Return how many prompts take part in a race, at most."""
        return self.width * (1 + self.gradients)


@attrs.frozen
class Expansion:
    """The beam, a minibatch, and the samples of each rung of the race."""

    texts: tuple[Mapping[str, str], ...]
    samples: tuple[int, ...]
    rungs: tuple[tuple[int, ...], ...]
    width: int

    def parents(self) -> list[Trial]:
        """Return the prompts one by one."""
        return [Trial(text, self.samples) for text in self.texts]


@attrs.frozen
class Edits:
    """A prompt and its edits."""

    texts: tuple[Mapping[str, str], ...]


graph = fg.Graph("protegi", doc=__doc__, params=Params)
beam = graph.pool("beam", Archive)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own prompt."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=beam, window=1, focus=False)
def step(ctx: fg.Draw[Archive, Params]) -> Expansion | None:
    """Draw the best prompts, a minibatch and the samples of the race."""
    params, every = ctx.params, range(len(ctx.task.train))
    best = ctx.view.ranked(params.width)
    if not best:
        return None
    ctx.parents(*best)
    samples = ctx.random.sample(every, min(params.minibatch, len(every)))
    rungs = [ctx.random.sample(every, min(params.rung * 2**r, len(every))) for r in range(params.most.bit_length())]
    return Expansion(tuple(dict(a.value.text) for a in best), tuple(samples), tuple(map(tuple, rungs)), params.width)


@graph.stage
def each(parent: Trial) -> Trial:
    """Pass one prompt on: its attempts are a group of their own."""
    return parent


run = graph.stage(attempt, name="run", model="task", counts="evaluations")
try_on = graph.stage(attempt, name="try_on", model="task", counts="evaluations")
score = graph.stage(attempt, name="score", model="task", counts="evaluations")


@graph.stage(model="reflection", counts="proposals")
async def edit(tried: fg.Group[Trial, Attempt], ctx: fg.Context[None, Params]) -> Edits:
    """Return the prompt and its edits, one for each criticism; a prompt without errors is not edited."""
    text, wrong = tried.origin.text, [each for each in tried.values if not each.passed]
    found = [text]
    for number in range(1, ctx.params.gradients + 1) if wrong else ():
        shown = {name: (own, examples(wrong, ctx.task, component=name)) for name, own in text.items()}
        asked = {n: CRITICISE.format(text=own, examples=seen, number=number) for n, (own, seen) in shown.items()}
        try:
            gradient = await fenced_answers(ctx.llm, asked)
            asked = {n: EDIT.format(text=text[n], gradient=said, number=number) for n, said in gradient.items()}
            found.append({**text, **await fenced_answers(ctx.llm, asked)})
        except fg.UnusableReply:
            continue  # the other criticisms count
    return Edits(tuple(found))


@graph.stage
def race(edited: fg.Group[Expansion, Edits]) -> Race:
    """Join all prompts, without equal ones."""
    texts = {tuple(text.items()): text for edits in edited.values for text in edits.texts}
    drew = edited.origin
    return Race(tuple(texts.values()), (0.0,) * len(texts), drew.rungs, drew.width)


@graph.stage
def halve(tried: fg.Group[Race, Attempt], ctx: fg.Context) -> Race | Finalists:
    """Keep the half that scores better, down to the width of the beam."""
    return tried.origin.halved(tried.members, ctx.task.bounds)


promote = graph.stage(promoted, name="promote", fanout=lambda params: params.width)


CRITICISE = """An assistant works by this instruction:
```
{text}
```
It went wrong here:

{examples}

Criticism number {number}: say why the instruction led to these errors, in a few sentences, between ``` fences."""

EDIT = """An assistant works by this instruction:
```
{text}
```
It is criticised: {gradient}

Write instruction number {number}, which answers this criticism. Give only the new instruction, between ``` fences."""


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the minibatch of each prompt, the rungs of the race, and the validations."""
    params = ctx.params
    most = params.width * params.minibatch + 2 * params.most * params.rung * params.most.bit_length()
    return fg.Costs(least=params.minibatch, most=most, seeds=1, children=params.width)


graph.edge(seed, score, scatter=Candidate.work, distinct=same_text)
graph.edge(step, each, scatter=Expansion.parents, fanout=lambda params: params.width)
graph.edge(each, run, scatter=Trial.work, fanout=lambda params: params.minibatch)
graph.edge(run, edit, gather=True)
graph.edge(edit, race, gather=True)
graph.edge(race, try_on, scatter=Race.work, fanout=lambda params: 2 * params.most * params.rung)
graph.edge(try_on, halve, gather=True)
graph.edge(halve, try_on, only=Race, scatter=Race.work, fanout=lambda params: 2 * params.most * params.rung,
           loop=lambda params: params.most.bit_length())  # fmt: skip
graph.edge(halve, promote, only=Finalists)
graph.edge(promote, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, beam, gather=True, stale=fg.discard(above=64))
