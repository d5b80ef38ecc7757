"""Lockstep is ACE on batches with Combee's reflection as its curation, as a plain sequential program.

Calls, prompts, scores and playbook are equal. The program takes the dealt shares from the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.algorithms import combee
from flashgraph.algorithms.combee import Shuffled
from tests.algorithms.ace_published import Trace
from tests.algorithms.combee_batches import Batched, Batches
from tests.algorithms.combee_world import watched

WORLDS = 20


async def run_graph(world: Batched, dealt: list[Shuffled]) -> tuple[Trace, str, fg.Result]:
    trace = Trace()

    def model(role: str) -> Any:
        def answer(messages: Sequence[fg.Message], params: Mapping[str, Any]) -> str:
            assert params == {"temperature": 0, "max_tokens": 4096}
            trace.calls.append((role, messages[-1]["content"]))
            return world.reply(role, messages[-1]["content"])

        return answer

    async with fg.open_run(
        watched(combee.ace_graph, "curation.shuffle", dealt),
        world.task(),
        models={role: model(role) for role in ("generator", "reflector", "curator")},
        schedule="lockstep",
        seed=world.number,
        params=world.of_the_graph,
        budget=fg.Budget(calls=100_000),
    ) as run:
        result = await run.wait()
    scores, playbook = (run.machine.pools[f"ace.{name}"].value for name in ("scores", "playbook"))
    for number, artifact in scores.artifacts.items():
        trace.snapshots.append((scores.steps[number], artifact.value["playbook"], dict(artifact.scores)))
    best = scores.best()
    trace.best = best.value["playbook"] if best else ""
    trace.accuracy = scores.cumulative
    trace.answered = (scores.answered, scores.before, scores.after)
    return trace, playbook.text, result


@cache
def both(number: int) -> tuple[tuple[Trace, str], tuple[Trace, str], list[Shuffled], fg.Result]:
    """Run ours and theirs; return what is compared, and the playbook at the end."""
    world, dealt = Batched(number), list[Shuffled]()
    trace, text, result = anyio.run(run_graph, world, dealt)
    shares = iter(dealt)
    loop = Batches(world, shares)
    theirs = loop.run()
    theirs.states.clear()
    assert next(shares, None) is None
    return (trace, text), (theirs, loop.book.text()), dealt, result


@pytest.mark.parametrize("number", range(WORLDS))
def test_in_aces_curation(number: int) -> None:
    """Calls with their whole prompts and parameters in order, every score, the best snapshot and the playbook are
    equal."""
    mine, theirs, _, result = both(number)
    assert result.status == "completed", result.reason
    assert mine[0].calls == theirs[0].calls
    assert mine == theirs
    assert result.spent.calls == len(theirs[0].calls)


@pytest.mark.parametrize("number", range(0, WORLDS, 5))
def test_same_seed_same_shares(number: int) -> None:
    """The same seed deals the same shares on both event loops."""
    dealt = list[Shuffled]()
    trace, text, _ = anyio.run(run_graph, Batched(number), dealt, backend="trio")
    (one, same), _, shares, _ = both(number)
    assert dealt == shares
    assert (Counter(trace.calls), text) == (Counter(one.calls), same)


def test_the_worlds_tell_implementations_apart() -> None:
    """The comparison can fail: one share and several, with and without a join, and turns that are not the curator's."""
    runs = [both(number) for number in range(WORLDS)]
    assert {len(s.shares) for *_, dealt, _ in runs for s in dealt} >= {1, 2, 3}
    assert sum("\n[" in text for (_, text), *_ in runs) > WORLDS / 2
    skipped = [dealt for *_, dealt, result in runs if len(dealt) < result.spent.proposals]
    assert len(skipped) >= 3
    assert any(skipped)
