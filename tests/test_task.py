"""What a task refuses: the whole message of each mistake in its seed."""

from __future__ import annotations

from typing import Any

import pytest

import flashgraph as fg
from flashgraph.errors import DataError

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
    """It is told where the task is made, not by what takes the seed apart much later."""
    seed, said = SEEDS[case]
    with pytest.raises(DataError) as caught:
        fg.Task("mine", [1], [2], seed=seed, score=lambda sample, output: fg.Score(1.0))
    assert str(caught.value) == f"task 'mine': {said}"


def test_a_seed_of_several_texts() -> None:
    """Of any names."""
    task = fg.Task("mine", [1], [2], seed={"a": "", "b": "x"}, score=lambda sample, output: fg.Score(1.0))
    assert task.seed == {"a": "", "b": "x"}
