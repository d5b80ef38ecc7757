"""Limits that move, and endpoints that share a role, in whole runs under virtual time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.policies.control import Control
from flashgraph.run import events as ev
from flashgraph.run.slots import REST
from flashgraph.sim.faults import RateLimit
from flashgraph.testing import settle
from flashgraph.testing.runs import TASK
from flashgraph.testing.tokens import Ledgered, Token

from .endpoints import Server, of, ran, requests
from .kit import Virtually


def levels(result: fg.Result) -> list[tuple[int, str]]:
    return [(event.limit, event.reason) for event in of(result, ev.LimitChanged)]


def most_at_once(result: fg.Result) -> int:
    return max(int(event.in_flight) for event in of(result, ev.CallStarted))


def test_who_is_told_to_wait_blocks_nobody(virtually: Virtually) -> None:
    """A request that is throttled for 30 s frees its one slot for others, and gets it after that time."""
    server = Server(5, fixed(1), seconds=1.0, refuses={"0": 30.0})
    # A job that waits keeps its worker, so there are more of these.
    result = ran(requests(6), {"task": server}, settings={"ask_task.workers": 6}, virtually=virtually)
    assert result.status == "completed"
    started = [event.at for event in of(result, ev.CallStarted)]
    ended = {event.call: event for event in of(result, ev.CallEnded)}
    assert ended[0].how == "throttled"
    assert all(event.how == "done" for call, event in ended.items() if call)
    assert started[5] < 10
    # A quarter more at most, so that those who were turned away at one moment do not come back at one.
    assert 30 <= started[6] - ended[0].at <= 37.5
    assert server.answered[-1] == "0"


def test_a_throttled_request_counts_as_none(virtually: Virtually) -> None:
    """A throttled request costs nothing, and does not count in a budget of calls."""
    server = Server(5, fixed(1), seconds=1.0, refuses={"0": 1.0, "1": 1.0})
    result = ran(requests(9), {"task": server}, budget=fg.Budget(calls=4), virtually=virtually)
    assert (result.status, result.spent.calls) == ("budget", 4)
    assert sorted(Counter(event.how for event in of(result, ev.CallEnded)).items()) == [("done", 4), ("throttled", 2)]


def test_patience_ends(virtually: Virtually) -> None:
    """An endpoint that throttles a request again and again is unavailable: the run stops with the reason."""

    class Never(Server):
        async def complete(self, messages: Any, params: Any) -> fg.Reply:
            raise fg.errors.Throttled("never", pause=5.0, tries=3)

    result = ran(requests(1), {"task": Never(1, fixed(1))}, virtually=virtually)
    assert (result.status, result.reason) == ("failed", "never")
    assert len(of(result, ev.CallEnded)) == 3


def test_one_of_two_endpoints_that_turns_all_away(virtually: Virtually) -> None:
    """One of two endpoints is down once it has throttled one request as often as allowed. All requests then go to the
    other. Faults at other endpoints do not count.
    """

    class Never(Server):
        async def complete(self, messages: Any, params: Any) -> fg.Reply:
            await anyio.sleep(0.2)
            raise fg.errors.Throttled(f"{self.name} never takes one", tries=2)

    a, b = Never(9, fixed(4), name="a"), Server(9, fixed(4), name="b", refuses=dict.fromkeys(map(str, range(40)), 1.0))
    result = ran(requests(100), {"task": [a, b]}, virtually=virtually)
    assert result.status == "completed"
    assert len(b.answered) == 100
    down = of(result, ev.EndpointDown)
    assert {(event.endpoint, event.reason) for event in down} == {("a", "a never takes one")}
    # As for any endpoint that is down, a single request tries it after its rest.
    assert all(later.at - before.at >= before.seconds for before, later in pairwise(down))


def test_two_endpoints_that_turn_all_away(virtually: Virtually) -> None:
    """The run stops when the last endpoint is down, and throttled requests cost nothing."""

    class Never(Server):
        async def complete(self, messages: Any, params: Any) -> fg.Reply:
            raise fg.errors.Throttled(f"{self.name} never takes one", pause=1.0, tries=2)

    models = [Never(9, fixed(4), name=name) for name in "ab"]
    result = ran(requests(9), {"task": models}, virtually=virtually)
    assert result.status == "failed"
    assert re.fullmatch("[ab] never takes one", result.reason)
    assert of(result, ev.EndpointDown)
    assert (result.events[-1].at < 30, result.spent.calls) == (True, 0)


def test_an_adaptive_limit_finds_what_an_api_takes() -> None:
    """An adaptive limit doubles from 16, meets 429s once, and then stays near the 64 of the API; at most 1 % are
    throttled after that.
    """
    result = ran(requests(2000), {"task": Server(64, adaptive())})
    assert result.status == "completed"
    ends = of(result, ev.CallEnded)
    warm = [event for event in ends if event.at > 60]
    refused = sum(event.how == "throttled" for event in warm)
    assert refused <= 0.01 * len(warm)
    used = [event.in_flight for event in of(result, ev.CallStarted) if 60 < event.at < ends[-1].at - 20]
    assert sum(used) / len(used) > 0.75 * 64
    changes = [event.limit for event in of(result, ev.LimitChanged)]
    assert changes[:3] == [17, 18, 19]
    assert all("429" in reason or "slot" in reason for _, reason in levels(result))


def test_an_adaptive_limit_follows_an_api_that_takes_less_than_it_begins_with(virtually: Virtually) -> None:
    """An adaptive limit follows an API down to one request in flight, and never below."""
    result = ran(requests(60), {"task": Server(1, adaptive())}, virtually=virtually)
    assert result.status == "completed"
    assert min(limit for limit, _ in levels(result)) == 1
    late = [event for event in of(result, ev.CallEnded) if event.at > 100]
    assert sum(event.how == "done" for event in late) > 0.8 * len(late)


def test_a_steered_limit_keeps_the_servers_queue_short_and_not_empty() -> None:
    """A steered limit finds a server of 90 slots full within seconds; from then on a few requests wait in it."""
    server = Server(90, steered(), queues=True)
    result = ran(requests(1500), {"task": server})
    assert result.status == "completed"
    steady = server.waits[15:-15]
    assert sum(steady) / len(steady) <= 4
    assert max(steady) <= 16
    assert sum(wait > 0 for wait in steady) > 0.5 * len(steady)
    assert 90 <= most_at_once(result) <= 128


def test_a_steered_limit_of_a_server_that_says_nothing(virtually: Virtually) -> None:
    """A steered limit of a server that does not state its slots is 128, and says so."""

    class Silent(Server):
        async def load(self) -> Any:
            raise OSError("no metrics here")

    result = ran(requests(400), {"task": Silent(500, steered(), queues=True)}, virtually=virtually)
    assert levels(result) == [(128, "the server does not report its load")]
    assert most_at_once(result) == 128


@pytest.mark.parametrize(("limits", "least", "most"), [(fixed(50, rpm=120), 49, 82), (fixed(50, tpm=120 * 51), 45, 96)])
def test_a_rate_is_kept(limits: Limits, least: float, most: int, virtually: Virtually) -> None:
    """120 requests a minute, or the tokens of 120, are kept over any longer time, plus a second's share. The run takes
    no longer than that needs. Tokens of replies are known late and first overestimated, and the difference is used
    later.
    """
    result = ran(requests(100), {"task": Server(500, limits)}, virtually=virtually)
    started = [event.at for event in of(result, ev.CallStarted)]
    assert max(sum(at <= other < at + 40 for other in started) for at in started) <= most
    assert least <= started[-1] <= 56
    assert not of(result, ev.LimitChanged)


def refused(result: fg.Result, warm: float = 0.0) -> float:
    """Return the share of requests that were answered 429 after that many seconds."""
    ends = [event for event in of(result, ev.CallEnded) if event.at > warm and event.how != "cancelled"]
    return len([event for event in ends if event.how == "throttled"]) / len(ends)


@pytest.mark.parametrize("limits", [adaptive(), fixed(100)])
def test_a_rate_that_an_api_tells_of_is_kept(limits: Limits, virtually: Virtually) -> None:
    """A rate of 240 requests a minute is learned from a full bucket without configuration: none is throttled, and all
    that refills is used. It is one event.
    """
    server = Server(500, limits, rate=RateLimit(240))
    result = ran(requests(600), {"task": server}, virtually=virtually)
    assert (result.status, refused(result)) == ("completed", 0.0)
    (learned,) = of(result, ev.RateLearned)
    assert (learned.endpoint, learned.of, learned.limit, learned.seconds) == ("server", "requests", 240, 60)
    assert learned.at < 10
    started = [event.at for event in of(result, ev.CallStarted) if event.at > learned.at]
    assert max(sum(at <= other < at + 30 for other in started) for at in started) <= 120 + 4
    assert sum(30 <= at < 120 for at in started) >= 0.98 * 360


def test_a_rate_that_is_stated_is_not_asked_about(virtually: Virtually) -> None:
    """A stated rate wins over the API's own account, which may be wrong, or covers other users of the key."""
    result = ran(requests(60), {"task": Server(500, adaptive(rpm=60), rate=RateLimit(240))}, virtually=virtually)
    assert not of(result, ev.RateLearned)
    started = [event.at for event in of(result, ev.CallStarted)]
    assert 58 <= started[-1] <= 61


