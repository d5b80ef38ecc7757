"""Reference model of model calls: their messages, their retries, and the cost of a try."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import anyio
import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import MalformedReply, PassingFault, RequestFailed, Throttled, TimedOut
from flashgraph.llm.messages import as_texts, checked
from flashgraph.llm.protocol import Reply, Usage
from flashgraph.run import events as ev
from flashgraph.run.budget import Cost
from flashgraph.run.pace import Pace
from flashgraph.run.paid_replies import request_key
from flashgraph.run.patience import reply_of
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.recording import SlowRecording
from flashgraph.testing.runs import TASK, LatencyModel
from tests.proof.oracles.small import Kept
from tests.proof.tried import FOREVER, Property, expect, refusal

__all__ = ["ASKING"]


@attrs.frozen
class Fault:
    """The outcome of one try; ``pause`` is the wait that its server asks for."""

    kind: Literal["throttled", "unavailable", "timed out", "malformed", "refused", "answered"]
    pause: float | None = None

    def raised(self, tries: int, backoff: float) -> Exception:
        more: dict[str, Any] = {"pause": self.pause, "tries": tries, "backoff": backoff}
        match self.kind:
            case "throttled":
                return Throttled("full", **more)
            case "unavailable":
                return PassingFault(fg.ModelUnavailable("down"), **more)
            case "timed out":
                return PassingFault(TimedOut("late"), cut_off=True, **more)
            case "malformed":
                return PassingFault(MalformedReply("odd"), usage=Usage(4, 2), **more)
        return RequestFailed("no")


@attrs.define
class Asked:
    """A model that plays given outcomes, and records when it is called."""

    faults: Sequence[Fault]
    tries: int
    backoff: float
    at: list[float] = attrs.field(factory=list)
    name: str = "asked"
    limit: int = 1

    def open(self) -> Any:
        raise AssertionError("nobody opens it")

    async def complete(self, messages: Any, params: Any) -> Reply:
        self.at.append(anyio.current_time())
        fault = self.faults[len(self.at) - 1] if len(self.at) <= len(self.faults) else Fault("answered")
        if fault.kind == "answered":
            return Reply(f"at {len(self.at)}")
        raise fault.raised(self.tries, self.backoff)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.5 * prompt + 2 * completion


def asks_again(faults: Sequence[Fault], tries: int, backoff: float, text: str) -> None:
    """I15: a request is retried as often as the kind of its fault allows.

    The pause is the one that the server asks for, or doubles up to a minute.  It is up to a quarter longer, by the same
    share for the same request.
    """
    models = [Asked(faults, tries, backoff) for _ in range(2)]
    ended = [run_virtually(lambda model=model: _ask(model, text), backend="trio") for model in models]  # type: ignore[misc]
    met: defaultdict[str, int] = defaultdict(int)
    expected = "answered"
    asked = 1
    for fault in [*faults, Fault("answered")]:
        met[fault.kind] += 1
        if fault.kind in ("answered", "refused") or met[fault.kind] >= tries:
            expected = "unavailable" if fault.kind == "throttled" else fault.kind
            break
        asked += 1
    expect(ended[0] == expected, f"I15: after {faults} a request with {tries} tries is {ended[0]}, expected {expected}")
    expect(len(models[0].at) == asked, f"I15: it was asked {len(models[0].at)} times, expected {asked}")
    pauses = [[b - a for a, b in zip(model.at, model.at[1:], strict=False)] for model in models]
    key = request_key("asked", [{"role": "user", "content": text}], {})
    for number, (paused, fault) in enumerate(zip(pauses[0], faults, strict=False)):
        least = min(backoff * 2**number, 60.0) if fault.pause is None else fault.pause
        expected_pause = least * (1 + random.Random(f"{key}/{number + 1}").random() / 4)
        close = math.isclose(paused, expected_pause, rel_tol=1e-6, abs_tol=1e-6)
        expect(close, f"I14: pause {number} after {fault} is {paused} s, expected {expected_pause}")
    alike = all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(*pauses, strict=True))
    expect(alike, f"I14: the same request pauses {pauses}")


async def _ask(model: Asked, text: str) -> str:
    """Return how a request ends."""
    try:
        await reply_of(model, [{"role": "user", "content": text}], {})
    except fg.ModelUnavailable:
        return "unavailable"
    except TimedOut:
        return "timed out"
    except MalformedReply:
        return "malformed"
    except RequestFailed:
        return "refused"
    return "answered"


def costs(fault: Fault, amounts: Mapping[str, float], given_up: tuple[int, int]) -> None:
    """I10: a throttled request costs nothing, a failed or refused one a call and its usage, an abandoned one its
    reservation."""
    raised, model = fault.raised(2, 1.0), Asked((), 1, 1.0)
    if isinstance(raised, PassingFault):
        cost = Cost.of_fault(raised, model, amounts, given_up)
    else:
        cost = Cost.answered(Usage(*given_up) if any(given_up) else None, model, amounts)
    match fault.kind:
        case "refused":
            usd = 0.5 * given_up[0] + 2 * given_up[1]
            expected = Cost({"calls": 1.0, "tokens": float(sum(given_up)), "usd": usd}, given_up, usd, False)
        case "throttled":
            expected = Cost({}, (0, 0), None, False)
        case "timed out":
            expected = Cost({"tokens": float(sum(given_up)), **amounts}, given_up, None, True)
        case "malformed":
            expected = Cost({"calls": 1.0, "tokens": 6.0, "usd": 6.0}, (4, 2), 6.0, False)
        case _:
            expected = Cost({"calls": 1.0, "tokens": 0.0, "usd": 0.0}, (0, 0), 0.0, False)
    expect(cost == expected, f"I10: {fault} has cost {cost}, expected {expected}")


FAULTS = st.builds(
    Fault,
    st.sampled_from(["throttled", "unavailable", "timed out", "malformed", "refused", "throttled", "unavailable"]),
    st.sampled_from([None, None, None, 0.0, 3.0, 90.0]),
)


def keeps_pace(told: Sequence[tuple[str, int, float]], prompt: float, seconds: float, most: int | None) -> None:
    """I10: a cancelled request costs its prompt, and the reply tokens that others of its endpoint got in that time."""
    pace = Pace()
    for endpoint, tokens, took in told:
        pace.answered(endpoint, tokens, took)
    for endpoint in ("a", "b"):
        mine = [(tokens, took) for name, tokens, took in told if name == endpoint]
        whole = sum(took for _, took in mine)
        reply = seconds * sum(tokens for tokens, _ in mine) / whole if whole else 0.0
        expected = (round(prompt), round(reply if most is None else min(reply, most)))
        said = pace.cut_off(endpoint, prompt, seconds, most)
        expect(said == expected, f"I10: after {told} a request to {endpoint} has cost {said}, expected {expected}")


def asks_at_once(requests: int, limit: int, rounds: int, disk: float, seed: int) -> None:
    """I4, I10, I13: a stage may make several requests at once.

    Each gets its own reply, the limit bounds those in flight, each is in the account, and a replay is the same run.
    """
    graph = fg.Graph("several")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(model="model", workers=3)
    async def several(number: int, ctx: fg.Context) -> int:
        heard: dict[int, str] = {}

        async def ask(one: int) -> None:
            await anyio.sleep(random.Random(f"{seed}/before/{number}/{one}").randrange(0, 48) / 16)
            heard[one] = (await ctx.llm(f"{number} {one}")).text

        async with anyio.create_task_group() as tasks:
            for one in range(requests):
                tasks.start_soon(ask, one)
        expect(len(heard) == requests, f"I9: of {requests} requests {len(heard)} were answered")
        return number

    graph.edge(emit, several)
    graph.edge(several, pool)

    def seconds(request: str) -> float:
        return random.Random(f"{seed}/{request}").randrange(1, 64) / 16

    model = LatencyModel(limit, seconds)

    async def run() -> fg.Result:
        budget, schedule = fg.Budget(seconds=FOREVER), fg.pipelined(rounds, focus=0.0)
        memory = partial(SlowRecording, seconds=lambda turn: disk * (turn % 2))
        async with fg.open_run(
            graph, TASK, models={"model": model}, schedule=schedule, budget=budget, settle=settle, memory=memory
        ) as opened:
            result = await opened.wait()
            plan = opened.machine.plan
        opened.memory.replay(plan, budget, 0)
        check_invariants(result.events, plan, budget)
        return result

    result = run_virtually(run)
    every = requests * rounds
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    expect(
        result.spent.calls == model.sent == every, f"I10: of {every} requests {model.sent} were sent, {result.spent}"
    )
    expect(model.peak <= limit, f"I4: {model.peak} requests at once, the limit is {limit}")
    failed = [e.reason for e in result.events if isinstance(e, ev.JobEnded) and e.how != "done"]
    expect(not failed, f"I9: a job failed: {failed}")


TEXT = {"type": "text", "text": "a"}
SOUND: Sequence[Any] = (
    [{"role": "user", "content": "x"}],
    ({"role": "user", "content": ""}, {"role": "assistant", "content": "y"}),
    [{"role": "user", "content": [TEXT]}],
    [{"role": "user", "content": (TEXT, {"type": "image_url", "image_url": {"url": "u"}})}],
    [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]}],
)
WRONG: Sequence[tuple[Any, str]] = (
    ([], "the messages are []"), (None, "the messages are None"), ({"role": "user"}, "the messages are {"),
    ([3], "message 0 is 3"), ([{"content": "x"}], "message 0 has no role"), ([{"role": "user"}], "has no content"),
    ([{"role": 1, "content": "x"}], "the role of message 0"), ([{"role": "user", "content": 4}], "the content of"),
    ([{"role": "user", "content": []}], "the content of"), ([{"role": "user", "content": ["x"]}], "part 0 of message"),
    ([{"role": "user", "content": {"type": "text"}}], "the content of"),
    ([{"role": "user", "content": [TEXT, {"text": "x"}]}], "part 1 of message 0"),
    ([{"role": "user", "content": [{"type": "text"}]}], "one with a text"),
    ([{"role": "user", "content": "x"}, {"role": "user", "content": None}], "the content of message 1"),
)  # fmt: skip


def checks(place: int, text: str) -> None:
    """I15: messages have the API's form, a plain text is a message of the user, and anything else fails the stage.

    The error says what is wrong, and where.
    """
    expect(list(checked(text)) == [{"role": "user", "content": text}], f"I15: {text!r} becomes {checked(text)}")
    sound = SOUND[place % len(SOUND)]
    expect(list(checked(sound)) == list(sound), f"I15: {sound} becomes {checked(sound)}")
    texts = [message["content"] for message in as_texts(sound)]
    whole = all(isinstance(t, str) and ("image" in t) == ("image" in str(sound)) for t in texts)
    expect(whole, f"I10: {sound} is counted as {texts}")
    wrong, said = WRONG[place % len(WRONG)]
    told = refusal(lambda: checked(wrong))
    expect(told is not None and said in told and "Fix: " in told, f"I15: {wrong} is refused with: {told}")


ASKING: Mapping[str, Property] = {
    "retries of requests": Property(
        ("I14", "I15"),
        asks_again,
        {
            "faults": st.lists(FAULTS, max_size=9),
            "tries": st.sampled_from([1, 2, 6, 20]),
            "backoff": st.sampled_from([1.0, 1.0, 0.25, 4.0]),
            "text": st.sampled_from(["a", "b", "c"]),
        },
        8,
    ),
    "costs of tries": Property(
        ("I10",),
        costs,
        {
            "fault": FAULTS,
            "amounts": st.sampled_from([{"calls": 1.0}, {"calls": 1.0, "tokens": 90.0, "usd": 0.5}]),
            "given_up": st.tuples(st.integers(0, 9), st.integers(0, 9)),
        },
        6,
    ),
    "cancelled requests": Property(
        ("I10",),
        keeps_pace,
        {
            "told": st.lists(
                st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 900), st.sampled_from([0.0, 0.25, 2.0, 16.0])),
                max_size=5,
            ),
            "prompt": st.sampled_from([0.0, 3.25, 100.0]),
            "seconds": st.sampled_from([0.0, 0.5, 4.0, 64.0]),
            "most": st.sampled_from([None, None, 50]),
        },
        8,
    ),
    "several requests at once": Property(
        ("I4", "I9", "I10", "I13"),
        asks_at_once,
        {
            "requests": st.integers(1, 4),
            "limit": st.integers(1, 4),
            "rounds": st.integers(1, 4),
            "disk": st.sampled_from([0.0, 0.0, 0.25, 2.0]),
            "seed": st.integers(0, 5),
        },
        1.5,
        known=[{"requests": 3, "limit": 1, "rounds": 2, "disk": 0.25, "seed": 0}],
    ),
    "model of messages": Property(
        ("I10", "I15"),
        checks,
        {"place": st.integers(0, len(WRONG) * len(SOUND)), "text": st.sampled_from(["", "x"])},
        6,
    ),
}
