"""Faults of requests and of endpoints: a prompt that is always refused fails alone, and an endpoint that is down ends
the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import KeyRefused, MalformedReply, ModelRefused, ModelUnavailable, PassingFault, Throttled
from flashgraph.llm.limits import adaptive, fixed
from flashgraph.llm.protocol import Message
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.heldout import held_out
from flashgraph.testing import run_virtually

from .endpoints import Server, of, ran, requests
from .kit import Virtually


def unavailable() -> Exception:
    return PassingFault(ModelUnavailable("it keeps answering 503"))


def refused() -> Exception:
    return KeyRefused("it refuses access (403)")


def missing() -> Exception:
    return ModelRefused("it has no chat completions (404)")


def full() -> Exception:
    return Throttled("it keeps answering 429")


def malformed() -> Exception:
    return PassingFault(MalformedReply("no JSON"), usage=fg.Usage(1, 1, estimated=True))


@attrs.define(eq=False)
class Filtered(Server):
    """A model that answers some requests with a fault, always, or all of them from ``since`` to ``until``."""

    fault: Callable[[], Exception] = refused
    poison: frozenset[str] = frozenset()
    since: float = 1e9
    until: float = 1e9
    sent: int = 0

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        self.sent += 1
        if messages[-1]["content"] in self.poison or self.since <= anyio.current_time() < self.until:
            await anyio.sleep(0.01)
            raise self.fault()
        return await super().complete(messages, params)


def ends(result: fg.Result) -> dict[str, str]:
    """Return the reasons of failed jobs, by number of the job."""
    return {str(e.job): e.reason for e in of(result, ev.JobEnded) if e.how == "failed"}


ALL = pytest.mark.parametrize("fault", [unavailable, refused, missing, full, malformed])


@ALL
@pytest.mark.parametrize(
    ("workers", "poison"),
    [(1, {"7"}), (1, {"3", "8", "9"}), (2, {"0"}), (2, {"8", "9"}), (20, {"0"}), (20, {"0", "1", "2"})],
)
def test_a_prompt_that_is_always_refused_fails_alone(
    fault: Callable[[], Exception], workers: int, poison: set[str]
) -> None:
    """Prompts that are always refused fail alone: first, last or several, in a row or beside others. The others are
    answered, and the run continues.
    """
    server = Filtered(20, fixed(workers), fault=fault, poison=frozenset(poison))
    result = ran(requests(10), {"task": server}, settings={"ask_task.workers": workers})
    assert result.status == "completed", result.reason
    assert len(ends(result)) == len(poison)
    assert len(server.answered) == 10 - len(poison)
    assert all("Only this request" in reason or "no JSON" in reason for reason in ends(result).values())


@settings(max_examples=25, deadline=None)
@given(
    fault=st.sampled_from([unavailable, refused, missing, malformed]),
    slots=st.integers(1, 12),
    poison=st.sets(st.integers(1, 19), max_size=4),
    limits=st.sampled_from(["fixed", "adaptive"]),
)
def test_whatever_few_prompts_are_refused_the_others_are_answered(
    fault: Callable[[], Exception], slots: int, poison: set[int], limits: str
) -> None:
    """I15: few refused prompts affect nothing else, and the account counts each try."""
    server = Filtered(
        20, fixed(slots) if limits == "fixed" else adaptive(), fault=fault, poison=frozenset(map(str, poison))
    )
    result = ran(requests(20), {"task": server})
    assert result.status == "completed", result.reason
    assert sorted(map(int, server.answered)) == sorted(set(range(20)) - poison)
    assert len(ends(result)) == len(poison)
    assert result.spent.calls == server.sent


@pytest.mark.parametrize("fault", [unavailable, refused, missing, full])
def test_the_first_request_of_all_is_believed(fault: Callable[[], Exception], virtually: Virtually) -> None:
    """The first fault of all counts: an endpoint that has answered nothing, and works on nothing else, is down or
    refuses the key.
    """
    server = Filtered(20, fixed(1), fault=fault, poison=frozenset({"0"}))
    result = ran(requests(10), {"task": server}, virtually=virtually)
    assert result.status == "failed"
    assert server.answered == []
    assert result.reason == str(getattr(fault(), "final", fault()))


def test_a_refused_key_ends_a_run_within_seconds(virtually: Virtually) -> None:
    """A refused key ends a run within seconds, also with many requests in flight, and fails none of them."""
    server = Filtered(50, fixed(50), since=0.0)
    result = ran(requests(50), {"task": server}, virtually=virtually)
    assert (result.status, result.reason) == ("failed", "it refuses access (403)")
    assert result.events[-1].at < 3
    assert server.sent <= 100
    assert ends(result) == {}


def test_a_key_that_is_refused_whatever_is_asked_is_believed_at_once(virtually: Virtually) -> None:
    """A refused key (401) is no prompt's fault: no request is sent again."""
    server = Filtered(50, fixed(50), since=0.0, fault=lambda: KeyRefused("no key", certain=True))
    result = ran(requests(60), {"task": server}, virtually=virtually)
    assert (result.status, result.reason) == ("failed", "no key")
    assert result.events[-1].at < 0.1
    assert server.sent == 50


