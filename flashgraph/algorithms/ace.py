"""ACE (arXiv:2510.04618): a playbook that a generator uses, a reflector learns from, and a curator edits.

    select --> generate <==> reflect --> curate --> tidy --> merge --> answer
      |                         |           |                  |          |
      |                         +-----------+--> playbook <----+          |
      +--> validate --> scores <-------------------------------------------+

`generate` answers a training sample with the help of the playbook. `reflect` finds out what the answer teaches, and
tags the playbook lines that were used. A wrong answer goes round this loop up to three times. `curate` turns the lesson
into changes of the playbook, and `merge` joins near-duplicate lines. `answer` tries the sample again, and `validate`
tests snapshots of the playbook.

The playbook receives small operations, which can arrive in any order: counters add up, and an addition is compared with
the current lines. A curator's change of a line goes back to the curator if the line has changed since.
"""

import math
from typing import Any, Literal

import anyio
import attrs
from attrs.validators import ge, le

import flashgraph as fg
from flashgraph.parts import (
    SHOWN_TOKENS,
    Attempt,
    Checkpoints,
    Snapshot,
    StepScores,
    Work,
    call_within,
    curating,
    same_snapshot,
    within,
)
from flashgraph.parts.ace import (
    Alike,
    Delta,
    Merged,
    Playbook,
    PlaybookStart,
    Tags,
    curate_prompt,
    generate_prompt,
    merge_prompt,
    parse_answer,
    parse_operations,
    parse_tags,
    reflect_prompt,
    similarity_named,
)

ROUNDS = 3
MOST = 64
"""The largest batch; `check` computes the capacity of the loop from it."""


@attrs.frozen
class Params:
    """The parameters; the defaults are those of the published code."""

    mode: Literal["offline", "online"] = "offline"
    epochs: int = attrs.field(default=1, validator=ge(1))
    eval_steps: int = attrs.field(default=100, validator=ge(1))
    test_window: int = attrs.field(default=15, validator=ge(1))
    batch: int = attrs.field(default=1, validator=[ge(1), le(MOST)])
    curator_frequency: int = attrs.field(default=1, validator=ge(1))
    max_tokens: int = attrs.field(default=4096, validator=ge(1))
    budget_tokens: int = attrs.field(default=80_000, validator=ge(1))
    duplicate_at: float = attrs.field(default=0.9, validator=[ge(0), le(1)])
    merge_duplicates: bool = False
    similarity: str = "auto"
    answer_after: bool = True
    reflection_tokens: int = attrs.field(default=SHOWN_TOKENS, validator=ge(1))


graph = fg.Graph("ace", doc=__doc__, params=Params)
scores = graph.pool("scores", Checkpoints)
playbook = graph.pool("playbook", Playbook)


@attrs.frozen
class TrainingQuestion:
    """A training sample; ``round`` counts its reflections, ``before`` is the score of its first answer."""

    sample: int
    round: int = 0
    reflection: str = ""
    before: float = 0.0


@attrs.frozen
class Batch:
    """Samples that are curated together; the published algorithm takes one."""

    questions: tuple[TrainingQuestion, ...]

    def each(self) -> tuple[TrainingQuestion, ...]:
        return self.questions


@attrs.frozen
class Answer:
    """An answer, its score and feedback, and the ids of the playbook lines that it cites."""

    question: TrainingQuestion
    text: str
    score: float
    feedback: str
    used: tuple[str, ...]
    right: bool = attrs.field(default=attrs.Factory(lambda self: bool(self.score >= 1.0), takes_self=True))


@attrs.frozen
class Reflection(Tags):
    """A lesson, tags for the lines that were used, and whether to try the sample again."""

    question: TrainingQuestion
    again: bool

    def tags(self) -> bool:
        return bool(self.counts)

    def retry(self) -> bool:
        return self.again

    def settled(self) -> bool:
        return not self.again


@attrs.frozen
class Curated(Delta):
    """The curator's changes and the questions behind them; ``edited`` is False if it was not the curator's turn."""

    questions: tuple[TrainingQuestion, ...] = ()
    edited: bool = True


@attrs.frozen
class Tidied:
    """The groups of near-duplicate lines to merge after a curation."""

    questions: tuple[TrainingQuestion, ...]
    groups: tuple[Alike, ...] = ()

    def work(self) -> tuple[Alike, ...]:
        return self.groups


