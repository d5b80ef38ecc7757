"""Requests with faults that may pass, in whole runs under virtual time: each try is a call of its own."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import MalformedReply, ModelUnavailable, PassingFault, RequestFailed, Throttled, TimedOut
from flashgraph.llm.limits import fixed
from flashgraph.run import events as ev
from flashgraph.run.budget import DEFAULT_REPLY_TOKENS, prompt_bound
from flashgraph.run.slots import REST
from flashgraph.testing.tokens import Ledgered, Token

from .endpoints import Server, of, ran, requests
from .kit import Virtually


def failing(pause: float | None = None, **more: Any) -> PassingFault:
    """Return the fault of a 503 with its Retry-After."""
    return PassingFault(ModelUnavailable("it keeps answering 503"), pause=pause, **more)


def late() -> PassingFault:
    return PassingFault(TimedOut("no answer"), tries=2, cut_off=True)


def malformed() -> PassingFault:
    return PassingFault(MalformedReply("no JSON"), tries=2, usage=fg.Usage(3, 40, estimated=True))


def fates(result: fg.Result) -> Counter[str]:
    return Counter(event.how for event in of(result, ev.CallEnded))


class Fails(Server):
    """A model that never answers."""

    def fault(self) -> Exception:
        return failing(pause=1.0, tries=2)

    async def complete(self, messages: Any, params: Any) -> fg.Reply:
        await anyio.sleep(0.2)
        raise self.fault()


def test_a_slot_is_free_while_a_request_waits_to_be_sent_again(virtually: Virtually) -> None:
    """A request that got a 503 with Retry-After: 30 frees its one slot for others meanwhile."""
    server = Server(5, fixed(1), seconds=1.0, faults={"0": [failing(pause=30.0)]})
    result = ran(requests(6), {"task": server}, settings={"ask_task.workers": 6}, virtually=virtually)
    assert result.status == "completed"
    started = [event.at for event in of(result, ev.CallStarted)]
    ended = {event.call: event for event in of(result, ev.CallEnded)}
    assert [event.how for event in ended.values()] == ["failed", *["done"] * 6]
    assert started[5] < 10
    assert 30 <= started[6] - ended[0].at <= 37.5
    assert server.answered[-1] == "0"


@pytest.mark.parametrize("fault", [failing, late, malformed])
def test_a_budget_counts_each_try(fault: Any, virtually: Virtually) -> None:
    """A budget counts each try: of five requests four are left, with one that was sent twice."""
    server = Server(5, fixed(1), seconds=1.0, faults={"0": [fault()]})
    result = ran(requests(9), {"task": server}, budget=fg.Budget(calls=5), virtually=virtually)
    assert (result.status, result.spent.calls, len(server.answered)) == ("budget", 5, 4)
    assert fates(result) == {"done": 4, "failed": 1}


def test_a_budget_that_ends_between_two_tries(virtually: Virtually) -> None:
    """A budget that ends between two tries refuses the next one, as any call."""
    server = Server(5, fixed(1), faults={"0": [failing(pause=1.0)]})
    result = ran(requests(1), {"task": server}, budget=fg.Budget(calls=1), virtually=virtually)
    assert (result.status, result.reason, result.spent.calls) == ("budget", "no calls left", 1)
    assert not server.answered


class Late(Server):
    """A model that answers the first request in time, and the others late."""

    async def complete(self, messages: Any, params: Any) -> fg.Reply:
        if messages[-1]["content"] == "0" or not self.faults:
            return await super().complete(messages, params)
        await anyio.sleep(8.0)
        self.faults.clear()
        raise late()


@pytest.mark.parametrize("bounded", [False, True])
def test_what_a_time_out_has_cost_is_estimated_and_in_the_account(bounded: bool, virtually: Virtually) -> None:
    """The cost of a time-out is estimated as that of a cancelled request: the prompt, and as much of a reply as others
    had. Under a budget of tokens it is the whole reservation.
    """
    server = Late(5, fixed(1), seconds=4.0, faults={"1": []})
    budget = fg.Budget(tokens=100_000 if bounded else None)
    result = ran(requests(2), {"task": server}, window=1, budget=budget, virtually=virtually)
    assert (result.status, len(server.answered)) == ("completed", 2)
    first, lost, _ = of(result, ev.CallEnded)
    assert (lost.how, lost.estimated, lost.seconds) == ("failed", True, 8.0)
    assert lost.completion_tokens == round(50 * 8.0 / first.seconds)
    assert result.spent.calls == 3
    answered = 2 * 51
    if bounded:
        assert result.spent.tokens >= answered + 4096
    else:
        assert result.spent.tokens == answered + lost.prompt_tokens + lost.completion_tokens


def test_what_a_malformed_reply_has_cost_is_in_the_account(virtually: Virtually) -> None:
    """A malformed reply costs its whole reservation, because nothing was counted; a 503 costs no tokens."""

    class Priced(Server):
        def worst_cost(self, prompt: int, completion: int) -> float | None:
            return 0.01 * (prompt + completion)

    server = Priced(5, fixed(1), faults={"0": [malformed(), failing()]})
    result = ran(requests(1), {"task": server}, budget=fg.Budget(tokens=10_000, usd=100.0), virtually=virtually)
    assert result.status == "completed"
    found = [(e.how, e.prompt_tokens + e.completion_tokens, e.usd, e.estimated) for e in of(result, ev.CallEnded)]
    assert found == [("failed", 43, 0.43, True), ("failed", 0, 0.0, False), ("done", 51, 0.0, False)]
    reserved = prompt_bound([{"role": "user", "content": "0"}]) + DEFAULT_REPLY_TOKENS
    assert (result.spent.calls, result.spent.tokens) == (3, reserved + 51)
    assert result.spent.usd == pytest.approx(0.01 * reserved)


@pytest.mark.parametrize("fault", [late, malformed])
def test_what_does_not_pass_and_is_the_requests(fault: Any, virtually: Virtually) -> None:
    """After its tries a request fails with its own error, and the run continues."""
    server = Server(5, fixed(1), faults={"0": [fault() for _ in range(3)]})
    result = ran(requests(3), {"task": server}, virtually=virtually)
    assert result.status == "completed"
    assert fates(result) == {"done": 2, "failed": 2}
    (reason,) = (event.reason for event in of(result, ev.JobEnded) if event.how == "failed")
    assert reason in ("TimedOut: no answer", "MalformedReply: no JSON")


def test_what_does_not_pass_and_is_the_endpoints(virtually: Virtually) -> None:
    """After the tries of a request its endpoint is unavailable: the run stops with the reason."""
    server = Server(5, fixed(1), faults={"0": [failing() for _ in range(9)]})
    result = ran(requests(1), {"task": server}, virtually=virtually)
    assert (result.status, result.reason) == ("failed", "it keeps answering 503")
    # Five pauses, from a second on doubled.
    assert fates(result) == {"failed": 6}
    assert 31 <= result.events[-1].at <= 1.25 * 31 + 1


def test_different_faults_have_their_own_tries(virtually: Virtually) -> None:
    """Faults are counted by kind: a time-out is one of two whatever came before, and a 429 is no failure of an
    endpoint.
    """
    faults = [failing(), failing(), late(), malformed(), Throttled("full", pause=1.0), failing()]
    server = Server(5, fixed(1), faults={"0": faults})
    result = ran(requests(1), {"task": server}, virtually=virtually)
    assert result.status == "completed"
    assert fates(result) == {"failed": 5, "throttled": 1, "done": 1}
    server = Server(
        5, fixed(1), faults={"0": [Throttled("full", pause=1.0, tries=2), failing(), Throttled("full", tries=2)]}
    )
    assert ran(requests(1), {"task": server}, virtually=virtually).reason == "full"


@pytest.mark.parametrize("usage", [None, fg.Usage(7, 30)])
def test_a_request_that_is_refused_costs_what_came_of_it(usage: fg.Usage | None, virtually: Virtually) -> None:
    """A refused request costs a call, and tokens only if the server has worked on it; not its reservation."""
    server = Server(5, fixed(1), faults={"0": [RequestFailed("no", usage=usage)]})
    result = ran(requests(2), {"task": server}, virtually=virtually, budget=fg.Budget(tokens=20_000))
    assert fates(result) == {"failed": 1, "done": 1}
    assert (result.spent.calls, result.spent.tokens) == (2, 51 + (usage.total if usage else 0))


def test_one_of_two_endpoints_that_always_fails(virtually: Virtually) -> None:
    """One of two endpoints is down once it has failed one request as often as allowed; all requests then go to the
    other.
    """
    a, b = Fails(9, fixed(4), name="a"), Server(9, fixed(4), name="b")
    result = ran(requests(100), {"task": [a, b]}, virtually=virtually)
    assert result.status == "completed"
    assert len(b.answered) == 100
    down = of(result, ev.EndpointDown)
    assert {event.endpoint for event in down} == {"a"}
    assert all(later.at - before.at >= before.seconds for before, later in pairwise(down))


def test_one_try_shows_that_an_endpoint_is_still_down(virtually: Virtually) -> None:
    """After each rest one request tries the endpoint, and goes to the other at once after a fault."""
    a, b = Fails(9, fixed(4), name="a"), Server(9, fixed(4), name="b")
    result = ran(requests(100), {"task": [a, b]}, virtually=virtually)
    down = of(result, ev.EndpointDown)
    assert [event.seconds for event in down][:2] == [REST, 2 * REST]
    endpoint = {event.call: event.endpoint for event in of(result, ev.CallStarted)}
    later = [e for e in of(result, ev.CallEnded) if endpoint[e.call] == "a" and e.at > down[0].at + 1]
    assert len(later) == len(down) - 1


def test_two_endpoints_that_always_fail(virtually: Virtually) -> None:
    """The run stops when the last endpoint is down."""
    models = [Fails(9, fixed(4), name=name) for name in "ab"]
    result = ran(requests(9), {"task": models}, virtually=virtually)
    assert (result.status, result.reason) == ("failed", "it keeps answering 503")
    assert of(result, ev.EndpointDown)
    assert result.events[-1].at < 30


def test_a_request_that_times_out_at_two_endpoints(virtually: Virtually) -> None:
    """A request that times out at two endpoints uses up its own tries: it fails, and no endpoint is down."""

    class Hangs(Fails):
        def fault(self) -> Exception:
            return late()

    result = ran(requests(9), {"task": [Hangs(9, fixed(4), name=name) for name in "ab"]}, virtually=virtually)
    assert result.status == "completed"
    assert fates(result) == {"failed": 18}
    assert len({event.endpoint for event in of(result, ev.CallStarted)}) == 2
    assert not of(result, ev.EndpointDown)


def test_a_fault_that_is_no_endpoints_leaves_one_that_was_down_as_it_is(virtually: Virtually) -> None:
    """An endpoint that was down and whose trial times out is tried again: a time-out shows nothing."""
    a, b = Server(9, fixed(4), name="a", down=(0, 5)), Server(9, fixed(4), name="b")
    a.faults = {str(number): [late()] for number in range(100)}
    result = ran(requests(100), {"task": [(a, 1), (b, 1)]}, virtually=virtually)
    assert result.status == "completed"
    assert len(of(result, ev.EndpointDown)) == 1
    assert len(of(result, ev.EndpointUp)) == 1


def asking_twice() -> fg.Graph:
    graph = fg.Graph("twice")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=1)
    def number(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage(model="task")
    async def ask(token: Token, ctx: fg.Context) -> Token:
        await ctx.llm("first")
        await ctx.llm("second")
        return token

    graph.edge(number, ask)
    graph.edge(ask, pool)
    return graph


def test_a_run_that_is_resumed_between_two_tries(tmp_path: Path) -> None:
    """I13: a resumed run repeats failed requests and no answered ones, and their failed tries stay in the account."""
    folder = tmp_path / "run"
    server = Server(5, fixed(1), faults={"second": [malformed(), failing(pause=60.0)]})
    first = ran(asking_twice(), {"task": server}, budget=fg.Budget(seconds=30), folder=folder)
    assert (first.status, server.answered) == ("budget", ["first"])
    assert fates(first) == {"done": 1, "failed": 2}
    server = Server(5, fixed(1))
    again = ran(asking_twice(), {"task": server}, folder=folder, resume=True)
    assert (again.status, server.answered) == ("completed", ["second"])
    assert fates(again) == {"done": 2, "failed": 2}
    assert (again.spent.calls, again.spent.tokens) == (4, 2 * 51 + 43)


FAULTS = st.lists(
    st.builds(
        PassingFault,
        st.sampled_from([ModelUnavailable("down"), TimedOut("late"), MalformedReply("odd"), RequestFailed("engine")]),
        pause=st.sampled_from([None, 0.0, 20.0]),
        tries=st.integers(1, 4),
        usage=st.one_of(st.none(), st.builds(fg.Usage, st.integers(0, 4), st.integers(0, 90))),
        cut_off=st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    faults=st.lists(FAULTS, min_size=6, max_size=6),
    calls=st.one_of(st.none(), st.integers(1, 12)),
    tokens=st.one_of(st.none(), st.integers(4200, 20_000)),
    two=st.booleans(),
)
def test_no_budget_is_exceeded_whatever_fails(
    faults: list[list[PassingFault]], calls: int | None, tokens: int | None, two: bool
) -> None:
    """I10, I14: each try is in the account, failed ones too, and alike on every run."""
    budget = fg.Budget(calls=calls, tokens=tokens)

    def once() -> fg.Result:
        met = {str(number): list(found) for number, found in enumerate(faults)}
        models = [Server(5, fixed(2), name=name, faults=met) for name in ("ab" if two else "a")]
        return ran(requests(6), {"task": models}, budget=budget)

    result = once()
    assert result.events == once().events
    ends = of(result, ev.CallEnded)
    assert result.spent.calls == sum(event.how != "cancelled" or event.estimated for event in ends)
    for name, limit in budget.limits.items():
        assert getattr(result.spent, name) <= limit
    told = sum(event.prompt_tokens + event.completion_tokens for event in ends)
    assert result.spent.tokens >= told
