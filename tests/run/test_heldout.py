"""The held-out test: its scores, its costs and its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import MalformedReply, ModelUnavailable, PassingFault, Throttled, TimedOut
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.protocol import Message, Reply, Usage
from flashgraph.parts.evaluation import Attempt, Work
from flashgraph.run.budget import Ledger
from flashgraph.run.heldout import held_out
from tests.graph.parameters import params_like

pytestmark = pytest.mark.anyio


async def attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm(f"{candidate['instruction']} {sample}")).text


def score(sample: int, output: str) -> fg.Score:
    return fg.Score(float(output == f"good {sample}"))


def task(samples: int = 6) -> fg.Task[int, str]:
    return fg.Task("t", [0], [0], range(samples), {"instruction": "bad"}, attempt=attempt, score=score)


CANDIDATES = ({"instruction": "bad"}, {"instruction": "good"})


@attrs.define(eq=False)
class Echo(FunctionModel):
    """A model that returns its prompt; ``most`` is the greatest number of requests in flight."""

    out: int = 0
    most: int = 0

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        self.out += 1
        self.most = max(self.most, self.out)
        await anyio.lowlevel.checkpoint()
        self.out -= 1
        return Reply(messages[0]["content"], Usage(5, 5), 0.0)


def echo(limit: int = 3) -> Echo:
    return Echo(lambda messages: "", limit=limit)


async def test_each_candidate_on_each_sample() -> None:
    """Mean scores are in the order of the candidates, settled on the ledger, within the model's limit."""
    ledger, model = Ledger(fg.Budget(calls=12)), echo()
    bad, good = await held_out(task(), CANDIDATES, model, ledger)
    assert (bad.score, good.score) == (0.0, 1.0)
    assert good.scores == (1.0,) * 6
    assert (ledger.settled["calls"], ledger.settled["tokens"]) == (12, 120)
    assert ledger.remaining() == {"calls": 0}
    assert 1 < model.most <= 3


