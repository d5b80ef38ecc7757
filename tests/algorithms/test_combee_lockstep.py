"""Lockstep is GEPA with Combee's reflection: PyPI's ``gepa`` with an adapter that proposes by a sequential program.

The calls, their prompts and order, and the pool are equal. The program takes the dealt shares from the run and checks
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.algorithms import combee
from flashgraph.algorithms.combee import Shuffled
from tests.algorithms.combee_world import World, digest, watched

peer = pytest.importorskip("tests.algorithms.combee_peer", reason="the peer is missing: pip install gepa==0.1.4")

ROUNDS = 8
WORLDS = 20


def duplication_in(number: int) -> int:
    return (2, 2, 1, 3)[digest(number, "duplication") % 4]


@cache
def gepa_run(number: int, backend: str = "asyncio", seed: int | None = None) -> tuple[Any, list[Shuffled]]:
    """Run the graph in GEPA's reflection; return what is compared, and the dealt shares."""
    world, dealt = World(number), list[Shuffled]()
    trace = peer.Trace()

    def task(messages: Sequence[fg.Message]) -> str:
        trace.calls.append(("task", "\n".join(m["content"] for m in messages)))
        return world.answer(messages)

    def reflection(messages: Sequence[fg.Message]) -> str:
        trace.calls.append(("reflection", messages[-1]["content"]))
        return world.reflect(messages[-1]["content"])

    result = fg.run(
        watched(combee.graph, "reflection.shuffle", dealt, {"gepa.select": ROUNDS}),
        world.task(),
        models={"task": task, "reflection": reflection},
        schedule="lockstep",
        seed=number if seed is None else seed,
        params={"gepa.minibatch": world.minibatch, "reflection.duplication": duplication_in(number)},
        budget=fg.Budget(calls=100_000),
        backend=backend,
    )
    assert result.status == "completed", result.reason
    assert result.spent.calls == len(trace.calls)
    trace.texts = [a.value for a in result.artifacts]
    trace.parents = [list(a.parents) or [None] for a in result.artifacts]
    trace.scores = [dict(a.scores) for a in result.artifacts]
    return trace, dealt


@pytest.mark.parametrize("number", range(WORLDS))
def test_in_gepas_reflection(number: int) -> None:
    """Calls, prompts, candidates, parents and scores equal those of the peer's GEPA with Combee's proposals."""
    mine, dealt = gepa_run(number)
    shares = iter(dealt)
    theirs = peer.run(World(number), number, ROUNDS, duplication_in(number), shares)
    assert mine == theirs
    assert next(shares, None) is None


@pytest.mark.parametrize("number", range(0, WORLDS, 5))
def test_same_seed_same_shares(number: int) -> None:
    """The same seed deals the same shares on both event loops; only the order of calls within a stage may differ."""
    (one, dealt), (other, again) = gepa_run(number), gepa_run(number, backend="trio")
    assert again == dealt
    assert Counter(other.calls) == Counter(one.calls)
    assert other.texts == one.texts


def test_the_worlds_tell_implementations_apart() -> None:
    """The comparison can fail: children are accepted and rejected, with several parents and components.

    There are one to four shares, and other seeds deal differently.
    """
    runs = [gepa_run(number) for number in range(WORLDS)]
    traces = [trace for trace, _ in runs]
    assert sum(len(t.texts) for t in traces) > 2 * WORLDS
    assert sum(len(t.texts) < ROUNDS for t in traces) > WORLDS / 2
    assert any(p not in ([None], [0]) for t in traces for p in t.parents)
    assert {len(s.shares) for _, dealt in runs for s in dealt} == {1, 2, 3, 4}
    assert gepa_run(7, seed=8)[1][0].shares != gepa_run(7)[1][0].shares
