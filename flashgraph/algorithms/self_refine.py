"""Best of N with self-refinement (arXiv:2303.17651): write several drafts, refine each by its feedback, keep the best.

    seed --> validate --> archive
    archive --> start --> draft --> run --> refine --> pick --> validate --> archive
                                     ^---------'

`start` takes the best candidate and a minibatch of training samples. `draft` writes several variants. `run` tries
a draft on the minibatch, and `refine` shows the model how it did and asks for a better one. A draft passes that circle
`refinements` times, or until it solves the minibatch. `pick` takes the best text of all drafts, and `validate` scores
it on the validation samples. The paper refines one answer; here the answer is an instruction, and N of them compete.
"""

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Attempt, Candidate, Work, attempt, fenced_answers, rewrite_prompt, same_text


@attrs.frozen
class Params:
    """``drafts`` start side by side; each is refined up to ``refinements`` times on ``minibatch`` samples."""

    drafts: int = attrs.field(default=4, validator=ge(1))
    refinements: int = attrs.field(default=2, validator=ge(1))
    minibatch: int = attrs.field(default=4, validator=ge(1))


@attrs.frozen
class Revision:
    """A text on its way, the samples that it is tried on, and the best text before it with its sum of scores."""

    text: dict[str, str]
    samples: tuple[int, ...]
    number: int = 0
    passes: int = 0
    best: dict[str, str] | None = None
    reached: float = float("-inf")

    def work(self) -> list[Work]:
        """Return one piece of work for each sample."""
        return [Work(self.text, "train", index) for index in self.samples]


@attrs.frozen
class Drafting:
    """A parent, a minibatch, and how many drafts to write."""

    text: dict[str, str]
    samples: tuple[int, ...]
    drafts: int

    def numbered(self) -> list[Revision]:
        """Return the parent as the origin of each draft."""
        return [Revision(self.text, self.samples, number) for number in range(1, self.drafts + 1)]


@attrs.frozen
class Refined:
    """The best text of one draft's circle, and its sum of scores."""

    text: dict[str, str]
    reached: float


graph = fg.Graph("self_refine", doc=__doc__, params=Params)
archive = graph.pool("archive", Archive)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own instruction."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=archive, window=2)
def start(ctx: fg.Draw[Archive, Params]) -> Drafting | None:
    """Draw the best candidate, and a minibatch."""
    if (best := ctx.view.best()) is None:
        return None
    ctx.parents(best)
    samples = ctx.random.sample(range(len(ctx.task.train)), min(ctx.params.minibatch, len(ctx.task.train)))
    return Drafting(dict(best.value.text), tuple(samples), ctx.params.drafts)


@graph.stage(model="reflection", counts="proposals")
async def draft(origin: Revision, ctx: fg.Context) -> Revision:
    """Write one variant of the parent."""
    asked = {name: VARY.format(number=origin.number, text=text) for name, text in origin.text.items()}
    return attrs.evolve(origin, text={**origin.text, **await fenced_answers(ctx.llm, asked)})


run = graph.stage(attempt, name="run", model="task", counts="evaluations")
validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")


@graph.stage(model="reflection")
async def refine(tried: fg.Group[Revision, Attempt], ctx: fg.Context[None, Params]) -> Revision | Refined:
    """Refine a draft by its feedback; end with the best text after the last pass, or when all samples are solved."""
    drew, seen = tried.origin, tried.values
    reached = sum(each.score for each in seen)
    best, most = (drew.text, reached) if drew.best is None or reached > drew.reached else (drew.best, drew.reached)
    if drew.passes >= ctx.params.refinements or all(each.passed for each in seen):
        return Refined(best, most)
    asked = {name: rewrite_prompt(text, seen, ctx.task, name) for name, text in drew.text.items()}
    text = {**drew.text, **await fenced_answers(ctx.llm, asked)}
    return Revision(text, drew.samples, drew.number, drew.passes + 1, best, most)


@graph.stage
def pick(drafts: fg.Group[Drafting, Refined], ctx: fg.Context) -> Candidate | None:
    """Take the best text; of equally good ones the first."""
    if not drafts.values:
        return None
    best = max(drafts.values, key=lambda refined: refined.reached)
    return Candidate(best.text, len(ctx.task.val))


VARY = """An assistant works by this instruction:
```
{text}
```
Write instruction number {number}: a variant that may serve the assistant better. Give only the new instruction, between
``` fences."""


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the passes of all drafts, and the validation of the best."""
    params = ctx.params
    most = params.drafts * (params.refinements + 1) * params.minibatch
    return fg.Costs(least=params.drafts * params.minibatch, most=most, seeds=1, children=1)


graph.edge(seed, validate, scatter=Candidate.work, distinct=same_text)
graph.edge(start, draft, scatter=Drafting.numbered, fanout=lambda params: params.drafts)
graph.edge(draft, run, scatter=Revision.work, fanout=lambda params: params.minibatch)
graph.edge(run, refine, gather=True)
graph.edge(refine, run, only=Revision, scatter=Revision.work, fanout=lambda params: params.minibatch,
           loop=lambda params: params.refinements)  # fmt: skip
graph.edge(refine, pick, only=Refined, gather=True)
graph.edge(pick, validate, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(validate, archive, gather=True, stale=fg.discard(above=64))
