"""ACE in lockstep equals the published loop, as a plain sequential program written from its description.

The calls, prompts, playbook after every step, scores and best snapshot are the same. One difference is intended: the
end of the training is validated even if it is no multiple of ``eval_steps``.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.parts import Checkpoints
from flashgraph.run import events as ev
from tests.algorithms.ace_published import Published, Trace
from tests.algorithms.ace_replay import shown
from tests.algorithms.ace_world import World

WORLDS = 120


async def run_graph(world: World, **options: Any) -> tuple[Trace, fg.Result]:
    trace = Trace()
    runs: list[Any] = []

    def model(role: str) -> Any:
        def answer(messages: Any, params: Any) -> str:
            assert params == {"temperature": 0, "max_tokens": 4096}
            trace.calls.append((role, messages[-1]["content"]))
            return world.reply(role, messages[-1]["content"])

        return answer

    def watch(event: ev.Event) -> None:
        if isinstance(event, ev.Admitted) and event.pool == "playbook":
            trace.states.append(shown(runs[0].machine.pools["playbook"].value))

    models = {role: model(role) for role in ("generator", "reflector", "curator")}
    async with fg.open_run(
        "ace", world.task(), models=models, schedule="lockstep", params=world.params, budget=fg.Budget(calls=100_000),
        on_event=watch, **options,
    ) as run:  # fmt: skip
        runs.append(run)
        result = await run.wait()
    scores: Checkpoints = run.machine.pools["scores"].value
    for number, artifact in scores.artifacts.items():
        trace.snapshots.append((scores.steps[number], artifact.value["playbook"], dict(artifact.scores)))
    best = scores.best()
    trace.best = best.value["playbook"] if best else ""
    trace.accuracy = scores.cumulative
    trace.answered = (scores.answered, scores.before, scores.after)
    return trace, result


@cache
def published(number: int) -> Published:
    loop = Published(World(number))
    loop.run()
    return loop


@pytest.mark.parametrize("number", range(WORLDS))
def test_lockstep_is_the_published_loop(number: int) -> None:
    """Calls with their whole prompts in order, every state of the playbook, every score and the best snapshot are
    equal."""
    trace, result = anyio.run(run_graph, World(number))
    assert result.status == "completed", result.reason
    theirs = published(number).trace
    assert trace.calls == theirs.calls
    assert trace.states == theirs.states
    assert trace == theirs


@pytest.mark.parametrize("number", range(0, WORLDS, 20))
def test_it_is_the_same_loop_on_trio(number: int) -> None:
    """On trio, requests of one stage may be in another order, and nothing else differs."""
    trace, _ = anyio.run(run_graph, World(number), backend="trio")
    theirs = published(number).trace
    assert Counter(trace.calls) == Counter(theirs.calls)
    assert (trace.states, trace.snapshots, trace.best) == (theirs.states, theirs.snapshots, theirs.best)


@pytest.mark.parametrize("number", range(12))
def test_a_sample_costs_four_to_nine_calls(number: int) -> None:
    """A right sample costs four calls, a wrong one five, seven or nine, with curation and without merges."""
    _, result = anyio.run(run_graph, Plain(number))
    training = {e.round for e in result.events if isinstance(e, ev.Created) and e.edge == "generate->reflect"}
    rounds = {e.item: e.round for e in result.events if isinstance(e, ev.Created)}
    jobs = {e.job: rounds[e.item] for e in result.events if isinstance(e, ev.JobStarted) and e.item is not None}
    calls = Counter(jobs[e.job] for e in result.events if isinstance(e, ev.CallStarted))
    loop = Published(Plain(number))
    loop.run()
    assert [calls[r] for r in sorted(training)] == loop.sizes
    assert set(loop.sizes) <= {4, 5, 7, 9}


class Plain(World):
    """A world without merges, where every sample is curated and answered again."""

    @property
    def params(self) -> dict[str, Any]:
        return {**super().params, "curator_frequency": 1, "merge_duplicates": False, "answer_after": True}


def test_the_worlds_tell_implementations_apart() -> None:
    """The comparison can fail: every possible case occurs in many worlds."""
    loops = [published(number) for number in range(WORLDS)]
    last = [loop.trace.states[-1] for loop in loops]
    assert sum(bool(bullets) for bullets, *_ in last) > WORLDS / 2
    assert sum(bool(aliases) for _, _, aliases, *_ in last) > 10
    assert sum(refused > 0 for *_, refused, _ in last) > WORLDS / 2
    assert sum(bool(evicted) for *_, evicted in last) > 10
    assert sum(any(prompt.startswith("These") for _, prompt in loop.trace.calls) for loop in loops) > 10
    sizes = Counter(size for number in range(30) for size in _sizes(Plain(number)))
    assert all(sizes[size] >= 5 for size in (4, 5, 7, 9)), sizes
    offline = [loop for loop in loops if loop.set["mode"] == "offline" and len(loop.trace.snapshots) > 1]
    assert sum(loop.trace.best != loop.trace.snapshots[-1][1] for loop in offline) > 10
    assert sum(len({sum(s.values()) for *_, s in loop.trace.snapshots}) > 1 for loop in offline) > 10


def _sizes(world: World) -> list[int]:
    loop = Published(world)
    loop.run()
    return loop.sizes
