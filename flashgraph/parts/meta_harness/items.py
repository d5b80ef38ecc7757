"""The values that travel through Meta-Harness's graph: programs, their results, questions and predictions.

Values carry indices instead of samples, like those of `flashgraph.parts.evaluation`.
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
"""The key of the mean over data sets, in mappings by data set."""

Points = Mapping[str, tuple[float, float]]
"""By data set and `OVERALL`: (accuracy, context characters a prediction)."""


@attrs.frozen
class Program:
    """A new program, and its author: ``"baseline NAME"`` or ``"iteration N"``."""

    origin: str
    code: str


@attrs.frozen
class FailedProgram:
    """A program that failed before it was scored, or an iteration without one: the step, and the reason."""

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
    """A program that has the interface; ``lag`` counts the archive's versions since its proposer read it."""

    origin: str
    code: str
    identity: str
    datasets: tuple[str, ...]
    lag: int = 0

    def lessons(self) -> list[Lesson]:
        return [Lesson(self.code, dataset) for dataset in self.datasets]


def same_harness(value: Checked) -> str:
    """Return the key that tells programs apart (for ``distinct=`` on an edge): their code without comments and
    layout."""
    return value.identity


@attrs.frozen
class LearnedState:
    """The state after learning, or the ``failure`` that ended it."""

    dataset: str
    state: str = ""
    failure: str = ""


@attrs.frozen
class Stakes:
    """The bounds that a candidate's predictions are compared with as they arrive.

    They are the number of predictions in each data set, the points of the programs on a frontier, and the task's
    greatest score.
    """

    sizes: Mapping[str, int]
    rivals: tuple[Points, ...] = ()
    greatest: float = 1.0


@attrs.frozen
class Question(Work):
    """One validation sample for a program that has learned; ``text`` is that of `Trained.text`."""

    dataset: str
    stakes: Stakes | None = None


@attrs.frozen
class Prediction:
    """The result of a question.

    ``characters`` went to the model, over all of its calls. ``failure`` says why there is no answer, or why it cannot
    be scored; the score is then the task's least.
    """

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
    """A program that has learned on every data set; ``samples`` holds indices of validation samples.

    ``bounds`` are those of the task's scores.
    """

    program: Checked
    states: Mapping[str, str]
    samples: Mapping[str, tuple[int, ...]]
    rivals: tuple[Points, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def text(self) -> dict[str, str]:
        """The program and its learned state on each data set, as named texts; the held-out test gets them too."""
        return {"program": self.program.code, **{f"state:{name}": state for name, state in self.states.items()}}

    def questions(self) -> list[Question]:
        """Return the questions, alternating between data sets, so that the first predictions cover each.

        Only the first round of data sets carries the stakes, because a run's journal keeps every result.
        """
        sizes = {name: len(indices) for name, indices in self.samples.items()}
        stakes = Stakes(sizes, self.rivals, self.bounds[1])
        text = self.text
        return [
            Question(text, "val", index, name, None if turn else stakes)
            for turn, row in enumerate(zip_longest(*self.samples.values()))
            for name, index in zip(self.samples, row, strict=True)
            if index is not None
        ]