@pytest.mark.parametrize("used", [1.0, 0.5])
def test_a_bucket_that_is_empty_at_first(used: float, virtually: Virtually) -> None:
    """If a bucket is empty or half full at first, a few requests are throttled at first, and later none."""
    rate = RateLimit(240, used=240 * used)
    result = ran(requests(400), {"task": Server(500, adaptive(), rate=rate)}, virtually=virtually)
    assert result.status == "completed"
    assert refused(result, warm=30.0) == 0


def test_those_who_share_a_key_slow_down_before_any_is_turned_away(virtually: Virtually) -> None:
    """Three runs share an API of 240 a minute; they begin at different times and do not know each other."""
    rate, results = RateLimit(240), list[fg.Result]()

    async def one(number: int) -> None:
        await anyio.sleep(10.7 * number)
        async with fg.open_run(
            requests(5000), TASK, models={"task": Server(500, adaptive(), rate=rate)}, settle=settle,
            schedule=fg.pipelined(1000, focus=0.0), budget=fg.Budget(seconds=300),
        ) as opened:  # fmt: skip
            results.append(await opened.wait())

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(one, number)

    virtually(all_of_them)
    done = [sum(e.how == "done" and e.at > 120 for e in of(result, ev.CallEnded)) for result in results]
    assert all(refused(result, warm=120.0) <= 0.01 for result in results)
    assert min(done) > 0.8 * max(done)
    assert sum(done) > 0.95 * 3 * 240


