"""Budgets: reservation, settlement and their bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.llm.http import HttpModel
from flashgraph.run import driver
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger, bounded, prompt_bound, prompt_estimate, reservation
from flashgraph.sim import clock
from flashgraph.testing.runs import TASK, LatencyModel
from flashgraph.testing.tokens import Ledgered, Token
from tests.llm.server import Answer, running
from tests.run.endpoints import requests
from tests.run.kit import Virtually, of, watched


@given(
    limit=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), max_size=40),
)
def test_settled_and_reserved_never_exceed_the_limit(limit: int, steps: list[tuple[float, float]]) -> None:
    """I10: a caller that asks `lacking` before it reserves never exceeds a limit, whatever is settled meanwhile."""
    ledger = Ledger(fg.Budget(tokens=limit))
    waiting: list[tuple[int, float]] = []
    for amount, share in steps:
        if ledger.lacking({"tokens": amount}) is None:
            waiting.append((ledger.reserve({"tokens": amount}), amount * share))
        if len(waiting) > 3:
            reservation, spent = waiting.pop(0)
            ledger.settle(reservation, {"tokens": spent})
        assert ledger.settled["tokens"] + ledger.reserved["tokens"] <= limit * (1 + 1e-6)


def test_giving_a_reservation_back_spends_nothing() -> None:
    """A request that was never sent costs nothing."""
    ledger = Ledger(fg.Budget(calls=1))
    reservation = ledger.reserve({"calls": 1})
    assert ledger.lacking({"calls": 1}) == "calls"
    assert ledger.exhausted() == "calls"
    ledger.settle(reservation, {})
    assert ledger.lacking({"calls": 1}) is None
    assert ledger.remaining() == {"calls": 1}


def test_unlimited_amounts_are_counted() -> None:
    """Without a limit everything is affordable, and the account still adds up."""
    ledger = Ledger(fg.Budget())
    ledger.settle(ledger.reserve({"calls": 1, "usd": 5.0}), {"calls": 1, "usd": 2.0})
    assert (ledger.settled["calls"], ledger.settled["usd"]) == (1, 2.0)
    assert ledger.exhausted() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, 0, -1, "5", True])
def test_a_limit_is_a_number_over_zero(value: object) -> None:
    """Any other limit is refused, and the message names it."""
    with pytest.raises(fg.DataError, match="budget: calls="):
        fg.Budget(calls=value)  # type: ignore[arg-type]  # the mistake under test


@given(st.lists(st.text(max_size=50), min_size=1, max_size=4))
def test_the_prompt_bound_is_one(contents: list[str]) -> None:
    """No byte-level tokenizer makes more tokens than bytes; each message adds its frame."""
    bound = prompt_bound([{"role": "user", "content": c} for c in contents])
    assert bound >= sum(len(c.encode()) for c in contents) + 16 * len(contents)
    assert bound <= sum(len(c.encode()) for c in contents) + 16 * len(contents) + 16


def test_a_prompt_has_about_a_token_for_four_characters() -> None:
    """A prompt has about one token for four characters, over all of its messages."""
    assert prompt_estimate([{"role": "system", "content": "x" * 10}, {"role": "user", "content": "y" * 20}]) == 7.5


def test_what_is_left_of_each_limit() -> None:
    """The rest of a limit is without settled and reserved amounts. Amounts that were spent elsewhere count, and are
    kept apart.
    """
    ledger = Ledger(fg.Budget(calls=9, usd=0.3))
    ledger.charge({"calls": 2, "usd": 0.05})
    ledger.charge({"calls": 1})
    ledger.reserve({"calls": 2, "usd": 0.1})
    assert ledger.remaining() == {"calls": 4, "usd": pytest.approx(0.15)}
    assert ledger.charged == {"calls": 3, "usd": 0.05}
    assert [ledger.lacking({"calls": n}) for n in (4, 5)] == [None, "calls"]
    assert ledger.exhausted() is None
    ledger.reserve({"calls": 3})
    assert ledger.exhausted() is None
    ledger.reserve({"calls": 1})
    assert ledger.exhausted() == "calls"


def test_a_limit_in_floats_is_reached_by_its_parts() -> None:
    """Of three tenths in three parts the last is affordable, and then nothing is left; a larger part is not."""
    ledger = Ledger(fg.Budget(usd=0.3))
    for _ in range(2):
        ledger.settle(ledger.reserve({"usd": 0.1}), {"usd": 0.1})
    assert ledger.exhausted() is None
    assert ledger.lacking({"usd": 0.1}) is None
    assert ledger.lacking({"usd": 0.1001}) == "usd"
    ledger.settle(ledger.reserve({"usd": 0.1}), {"usd": 0.1})
    assert ledger.exhausted() == "usd"
    assert ledger.remaining()["usd"] == pytest.approx(0)


def test_a_request_reserves_its_most() -> None:
    """A request reserves one call. With limits on tokens or money it also reserves the bound of its prompt, all of its
    reply, and their price. The request then carries a bound on its reply.
    """
    messages = [{"role": "user", "content": "abc"}]
    models = [LatencyModel(1, lambda request: 0.0)]
    assert reservation(models, messages, {}, {"calls": 3}) == {"calls": 1.0}
    assert bounded(models[0], {}, {"calls": 3}) == {}
    expected = {"calls": 1.0, "tokens": prompt_bound(messages) + 4096.0, "usd": 0.01}
    assert reservation(models, messages, {}, {"usd": 1.0}) == expected
    assert bounded(models[0], {"seed": 1}, {"usd": 1.0}) == {"seed": 1, "max_tokens": 4096}
    assert reservation(models, messages, {"max_tokens": 10}, {"tokens": 99})["tokens"] == prompt_bound(messages) + 10


@pytest.mark.parametrize(
    ("own", "params", "reserved", "sent"),
    [
        # The model bounds its replies, by either name: a budget has nothing to add.
        ({"max_tokens": 16_000}, {}, 16_000, None),
        ({"max_completion_tokens": 200}, {}, 200, None),
        ({"max_tokens": 16_000}, {"max_tokens": 5}, 5, 5),
        # The request says that it wants no bound; under a budget it has one.
        ({"max_tokens": 16_000}, {"max_tokens": None}, 4096, 4096),
        ({}, {"max_tokens": None}, 4096, 4096),
    ],
)
def test_a_budget_bounds_only_what_has_no_bound(
    own: dict[str, Any], params: dict[str, Any], reserved: int, sent: int | None, virtually: Virtually
) -> None:
    """I10: with two endpoints, one with a bound of its own, a request reserves the greater cost."""
    graph = fg.Graph("asks")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=20)
    def draw(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage(model="task")
    async def ask(token: Token, ctx: fg.Context) -> Token:
        await ctx.llm("x" * 40, **params)
        return token

    graph.edge(draw, ask)
    graph.edge(ask, pool)

    class Bounded(LatencyModel):
        params: Mapping[str, Any]
        seen: set[Any]

        async def complete(self, messages: Any, params: Any) -> fg.Reply:
            self.seen.add(params.get("max_tokens"))
            return await super().complete(messages, params)

    first, second = (Bounded(4, lambda request: 1.0, name=name) for name in ("a", "b"))
    first.params, second.params, first.seen, second.seen = own, {"max_tokens": 7}, set(), set()
    amounts: set[float] = set()

    async def look(run: Run) -> None:
        await anyio.sleep(0.5)
        amounts.update(call.amounts["tokens"] for call in run.machine.calls.open.values())

    models = {"task": [first, second]}
    result = watched(graph, virtually, act=look, models=models, budget=fg.Budget(tokens=300_000))
    # Where the request says nothing, each goes by its own.
    assert (result.status, first.seen, second.seen) == ("completed", {sent}, {sent})
    assert amounts == {float(reserved + prompt_bound([{"content": "x" * 40}]))}


def endless(virtually: Virtually, budget: fg.Budget, *, asks: bool, backend: str = "asyncio") -> fg.Result:
    """Return a graph with a source that never stops, and a stage that calls a model or does not."""
    graph = fg.Graph("endless")
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool)
    def emit(ctx: fg.Draw[Ledgered]) -> Token:
        return Token(ctx.emission, ctx.view.version)

    async def ask(token: Token, ctx: fg.Context) -> Token:
        await ctx.llm("a question")
        return token

    def pass_on(token: Token) -> Token:
        return token

    stage = graph.stage(ask, model="model") if asks else graph.stage(pass_on)
    graph.edge(emit, stage)
    graph.edge(stage, pool)
    models = {"model": LatencyModel(2, lambda request: 1.0)} if asks else {}

    async def go() -> fg.Result:
        return await fg.arun(graph, TASK, models=models, budget=budget, settle=clock.settle if asks else None)

    if not asks:
        return fg.run(graph, TASK, models=models, budget=budget, backend=backend)
    found: fg.Result = virtually(go)
    return found


def test_a_budget_that_nothing_counts_towards_ends_the_run(
    virtually: Virtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose stage never calls its model is drained under a limit of calls alone, which would never end it. A
    limit of seconds ends the run, and rounds that are counted end by themselves.
    """

    monkeypatch.setattr(driver, "IDLE_ROUNDS", 30)

    def idle(rounds: int | None) -> fg.Graph:
        graph = fg.Graph("idle")
        pool = graph.pool("pool", Ledgered)

        @graph.source(reads=pool, rounds=rounds)
        def emit(ctx: fg.Draw[Ledgered]) -> Token:
            return Token(ctx.emission, ctx.view.version)

        @graph.stage(model="model")
        async def think(token: Token, ctx: fg.Context) -> Token:
            await anyio.sleep(1)
            if token.path % 40 == 0:
                await ctx.llm("a question")
            return token

        graph.edge(emit, think)
        graph.edge(think, pool)
        return graph

    options: dict[str, Any] = {"models": {"model": LatencyModel(2, lambda request: 1.0)}}
    result = watched(idle(None), virtually, budget=fg.Budget(calls=10), schedule=fg.pipelined(5, focus=0), **options)
    assert result.status == "stopped"
    assert result.reason.startswith("the last 30 rounds used nothing of the budget (calls=10)")
    assert (result.spent.calls, 30 <= len(result.artifacts) <= 40) == (1, True)
    timed = watched(idle(None), virtually, budget=fg.Budget(calls=10, seconds=40), schedule="lockstep", **options)
    assert (timed.status, timed.reason) == ("budget", "40 seconds are over")
    counted = watched(idle(39), virtually, budget=fg.Budget(calls=10), schedule=fg.pipelined(5, focus=0), **options)
    assert (counted.status, len(counted.artifacts)) == ("completed", 39)


