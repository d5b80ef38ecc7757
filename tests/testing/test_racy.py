"""A seeded bug in a user's pool, which the kit must find; docs/how-to/test-your-work.md shows the messages."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt, Candidate
from flashgraph.testing import InvariantViolation, PoolViolation, check_algorithm, check_pool
from tests.testing import racy

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "test-your-work.md").read_text()


async def reply(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm(f"{candidate['prompt']} {sample}")).text


TASK = fg.Task(
    "digits",
    train=[0],
    val=list(range(8)),
    seed={"prompt": "Say a number."},
    attempt=reply,
    score=lambda sample, output: fg.Score(int(output[-1]) / 9),
)


def answer(messages: Sequence[fg.Message]) -> str:
    """Return a digit that is a hash of the request."""
    return str(zlib.crc32(messages[-1]["content"].encode()))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Clear the pool's tally outside of its value, so that every test starts without it."""
    racy.SEEN.clear()


def test_a_run_of_the_algorithm_finds_it() -> None:
    """I13: a replay of the turns admits other artifacts, and the page shows this message."""
    with pytest.raises(InvariantViolation, match="I13") as caught:
        check_algorithm(racy.graph, TASK, answer, budget=fg.Budget(proposals=12))
    assert str(caught.value) in PAGE


def test_most_seeds_find_it() -> None:
    """Most seeds find it; at two of these seeds the tally changes no admission."""
    found = 0
    for seed in range(8):
        racy.SEEN.clear()
        try:
            check_algorithm(racy.graph, TASK, answer, budget=fg.Budget(proposals=12), seed=seed)
        except (InvariantViolation, PoolViolation):
            found += 1
    assert found >= 6


def test_the_pool_alone_shows_it() -> None:
    """`check_pool` finds it with three scores and no graph; the page shows this message."""
    with pytest.raises(PoolViolation) as caught:
        check_pool(racy.AboveMean, [told(number, score) for number, score in enumerate([1.0, 0.0, 0.5])])
    assert str(caught.value) in PAGE


def told(number: int, score: float) -> fg.PoolEvent[fg.Group[Candidate, Attempt]]:
    member = fg.Member(0, "arrived", Attempt(0, score, ""))
    return fg.PoolEvent("admit", number, fg.Group(Candidate({"prompt": "x"}, 1), (member,)))


def test_a_pool_that_keeps_to_its_value_passes() -> None:
    """The same algorithm with a pool without a race passes the same checks."""
    check_algorithm("algorithms/gepa.py", TASK, answer, budget=fg.Budget(proposals=3), thorough=True)