def test_several_endpoints_share_the_work_by_their_weights() -> None:
    """Endpoints share the work three to one while both have room; log and reply name the endpoint."""
    models = [(Server(50, fixed(50), name="a"), 3), (Server(50, fixed(50), name="b"), 1)]
    result = ran(requests(400), {"task": models}, window=10)
    shares = Counter(event.endpoint for event in of(result, ev.CallStarted))
    assert shares.total() == 400
    assert 0.68 <= shares["a"] / 400 <= 0.82
    assert len(models[0][0].answered) == shares["a"]


def test_what_one_endpoint_has_no_room_for_another_takes(virtually: Virtually) -> None:
    """Work goes to the endpoint that has room, against its weight."""
    models = [(Server(9, fixed(2), name="a"), 1000), (Server(9, fixed(8), name="b"), 1)]
    result = ran(requests(100), {"task": models}, virtually=virtually)
    shares = Counter(event.endpoint for event in of(result, ev.CallStarted))
    assert shares["b"] > shares["a"] > 10


@attrs.frozen
class Unsure(Control):
    """A control policy with a mistake."""

    def rank(self, waiting: Any) -> Any:
        raise KeyError("boom")


def test_a_rank_that_raises_is_named(virtually: Virtually) -> None:
    """A rank that raises is reported as the user's mistake, not as one of the scheduler."""

    async def run() -> None:
        schedule = fg.pipelined(4, focus=0.0, control=Unsure())
        await fg.arun(requests(2), TASK, models={"task": Server(1, fixed(1))}, schedule=schedule, settle=settle)

    with pytest.raises(fg.FlashgraphError, match=r"^control policy .*: rank\(Waiting\(.*\)\) raised KeyError: 'boom'"):
        virtually(run)


def test_endpoints_that_roles_share_go_to_who_ranks_first(virtually: Virtually) -> None:
    """Of two roles, one may use both endpoints and the other one of them: neither starves, and the limit is the
    endpoint's.
    """
    a, b = Server(9, fixed(3), name="a"), Server(9, fixed(3), name="b")
    result = ran(requests(60, ("task", "judge")), {"task": [a, b], "judge": b}, virtually=virtually)
    assert result.status == "completed"
    flying: Counter[str] = Counter()
    role = {}
    for event in result.events:
        if isinstance(event, ev.CallStarted):
            flying[event.endpoint] += 1
            role[event.call] = event.endpoint
            assert flying[event.endpoint] <= 3
        elif isinstance(event, ev.CallEnded):
            flying[role[event.call]] -= 1


