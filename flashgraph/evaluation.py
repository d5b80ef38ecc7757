"""The stage that most evolution algorithms share: one candidate attempts one sample and is scored.

Values carry indices instead of samples, so that they are small and can be stored; the task knows the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Context, Group

__all__ = ["Attempt", "Candidate", "Work", "attempt", "reachable"]


@attrs.frozen
class Candidate:
    """A candidate before its validation on ``size`` samples."""

    text: Mapping[str, str]
    size: int

    def work(self) -> list[Work]:
        """One piece of work for each validation sample, in the split's order."""
        return [Work(self.text, "val", index) for index in range(self.size)]


@attrs.frozen
class Work:
    """One candidate on one sample: ``index`` counts within ``split``."""

    text: Mapping[str, str]
    split: str
    index: int


@attrs.frozen
class Attempt:
    """What came of it: the task's score and feedback, and the output as text for reflection to read."""

    index: int
    score: float
    output: str
    feedback: str = ""
    objectives: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the score is perfect (1.0)."""
        return self.score >= 1.0


async def attempt(work: Work, at: Context) -> Attempt:
    """Let the candidate attempt the sample and score the output: one evaluation."""
    sample = at.task.samples(work.split)[work.index]
    output = await at.task.attempt(work.text, sample, at.llm)
    score = at.task.judge(sample, output)
    return Attempt(work.index, score.value, str(output), score.feedback, score.objectives)


def reachable(batch: Group[Any, Attempt], bounds: tuple[float, float]) -> tuple[float, float]:
    """The least and the greatest sum of scores that a batch can still come to, for scores within ``bounds``.

    Who failed or went missing adds nothing.  Where sums of floats depend on the order of their parts, the bounds are
    wider by more than that can make.
    """
    scores, open_ = [a.score for a in batch.values], sum(m.state == "open" for m in batch.members)
    known = sum(scores)
    if not open_:
        return known, known
    # Multiples of a small power of two add up exactly, in any order: there a tie is a tie.
    exact = all((number * 1024).is_integer() for number in (*scores, *map(float, bounds)))
    slack = 0.0 if exact else 1e-9 * max(1.0, abs(known))
    return known + open_ * bounds[0] - slack, known + open_ * bounds[1] + slack
