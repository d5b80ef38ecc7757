"""Islands (OpenEvolve): programs evolve in MAP-Elites grids on islands, with migration and cascade evaluation.

    islands --> select --> propose --> quick --> screen --> full --> islands

`select` draws a parent and inspirations from one island, and `propose` lets a model change the parent. `quick` runs the
cheap checks of the new program, and `screen` drops it if their mean score is too low. `full` runs the costly checks.
The island keeps the best program in each cell of its grid, and its best programs migrate to the next island. The next
proposals on an island see its latest failures and their reasons.

A sample of the task is a call (`flashgraph.parts.islands.programs.Check`). The sandbox makes the call, and the task
scores its result outside of the sandbox. The ``train`` split holds the cheap checks, the ``val`` split the costly ones.
"""

import math
import os

import attrs
from attrs.validators import ge, le

import flashgraph as fg
from flashgraph.parts import Attempt, Work, clipped, reachable
from flashgraph.parts.islands import (
    Elite,
    Entrant,
    Islands,
    ProposalFailure,
    Settings,
    change,
    component,
    edited,
    goal,
    outcomes,
    printed,
    rewritten_program,
    same_program,
)
from flashgraph.sandbox import CandidateFailed, Sandbox, SandboxLimits

CORES = os.cpu_count() or 1
"""More programs at once than cores would wait for a core and could exceed their time limit."""


@attrs.frozen
class Params:
    """The parameters."""

    islands: int = attrs.field(default=4, validator=ge(1))
    features: tuple[str, ...] | list[str] = ("complexity", "diversity")
    bins: int = attrs.field(default=10, validator=ge(1))
    migration: int = attrs.field(default=10, validator=ge(1))
    migrants: int = attrs.field(default=1, validator=ge(0))
    exploration: float = attrs.field(default=0.2, validator=[ge(0), le(1)])
    exploitation: float = attrs.field(default=0.7, validator=[ge(0), le(1)])
    elites: int = attrs.field(default=3, validator=ge(1))
    top: int = attrs.field(default=2, validator=ge(0))
    diverse: int = attrs.field(default=1, validator=ge(0))
    failures: int = attrs.field(default=3, validator=ge(0))
    threshold: float = attrs.field(default=0.5, validator=[ge(0), le(1)])
    rewrite: bool = False
    longest: int = attrs.field(default=20_000, validator=ge(1))
    seconds: float = attrs.field(default=10.0, validator=ge(0.1))


graph = fg.Graph("islands", doc=__doc__, params=Params)
islands = graph.pool("islands", Islands)
sandbox = graph.resource("sandbox", Sandbox)


@attrs.frozen
class Rated:
    """A program to learn from, and its score."""

    program: str
    score: float


@attrs.frozen
class Draft:
    """The material of a proposal: the parent, its score, inspirations, and the island's latest failures."""

    island: int
    parent: Elite
    score: float
    inspirations: tuple[Rated, ...]
    failures: tuple[ProposalFailure, ...]


@attrs.frozen
class NewProgram:
    """A new program before its cheap checks; the seed also carries the settings."""

    text: dict[str, str]
    island: int
    size: int
    change: str = ""
    settings: Settings | None = None

    def work(self) -> list[Work]:
        return [Work(self.text, "train", index) for index in range(self.size)]


@attrs.frozen
class QuickCheck:
    """One cheap check, the mean score that its program needs, and the bounds of scores."""

    attempt: Attempt
    needed: float
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def score(self) -> float:
        return self.attempt.score


def settled(batch: fg.Group[NewProgram, QuickCheck]) -> bool:
    """Return whether open checks can no longer decide: the needed mean is reached, or out of reach."""
    if not batch.values:
        return False
    first = batch.values[0]
    least, most = reachable(batch, first.bounds)
    return least >= first.needed * batch.size or most < first.needed * batch.size


@graph.source(rounds=1)
def seed(ctx: fg.Draw[None, Params]) -> NewProgram:
    """Emit the task's program, which founds every island."""
    chosen = ctx.params
    settings = Settings(
        chosen.islands, (*chosen.features,), chosen.bins, chosen.migration, chosen.migrants, chosen.failures
    )
    return NewProgram(dict(ctx.task.seed), 0, len(ctx.task.train), settings=settings)


@graph.source(reads=islands)
def select(ctx: fg.Draw[Islands, Params]) -> Draft | None:
    """Draw from each island in turn: a parent, inspirations (the island's best and other cells), and its latest
    failures."""
    island = ctx.emission % ctx.params.islands
    parent = ctx.view.draw(island, ctx.random, ctx.params.exploration, ctx.params.exploitation, ctx.params.elites)
    if parent is None:
        return None
    ctx.parents(parent)
    others = ctx.view.inspirations(island, parent, ctx.random, ctx.params.top, ctx.params.diverse)
    return Draft(
        island,
        parent.value,
        parent.score or 0.0,
        tuple(Rated(a.value.text[component(a.value.text)], a.score or 0.0) for a in others),
        tuple(f for f in ctx.view.failures if f.island == island),
    )


@graph.stage(model="proposer", counts="proposals")
async def propose(draft: Draft, ctx: fg.Context[None, Params]) -> NewProgram | ProposalFailure:
    """Ask the model for edits or a whole program; an unusable reply becomes a failure that later proposals see."""
    text = draft.parent.text
    name = component(text)
    answer = (await ctx.llm(prompt(draft, ctx.task, ctx.params.rewrite))).usable()
    try:
        new = (rewritten_program if ctx.params.rewrite else edited)(text[name], answer)
        if len(new) > ctx.params.longest:
            raise fg.UnusableReply(
                f"the program has {len(new)} characters, more than the {ctx.params.longest} that are allowed"
            )
    except fg.UnusableReply as reason:
        return ProposalFailure(draft.island, "propose", str(reason))
    return NewProgram({**text, name: new}, draft.island, len(ctx.task.train), change(text[name], new))


