"""Combee: reflect in parallel on shuffled shares of the records, then combine the drafts.

    shuffle --> think (each share) --> combine

`shuffle` deals the records of a large batch into shares, `think` reflects on each share, and `combine` joins the
drafts. So no prompt has to hold the whole batch, and each record is in two shares.

`part` is that subgraph. It replaces GEPA's reflection (`graph`) and ACE's curation (`ace_graph`):

    flashgraph run combee --task ...
    flashgraph run combee:ace_graph --task ...
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.algorithms import ace, gepa
from flashgraph.parts import (
    SHOWN_TOKENS,
    Attempt,
    ParetoFrontier,
    call_within,
    curating,
    examples,
    reflecting,
    rewriting,
    same_text,
    within,
)
from flashgraph.parts.ace import Playbook, curate_prompt, parse_operations
from flashgraph.parts.gepa import Minibatch, Proposal, solved
from flashgraph.text import fenced

HOLE = "<<here>>"
"""The placeholder in a prompt for its records or drafts."""

# ---- map, shuffle, reduce --------------------------------------------------------------------------------


@attrs.frozen
class Params:
    """The parameters; the default of ``duplication`` is the published one."""

    duplication: int = attrs.field(default=2, validator=ge(1))
    reflection_tokens: int = attrs.field(default=SHOWN_TOKENS, validator=ge(1))


part = fg.Graph("combee-part", doc="Reflect on shuffled shares of the records, then combine the drafts.", params=Params)


@attrs.frozen
class Brief:
    """Records to learn from; ``ask`` is the prompt for one share, ``join`` the prompt for the drafts of all shares.

    ``sampling`` goes with every request (``{"temperature": 0}``).
    """

    records: tuple[str, ...]
    ask: str
    join: str
    sampling: Mapping[str, int | float] = attrs.field(factory=dict, kw_only=True)


@attrs.frozen
class Share:
    """The prompt of one reflection, and its records."""

    ask: str
    records: tuple[str, ...]
    sampling: Mapping[str, int | float]

    def prompt(self, of: str, tokens: int) -> str:
        """Return the prompt with its records, clipped to ``tokens`` in all; the log then names ``of``."""
        return self.ask.replace(HOLE, "\n\n".join(within(self.records, tokens, of)))


@attrs.frozen
class Shuffled:
    """A brief with its records dealt into shares."""

    brief: Brief
    shares: tuple[tuple[str, ...], ...]

    def work(self) -> list[Share]:
        return [Share(self.brief.ask, share, self.brief.sampling) for share in self.shares]


@attrs.frozen
class Insight:
    """The combined result of the reflections."""

    brief: Brief
    text: str


@part.stage
def shuffle(brief: Brief, ctx: fg.Context[None, Params]) -> Shuffled:
    """Deal n records, each ``duplication`` times, into floor(sqrt(n)) shares; fewer than four records stay in one
    share."""
    shares = math.isqrt(len(brief.records))
    if shares <= 1:
        return Shuffled(brief, (brief.records,))
    dealt = list(brief.records) * ctx.params.duplication
    ctx.random.shuffle(dealt)
    return Shuffled(brief, tuple(tuple(dealt[i::shares]) for i in range(shares)))


@part.stage(model="reflection")
async def think(share: Share, ctx: fg.Context[None, Params]) -> str:
    """Reflect on one share."""
    prompt = partial(share.prompt, f"task {ctx.task.name!r}")
    return (await call_within(ctx.llm, prompt, ctx.params.reflection_tokens, **share.sampling)).usable()


@part.stage(model="reflection")
async def combine(found: fg.Group[Shuffled, str], ctx: fg.Context[None, Params]) -> Insight | None:
    """Combine the drafts; a single draft is the result as it is."""
    drafts, brief = found.values, found.origin.brief
    if not drafts:
        return None
    if len(drafts) == 1:
        return Insight(brief, drafts[0])
    prompt = partial(joined, brief, drafts, f"task {ctx.task.name!r}")
    return Insight(brief, (await call_within(ctx.llm, prompt, ctx.params.reflection_tokens, **brief.sampling)).usable())


def joined(brief: Brief, drafts: Sequence[str], of: str, tokens: int) -> str:
    """Return the prompt that combines the drafts, clipped to ``tokens`` together."""
    shown = enumerate(within(drafts, tokens, of), 1)
    return brief.join.replace(HOLE, "\n\n".join(f"Draft {number}:\n{draft}" for number, draft in shown))


part.edge(shuffle, think, scatter=Shuffled.work)
part.edge(think, combine, gather=True, release=fg.fraction(0.75), late="cancel")

# ---- in GEPA's reflection --------------------------------------------------------------------------------

graph = fg.Graph("combee", doc=__doc__)
base = graph.include(gepa.graph, "gepa", params={"minibatch": 16}, without=["propose"])
reflection = graph.include(part, "reflection")


@attrs.frozen
class MinibatchBrief(Brief):
    """A brief about a minibatch: the component to rewrite, the scored samples, and the parent's sum of scores."""

    minibatch: Minibatch
    component: str
    seen: tuple[int, ...]
    to_beat: float


