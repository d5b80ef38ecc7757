"""Values that a task refuses, and how it converts the results of its functions."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.run import events as ev
from flashgraph.tasks.samples import own_copy
from flashgraph.testing.runs import TASK

SEEDS: dict[str, tuple[Any, str]] = {
    "a text": (
        "Do it.",
        "seed is 'Do it.' (a str); expected a mapping from names to texts.\nFix: seed={\"instruction\": 'Do it.'}.",
    ),
    "a list": (
        ["Do it."],
        'seed is [\'Do it.\'] (a list); expected a mapping from names to texts.\nFix: seed={"instruction": "..."}.',
    ),
    "a number": ({"n": 3}, "seed has 'n': 3 (a int); expected a text under a name.\nFix: seed={'n': '3'}."),
    "a number's text": ({3: "x"}, "seed has 3: 'x' (a str); expected a text under a name.\nFix: seed={'3': 'x'}."),
    "nothing": (
        {},
        'seed is empty; found {}, expected at least one named text.\nFix: seed={"instruction": "..."}.',
    ),
}


@pytest.mark.parametrize("case", SEEDS)
def test_a_seed_that_is_no_named_texts(case: str) -> None:
    """A wrong seed is reported where the task is made, not where it is used much later."""
    seed, message = SEEDS[case]
    with pytest.raises(DataError) as caught:
        fg.Task("mine", [1], [2], seed=seed, score=lambda sample, output: fg.Score(1.0))
    assert str(caught.value) == f"task 'mine': {message}"


def test_a_seed_of_several_texts() -> None:
    """A seed may have several texts of any names."""
    task = fg.Task("mine", [1], [2], seed={"a": "", "b": "x"}, score=lambda sample, output: fg.Score(1.0))
    assert task.seed == {"a": "", "b": "x"}


# ---- splits ----------------------------------------------------------------------------------------------


SPLITS: dict[str, tuple[Any, str]] = {
    "a file": ("d.csv", "the path 'd.csv'; expected a list of samples.\nFix: train=fg.data.read('d.csv'), which"),
    "a path": (Path("data/d.json"), "the path 'data/d.json'; expected a list of samples.\nFix: train=fg.data.read("),
    "the hub": ("hf:a/b@train", "the path 'hf:a/b@train'; expected a list of samples.\nFix: train=fg.data.read("),
    "a text": ("abc", "'abc' (a str), which would give its characters; expected a list of samples.\nFix: train=[...]."),
    "bytes": (b"abc", "b'abc' (a bytes), which would give its characters; expected"),
    "a mapping": ({"train": [1]}, "a dict, which would give its keys ('train'); expected a list of samples.\nFix: "
                  "train=list(it.values())."),
    "a set": ({"a"}, "a set, whose order differs from process to process; expected a list of samples.\nFix: "
              "train=sorted(it)."),
    "nothing": (None, "None (a NoneType); expected a list of samples.\nFix: train=[...]."),
    "a number": (3, "3 (a int); expected a list of samples.\nFix: train=[...]."),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
def test_a_split_that_is_no_list_of_samples(case: str) -> None:
    """A split must be a list of samples, because iterating other values yields letters, column names or the like."""
    split, message = SPLITS[case]
    with pytest.raises(DataError) as caught:
        fg.Task("mine", split, [2], score=lambda sample, output: fg.Score(1.0))
    assert f"task 'mine': train is {message}" in str(caught.value)
    with pytest.raises(DataError, match="task 'mine': val is "):
        fg.Task("mine", [1], split, score=lambda sample, output: fg.Score(1.0))


def test_sequences_and_iterables_give_samples() -> None:
    """A list, a tuple, a range, a generator or an array gives samples; the test split may also be None."""
    for split in ([1, 2], (1, 2), range(1, 3), (i for i in (1, 2)), numpy.array([1, 2])):
        task: fg.Task[Any, Any] = fg.Task("mine", split, [2], None, score=lambda sample, output: fg.Score(1.0))
        assert task.train == (1, 2)
        assert task.test == ()


# ---- candidates ------------------------------------------------------------------------------------------


def test_an_attempt_changes_only_its_copy_of_the_candidate() -> None:
    """An attempt that changes its candidate changes neither the artifact nor the seed."""

    async def attempt(candidate: Any, sample: int, llm: fg.Llm) -> str:
        candidate["text"] += " and a hint"
        candidate["more"] = "x"
        return str(candidate["text"])

    def score(sample: int, output: str) -> fg.Score:
        return fg.Score(float(output == "new and a hint"))

    seed = {"text": "seed"}
    task = fg.Task("t", range(3), range(3), range(3), seed=seed, attempt=attempt, score=score)
    seed["text"] = "changed later"
    models = {"task": lambda _: "out", "reflection": lambda _: "```\nnew\n```"}
    result = fg.run("gepa", task, models=models, budget=fg.Budget(proposals=1), schedule="lockstep")
    assert [dict(a.value) for a in result.artifacts] == [{"text": "seed"}, {"text": "new"}]
    assert [a.score for a in result.artifacts] == [0.0, 1.0]
    assert task.seed == {"text": "seed"}


@pytest.mark.parametrize("by", ["attempt", "score"])
@pytest.mark.parametrize("make", [lambda: {"hints": ["a"]}, lambda: [["a"]]], ids=["dict", "list"])
def test_a_function_changes_only_its_copy_of_the_sample(by: str, make: Callable[[], Any]) -> None:
    """A function gets a copy of its sample, so that it cannot change the scores of later candidates."""

    def take(sample: Any) -> float:
        hints = sample["hints"] if isinstance(sample, dict) else sample[0]
        return float(bool(hints) and hints.pop() == "a")

    async def attempt(candidate: Any, sample: Any, llm: fg.Llm) -> float:
        return take(sample) if by == "attempt" else 1.0

    def score(sample: Any, output: float) -> fg.Score:
        return fg.Score(output / 2 if by == "attempt" else take(sample) / 2)

    task = fg.Task("t", [make()], [make()], score=score, attempt=attempt)
    models = {"task": lambda _: "out", "reflection": lambda _: "```\nnew\n```"}
    result = fg.run("gepa", task, models=models, budget=fg.Budget(evaluations=9), schedule="lockstep")
    assert result.spent.evaluations > 3
    assert {a.score for a in result.artifacts} == {0.5}
    assert task.val == (make(),)


def test_a_sample_that_cannot_be_copied_is_used_itself() -> None:
    """A sample that cannot be copied, such as one with a lock, is passed as it is."""
    held, own = {"lock": threading.Lock()}, object()
    assert own_copy(held) is held
    assert own_copy(own) is own


# ---- scores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [0.5, numpy.float32(0.5), numpy.array(0.5), Fraction(1, 2), Decimal("0.5"), numpy.float16(0.5)]
)
def test_numbers_of_any_kind_are_floats_in_a_score(number: Any) -> None:
    """Numbers of any kind become floats, so that no foreign type enters pools and journals."""
    score = fg.Score(number, objectives={"a": number, 3: True})  # type: ignore[dict-item]
    assert score == fg.Score(0.5, "", {"a": 0.5, "3": 1.0})
    assert {type(value) for value in (score.value, *score.objectives.values())} == {float}


@pytest.mark.parametrize(
    ("feedback", "text"),
    [
        ("as it is", "as it is"),
        (KeyError("field"), "KeyError: 'field'"),
        (ValueError("two\nlines"), "ValueError: two\nlines"),
        (None, ""),
        (3, "3"),
        ({"a": 1, "b": KeyError("x")}, "a: 1\nb: KeyError: 'x'"),
        (numpy.str_("x"), "x"),
    ],
)
def test_feedback_of_any_kind_is_text(feedback: Any, text: str) -> None:
    """Feedback of any kind becomes a text that can be stored."""
    score = fg.Score(1, feedback)
    assert score.feedback == text
    assert isinstance(score.feedback, str)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "0.5"}, "value is '0.5' (a str); expected a number."),
        ({"value": None}, "value is None (a NoneType); expected a number."),
        ({"value": numpy.array([0.5, 0.2])}, "value is array([0.5, 0.2]) (a ndarray); expected a number."),
        ({"value": 10**400}, "(a int); expected a number."),
        ({"value": 1, "objectives": {"a": None}}, "objective 'a' is None (a NoneType); expected a number."),
        ({"value": 1, "objectives": {"a": "high"}}, "objective 'a' is 'high' (a str); expected a number."),
        ({"value": 1, "objectives": [0.5]}, "objectives are [0.5] (a list); expected a mapping from names"),
    ],
)
def test_a_value_that_is_no_number_is_refused(options: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        fg.Score(**options)
    assert message in str(caught.value)
    assert "\nFix: " in str(caught.value)


class Mute:
    def __str__(self) -> str:
        raise ValueError("nothing to say")


BAD: dict[str, Any] = {
    "objective None": lambda: fg.Score(0.5, objectives={"a": None}),  # type: ignore[dict-item]
    "objective NaN": lambda: fg.Score(0.5, objectives={"a": float("nan")}),
    "objective text": lambda: fg.Score(0.5, objectives={"a": "x"}),  # type: ignore[dict-item]
    "value NaN": lambda: fg.Score(float("nan")),
    "feedback that cannot be shown": lambda: fg.Score(0.5, Mute()),
    "no score": lambda: None,
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_score_is_one_failed_sample(case: str, tmp_path: Path) -> None:
    """A bad score is one failed sample with its reason, in a journalled run; the others are scored."""

    def score(sample: int, output: object) -> fg.Score:
        if sample == 2:
            bad: fg.Score = BAD[case]()
            return bad
        return fg.Score(numpy.float32(1.0), KeyError(sample), {"speed": numpy.float32(0.5)})

    task = fg.Task("t", range(4), range(4), seed={"text": "seed"}, attempt=TASK.attempt, score=score)
    result = fg.run(
        "gepa",
        task,
        models={"task": lambda _: "out", "reflection": lambda _: "```\nnew\n```"},
        budget=fg.Budget(proposals=1),
        folder=tmp_path / "run",
    )
    assert (result.status, result.reason) == ("budget", "no proposals left")
    (seed, *_) = result.artifacts
    assert dict(seed.scores) == {0: 1.0, 1: 1.0, 2: 0.0, 3: 1.0}  # it counts as the least score
    failed = [e for e in result.events if isinstance(e, ev.JobEnded) and e.stage == "baseline" and e.how == "failed"]
    assert [e.reason.split(":")[0] for e in failed] in (["DataError"], ["ValueError"])


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, float("nan")), ("0", "1"), (None, 1), (0, 1, 2), (0,), 5, None, "01", [1, "2"]]
)
def test_bounds_must_be_two_ascending_numbers(bounds: Any) -> None:
    """Bounds must be two numbers, the least first."""
    with pytest.raises(DataError, match=r"expected \(least, greatest\) score"):
        fg.Task("t", train=[1], val=[1], score=lambda sample, output: fg.Score(1), bounds=bounds)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("roles", 5, "fg.Task: roles has 5; expected names"),
        ("roles", [1], "fg.Task: roles has 1; expected names"),
        ("name", 5, "fg.Task: its name is 5; expected a text"),
        ("name", " ", "fg.Task: its name is ' '; expected a text"),
        ("rewrite", 5, "rewrite is 5; expected a function"),
        ("gateway", "yes", "gateway is 'yes'; expected True or False"),
    ],
)
def test_each_option_of_a_wrong_type_is_named(option: str, value: object, said: str) -> None:
    options: dict[str, Any] = {"name": "t", "seed": {"i": "x"}, "train": ["a"], "val": ["b"], "score": lambda s, o: 1.0}
    with pytest.raises(fg.DataError, match=re.escape(said)):
        fg.Task(**options | {option: value})
