"""What travels through Meta-Harness's graph: programs, what became of them, questions and predictions.

Values carry indices instead of samples, as those of `flashgraph.parts.evaluation` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import attrs

from flashgraph.parts.evaluation import Work

__all__ = [
    "OVERALL",
    "Checked",
    "FailedProgram",
    "LearnedState",
    "Lesson",
    "Points",
    "Prediction",
    "Program",
    "Question",
    "Stakes",
    "Trained",
    "same_harness",
]

OVERALL = "overall"
"""Where numbers stand by data set: the mean over the data sets."""

Points = Mapping[str, tuple[float, float]]
"""By data set and `OVERALL`: (accuracy, context characters a prediction)."""


@attrs.frozen
class Program:
    """A program that nobody has looked at yet, and who wrote it: ``"baseline NAME"`` or ``"iteration N"``."""

    origin: str
    code: str


@attrs.frozen
class FailedProgram:
    """A program that did not get as far as being scored, or an iteration that made none: at which step, and why."""

    origin: str
    step: str
    reason: str
    code: str = ""
    lag: int = 0


@attrs.frozen
class Lesson:
    """A program that is to learn from the training samples of one data set."""

    code: str
    dataset: str


@attrs.frozen
class Checked:
    """A program with the interface; ``lag`` is how far the archive had moved on since its proposer read it."""

    origin: str
    code: str
    identity: str
    datasets: tuple[str, ...]
    lag: int = 0

    def lessons(self) -> list[Lesson]:
        return [Lesson(self.code, dataset) for dataset in self.datasets]


def same_harness(value: Checked) -> str:
    """Return what tells programs apart, for ``distinct=`` on an edge: their code without comments and layout."""
    return value.identity


@attrs.frozen
class LearnedState:
    """The state after learning, or the ``failure`` that learning ended with."""

    dataset: str
    state: str = ""
    failure: str = ""


@attrs.frozen
class Stakes:
    """What a candidate's predictions are held against while they come in: how many there will be in each data set,
    the points of the programs that are on a frontier, and the greatest score of the task."""

    sizes: Mapping[str, int]
    rivals: tuple[Points, ...] = ()
    greatest: float = 1.0


@attrs.frozen
class Question(Work):
    """One validation sample for a program that has learned; ``text`` is as `Trained.text` gives it."""

    dataset: str
    stakes: Stakes | None = None


@attrs.frozen
class Prediction:
    """What came of a question.  ``characters`` went to the model, over all of its calls; ``failure`` says why there
    is no answer, or none that can be scored, which has the task's least score."""

    dataset: str
    index: int
    score: float
    answer: str = ""
    characters: int = 0
    calls: int = 0
    failure: str = ""
    stakes: Stakes | None = None


@attrs.frozen
class Trained:
    """A program that has learned on every data set; ``samples`` are the validation samples' indices, ``bounds`` those
    of the task's scores."""

    program: Checked
    states: Mapping[str, str]
    samples: Mapping[str, tuple[int, ...]]
    rivals: tuple[Points, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def text(self) -> dict[str, str]:
        """The program and what it has learned on each data set, as named texts: what the held-out test is given too."""
        return {"program": self.program.code, **{f"state:{name}": state for name, state in self.states.items()}}

    def questions(self) -> list[Question]:
        """The data sets take turns, so that the first part of the predictions says something of each.

        Only the first turn carries the stakes: every result is kept in a run's journal."""
        sizes = {name: len(indices) for name, indices in self.samples.items()}
        stakes = Stakes(sizes, self.rivals, self.bounds[1])
        text = self.text
        return [
            Question(text, "val", index, name, None if turn else stakes)
            for turn, row in enumerate(zip_longest(*self.samples.values()))
            for name, index in zip(self.samples, row, strict=True)
            if index is not None
        ]