def test_several_that_find_an_endpoint_down_at_once_are_one_outage(virtually: Virtually) -> None:
    """Four requests in flight that find an endpoint down rest it once, not eight times as long."""
    a, b = Server(9, fixed(4), name="a", down=(0, 5)), Server(9, fixed(4), name="b")
    result = ran(requests(100), {"task": [(a, 1000), (b, 1)]}, virtually=virtually)
    assert result.status == "completed"
    assert len([e for e in of(result, ev.CallEnded) if e.how == "failed"]) == 4
    (down,), (up,) = of(result, ev.EndpointDown), of(result, ev.EndpointUp)
    assert (down.endpoint, down.seconds) == ("a", REST)
    assert down.at + REST < up.at < down.at + REST + 10


def test_an_endpoint_that_was_down_is_tried_before_others_that_have_room(virtually: Virtually) -> None:
    """An endpoint that was down is tried as soon as it may be; chance could leave it out for long."""
    a, b = Server(9, fixed(4), name="a", down=(0, 15)), Server(9, fixed(4), name="b")
    result = ran(
        requests(30), {"task": [(a, 1), (b, 1)]}, window=1, settings={"ask_task.workers": 1}, virtually=virtually
    )
    assert result.status == "completed"
    down, (up,) = of(result, ev.EndpointDown), of(result, ev.EndpointUp)
    # Every request takes four seconds, more or less: the next one after its rest is the trial.
    assert [round(e.seconds) for e in down] == [REST, 2 * REST]
    assert REST <= down[1].at - down[0].at <= REST + 7
    assert 2 * REST <= up.at - down[1].at <= 2 * REST + 14


def test_two_requests_a_minute(virtually: Virtually) -> None:
    """Under two requests a minute, nothing can run for half a minute: the run waits, and is not taken for stalled."""
    result = ran(requests(4), {"task": Server(9, fixed(4, rpm=2))}, virtually=virtually)
    assert result.status == "completed"
    started = [event.at for event in of(result, ev.CallStarted)]
    assert [round(later - before) for before, later in pairwise(started)] == [30, 30, 30]


def test_a_server_that_now_and_then_does_not_say_how_full_it_is(virtually: Virtually) -> None:
    """A server that fails every second reading of its load is not filled up each time."""

    class Flaky(Server):
        asked = 0

        async def load(self) -> Any:
            self.asked += 1
            return await super().load() if self.asked % 2 else None

    server = Flaky(40, steered(), queues=True)
    result = ran(requests(400), {"task": server}, virtually=virtually)
    assert result.status == "completed"
    assert most_at_once(result) <= 72


def test_a_server_that_cannot_be_asked_how_full_it_is(virtually: Virtually) -> None:
    """A model without `load` is like one that does not state it."""

    class Plain(Server):
        load = None  # type: ignore[assignment]  # as if it had none

    result = ran(requests(300), {"task": Plain(500, steered(), queues=True)}, virtually=virtually)
    assert levels(result) == [(128, "the server does not report its load")]