@pytest.mark.parametrize("budget", [fg.Budget(tokens=10_000), fg.Budget(tokens=10), fg.Budget(usd=0.035)])
def test_a_remainder_that_no_request_can_use_ends_the_run(budget: fg.Budget, virtually: Virtually) -> None:
    """A limit is exhausted when it has refused a request with nothing else reserved, not only at zero."""
    result = endless(virtually, budget, asks=True)
    assert result.status == "budget"
    assert result.spent.tokens <= (budget.tokens or 10**9)


def test_a_server_that_counts_nothing_uses_up_a_budget() -> None:
    """I10: tokens that a server does not count are estimated, and the log says so."""
    silent = Answer(body=json.dumps({"choices": [{"message": {"content": "word " * 400}}]}).encode())
    with running(silent) as server:
        model = HttpModel(server.url, "tiny", price=(1e-5, 1e-5), key="")
        result = fg.run(requests(60), TASK, models={"task": model}, budget=fg.Budget(tokens=10_000, usd=1.0))
    assert (result.status, result.reason) == ("budget", "no tokens left")
    ended = of(result, ev.CallEnded)
    assert len(ended) * 500 <= result.spent.tokens <= 10_000
    assert result.spent.usd == pytest.approx(result.spent.tokens * 1e-5)
    assert all(event.estimated and event.completion_tokens == 500 for event in ended)