async def test_a_failed_sample_counts_as_zero() -> None:
    """A failed sample counts as 0 and has its reason; the others are scored."""

    async def sometimes(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
        if sample == 2:
            raise LookupError("no such shelf")
        return await attempt(candidate, sample, llm)

    (found,) = await held_out(attrs.evolve(task(4), attempt=sometimes), CANDIDATES[1:], echo(), Ledger(fg.Budget()))
    assert found.score == 0.75
    assert found.failures == {2: "LookupError: no such shelf"}


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), SystemExit("bye")], ids=repr)
async def test_a_sample_that_would_end_the_process_counts_as_zero(error: BaseException) -> None:
    """A sample that would end the process, in its attempt or its score, fails alone, as in a run."""

    async def sometimes(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
        if sample == 1:
            raise error
        return await attempt(candidate, sample, llm)

    def judged(sample: int, output: str) -> fg.Score:
        if sample == 2:
            raise error
        return score(sample, output)

    odd = attrs.evolve(task(4), attempt=sometimes, score=judged)
    (found,) = await held_out(odd, CANDIDATES[1:], echo(), Ledger(fg.Budget()))
    assert found.score == 0.5
    assert {which: said.startswith(type(error).__name__) for which, said in found.failures.items()} == dict.fromkeys(
        (1, 2), True
    )


async def test_too_few_calls_are_seen_before_the_first_one() -> None:
    """I10: too few calls are noticed before the first request."""
    ledger, model = Ledger(fg.Budget(calls=11)), echo()
    with pytest.raises(fg.BudgetExhausted, match="at least 12 calls, and 11 are left"):
        await held_out(task(), CANDIDATES, model, ledger)
    assert model.most == 0


async def test_a_token_budget_is_never_exceeded() -> None:
    """I10: requests wait for reservations of others, and the test ends when nothing is left."""
    ledger = Ledger(fg.Budget(tokens=4200))
    with pytest.raises(fg.BudgetExhausted, match="no tokens left"):
        await held_out(task(), CANDIDATES, echo(), ledger)
    assert 0 < ledger.settled["tokens"] <= 4200
    assert not any(ledger.reserved.values())


async def test_a_model_that_is_down_ends_it() -> None:
    """A model that is down ends the test with its error, not with a score of 0."""

    class Down(Echo):
        async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
            raise fg.ModelUnavailable("gone")

    with pytest.raises(fg.ModelUnavailable, match="gone"):
        await held_out(task(), CANDIDATES, Down(lambda messages: ""), Ledger(fg.Budget()))


@pytest.mark.parametrize(("refusals", "answered"), [(1, True), (2, False)])
async def test_who_is_turned_away_asks_again(refusals: int, answered: bool) -> None:
    """A throttled request is tried again as often as the endpoint allows, at no cost; then the endpoint is down."""

    class Busy(Echo):
        async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
            self.out += 1
            if self.out <= refusals:
                raise Throttled("full", pause=0.0, tries=2)
            return Reply(messages[0]["content"], Usage(5, 5), 0.0)

    ledger = Ledger(fg.Budget())
    if answered:
        (found,) = await held_out(task(1), CANDIDATES[1:], Busy(lambda messages: ""), ledger)
        assert found.score == 1.0
    else:
        with pytest.raises(fg.ModelUnavailable, match="full"):
            await held_out(task(1), CANDIDATES[1:], Busy(lambda messages: ""), ledger)
    assert ledger.settled["calls"] == answered


@pytest.mark.parametrize(
    ("fault", "spent", "reserved"),
    [
        (PassingFault(ModelUnavailable("503"), pause=0.0), 0, 0),
        (PassingFault(MalformedReply("odd"), pause=0.0, usage=Usage(3, 4)), 7, 7),
        (PassingFault(TimedOut("late"), pause=0.0, cut_off=True), 2, 4096),
    ],
)
async def test_each_try_is_in_the_account(fault: PassingFault, spent: int, reserved: int) -> None:
    """Each try is one call in the account. A request that timed out counts about its prompt, or under a budget of
    tokens its whole reservation.
    """

    class Sometimes(Echo):
        async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
            self.out += 1
            if self.out == 1:
                raise fault
            return Reply(messages[0]["content"], Usage(5, 5), 0.0)

    for budget, cost in ((fg.Budget(), spent), (fg.Budget(tokens=100_000), reserved)):
        ledger = Ledger(budget)
        (found,) = await held_out(task(1), CANDIDATES[1:], Sometimes(lambda messages: ""), ledger)
        assert (found.score, ledger.settled["calls"]) == (1.0, 2)
        assert 0 <= ledger.settled["tokens"] - 10 - cost < 100


async def test_a_fault_that_does_not_pass_fails_its_sample() -> None:
    """A fault that does not pass fails the sample with its own error, if it is the request's fault."""

    class Late(Echo):
        async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
            self.out += 1
            raise PassingFault(TimedOut("late"), pause=0.0, tries=2)

    model, ledger = Late(lambda messages: ""), Ledger(fg.Budget())
    (found,) = await held_out(task(1), CANDIDATES[1:], model, ledger)
    assert (found.failures, model.out, ledger.settled["calls"]) == ({0: "TimedOut: late"}, 2, 2)


async def test_a_graphs_own_stage_tries_the_candidates() -> None:
    """A graph's own stage tries the candidates with its parameters and resources, in place of ``attempt``."""
    graph = fg.Graph("own", params=params_like({"word": "good"}))

    @graph.stage(model="task")
    async def answer(work: Work, ctx: fg.Context[None, Any]) -> Attempt:
        reply = await ctx.llm(f"{ctx.params.word} {work.index}")
        return Attempt(
            work.index, ctx.task.score(ctx.task.samples(work.split)[work.index], reply.text).value, reply.text
        )

    (stage,) = graph.spec.stages
    given = {"params": params_like({"word": "good"})()}
    (found,) = await held_out(task(3), CANDIDATES[:1], echo(), Ledger(fg.Budget()), stage=stage, given=given)
    assert found.scores == (1.0, 1.0, 1.0)
