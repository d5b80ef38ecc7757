"""While rounds overlap, the invariants hold on both of Combee's graphs, and rounds survive lost and late
reflections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.algorithms import combee
from flashgraph.algorithms.combee import Shuffled
from flashgraph.errors import RequestFailed
from flashgraph.run import events as ev
from flashgraph.testing.algorithms import check_algorithm
from tests.algorithms.ace_world import Case
from tests.algorithms.combee_batches import Batched
from tests.algorithms.combee_world import World, check_dealt, digest, watched

WORLDS = (6, 8, 9)


def prompt_of(messages: Sequence[Mapping[str, str]]) -> str:
    return messages[-1]["content"]


def releases(result: fg.Result) -> list[ev.Released]:
    """Return the release of each group of reflections."""
    return [e for e in result.events if isinstance(e, ev.Released) and ".think->" in e.edge]


class Long(Batched):
    """A world with enough samples for batches of four shares, whose curators often change existing lines."""

    @property
    def of_the_graph(self) -> dict[str, Any]:
        return {**super().of_the_graph, "ace.batch": 16, "ace.eval_steps": 16, "ace.test_window": 16, "ace.epochs": 2}

    def cases(self, split: str) -> list[Case]:
        size = 32 if split == "train" else 3
        return [Case(split, i, (0, 0, 1, 2)[digest(self.number, split, i) % 4]) for i in range(size)]


def in_gepa(number: int, backend: str = "trio", loses: int = 0) -> tuple[fg.Result, list[Shuffled]]:
    """Run it in GEPA's reflection, with one reflection of every ``loses`` refused."""
    world, dealt = World(number), list[Shuffled]()

    def reflect(messages: Sequence[fg.Message]) -> str:
        if loses and digest(prompt_of(messages)) % loses == 0:
            raise RequestFailed("refused")
        return world.reflect(prompt_of(messages))

    result = check_algorithm(
        watched(combee.graph, "reflection.shuffle", dealt),
        world.task(),
        {"task": world.answer, "reflection": reflect},
        params={"gepa.minibatch": 12 + 4 * (number % 5)},
        budget=fg.Budget(calls=320, proposals=20),
        seed=number,
        backend=backend,
    )
    return result, dealt


def in_ace(number: int, backend: str = "trio", loses: int = 0) -> tuple[fg.Result, list[Shuffled]]:
    """Run it in ACE's curation, with one draft of every ``loses`` refused."""
    world, dealt = Long(number, changing=True), list[Shuffled]()

    def model(role: str) -> Callable[[Sequence[fg.Message]], str]:
        def answer(messages: Sequence[fg.Message]) -> str:
            if role == "curator" and loses and digest(prompt_of(messages)) % loses == 0:
                raise RequestFailed("refused")
            return world.reply(role, prompt_of(messages))

        return answer

    result = check_algorithm(
        watched(combee.ace_graph, "curation.shuffle", dealt),
        world.task(),
        {role: model(role) for role in ("generator", "reflector", "curator")},
        params=world.of_the_graph,
        budget=fg.Budget(calls=300),
        seed=number,
        backend=backend,
    )
    return result, dealt


RUNS: dict[str, Callable[..., tuple[fg.Result, list[Shuffled]]]] = {"gepa": in_gepa, "ace": in_ace}


@cache
def run(where: str, number: int, loses: int = 0) -> tuple[fg.Result, list[Shuffled]]:
    return RUNS[where](number, loses=loses)


@pytest.mark.parametrize("where", RUNS)
@pytest.mark.parametrize("number", WORLDS)
def test_pipelined_runs_keep_the_invariants(where: str, number: int) -> None:
    """I1 to I10 and I12 hold, and every gathered brief is dealt correctly."""
    result, dealt = run(where, number)
    assert result.status in ("completed", "budget"), result.reason
    assert dealt
    for shuffled in dealt:
        check_dealt(shuffled.brief.records, shuffled.shares, 2 if where == "gepa" else Long(number).duplication)


@pytest.mark.parametrize("where", RUNS)
@pytest.mark.parametrize("number", WORLDS[:2])
def test_runs_outlive_lost_reflections(where: str, number: int) -> None:
    """With a third of the reflections lost, the invariants hold and candidates are still admitted."""
    result, _ = run(where, number, loses=3)
    assert result.status in ("completed", "budget"), result.reason
    assert any(isinstance(e, ev.CallEnded) and e.how == "failed" for e in result.events)
    assert any(e.arrived < e.size for e in releases(result))
    pool = "gepa.frontier" if where == "gepa" else "ace.playbook"
    assert sum(isinstance(e, ev.Admitted) and e.pool == pool for e in result.events) > 1


@pytest.mark.parametrize("where", RUNS)
def test_the_same_events_on_either_event_loop(where: str) -> None:
    """Both event loops give the same events (I14)."""
    assert RUNS[where](9, backend="asyncio")[0].events == run(where, 9)[0].events


def test_overlap_happens() -> None:
    """The runs above do overlap: groups are released early, and rounds lag."""
    results = [run(where, number)[0] for where in RUNS for number in WORLDS]
    assert any(e.arrived < e.size for r in results for e in releases(r))
    assert any(isinstance(e, ev.Admitted) and e.lag > 0 for r in results for e in r.events)


def test_a_world_without_lessons_comes_to_an_end() -> None:
    """Minibatches without a lesson count as proposals, as in GEPA, so the run ends."""
    task = fg.Task(name="easy", train=[0, 1], val=[0], score=lambda sample, output: fg.Score(1))
    budget = fg.Budget(proposals=3, calls=5000)
    result = check_algorithm(combee.graph, task, lambda messages: "fine", params={"gepa.minibatch": 2}, budget=budget)
    assert (result.status, result.spent.proposals) == ("budget", 3)
    assert result.spent.calls < 100