def test_a_run_is_drained_without_a_reason(virtually: Virtually, tmp_path: Path) -> None:
    """An empty reason is a reason too, also in a replay."""
    model = LatencyModel(1, lambda request: 1.0)

    async def drain(run: Run) -> None:
        await anyio.sleep(2.5)
        run.drain("")

    folder = tmp_path / "run"
    result = watched(requests(9), virtually, act=drain, models={"task": model}, folder=folder)
    assert (result.status, result.reason) == ("stopped", "")
    assert len(result.artifacts) < 9
    again = watched(requests(9), virtually, models={"task": model}, folder=folder, resume=True)
    assert (again.status, len(again.artifacts)) == ("completed", 9)


@pytest.mark.parametrize("tokens", [9_000, 4_200])
def test_a_drained_run_sends_what_waits_when_it_can_be_paid(tokens: int, virtually: Virtually) -> None:
    """A drained run starts nothing new, and sends the requests that wait.

    Two jobs have made requests. The second request waits for the unused reservation of the first, unless the budget
    pays for both at once. Both are answered, and the third job never begins.
    """
    graph = fg.Graph("drained")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=3)
    def emit(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage(model="model", workers=2)
    async def ask(token: Token, ctx: fg.Context) -> Token:
        await anyio.sleep(token.path)
        await ctx.llm("a question", max_tokens=4_000)
        return token

    graph.edge(emit, ask)
    graph.edge(ask, pool)

    async def drain(run: Run) -> None:
        await anyio.sleep(0.5)
        run.drain("enough")

    model = LatencyModel(2, lambda request: 10.0)
    budget = fg.Budget(tokens=tokens)
    result = watched(graph, virtually, act=drain, models={"model": model}, budget=budget)
    assert (result.status, result.reason) == ("stopped", "enough")
    second = 1.0 if tokens == 9_000 else 10.0
    assert [e.at for e in of(result, ev.CallStarted)] == [0.0, second]
    assert [e.how for e in of(result, ev.CallEnded)] == ["done", "done"]
    assert len(of(result, ev.JobStarted)) == 3 + 2


def test_a_repair_that_cannot_be_paid(virtually: Virtually, tmp_path: Path) -> None:
    """With one evaluation left and two stale items, one is repaired, and the other waits for a larger budget."""
    graph = fg.Graph("repairs")
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool, rounds=3)
    def emit(ctx: fg.Draw[Ledgered]) -> Token:
        return Token(ctx.emission, ctx.view.version)

    @graph.stage(workers=9)
    async def write(token: Token) -> Token:
        await anyio.sleep(1 + token.path)
        return token

    @graph.stage(reads=pool, counts="evaluations")
    def rebase(stale: fg.Stale[Token], ctx: fg.Context[Ledgered]) -> fg.Verdict[Token]:
        return fg.Verdict.patch(Token(stale.value.path, ctx.view.version))

    graph.edge(emit, write)
    graph.edge(write, pool, stale=fg.repair(rebase, above=0))
    options: dict[str, Any] = {"schedule": fg.pipelined(window=3, focus=0), "folder": tmp_path / "run"}
    result = watched(graph, virtually, budget=fg.Budget(evaluations=1), **options)
    assert (result.status, result.reason) == ("budget", "no evaluations left")
    assert len(of(result, ev.Repaired)) == 1
    assert [e.open_items for e in of(result, ev.RunEnded)] == [1]
    assert [a.at for a in result.artifacts] == [1.0, 2.0]
    then = watched(graph, virtually, budget=fg.Budget(evaluations=2), resume=True, **options)
    assert (then.status, len(of(then, ev.Repaired)), len(then.artifacts)) == ("budget", 2, 3)