@ALL
@pytest.mark.parametrize("slots", [8, 50])
def test_an_endpoint_that_goes_down_fails_no_request(fault: Callable[[], Exception], slots: int) -> None:
    """An endpoint that goes down for good fails no job: the run stops, and can be resumed with all of its work."""
    server = Filtered(50, fixed(slots), fault=fault, since=5.0)
    result = ran(requests(150), {"task": server})
    assert result.status == "failed"
    assert server.answered
    assert ends(result) == {}
    assert result.events[-1].at < 60


@ALL
def test_an_endpoint_that_goes_down_for_one_at_a_time(fault: Callable[[], Exception]) -> None:
    """An endpoint that goes down for one is known to be down after a few requests."""
    server = Filtered(50, fixed(1), fault=fault, since=5.0)
    result = ran(requests(60), {"task": server}, settings={"ask_task.workers": 1})
    assert result.status == "failed"
    assert server.answered
    assert len(ends(result)) == 4


@pytest.mark.parametrize("fault", [unavailable, full, malformed])
@pytest.mark.parametrize("slots", [1, 8])
def test_a_short_outage_loses_nothing(fault: Callable[[], Exception], slots: int, virtually: Virtually) -> None:
    """A short outage loses nothing: requests back off with doubling pauses."""
    server = Filtered(50, fixed(slots), fault=fault, since=5.0, until=25.0)
    result = ran(requests(40), {"task": server}, virtually=virtually)
    assert result.status == "completed", result.reason
    assert len(server.answered) == 40
    assert ends(result) == {}


def test_a_server_that_speaks_another_protocol(virtually: Virtually) -> None:
    """A server of another protocol is down, because no answer is valid; the run quotes its answer."""
    server = Filtered(50, fixed(8), fault=malformed, since=0.0)
    result = ran(requests(40), {"task": server}, virtually=virtually)
    assert result.status == "failed"
    assert result.reason.startswith("no JSON (It has answered 5 requests so")
    assert ends(result) == {}


@pytest.mark.parametrize("fault", [unavailable, refused, missing])
def test_what_one_endpoint_refuses_another_may_answer(fault: Callable[[], Exception]) -> None:
    """A request that one endpoint refuses goes to another, and neither is down."""
    a = Filtered(9, fixed(4), name="a", fault=fault, poison=frozenset({"3"}))
    b = Server(9, fixed(4), name="b")
    result = ran(requests(20), {"task": [(a, 1), (b, 1)]})
    assert result.status == "completed", result.reason
    assert sorted(a.answered + b.answered) == sorted(map(str, range(20)))
    assert "3" in b.answered


def test_what_all_endpoints_refuse_has_failed() -> None:
    """A request that all endpoints refuse has failed, and the others continue."""
    pair = [(Filtered(9, fixed(4), name=name, poison=frozenset({"3"})), 1) for name in "ab"]
    result = ran(requests(20), {"task": pair})
    assert result.status == "completed", result.reason
    assert len(ends(result)) == 1
    assert pair[0][0].sent + pair[1][0].sent <= 19 + 12


def test_one_sample_that_is_refused_does_not_end_the_test_split() -> None:
    """A refused sample of the held-out test counts as 0, like every failed one."""

    async def attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
        return (await llm(str(sample))).text

    task: fg.Task[int, str] = fg.Task(
        "t", train=[0], val=[0], test=list(range(6)), seed={"a": "b"}, attempt=attempt, score=lambda s, o: fg.Score(1.0)
    )
    server = Filtered(9, fixed(3), poison=frozenset({"2"}))

    async def run() -> Any:
        async with server.open():
            return await held_out(task, [{"a": "b"}], server, Ledger(fg.Budget()))

    (found,) = run_virtually(run)
    assert found.scores == (1.0, 1.0, 0.0, 1.0, 1.0, 1.0)
    assert "Only this request" in found.failures[2]
