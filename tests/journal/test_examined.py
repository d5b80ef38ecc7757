"""The held-out test in the journal: no answered request is paid again, and requests in flight count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.protocol import Message
from flashgraph.run.heldout import HeldOut, held_out
from flashgraph.run.journal.store import PATIENCE
from flashgraph.sim.world import World
from tests.journal.kit import rows

pytestmark = pytest.mark.anyio
CANDIDATES = ({"instruction": "one"}, {"instruction": "two"})
WORLD = World(seed=1, train=6, val=3, test=5)


class Oracle(FunctionModel):
    """Answer like the world; ``after`` that many answers, never answer again, and cancel `scope` once two requests are
    in flight."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__(WORLD.answer, name="oracle", limit=2)
        self.after, self.answered, self.sent = after, 0, 0
        self.scope = anyio.CancelScope()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        self.sent += 1
        if self.answered == self.after:
            if self.sent == self.after + 2:
                self.scope.cancel()
            await anyio.sleep_forever()
        self.answered += 1
        return fg.Reply("word", fg.Usage(10, 1), 0.25)


async def session(folder: Path, oracle: Oracle, *, resume: bool) -> tuple[tuple[HeldOut, ...], Mapping[str, float]]:
    """Make two proposals or none, then the test; return its result and all that the run has settled."""
    models = dict.fromkeys(("task", "reflection"), FunctionModel(WORLD.answer, name="world"))
    budget = fg.Budget(proposals=2)
    found: tuple[HeldOut, ...] = ()
    async with fg.open_run("gepa", WORLD.task(), models=models, budget=budget, folder=folder, resume=resume) as run:
        await run.wait()
        with oracle.scope:
            found = await held_out(WORLD.task(), CANDIDATES, oracle, run.machine.ledger, examined=run.examined)
        settled = dict(run.machine.ledger.settled)
    return found, settled


async def test_a_finished_test_is_served(tmp_path: Path) -> None:
    """Later sessions serve the whole test from the journal, and the account does not change."""
    first, settled = await session(tmp_path / "run", Oracle(), resume=False)
    for _ in range(2):
        again = Oracle()
        found, after = await session(tmp_path / "run", again, resume=True)
        assert (found, after, again.sent) == (first, settled, 0)


async def test_a_test_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """Four answers are served; two requests that were in flight are sent again, and count twice."""
    cut = Oracle(after=4)
    nothing, before = await session(tmp_path / "run", cut, resume=False)
    assert (nothing, cut.answered, cut.sent) == ((), 4, 6)
    rest = Oracle()
    found, after = await session(tmp_path / "run", rest, resume=True)
    assert rest.sent == 2 * len(WORLD.task().test) - 4
    assert (after["calls"], after["usd"]) == (before["calls"] + rest.sent, before["usd"] + 0.25 * rest.sent)
    whole, _ = await session(tmp_path / "other", Oracle(), resume=False)
    assert found == whole


async def test_another_candidate_or_model_is_asked(tmp_path: Path) -> None:
    """Only the same text, sample and model get a stored answer."""
    await session(tmp_path / "run", Oracle(), resume=False)
    other = Oracle()
    other.name = "another"
    await session(tmp_path / "run", other, resume=True)
    assert other.sent == 2 * len(WORLD.task().test)


async def test_a_request_goes_out_when_that_is_written_down(tmp_path: Path) -> None:
    """A request is sent once its row is durable, however slow the disk is: another process can read it."""
    models = dict.fromkeys(("task", "reflection"), FunctionModel(WORLD.answer, name="world"))
    budget = fg.Budget(proposals=1)
    async with fg.open_run("gepa", WORLD.task(), models=models, budget=budget, folder=tmp_path / "run") as run:
        await run.wait()
        assert run.examined is not None
        store = run.examined._store
        commit = store._commit

        def slow(batches: Any) -> None:
            time.sleep(10 * PATIENCE)
            commit(batches)

        store._commit = slow  # type: ignore[method-assign]
        number = await run.examined.asked("work", "request", {"calls": 1.0})
        assert rows(tmp_path / "run", "SELECT id, how FROM tests") == [(number, "out")]


async def test_a_killed_session_has_lost_what_was_out(tmp_path: Path) -> None:
    """A request without a stored end counts with all that was reserved for it, and is shown as lost."""
    async with fg.open_run(
        "gepa",
        WORLD.task(),
        models=dict.fromkeys(("task", "reflection"), FunctionModel(WORLD.answer, name="world")),
        budget=fg.Budget(proposals=1),
        folder=tmp_path / "run",
    ) as run:
        result = await run.wait()
        assert run.examined is not None
        await run.examined.asked("work", "request", {"calls": 1.0, "usd": 0.5})
    with fg.StoredRun.open(tmp_path / "run") as stored:
        assert stored.spend().unanswered == 1
    _, settled = await session(tmp_path / "run", Oracle(), resume=True)
    assert settled["usd"] == 0.5 + 0.25 * 2 * len(WORLD.task().test)
    assert settled["calls"] >= result.spent.calls + 1
    with fg.StoredRun.open(tmp_path / "run") as stored:
        assert (stored.spend().lost, stored.spend().unanswered) == (1, 0)
        assert stored.spend().usd == settled["usd"]
