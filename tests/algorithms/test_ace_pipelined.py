"""ACE pipelined under virtual time, on generated worlds and latencies: every lesson counts once.

No change overwrites a line that its curator has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim import clock
from tests.algorithms.ace_replay import Finished, run_replayed
from tests.algorithms.ace_world import World

GENERATED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
WORLDS = st.builds(World, st.integers(0, 10_000), st.booleans())
WINDOWS = st.sampled_from([1, 2, 8, 32])


def run(backend: str, world: World, schedule: fg.Schedule | str, **options: Any) -> Finished:
    return clock.run_virtually(lambda: run_replayed(world, schedule, **options), backend=backend)


@GENERATED
@given(
    world=WORLDS,
    window=WINDOWS,
    limit=st.sampled_from([1, 3, 64]),
    longest=st.sampled_from([0.0, 1.0, 60.0]),
    seed=st.integers(0, 100),
    batch=st.sampled_from([1, 1, 2, 3]),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_nothing_is_lost(
    world: World, window: int, limit: int, longest: float, seed: int, batch: int, backend: str
) -> None:
    """I1 to I10 hold, and at every admission operations are applied or refused.

    Counters are the sums of the tags admitted for existing lines, no id is reused, and only repaired deltas are refused
    for a conflict.
    """
    done = run(backend, world, fg.pipelined(window), limit=limit, longest=longest, seed=seed, params={"batch": batch})
    assert done.result.status == "completed", done.result.reason
    assert done.open == 0
    ended = {e.item: e.how for e in done.result.events if isinstance(e, ev.Ended)}
    to_playbook = [e for e in done.result.events if isinstance(e, ev.Created) and e.edge.endswith("->playbook")]
    assert all(ended[e.item] in ("consumed", "filtered") for e in to_playbook)
    assert done.replay.trained == done.playbook.trained == sum(e.edge == "curate->playbook" for e in to_playbook)
    _training_is_whole(world, done, batch)


def _training_is_whole(world: World, done: Finished, batch: int) -> None:
    """Check that every sample was used, and that a snapshot holds the lessons of all."""
    train, params = len(world.task().train), world.params
    epochs = params["epochs"] if params["mode"] == "offline" else 1
    created = [e for e in done.result.events if isinstance(e, ev.Created) and e.edge == "select->generate"]
    members = sum(e.group is not None for e in created)
    assert members == train * epochs
    assert batch > 1 or done.playbook.trained == members
    if params["mode"] == "online":
        assert sum(len(a.scores) for a in done.scores.artifacts.values()) == train
    else:
        texts = [" ".join(a.value["playbook"].split()) for a in done.scores.artifacts.values()]
        assert len(set(texts)) == len(texts)  # equal ones are tried once
        assert " ".join(done.playbook.text.split()) in texts
    if params["answer_after"]:
        assert done.scores.answered == members


@GENERATED
@given(world=WORLDS, window=WINDOWS, calls=st.integers(1, 80), seed=st.integers(0, 100))
def test_a_budget_that_ends_leaves_a_true_playbook(world: World, window: int, calls: int, seed: int) -> None:
    """When the budget ends (I10), the admissions until then are right."""
    done = run("trio", world, fg.pipelined(window), seed=seed, budget=fg.Budget(calls=calls))
    assert done.result.status in ("budget", "completed")
    assert done.result.spent.calls <= calls
    assert done.open == 0


@GENERATED
@given(world=WORLDS, longest=st.sampled_from([0.0, 60.0]), seed=st.integers(0, 100))
def test_lockstep_repairs_nothing(world: World, longest: float, seed: int) -> None:
    """Without overlap no curator's work is ever stale, whatever the latencies."""
    done = run("trio", world, "lockstep", longest=longest, seed=seed)
    assert done.result.status == "completed"
    assert not done.replay.conflicts
    assert not [e for e in done.result.events if isinstance(e, ev.Repaired)]


class Busy(World):
    """A world with lines from the start, whose samples are each curated, for five epochs."""

    def draw(self, what: str, choices: Sequence[Any]) -> Any:
        return choices[-1] if what == "seed" else super().draw(what, choices)

    @property
    def params(self) -> dict[str, Any]:
        return {**super().params, "mode": "offline", "epochs": 5, "curator_frequency": 1, "budget_tokens": 80_000}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_conflicts_go_to_the_curator_again(backend: str) -> None:
    """If curators mostly change lines, many deltas are stale; each goes to the curator again, once.

    Refusals for a change after that are rare.
    """
    runs = [run(backend, Busy(number, changing=True), fg.pipelined(8), seed=number) for number in range(8)]
    repairs = [e for done in runs for e in done.result.events if isinstance(e, ev.Repaired)]
    assert len(repairs) > 25
    assert {(e.stage, e.verdict) for e in repairs} == {("again", "patch")}
    assert all(e.lag > 0 for e in repairs)
    assert 0 < sum(done.replay.conflicts for done in runs) < len(repairs) / 2