def test_synchronous_work_leaves_the_event_loop_to_others(virtually: Virtually, virtual_backend: str) -> None:
    """A graph without one await still ends at its deadline."""
    result = endless(virtually, fg.Budget(seconds=0.05), asks=False, backend=virtual_backend)
    assert (result.status, result.reason) == ("budget", "0.05 seconds are over")


def test_no_crumb_of_a_float_stays_reserved() -> None:
    """Reservations of 0.1, 0.2 and 0.3, freed one by one, leave nothing: a request would wait forever for a rounding
    error.
    """
    ledger = Ledger(fg.Budget(usd=1))
    reservations = [ledger.reserve({"usd": amount}) for amount in (0.1, 0.2, 0.3)]
    for number in reservations:
        ledger.settle(number, {})
    assert ledger.reserved["usd"] == 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [-1, 0, -1.0])
@pytest.mark.parametrize("of_model", [False, True])
def test_a_bound_that_is_none_is_replaced(name: str, value: float, of_model: bool) -> None:
    """A bound of -1, which servers take for no bound, is replaced by 4,096 tokens in reservation and request."""
    model = HttpModel("http://127.0.0.1:9", "m", params={name: value} if of_model else {})
    params = {} if of_model else {name: value}
    limits = {"tokens": 10_000.0}
    assert bounded(model, params, limits) == {name: 4096}
    assert reservation([model], [], params, limits)["tokens"] == prompt_bound([]) + 4096


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.5, True, "many", [1]])
def test_a_bound_that_is_no_number_of_tokens(value: Any) -> None:
    """A bound that is no number of tokens, such as ``max_tokens=NaN``, is refused with a fix, and nothing is sent."""
    model = HttpModel("http://127.0.0.1:9", "m")
    with pytest.raises(fg.DataError, match=r"max_tokens=.* expected a whole number of tokens.\nFix: max_tokens=1000"):
        reservation([model], [], {"max_tokens": value}, {"tokens": 10_000.0})