async def check(work: Work, ctx: fg.Context[None, Params]) -> Attempt:
    """Make one call in the sandbox and score its result; a failed call gets the least score, with its reason."""
    sample = ctx.task.samples(work.split)[work.index]
    program, limits = (
        work.text[component(work.text)],
        SandboxLimits(cpu_seconds=ctx.params.seconds, wall_seconds=6 * ctx.params.seconds),
    )
    try:
        ran = await ctx[sandbox].run(program, entry=sample.entry, arguments=dict(sample.arguments), limits=limits)
    except CandidateFailed as failure:
        return Attempt(work.index, ctx.task.least, "", str(failure), passed=False)
    output = printed(ran.stdout, ran.stderr, ran.seconds)
    try:
        return await Attempt.judged(ctx.task, work, ran.value, shown=output)
    except Exception as error:
        # A candidate may return anything. But if the seed's result cannot be scored, the task is wrong.
        if dict(work.text) == dict(ctx.task.seed):
            raise
        reason = f"its result cannot be scored: {type(error).__name__}: {error}"
        return Attempt(work.index, ctx.task.least, output, reason, passed=False)


def bar(task: fg.Task, share: float) -> float:
    """Return the mean score that a program needs: ``share`` of the way from the least score to the greatest.

    If the task's bounds are infinite, the needed mean is ``share`` itself.
    """
    least, most = task.bounds
    return least + share * (most - least) if math.isfinite(most - least) else share


@graph.stage(counts="evaluations", workers=CORES)
async def quick(work: Work, ctx: fg.Context[None, Params]) -> QuickCheck:
    """Run one cheap check."""
    return QuickCheck(await check(work, ctx), bar(ctx.task, ctx.params.threshold), ctx.task.bounds)


@graph.stage
def screen(batch: fg.Group[NewProgram, QuickCheck], ctx: fg.Context[None, Params]) -> Entrant | ProposalFailure:
    """Pass programs with a sufficient mean to the costly checks. The seed always passes: every island needs it."""
    program, needed = batch.origin, bar(ctx.task, ctx.params.threshold)
    mean = sum(c.score if c is not None else ctx.task.least for c in (m.value for m in batch.members)) / batch.size
    if mean >= needed or program.settings is not None:
        return Entrant(program.text, program.island, len(ctx.task.val), program.settings, ctx.task.least)
    seen = outcomes([c.attempt for c in batch.values], ctx.task.train, 1200)
    lines = [seen, *(f"- could not be run: {m.reason}" for m in batch.failures)]
    reason = "\n".join([f"mean {mean:.4g} of the cheap checks is below {needed:g}", *filter(None, lines)])
    return ProposalFailure(program.island, "quick", reason, program.change)


full = graph.stage(check, name="full", counts="evaluations", workers=CORES)
graph.tests_with(full)


def prompt(draft: Draft, task: fg.Task, whole: bool) -> str:
    """Return the prompt: the goal, the program, its results, other programs, and the latest failures."""
    elite, blocks = draft.parent, list[str]()
    text = elite.text[component(elite.text)]
    if purpose := goal(task.seed[component(task.seed)]):
        blocks.append(f"This is what a Python program is for:\n{purpose}")
    best = "" if task.perfect is None else f", {task.perfect:g} is perfect"
    blocks.append(f"The program now, with score {draft.score:.4g} (higher is better{best}):\n{fence(text)}")
    blocks.append(f"How it does:\n{outcomes(elite.attempts, task.val)}")
    for other in draft.inspirations:
        blocks.append(f"Another program for it, with score {other.score:.4g}:\n{fence(clipped(other.program, 4000))}")
    for failure in draft.failures:
        tried = f"\nIt had changed:\n{failure.change}" if failure.change else ""
        blocks.append(f"A proposal failed lately, so do better: {clipped(failure.reason, 1500)}{tried}")
    return "\n\n".join([*blocks, REWRITE if whole else EDIT])


def fence(program: str) -> str:
    return f"```python\n{program.rstrip()}\n```"


REWRITE = """Write a program that scores higher: another algorithm, or a better version of this one. Keep the names
and parameters of the functions that are called from outside. Give the whole program once, between ```python and ```."""

EDIT = """Change the program so that it scores higher: a better algorithm, or a flaw mended. Keep the names and
parameters of the functions that are called from outside. Give only the changes, each as a block of this form:
<<<<<<< SEARCH
lines of the program, copied exactly, which stand in it once
=======
lines to put in their place
>>>>>>> REPLACE"""


@graph.costs
def costs(ctx: fg.Draw) -> fg.Costs:
    """Count the cheap checks of each program, and the costly checks of those that pass."""
    cheap = len(ctx.task.train)
    return fg.Costs(start=cheap, least=cheap, most=cheap, seeds=1, children=1)


graph.edge(seed, quick, scatter=NewProgram.work, distinct=same_program)
graph.edge(select, propose)
graph.edge(propose, quick, only=NewProgram, scatter=NewProgram.work, distinct=same_program)
graph.edge(propose, islands, only=ProposalFailure)
graph.edge(quick, screen, gather=True, release=fg.decided(settled), late="cancel")
graph.edge(screen, full, only=Entrant, scatter=Entrant.work, order=fg.discriminative(window=3))
graph.edge(screen, islands, only=ProposalFailure)
graph.edge(full, islands, gather=True, release=fg.fraction(0.5), late="amend")