@graph.source(rounds=1)
def seed(ctx: fg.Draw[None, Params]) -> PlaybookStart:
    """Emit the task's own playbook, or an empty one."""
    return PlaybookStart(ctx.task.seed.get("playbook", ""), ctx.params.budget_tokens, ctx.params.duplicate_at)


@attrs.frozen
class TrainingProgress:
    """The training's progress: questions emitted, and snapshots taken."""

    asked: int = 0
    shown: int = 0


@graph.source(reads=playbook, state=TrainingProgress())
def select(ctx: fg.Draw[Playbook, Params, TrainingProgress]) -> fg.Emit[Batch | Snapshot, TrainingProgress] | None:
    """Emit the training samples in order, and snapshots: offline after each ``eval_steps`` samples of an epoch and at
    the end, online before each window. An online snapshot is tested on its window before the training uses it."""
    if ctx.view.newest is None:
        return None
    online, size, asked, shown = ctx.params.mode == "online", len(ctx.task.train), ctx.state.asked, ctx.state.shown
    total, step = (size, ctx.params.test_window) if online else (size * ctx.params.epochs, ctx.params.eval_steps)
    within = asked % size
    until = asked - within + min(size, within - within % step + step)
    if online:
        due, split, indices = asked < total and shown * step == asked, "train", range(asked, until)
    else:
        passed = asked // size * (size // step) + within // step + (asked == total and size % step > 0)
        due, split, indices = shown < passed, "val", range(len(ctx.task.val))
        if due and asked == total and ctx.open:
            return None  # the last snapshot must hold the lessons of all samples
    if due:
        text = {**ctx.task.seed, "playbook": ctx.view.text}
        return fg.Emit(Snapshot(text, asked, split, tuple(indices), ctx.task.least), TrainingProgress(asked, shown + 1))
    if asked == total:
        return None
    numbers = range(asked, min(asked + ctx.params.batch, until))
    batch = Batch(tuple(TrainingQuestion(number % size) for number in numbers))
    return fg.Emit(batch, TrainingProgress(numbers.stop, shown))


async def ask(work: Work, ctx: fg.Context[Any, Params], reflection: str = "") -> tuple[Attempt, tuple[str, ...]]:
    """Call the generator once and score its answer; return it with the playbook lines that it cites."""
    sample = ctx.task.samples(work.split)[work.index]
    prompt = generate_prompt(work.text, sample, reflection)
    reply = await ctx.llm(prompt, temperature=0, max_tokens=ctx.params.max_tokens)
    text, used = parse_answer(reply.text)
    return await Attempt.judged(ctx.task, work, text, llm=ctx.llm), used


def training(question: TrainingQuestion, ctx: fg.Context[Playbook, Params]) -> Work:
    return Work({**ctx.task.seed, "playbook": ctx.view.text}, "train", question.sample)


@graph.stage(model="generator", reads=playbook, counts="evaluations")
async def generate(given: TrainingQuestion | Reflection, ctx: fg.Context[Playbook, Params]) -> Answer:
    """Answer with the newest playbook, and with the reflection on the last wrong answer."""
    question = given if isinstance(given, TrainingQuestion) else given.question
    found, used = await ask(training(question, ctx), ctx, question.reflection)
    return Answer(question, found.output, found.score, found.feedback, used, found.passed)


@graph.stage(model="reflector", reads=playbook)
async def reflect(answer: Answer, ctx: fg.Context[Playbook, Params]) -> Reflection:
    """Learn from the first answer in any case, and from later ones while they are wrong."""
    question = answer.question
    if question.round and (answer.right or question.round == ROUNDS):
        return Reflection((), question, again=False)
    shown = (str(ctx.task.train[question.sample]), answer.text, answer.feedback, ctx.view.bullets_text(answer.used))

    def prompt(tokens: int) -> str:
        sample, text, feedback, used = within(shown, tokens, f"task {ctx.task.name!r}")
        return reflect_prompt(sample, text, feedback, answer.right, used)

    params = ctx.params
    reply = await call_within(ctx.llm, prompt, params.reflection_tokens, temperature=0, max_tokens=params.max_tokens)
    text, tags = parse_tags(reply.usable())
    before = question.before if question.round else answer.score
    learned = attrs.evolve(question, round=question.round + 1, reflection=text, before=before)
    return Reflection(tags.counts, learned, again=not answer.right)


