"""PromptBreeder (arXiv:2309.16797): prompts evolve together with the prompts that mutate them.

    seed --> begin --> score --> population
    population --> duel --> mutate --> score --> population

A unit is a task prompt with a mutation prompt of its own. `begin` makes the first units, each by another mutation
prompt. `duel` draws two living units; the winner is mutated, and the child takes the loser's place. `mutate` applies
one of four operators (section 3.2). The model changes the task prompt by the unit's mutation prompt, which it may
mutate first. Or it writes a new prompt from the task alone, or one that continues the population. `score` tries the
child on the validation samples.
"""

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Archive, Candidate, attempt, fenced_answers, same_text

OPERATORS = ("first_order", "zero_order", "distribution", "hypermutation")

MUTATIONS = (
    "Modify this instruction so that it is more precise.",
    "Rewrite this instruction for a patient expert who checks each step.",
    "Make this instruction shorter, and keep what matters.",
    "Add a rule to this instruction that prevents a likely error.",
    "Say this instruction in other words, with an example of a good answer.",
)


@attrs.frozen
class Params:
    """``size`` is the paper's population (section 4: 50 units)."""

    size: int = attrs.field(default=10, validator=ge(2))
    temperature: float = attrs.field(default=1.0, validator=ge(0))


@attrs.frozen
class Unit(Candidate):
    """A task prompt, its mutation prompt, and the artifact that it replaces."""

    mutation: str = ""
    replaces: int | None = None


@attrs.frozen
class Duel:
    """The winner of a duel, the loser's artifact, the operator, and the task prompts of all living units."""

    winner: Unit
    loser: int
    operator: str
    others: tuple[dict[str, str], ...]


graph = fg.Graph("promptbreeder", doc=__doc__, params=Params)
population = graph.pool("population", Archive)


@graph.source(rounds=1)
def seed(ctx: fg.Draw) -> Unit:
    """Emit the task's own prompt."""
    return Unit(dict(ctx.task.seed), len(ctx.task.val))


@graph.stage(model="reflection", counts="proposals", fanout=lambda params: params.size)
async def begin(first: Unit, ctx: fg.Context[None, Params]) -> fg.Several[Unit]:
    """Return the first unit, and one more by each of the mutation prompts in turn."""
    found = [attrs.evolve(first, mutation=MUTATIONS[0])]
    for number in range(1, ctx.params.size):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        asked = {name: FIRST.format(mutation=mutation, text=text, number=number) for name, text in first.text.items()}
        try:
            new = await fenced_answers(ctx.llm, asked, temperature=ctx.params.temperature)
        except fg.UnusableReply:
            continue  # a smaller population
        found.append(Unit({**first.text, **new}, first.size, mutation))
    return fg.Several(found)


@graph.source(reads=population, focus=False)
def duel(ctx: fg.Draw[Archive, Params]) -> Duel | None:
    """Draw two living units that no open duel replaces, and an operator; the unit with the lower score loses."""
    gone = {a.value.replaces for a in ctx.view.artifacts.values()} | {open_.loser for open_ in ctx.open}
    living = [a for a in ctx.view.artifacts.values() if a.id not in gone]
    if len(living) < 2:
        return None
    first, second = ctx.random.sample(living, 2)
    winner, loser = (first, second) if (first.score or 0.0) >= (second.score or 0.0) else (second, first)
    ctx.parents(winner)
    operator = ctx.random.choice(OPERATORS)
    ranked = sorted(living, key=lambda a: (a.score or 0.0, -a.id))
    return Duel(winner.value, loser.id, operator, tuple(dict(a.value.text) for a in ranked))


@graph.stage(model="reflection", counts="proposals")
async def mutate(drawn: Duel, ctx: fg.Context[None, Params]) -> Unit:
    """Make the child by the operator that was drawn."""
    winner, heat = drawn.winner, ctx.params.temperature
    mutation = winner.mutation
    if drawn.operator == "hypermutation":
        changed = await fenced_answers(ctx.llm, {"mutation": HYPER.format(mutation=mutation)}, temperature=heat)
        mutation = changed["mutation"]
    asked = {}
    for name, text in winner.text.items():
        if drawn.operator == "zero_order":
            asked[name] = ZERO.format(seed=ctx.task.seed[name])
        elif drawn.operator == "distribution":
            asked[name] = SHOW.format(texts="\n".join(f"```\n{other[name]}\n```" for other in drawn.others))
        else:
            asked[name] = FIRST.format(mutation=mutation, text=text, number=0)
    new = await fenced_answers(ctx.llm, asked, temperature=heat)
    return Unit({**winner.text, **new}, winner.size, mutation, drawn.loser)


score = graph.stage(attempt, name="score", model="task", counts="evaluations")

FIRST = """{mutation} This is instruction number {number}:
```
{text}
```
Give only the new instruction, between ``` fences."""

ZERO = """An assistant has this task:
```
{seed}
```
Write a new instruction for it from scratch. Give only the instruction, between ``` fences."""

SHOW = """These instructions for one assistant are ordered by their success, the best last:
{texts}
Continue the list with one more that differs from all of these. Give only that one, between ``` fences."""

HYPER = """This sentence tells how to change an instruction: "{mutation}"
Write a better sentence for that purpose, between ``` fences."""


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the validations: the first units', and one in each round."""
    return fg.Costs(seeds=ctx.params.size, children=1)


graph.edge(seed, begin)
graph.edge(begin, score, scatter=Candidate.work, distinct=same_text)
graph.edge(duel, mutate)
graph.edge(mutate, score, scatter=Candidate.work, order=fg.discriminative(window=3))
graph.edge(score, population, gather=True)
