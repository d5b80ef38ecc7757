"""Beam search over prompts: rewrite one of the best in several ways, race the drafts, and validate the winners.

beam --> pick --> rollout --> vary --> race --> judge --> validate --> beam
"""

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Attempt, Candidate, Work, attempt, fenced_answers, rewrite_prompt


@attrs.frozen
class Params:
    """The parameters; ``--set width=8`` changes one."""

    width: int = attrs.field(default=4, validator=ge(1))
    variants: int = attrs.field(default=3, validator=ge(1))
    minibatch: int = attrs.field(default=6, validator=ge(1))


graph = fg.Graph("beam", doc=__doc__, params=Params)
beam = graph.pool("beam", Archive)


@attrs.frozen
class Draft:
    """A text, the training samples that it is tried on, and the number that it must pass."""

    text: dict[str, str]
    batch: tuple[int, ...]
    to_beat: float = 0.0

    def work(self) -> list[Work]:
        return [Work(self.text, "train", index) for index in self.batch]


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Return the task's own text, which is validated first."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=beam, focus=False)
def pick(ctx: fg.Draw[Archive, Params]) -> Draft | None:
    """Pick one of the best texts and a new minibatch."""
    best = sorted(ctx.view.artifacts.values(), key=lambda a: -(a.score or 0.0))[: ctx.params.width]
    if not best:
        return None
    parent = ctx.random.choice(best)
    ctx.parents(parent)
    batch = ctx.random.sample(range(len(ctx.task.train)), min(ctx.params.minibatch, len(ctx.task.train)))
    return Draft(parent.value.text, tuple(batch))


rollout = graph.stage(attempt, name="rollout", model="task", counts="evaluations")


@graph.stage(model="reflection", counts="proposals", fanout=16)
async def vary(seen: fg.Group[Draft, Attempt], ctx: fg.Context[None, Params]) -> fg.Several[Draft]:
    """Return several rewritings in the light of the same attempts."""
    parent, passed = seen.origin, sum(a.score for a in seen.values)
    ((name, text),) = parent.text.items()
    prompt = rewrite_prompt(text, seen.values, ctx.task)
    asked = {f"{n}": f"{prompt}\n\n(Variant {n}: unlike the others.)" for n in range(1, ctx.params.variants + 1)}
    new = await fenced_answers(ctx.llm, asked, temperature=1.0)
    return fg.Several([Draft({name: rewritten}, parent.batch, passed) for rewritten in new.values()])


race = graph.stage(attempt, name="race", model="task", counts="evaluations")


@graph.stage
def judge(tried: fg.Group[Draft, Attempt], ctx: fg.Context) -> Candidate | None:
    """Return a draft for validation only if it passes more than its parent did."""
    won = sum(a.score for a in tried.values) > tried.origin.to_beat
    return Candidate(tried.origin.text, len(ctx.task.val)) if won else None


validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")


def hopeless(found: fg.Group[Candidate, Attempt]) -> bool:
    """Return whether half of the validation is in and nothing passed, so that the rest is not worth its calls."""
    return len(found.values) * 2 >= found.size and not any(a.score for a in found.values)


graph.edge(seed, validate, scatter=Candidate.work)
graph.edge(pick, rollout, scatter=Draft.work)
graph.edge(rollout, vary, gather=True, release=fg.fraction(0.67), late="cancel")
graph.edge(vary, race, scatter=Draft.work)
graph.edge(race, judge, gather=True)
graph.edge(judge, validate, scatter=Candidate.work)
graph.edge(validate, beam, gather=True, release=fg.decided(hopeless), late="cancel", stale=fg.discard(above=16))