@graph.stage(model="curator", reads=playbook, counts="proposals")
async def curate(learned: fg.Group[Batch, Reflection], ctx: fg.Context[Playbook, Params]) -> Curated | None:
    """Turn the lessons into changes of the playbook, at every ``curator_frequency``-th sample of an epoch."""
    questions = tuple(reflection.question for reflection in learned.values)
    if not questions:
        return None
    if not any((question.sample + 1) % ctx.params.curator_frequency == 0 for question in questions):
        return Curated(questions[-1].sample, "", questions=questions, edited=False)
    return await edit(questions, ctx)


async def edit(questions: tuple[TrainingQuestion, ...], ctx: fg.Context[Playbook, Params]) -> Curated:
    samples = "\n\n".join(str(ctx.task.train[question.sample]) for question in questions)
    reflections = "\n\n".join(question.reflection for question in questions)

    def prompt(tokens: int) -> str:
        return curate_prompt(ctx.view, *within((samples, reflections), tokens, f"task {ctx.task.name!r}"))

    params = ctx.params
    reply = await call_within(ctx.llm, prompt, params.reflection_tokens, temperature=0, max_tokens=params.max_tokens)
    return Curated(questions[-1].sample, reflections, parse_operations(reply.usable(), ctx.view), questions)


@graph.stage(model="curator", reads=playbook)
async def again(stale: fg.Stale[Curated], ctx: fg.Context[Playbook, Params]) -> fg.Verdict[Curated]:
    """Curate again on the current playbook, because a line that the curator changed has changed since."""
    return fg.Verdict.patch(await edit(stale.value.questions, ctx))


def conflicts(delta: Curated, view: Playbook) -> bool:
    return view.conflicts(delta)


@graph.stage(reads=playbook)
def tidy(curated: Curated, ctx: fg.Context[Playbook, Params]) -> Tidied:
    """Find near-duplicate lines after a curation (the paper's bullet analyzer), if ``merge_duplicates`` is set."""
    if not (ctx.params.merge_duplicates and curated.edited):
        return Tidied(curated.questions)
    return Tidied(curated.questions, ctx.view.alike(similarity_named(ctx.params.similarity)))


@graph.stage(model="curator")
async def merge(alike: Alike, ctx: fg.Context[None, Params]) -> Merged:
    """Merge several near-duplicate lines into one."""
    reply = await ctx.llm(merge_prompt(alike.texts), temperature=0, max_tokens=ctx.params.max_tokens)
    return Merged(alike.ids, reply.usable().strip(), alike.seen)


@graph.stage(model="generator", reads=playbook, counts="evaluations")
async def answer(done: fg.Group[Tidied, Merged], ctx: fg.Context[Playbook, Params]) -> StepScores | None:
    """Answer the same samples with the playbook that learned from them. This only measures the training."""
    if not ctx.params.answer_after:
        return None
    questions = done.origin.questions
    after: list[float] = []

    async def one(question: TrainingQuestion) -> None:
        after.append((await ask(training(question, ctx), ctx))[0].score)

    async with anyio.create_task_group() as tasks:
        for question in questions:
            tasks.start_soon(one, question)
    return StepScores(len(questions), sum(question.before for question in questions), math.fsum(after))


@graph.stage(model="generator", counts="evaluations")
async def validate(work: Work, ctx: fg.Context[None, Params]) -> Attempt:
    """Answer one sample with a snapshot of the playbook."""
    return (await ask(work, ctx))[0]


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the evaluations of a round and its share of a validation."""
    return curating(ctx.task, ctx.params.batch, ctx.params.eval_steps, ctx.params.answer_after, again=ROUNDS)


graph.edge(seed, playbook)
graph.edge(select, generate, only=Batch, scatter=Batch.each, fanout=MOST, stale=fg.refresh())
graph.edge(generate, reflect, stale=fg.refresh())
graph.edge(reflect, playbook, when=Reflection.tags)
graph.edge(reflect, generate, when=Reflection.retry, loop=ROUNDS, stale=fg.refresh())
graph.edge(reflect, curate, gather=True, when=Reflection.settled, stale=fg.refresh())
graph.edge(curate, playbook, stale=fg.repair(again, above=0, when=conflicts))
graph.edge(curate, tidy, stale=fg.refresh())
graph.edge(tidy, merge, scatter=Tidied.work)
graph.edge(merge, playbook)
graph.edge(merge, answer, gather=True, stale=fg.refresh())
graph.edge(answer, scores)
graph.edge(select, validate, only=Snapshot, scatter=Snapshot.work, distinct=same_snapshot)
graph.edge(validate, scores, gather=True)
graph.tests_with(validate)
