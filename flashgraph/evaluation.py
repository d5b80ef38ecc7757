"""The stage that most evolution algorithms share: one candidate attempts one sample and is scored.

Values carry indices instead of samples, so that they are small and can be stored; the task knows the samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flashgraph.graph.ports import Context

__all__ = ["Attempt", "Candidate", "Work", "attempt"]


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
    score = at.task.score(sample, output)
    return Attempt(work.index, score.value, str(output), score.feedback, score.objectives)
