"""A round of Combee survives failed and late reflections: single rounds, under a virtual clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import RequestFailed
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.runs import TASK
from tests.algorithms.combee_briefs import alone

HOUR = 3600.0
BRIEFS = 4


@attrs.define
class Ran:
    """The insights by the brief's number, each brief's requests, and the run."""

    found: dict[int, str]
    prompts: list[str]
    result: fg.Result

    def joined(self, number: int) -> list[str]:
        """Return the drafts that were joined for a brief, in order."""
        (prompt,) = (p for p in self.prompts if p.startswith(f"Brief {number}, join"))
        return prompt.splitlines()[2::3]


def ran(trouble: Callable[[int, int], Awaitable[None]], records: int = 16, schedule: str = "pipelined") -> Ran:
    """Run four briefs. Reflection i on brief n takes a second and then ``trouble(n, i)``; it answers "n.i"."""
    times, prompts = Counter[str](), list[str]()

    async def model(messages: Sequence[fg.Message]) -> str:
        prompt = messages[-1]["content"]
        prompts.append(prompt)
        head = prompt.partition("\n")[0]
        times[head] += 1
        number, share = int(head.split()[1].strip(",")), times[head]
        await anyio.sleep(1)
        if "join" in head:
            return f"joined {number}"
        await trouble(number, share)
        return f"{number}.{share}"

    async def main() -> Ran:
        models = {"reflection": model}
        async with fg.open_run(alone(BRIEFS, records), TASK, models=models, schedule=schedule, settle=settle) as run:
            result = await run.wait()
            check_invariants(result.events, run.machine.plan, fg.Budget())
            return Ran(run.machine.pools["found"].value.texts, prompts, result)

    return run_virtually(main)


async def fail(*_: object) -> None:
    raise RequestFailed("refused")


def on(brief: int, *shares: int, what: Callable[..., Awaitable[None]] = fail) -> Callable[[int, int], Awaitable[None]]:
    """Return trouble with these shares of a brief."""

    async def trouble(number: int, share: int) -> None:
        if number == brief and share in shares:
            await what()

    return trouble


async def late() -> None:
    await anyio.sleep(HOUR)


EVERY = {number: f"joined {number}" for number in range(BRIEFS)}


def test_a_failed_reflection_does_not_lose_the_round() -> None:
    """If a reflection fails, the others are joined."""
    run = ran(on(1, 2))
    assert run.result.status == "completed"
    assert run.found == EVERY
    assert sorted(run.joined(1)) == ["1.1", "1.3", "1.4"]


def test_a_late_reflection_is_not_waited_for() -> None:
    """With three of four shares the round continues, and the fourth request is cancelled."""
    run = ran(on(2, 3, what=late))
    assert run.found == EVERY
    assert sorted(run.joined(2)) == ["2.1", "2.2", "2.4"]
    assert run.result.spent.seconds < 60
    assert [e.how for e in run.result.events if isinstance(e, ev.CallEnded) and e.how != "done"] == ["cancelled"]


@pytest.mark.parametrize("shares", [2, 3])
def test_two_or_three_shares_are_waited_for(shares: int) -> None:
    """Of two or three shares, three quarters are all of them."""
    run = ran(on(2, 1, what=late), records=shares**2)
    assert run.found == EVERY
    assert len(run.joined(2)) == shares
    assert run.result.spent.seconds > HOUR


def test_lockstep_waits_for_every_share() -> None:
    """In lockstep, release rules do not apply, so every share is waited for."""
    run = ran(on(2, 3, what=late), schedule="lockstep")
    assert sorted(run.joined(2)) == ["2.1", "2.2", "2.3", "2.4"]
    assert run.result.spent.seconds > HOUR


def test_one_failed_and_one_late() -> None:
    """With one failed and one late, two of four are too few, so the late one is waited for, and three are joined."""

    async def trouble(number: int, share: int) -> None:
        if number == 0 and share < 3:
            await (fail if share == 1 else late)()

    run = ran(trouble)
    assert sorted(run.joined(0)) == ["0.2", "0.3", "0.4"]
    assert run.result.spent.seconds > HOUR


def test_a_single_draft_is_the_insight() -> None:
    """A single draft is the insight, because nothing is left to join."""
    run = ran(on(3, 1, 2, 4))
    assert run.found == {**EVERY, 3: "3.3"}


@pytest.mark.parametrize("schedule", ["pipelined", "lockstep"])
def test_if_all_fail_the_round_ends_and_the_run_continues(schedule: str) -> None:
    """If every reflection fails, the round ends without an insight or a join, and no other round is affected."""
    run = ran(on(1, 1, 2, 3, 4), schedule=schedule)
    assert run.result.status == "completed"
    assert run.found == {n: text for n, text in EVERY.items() if n != 1}
    assert not any(prompt.startswith("Brief 1, join") for prompt in run.prompts)
    ended = [e for e in run.result.events if isinstance(e, ev.RoundEnded)]
    assert sorted(e.round for e in ended) == list(range(BRIEFS))