@graph.stage(reads=base["frontier"], counts="proposals")
def brief(batch: fg.Group[Minibatch, Attempt], ctx: fg.Context[ParetoFrontier]) -> MinibatchBrief | None:
    """Make one record of each attempt; skip a perfect minibatch."""
    seen, drew = batch.values, batch.origin
    params: gepa.Params = ctx.params_of(base)
    if not seen or solved(seen, params.perfect_score):
        return None
    ctx.parents(drew.parent)
    name = drew.components[0]
    return MinibatchBrief(
        tuple(examples([a], ctx.task, component=name) for a in seen),
        rewriting(drew.text[name], HOLE, ctx.task, name),
        JOIN_TEXTS.replace("<<text>>", drew.text[name]),
        drew,
        name,
        tuple(a.index for a in seen),
        sum(a.score for a in seen),
    )


@graph.stage
def write(insight: Insight, ctx: fg.Context) -> Proposal:
    """Build the child with the rewritten component."""
    lesson, text = insight.brief, fenced(insight.text)
    assert isinstance(lesson, MinibatchBrief)
    if not text:
        raise fg.UnusableReply("the reply holds no text between its ``` fences")
    child = {**lesson.minibatch.text, lesson.component: text}
    params: gepa.Params = ctx.params_of(base)
    reaching = params.acceptance == "improvement_or_equal"
    return Proposal(child, "train", lesson.seen, lesson.to_beat, reaching, ctx.task.bounds, (lesson.component,))


JOIN_TEXTS = """An assistant works by this instruction:
```
<<text>>
```
It was rewritten several times, each time in the light of other examples:

<<here>>

Write one instruction that keeps every fact and rule of these drafts. Where they contradict each other, follow what most
of them say. Give only the new instruction, once, as plain text between ``` fences."""


@graph.costs
def costs(ctx: fg.Draw) -> fg.Costs:
    """Count the evaluations of a round: a child and its parent on one minibatch."""
    params: gepa.Params = ctx.params_of(base)
    return reflecting(params.minibatch)


graph.edge(base["rollout"], brief, gather=True, release=fg.fraction(0.67), late="cancel")
graph.edge(brief, reflection["shuffle"])
graph.edge(reflection["combine"], write)
graph.edge(write, base["trial"], scatter=Proposal.work, distinct=same_text)

# ---- in ACE's curation -----------------------------------------------------------------------------------

ace_graph = fg.Graph("combee-ace", doc="ACE on batches of samples; their reflections are curated in shuffled shares.")
whole = ace_graph.include(ace.graph, "ace", params={"batch": 16}, without=["curate"])
curation = ace_graph.include(part, "curation", roles={"reflection": "curator"})


@attrs.frozen
class BatchBrief(Brief):
    """A brief about a batch of samples."""

    questions: tuple[ace.TrainingQuestion, ...]


@ace_graph.stage(reads=whole["playbook"], counts="proposals")
def course(learned: fg.Group[ace.Batch, ace.Reflection], ctx: fg.Context[Playbook]) -> BatchBrief | ace.Curated | None:
    """Make one record of each sample and its lesson; emit no change if it is not the curator's turn."""
    params: ace.Params = ctx.params_of(whole)
    questions = tuple(reflection.question for reflection in learned.values)
    if not questions:
        return None
    if not any((question.sample + 1) % params.curator_frequency == 0 for question in questions):
        return ace.Curated(questions[-1].sample, "", questions=questions, edited=False)
    records = tuple(f"{ctx.task.train[q.sample]}\n\nWhat was learned from it:\n{q.reflection}" for q in questions)
    ask = curate_prompt(ctx.view, HOLE, "(see each case)")
    join = curate_prompt(ctx.view, JOIN_CHANGES, "(see each draft)")
    return BatchBrief(records, ask, join, questions, sampling={"temperature": 0, "max_tokens": params.max_tokens})


@ace_graph.stage(reads=whole["playbook"])
def edit(insight: Insight, ctx: fg.Context[Playbook]) -> ace.Curated:
    """Parse the combined changes of the playbook."""
    course = insight.brief
    assert isinstance(course, BatchBrief)
    reflections = "\n\n".join(question.reflection for question in course.questions)
    operations = parse_operations(insight.text, ctx.view)
    return ace.Curated(course.questions[-1].sample, reflections, operations, course.questions)


JOIN_CHANGES = f"""Several curators have each read a share of the cases and drafted changes of the playbook:

{HOLE}

Join their drafts: each thing once, everything that any of them knows."""


@ace_graph.costs
def ace_costs(ctx: fg.Draw) -> fg.Costs:
    """Count the evaluations of a round and its share of a validation."""
    params: ace.Params = ctx.params_of(whole)
    return curating(ctx.task, params.batch, params.eval_steps, params.answer_after, again=ace.ROUNDS)


ace_graph.edge(whole["reflect"], course, gather=True, when=ace.Reflection.settled, stale=fg.refresh())
ace_graph.edge(course, curation["shuffle"], only=BatchBrief)
ace_graph.edge(course, whole["playbook"], only=ace.Curated)
ace_graph.edge(course, whole["tidy"], only=ace.Curated, stale=fg.refresh())
ace_graph.edge(curation["combine"], edit)
ace_graph.edge(edit, whole["playbook"], stale=fg.repair(whole["again"], above=0, when=ace.conflicts))
ace_graph.edge(edit, whole["tidy"], stale=fg.refresh())
ace_graph.tests_with(whole["validate"])
