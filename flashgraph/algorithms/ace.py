"""ACE (arXiv:2510.04618): a playbook that a generator uses, a reflector learns from, and a curator edits.

    select --> generate <==> reflect --> curate --> tidy --> merge --> answer
      |                         |           |                  |          |
      |                         +-----------+--> playbook <----+          |
      +--> validate --> scores <-------------------------------------------+

A wrong answer goes round the loop up to three times. What comes back to the playbook are small operations: counters
add up in any order, additions are compared with what is there by now, and a change of a line that is no longer what
its curator saw goes to the curator again.
"""

import math
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.parts import Checkpoints, Snapshot, StepScores, same_snapshot
from flashgraph.parts.ace import (
    Alike,
    Delta,
    Merged,
    Playbook,
    PlaybookStart,
    Tags,
    parse_answer,
    parse_operations,
    parse_tags,
    similarity_named,
)
from flashgraph.parts.ace.prompts import curate_prompt, generate_prompt, merge_prompt, reflect_prompt
from flashgraph.parts.clipping import SHOWN_TOKENS, asked, within
from flashgraph.parts.costs import curating
from flashgraph.parts.evaluation import Attempt, Work

ROUNDS = 3
MOST = 64
"""Samples of a batch: the bound that the loop's capacity is reckoned with."""

graph = fg.Graph("ace", doc=__doc__)
mode = graph.param("mode", "offline")
epochs = graph.param("epochs", 1)
eval_steps = graph.param("eval_steps", 100)
test_window = graph.param("test_window", 15)
batch = graph.param("batch", 1)
frequency = graph.param("curator_frequency", 1)
max_tokens = graph.param("max_tokens", 4096)
budget_tokens = graph.param("budget_tokens", 80_000)
duplicate_at = graph.param("duplicate_at", 0.9)
merge_duplicates = graph.param("merge_duplicates", False)
similarity = graph.param("similarity", "auto")
answer_after = graph.param("answer_after", True)
reflection_tokens = graph.param("reflection_tokens", SHOWN_TOKENS)

scores = graph.pool("scores", Checkpoints)
playbook = graph.pool("playbook", Playbook)


@attrs.frozen
class TrainingQuestion:
    """A training sample on its way: ``round`` counts its reflections, ``before`` is the score of its first answer."""

    sample: int
    round: int = 0
    reflection: str = ""
    before: float = 0.0


@attrs.frozen
class Batch:
    """Samples that are curated together; one, as published."""

    questions: tuple[TrainingQuestion, ...]

    def each(self) -> tuple[TrainingQuestion, ...]:
        return self.questions


@attrs.frozen
class Answer:
    """An answer, what the scorer said of it, and the lines of the playbook that it cites."""

    question: TrainingQuestion
    text: str
    score: float
    feedback: str
    used: tuple[str, ...]
    right: bool = attrs.field(default=attrs.Factory(lambda self: bool(self.score >= 1.0), takes_self=True))


@attrs.frozen
class Reflection(Tags):
    """What was learned, the tags of the lines that were used, and whether to try the sample once more."""

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
    """The curator's changes, and the questions whose reflections they come from; not ``edited`` where it was not the
    curator's turn."""

    questions: tuple[TrainingQuestion, ...] = ()
    edited: bool = True


@attrs.frozen
class Tidied:
    """What there is to merge after a curation."""

    questions: tuple[TrainingQuestion, ...]
    groups: tuple[Alike, ...] = ()

    def work(self) -> tuple[Alike, ...]:
        return self.groups


@graph.source(rounds=1)
def seed(at: fg.Draw) -> PlaybookStart:
    """The task's own playbook, if it brings one."""
    return PlaybookStart(at.task.seed.get("playbook", ""), at[budget_tokens], at[duplicate_at])


@attrs.frozen
class TrainingProgress:
    """How far the training is: questions asked, and snapshots taken."""

    asked: int = 0
    shown: int = 0


@graph.source(reads=playbook, cursor=TrainingProgress())
def select(at: fg.Draw[Playbook, TrainingProgress]) -> Batch | Snapshot | None:
    """The training samples in their order; between them snapshots: offline after each ``eval_steps`` samples of an
    epoch and at the end, online before each window, which none of the window's samples has gone into."""
    if at.view.newest is None:
        return None
    if at[mode] not in ("offline", "online"):
        raise fg.DataError(f"mode={at[mode]!r}: expected offline or online.\nFix: --set mode=offline")
    online, size, asked, shown = at[mode] == "online", len(at.task.train), at.cursor.asked, at.cursor.shown
    total, step = (size, at[test_window]) if online else (size * at[epochs], at[eval_steps])
    within = asked % size
    until = asked - within + min(size, within - within % step + step)
    if online:
        due, split, indices = asked < total and shown * step == asked, "train", range(asked, until)
    else:
        passed = asked // size * (size // step) + within // step + (asked == total and size % step > 0)
        due, split, indices = shown < passed, "val", range(len(at.task.val))
        if due and asked == total and at.open:
            return None  # the last snapshot holds what all samples have taught
    if due:
        at.cursor = TrainingProgress(asked, shown + 1)
        return Snapshot({**at.task.seed, "playbook": at.view.text}, asked, split, tuple(indices), at.task.least)
    if asked == total:
        return None
    numbers = range(asked, min(asked + at[batch], until))
    at.cursor = TrainingProgress(numbers.stop, shown)
    return Batch(tuple(TrainingQuestion(number % size) for number in numbers))


