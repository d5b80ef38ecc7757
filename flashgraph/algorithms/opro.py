"""OPRO (arXiv:2309.03409): show a model the best instructions so far with their scores, and ask for better ones.

    seed --> score --> trajectory
    trajectory --> step --> propose --> score --> trajectory

`step` takes the best instructions of the trajectory, the worst of them first, and a few training samples. `propose`
asks the model several times for another instruction. `score` tries each on the validation samples, and the trajectory
keeps all. In the paper each step waits for the one before. At most two are open here under an overlapping schedule,
because a step that has not seen the last scores repeats their work.
"""

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Candidate, attempt, fenced_answers, same_text


@attrs.frozen
class Params:
    """The parameters; the defaults are those of the paper (section 5.1)."""

    shown: int = attrs.field(default=20, validator=ge(1))
    exemplars: int = attrs.field(default=3, validator=ge(0))
    proposals: int = attrs.field(default=8, validator=ge(1))
    temperature: float = attrs.field(default=1.0, validator=ge(0))


graph = fg.Graph("opro", doc=__doc__, params=Params)
trajectory = graph.pool("trajectory", Archive)


@attrs.frozen
class Showing:
    """The instructions that the model sees, worst first, their scores, and the numbers of training samples."""

    texts: tuple[dict[str, str], ...]
    scores: tuple[float, ...]
    exemplars: tuple[int, ...]


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Candidate:
    """Emit the task's own instruction."""
    return Candidate(dict(ctx.task.seed), len(ctx.task.val))


@graph.source(reads=trajectory, window=2, focus=False)
def step(ctx: fg.Draw[Archive, Params]) -> Showing | None:
    """Draw the best instructions of the trajectory, and new exemplars."""
    known = ctx.view.ranked(ctx.params.shown)[::-1]
    if not known:
        return None
    ctx.parents(*known)
    count = min(ctx.params.exemplars, len(ctx.task.train))
    exemplars = tuple(sorted(ctx.random.sample(range(len(ctx.task.train)), count)))
    return Showing(tuple(dict(a.value.text) for a in known), tuple(a.score or 0.0 for a in known), exemplars)


@graph.stage(model="reflection", counts="proposals", fanout=64)
async def propose(shown: Showing, ctx: fg.Context[None, Params]) -> fg.Several[Candidate]:
    """Ask for new instructions side by side; each component is asked for by itself."""
    best, found = shown.texts[-1], list[Candidate]()
    for name in best:
        prompt = meta_prompt(shown, name, ctx.task)
        asked = {f"{number}": f"{prompt}\n\n(Proposal {number}.)" for number in range(1, ctx.params.proposals + 1)}
        new = await fenced_answers(ctx.llm, asked, temperature=ctx.params.temperature)
        found += [Candidate({**best, name: text}, len(ctx.task.val)) for text in new.values()]
    return fg.Several(found)


def meta_prompt(shown: Showing, name: str, task: fg.Task) -> str:
    """Return the prompt: instructions with scores in ascending order, exemplars, and the request (figure 3)."""
    least, most = task.bounds
    unit = 100 / (most - least) if 0 < most - least < float("inf") else 1.0
    scored = zip(shown.texts, shown.scores, strict=True)
    lines = [f"Instruction:\n```\n{text[name]}\n```\nScore: {(score - least) * unit:.0f}" for text, score in scored]
    samples = "\n".join(f"- {task.train[index]}" for index in shown.exemplars)
    return (
        "An assistant works by an instruction. Here are instructions with their scores, from 0 to 100, the best last:"
        "\n\n" + "\n\n".join(lines) + f"\n\nThese are inputs of the task:\n{samples}\n\n"
        "Write another instruction that differs from all of these and scores higher. Give only the new instruction, "
        "between ``` fences."
    )


score = graph.stage(attempt, name="score", model="task", counts="evaluations")


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the validations: the seed's, and those of a step's proposals."""
    return fg.Costs(seeds=1, children=ctx.params.proposals)


graph.edge(seed, score, scatter=Candidate.work, distinct=same_text)
graph.edge(step, propose)
graph.edge(propose, score, scatter=Candidate.work, order=fg.discriminative(window=3), distinct=same_text)
graph.edge(score, trajectory, gather=True, stale=fg.discard(above=64))
