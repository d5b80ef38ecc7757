"""The stage that most evolution algorithms share: one candidate attempts one sample and is scored.

Values carry the indices of samples, so that they are small and can be stored; the task holds the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

import attrs

from flashgraph.graph.contexts import Context
from flashgraph.graph.ports import Contender, Group
from flashgraph.parts.clipping import clipped
from flashgraph.tasks.task import Llm, Task, least_score
from flashgraph.tasks.trace import Record, Trace

__all__ = ["Attempt", "Candidate", "Trial", "Validated", "Work", "attempt", "reachable", "same_text"]


KEPT_CHARACTERS = 20_000
"""The characters that are kept of an output, and of its feedback."""


@attrs.frozen
class Candidate:
    """A candidate before its validation on ``size`` samples."""

    text: Mapping[str, str]
    size: int

    @property
    def samples(self) -> range:
        """The validation samples that it is tried on, in the split's order."""
        return range(self.size)

    def work(self) -> list[Work]:
        """Return one piece of work for each validation sample, in the split's order."""
        return [Work(self.text, "val", index) for index in self.samples]


@attrs.frozen
class Validated(Contender):
    """An artifact of the pool that is tried on more validation samples."""

    text: Mapping[str, str]
    samples: tuple[int, ...]

    def work(self) -> list[Work]:
        """Return one piece of work for each of the samples."""
        return [Work(self.text, "val", index) for index in self.samples]


@attrs.frozen
class Work:
    """One candidate on one sample; ``index`` counts within ``split``."""

    text: Mapping[str, str]
    split: str
    index: int


@attrs.frozen
class Trial:
    """A candidate on a few training samples."""

    text: Mapping[str, str]
    samples: tuple[int, ...]

    def work(self) -> list[Work]:
        """Return one piece of work for each sample."""
        return [Work(self.text, "train", index) for index in self.samples]


@attrs.frozen
class Attempt:
    """The result of one attempt: the task's score and feedback, and the output as text for reflection.

    ``records`` are those of the attempt's trace, by component, and ``by_component`` the feedback that is a component's
    own. ``passed`` says whether the score is perfect; `judged` takes it from the task. By default, a score of at least
    1 passes.
    """

    index: int
    score: float
    output: str
    feedback: str = ""
    objectives: Mapping[str, float] = attrs.field(factory=dict)
    records: Mapping[str, tuple[Record, ...]] = attrs.field(factory=dict)
    by_component: Mapping[str, str] = attrs.field(factory=dict)
    passed: bool = attrs.field(default=attrs.Factory(lambda self: bool(self.score >= 1.0), takes_self=True))

    @classmethod
    async def judged(
        cls,
        task: Task[Any, Any],
        work: Work,
        output: Any,
        *,
        llm: Llm | None = None,
        shown: str | None = None,
        trace: Trace | None = None,
    ) -> Attempt:
        """Return the attempt of ``work`` that gave ``output``, scored by the task.

        ``shown`` is the text for reflection, if it differs from the output. That text and the feedback lose their
        middle beyond `KEPT_CHARACTERS`. Raises what `Task.judge` raises.
        """
        score = await task.judge(task.samples(work.split)[work.index], output, llm)
        text = str(output) if shown is None else shown
        passed = task.perfect is not None and score.value >= task.perfect
        # Clip after scoring: the journal and reflections do not need all of a long output.
        text, feedback = clipped(text, KEPT_CHARACTERS), clipped(score.feedback, KEPT_CHARACTERS)
        records = {} if trace is None else {name: tuple(map(_kept, found)) for name, found in trace.records.items()}
        own = {name: clipped(text, KEPT_CHARACTERS) for name, text in score.components.items()}
        return cls(work.index, score.value, text, feedback, score.objectives, records, own, passed)


def _kept(record: Record) -> Record:
    return {name: clipped(text, KEPT_CHARACTERS) for name, text in record.items()}


def same_text(value: Any) -> tuple[tuple[str, str], ...]:
    """Return the key that tells candidates apart (for ``distinct=`` on an edge): their texts, without white space."""
    return tuple(sorted((name, " ".join(text.split())) for name, text in value.text.items()))


async def attempt(work: Work, ctx: Context) -> Attempt:
    """Let the candidate attempt the sample, and score the output: one evaluation."""
    found = [await _once(work, ctx) for _ in range(ctx.task.repeats)]
    return found[0] if len(found) == 1 else _mean(found)


async def _once(work: Work, ctx: Context) -> Attempt:
    sample = ctx.task.samples(work.split)[work.index]
    # A copy, because a task could change its candidate, and so the artifact itself.
    trace = Trace()
    output = await ctx.task.answer(dict(work.text), sample, ctx.llm, trace)
    return await Attempt.judged(ctx.task, work, output, llm=ctx.llm, trace=trace)


def _mean(found: Sequence[Attempt]) -> Attempt:
    """Return several attempts at one sample as one: their mean scores, and what a reflection sees of the worst."""
    worst = min(found, key=lambda attempt: attempt.score)
    shared = [name for name in worst.objectives if all(name in attempt.objectives for attempt in found)]
    scores = ", ".join(f"{attempt.score:g}" for attempt in found)
    said = f"{len(found)} attempts scored {scores}; this is the worst of them."
    return attrs.evolve(
        worst,
        score=_between([attempt.score for attempt in found]),
        objectives={name: _between([attempt.objectives[name] for attempt in found]) for name in shared},
        feedback=f"{worst.feedback}\n{said}".lstrip(),
        passed=all(attempt.passed for attempt in found),
    )


def _between(numbers: Sequence[float]) -> float:
    """Return the mean, which a rounding error must not put beyond the numbers: scores have bounds."""
    return min(max(fmean(numbers), min(numbers)), max(numbers))


class Scored(Protocol):
    """A value with a score."""

    @property
    def score(self) -> float: ...


def reachable(batch: Group[Any, Scored], bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the least and the greatest sum of scores that a batch can still reach, for scores within ``bounds``.

    A failed or missing sample counts as the least score. If the order of adding floats can change the sum, the result
    is wider by more than the rounding error.
    """
    ended, open_ = [m for m in batch.members if m.state != "open"], sum(m.state == "open" for m in batch.members)
    scores = [least_score(bounds) if m.value is None else m.value.score for m in ended]
    known = sum(scores)
    if not open_:
        return known, known
    # Multiples of a small power of two add up exactly in any order, so a tie is a tie.
    exact = all((number * 1024).is_integer() for number in (*scores, *map(float, bounds)))
    slack = 0.0 if exact else 1e-9 * max(1.0, abs(known))
    return known + open_ * bounds[0] - slack, known + open_ * bounds[1] + slack
