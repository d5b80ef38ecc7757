"""Corner cases of the islands graph: odd scores, a wrong task, programs that are too long, wrong parameters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.parts.islands.pool import ProposalFailure
from flashgraph.parts.islands.programs import Check
from flashgraph.run.events import JobEnded
from flashgraph.sandbox import Ran


@attrs.frozen
class Echo:
    """Replaces the sandbox: every program returns its own text."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def run(self, code: str, **_: Any) -> Ran:
        return Ran(code, "", "", 0.0)


def run(score: Mapping[str, Any], answers: Sequence[str], **params: Any) -> fg.Result:
    """Run islands; ``score`` maps texts of programs to a score, or to an exception."""
    lines = iter(answers)

    def judged(sample: Check, value: str) -> fg.Score:
        found = score[value.strip()]
        if isinstance(found, Exception):
            raise found
        return fg.Score(found)

    return fg.run(
        "islands",
        fg.Task("odd", [Check("f")], [Check("f")], seed={"program": "seed"}, score=judged),
        models={"proposer": lambda messages: next(lines)},
        schedule="lockstep",
        params={"rewrite": True, "islands": 1, **params},
        budget=fg.Budget(proposals=max(1, len(answers))),
        resources={"sandbox": Echo()},
    )


def failures(result: fg.Result) -> list[str]:
    return [a.value.reason for a in result.artifacts if isinstance(a.value, ProposalFailure)]


def test_an_error_in_the_score_fails_the_program() -> None:
    """If a score raises or is not a number, the program fails like any other, and the run continues."""
    result = run({"seed": 0.5, "a": TypeError("no"), "b": float("nan"), "c": 0.9}, ["a", "b", "c"])
    raised, odd = failures(result)
    assert "its result cannot be scored: TypeError: no" in raised
    assert "its result cannot be scored: DataError: task 'odd': the score of an output is nan" in odd
    assert result.best is not None
    assert result.best.value.text == {"program": "c\n"}


def test_an_error_in_the_seeds_score_is_the_tasks_mistake() -> None:
    """If the score of the seed raises, the islands are not founded, and the run's log reports the error."""
    result = run({"seed": KeyError("shape")}, [])
    assert result.best is None
    assert {e.reason for e in result.events if isinstance(e, JobEnded) and e.how == "failed"} == {"KeyError: 'shape'"}


def test_a_seed_that_fails_is_evolved_all_the_same() -> None:
    """The threshold applies to proposals; a seed that fails its checks is evolved nevertheless."""
    result = run({"seed": 0.0, "a": 0.4, "b": 0.6}, ["a", "b"])
    assert [a.score for a in result.artifacts] == [0.0, None, 0.6]
    assert "mean 0.4 of the cheap checks is below 0.5" in failures(result)[0]


def test_programs_are_of_bounded_length() -> None:
    assert failures(run({"seed": 0.5}, ["x" * 99], longest=50)) == [
        "the program has 100 characters, more than the 50 that are allowed"
    ]


@pytest.mark.parametrize(("name", "value"), [("islands", 0), ("bins", 0), ("exploration", 1.5), ("seconds", 0.0)])
def test_wrong_parameters_are_refused_before_anything_is_paid(name: str, value: Any) -> None:
    with pytest.raises(fg.DataError, match=f"parameter {name}={value!r}: must be "):
        run({"seed": 0.5}, [], **{name: value})