def alike(temperatures: Sequence[float]) -> fg.Graph:
    """Return a graph whose stage sends the same prompt at several temperatures at once."""
    graph = fg.Graph("alike")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=3)
    def number(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage(model="task")
    async def ask(token: Token, ctx: fg.Context) -> Token:
        async with anyio.create_task_group() as tasks:
            for temperature in temperatures:
                tasks.start_soon(partial(ctx.llm, "the same", temperature=temperature))
        return token

    graph.edge(number, ask)
    graph.edge(ask, pool)
    return graph


def test_requests_that_differ_in_their_parameters_alone(virtually: Virtually) -> None:
    """I14: the order of a job's requests does not depend on the event loop, nor on the order in its code."""

    class Slow(Server):
        async def complete(self, messages: Any, params: Any) -> fg.Reply:
            await anyio.sleep(params["temperature"])
            return fg.Reply("ok", fg.Usage(1, 1), 0.0)

    def calls(*temperatures: float) -> list[tuple[int, float]]:
        result = ran(alike(temperatures), {"task": Slow(99, fixed(99))}, virtually=virtually)
        return [(event.call, round(event.seconds, 6)) for event in of(result, ev.CallEnded)]

    assert calls(1.0, 2.0, 3.0) == calls(3.0, 2.0, 1.0)


def test_what_is_in_flight_where(virtually: Virtually) -> None:
    """A viewer can read the requests in flight at any time; at the end there are none (I12)."""
    seen: set[int] = set()

    def look(machine: Any) -> None:
        seen.update(machine.slots.in_flight.values())
        assert machine.slots.in_flight == {"a": 0, "b": 0}

    models = [Server(9, fixed(2), name="a"), Server(9, fixed(3), name="b")]
    result = ran(requests(20), {"task": models}, look=look, virtually=virtually)
    assert (result.status, seen) == ("completed", {0})


def test_an_endpoint_that_is_down_is_left_out_and_tried_again(virtually: Virtually) -> None:
    """The requests of an endpoint that is down go to the other. It is tried with one request at a time, and is up again
    after a reply.
    """
    a, b = Server(9, fixed(4), name="a", down=(20, 60)), Server(9, fixed(4), name="b")
    result = ran(requests(200), {"task": [a, b]}, virtually=virtually)
    assert result.status == "completed"
    assert len(a.answered) + len(b.answered) == 200
    down, up = of(result, ev.EndpointDown), of(result, ev.EndpointUp)
    assert {event.endpoint for event in (*down, *up)} == {"a"}
    # All that were out when it went down find it so; from then on one at a time does, less and less often.
    tries = [event.at for event in down if event.at > 25]
    assert all(later - before >= 10 for before, later in pairwise(tries))
    assert len(up) == 1
    assert 60 <= up[0].at < 120
    assert "no model server answers at a" in down[0].reason
    assert any(event.endpoint == "a" and event.at > up[0].at + 1 for event in of(result, ev.CallStarted))


def test_a_run_stops_when_all_its_endpoints_are_down(virtually: Virtually) -> None:
    """A run stops when all its endpoints are down, with the message of the last, and can be resumed."""
    models = [Server(9, fixed(4), name=name, down=(10, 1e9)) for name in "ab"]
    result = ran(requests(100), {"task": models}, virtually=virtually)
    assert result.status == "failed"
    assert "no model server answers at" in result.reason
    assert result.events[-1].at < 30


def test_a_resumed_run_knows_its_limit(tmp_path: Path) -> None:
    """I13: a replay of turns with throttled requests and readings gives the same limit, and the run continues to its
    end.
    """
    for limits, queues, rpm in ((adaptive(), False, 0), (steered(), True, 0), (adaptive(), False, 600)):
        folder = tmp_path / f"{limits} {rpm}"

        def go(
            calls: int,
            folder: Path = folder,
            limits: Limits = limits,
            queues: bool = queues,
            rpm: int = rpm,
            **more: Any,
        ) -> Any:
            server = Server(40, limits, queues=queues, rate=RateLimit(rpm) if rpm else None)
            return ran(requests(600), {"task": server}, budget=fg.Budget(calls=calls), folder=folder, **more)

        first = go(300)
        assert first.status == "budget"
        again = go(1000, resume=True)
        assert again.status == "completed"
        # Once in the replay, and once by the new session, which has learned nothing.
        assert len(of(first, ev.RateLearned)) == (rpm > 0)
        assert of(again, ev.RateLearned)[:1] == of(first, ev.RateLearned)
        told = [event.limit for event in of(again, ev.LimitChanged)]
        assert [event.limit for event in of(first, ev.LimitChanged)] == told[: len(levels(first))]


def test_what_a_request_had_cost_that_was_cut_off(virtually: Virtually) -> None:
    """The cost of a cancelled request is estimated: the prompt, and as much of a reply as others had in that time."""
    result = ran(requests(20), {"task": Server(9, fixed(4))}, budget=fg.Budget(seconds=10), virtually=virtually)
    cut = [event for event in of(result, ev.CallEnded) if event.how == "cancelled"]
    assert cut
    assert all(event.estimated and 0 <= event.completion_tokens <= 100 for event in cut)
    assert sum(event.completion_tokens for event in cut) > 0
    done = [event for event in of(result, ev.CallEnded) if event.how == "done"]
    assert not any(event.estimated for event in done)
    tokens = sum(event.prompt_tokens + event.completion_tokens for event in (*done, *cut))
    assert abs(result.spent.tokens - tokens) <= 1
