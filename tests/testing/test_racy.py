"""A seeded bug in a user's pool, which the kit must find: docs/how-to/test-your-work.md shows what it says."""

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
    """A number that is a hash of the request."""
    return str(zlib.crc32(messages[-1]["content"].encode()))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """What the pool remembers beside its value is what is wrong with it: every test starts without."""
    racy.SEEN.clear()


def test_a_run_of_the_algorithm_finds_it() -> None:
    """I13: told the same turns again, the pool admits something else; the page shows these very lines."""
    with pytest.raises(InvariantViolation, match="I13") as caught:
        check_algorithm(racy.graph, TASK, answer, budget=fg.Budget(proposals=12))
    assert str(caught.value) in PAGE


def test_most_seeds_find_it() -> None:
    """A run may come out the same by chance, whatever the tally says: at two of these seeds it does."""
    found = 0
    for seed in range(8):
        racy.SEEN.clear()
        try:
            check_algorithm(racy.graph, TASK, answer, budget=fg.Budget(proposals=12), seed=seed)
        except (InvariantViolation, PoolViolation):
            found += 1
    assert found >= 6


def test_the_pool_alone_shows_it() -> None:
    """`check_pool` needs no graph: three scores are enough."""
    with pytest.raises(PoolViolation) as caught:
        check_pool(racy.AboveMean, [told(number, score) for number, score in enumerate([1.0, 0.0, 0.5])])
    assert str(caught.value) in PAGE


def told(number: int, score: float) -> fg.PoolEvent[fg.Group[Candidate, Attempt]]:
    member = fg.Member(0, "arrived", Attempt(0, score, ""))
    return fg.PoolEvent("admit", number, fg.Group(Candidate({"prompt": "x"}, 1), (member,)))


def test_a_pool_that_keeps_to_its_value_passes() -> None:
    """The same algorithm with a pool without a race, under the same checks."""
    check_algorithm("algorithms/gepa.py", TASK, answer, budget=fg.Budget(proposals=3), thorough=True)