async def ask(work: Work, at: fg.Context[Any], reflection: str = "") -> tuple[Attempt, tuple[str, ...]]:
    """One call of the generator, scored, and the lines of the playbook that it cites."""
    sample = at.task.samples(work.split)[work.index]
    reply = await at.llm(generate_prompt(work.text, sample, reflection), temperature=0, max_tokens=at[max_tokens])
    text, used = parse_answer(reply.text)
    return Attempt.judged(at.task, work, text), used


def training(question: TrainingQuestion, at: fg.Context[Playbook]) -> Work:
    return Work({**at.task.seed, "playbook": at.view.text}, "train", question.sample)


@graph.stage(llm="generator", reads=playbook, spends="evaluations")
async def generate(asked: TrainingQuestion | Reflection, at: fg.Context[Playbook]) -> Answer:
    """Answer with the newest playbook, and with what the last wrong answer taught."""
    question = asked if isinstance(asked, TrainingQuestion) else asked.question
    found, used = await ask(training(question, at), at, question.reflection)
    return Answer(question, found.output, found.score, found.feedback, used, found.passed)


@graph.stage(llm="reflector", reads=playbook)
async def reflect(answer: Answer, at: fg.Context[Playbook]) -> Reflection:
    """Learn from an answer: from the first one in any case, from later ones while they are wrong."""
    question = answer.question
    if question.round and (answer.right or question.round == ROUNDS):
        return Reflection((), question, again=False)
    shown = (str(at.task.train[question.sample]), answer.text, answer.feedback, at.view.bullets_text(answer.used))

    def prompt(tokens: int) -> str:
        sample, text, feedback, used = within(shown, tokens, f"task {at.task.name!r}")
        return reflect_prompt(sample, text, feedback, answer.right, used)

    reply = await asked(at.llm, prompt, at[reflection_tokens], temperature=0, max_tokens=at[max_tokens])
    text, tags = parse_tags(reply.usable())
    before = question.before if question.round else answer.score
    learned = attrs.evolve(question, round=question.round + 1, reflection=text, before=before)
    return Reflection(tags.counts, learned, again=not answer.right)


@graph.stage(llm="curator", reads=playbook, spends="proposals")
async def curate(learned: fg.Group[Batch, Reflection], at: fg.Context[Playbook]) -> Curated | None:
    """Turn what was learned into changes of the playbook, at every ``curator_frequency``-th sample of an epoch."""
    questions = tuple(reflection.question for reflection in learned.values)
    if not questions:
        return None
    if not any((question.sample + 1) % at[frequency] == 0 for question in questions):
        return Curated(questions[-1].sample, "", questions=questions, edited=False)
    return await edit(questions, at)


async def edit(questions: tuple[TrainingQuestion, ...], at: fg.Context[Playbook]) -> Curated:
    samples = "\n\n".join(str(at.task.train[question.sample]) for question in questions)
    reflections = "\n\n".join(question.reflection for question in questions)

    def prompt(tokens: int) -> str:
        return curate_prompt(at.view, *within((samples, reflections), tokens, f"task {at.task.name!r}"))

    reply = await asked(at.llm, prompt, at[reflection_tokens], temperature=0, max_tokens=at[max_tokens])
    return Curated(questions[-1].sample, reflections, parse_operations(reply.usable(), at.view), questions)


@graph.stage(llm="curator", reads=playbook)
async def again(stale: fg.Stale[Curated], at: fg.Context[Playbook]) -> fg.Verdict[Curated]:
    """A line that the curator changed has changed since: it is shown the playbook as it is now."""
    return fg.Verdict.patch(await edit(stale.value.questions, at))


def conflicts(delta: Curated, view: Playbook) -> bool:
    return view.conflicts(delta)


@graph.stage(reads=playbook)
def tidy(curated: Curated, at: fg.Context[Playbook]) -> Tidied:
    """Find lines that say nearly the same (the bullet analyzer) after a curation, if asked to."""
    if not (at[merge_duplicates] and curated.edited):
        return Tidied(curated.questions)
    return Tidied(curated.questions, at.view.alike(similarity_named(at[similarity])))


@graph.stage(llm="curator")
async def merge(alike: Alike, at: fg.Context) -> Merged:
    """One line for several."""
    reply = await at.llm(merge_prompt(alike.texts), temperature=0, max_tokens=at[max_tokens])
    return Merged(alike.ids, reply.usable().strip(), alike.seen)


@graph.stage(llm="generator", reads=playbook, spends="evaluations")
async def answer(done: fg.Group[Tidied, Merged], at: fg.Context[Playbook]) -> StepScores | None:
    """The same samples with the playbook that has learned from them: a measure of the training only."""
    if not at[answer_after]:
        return None
    questions = done.origin.questions
    after: list[float] = []

    async def one(question: TrainingQuestion) -> None:
        after.append((await ask(training(question, at), at))[0].score)

    async with anyio.create_task_group() as tasks:
        for question in questions:
            tasks.start_soon(one, question)
    return StepScores(len(questions), sum(question.before for question in questions), math.fsum(after))


@graph.stage(llm="generator", spends="evaluations")
async def validate(work: Work, at: fg.Context) -> Attempt:
    """One sample with a snapshot of the playbook."""
    found, _ = await ask(work, at)
    return found


graph.costs(curating(batch, eval_steps, answer_after, again=ROUNDS))
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
