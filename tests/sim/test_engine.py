"""The simulated engine: continuous batching and its queue, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgraph.sim import clock
from flashgraph.sim.engine import Engine
from flashgraph.sim.profiles import PROFILES

LINEAR = attrs.evolve(PROFILES["vllm"], step=1.0, step_per_request=0.5, prefill=10**9)
BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@attrs.frozen
class Request:
    """A request: its arrival, its steps, the time of its cancellation (None: never), its priority and its prompt."""

    arrival: float
    steps: float
    until: float | None = None
    priority: float = 0
    prompt: int = 0


@attrs.define
class Seen:
    """``ends`` holds None for a cancelled request; ``loads`` are (running, waiting, held) at each half second."""

    engine: Engine
    ends: list[float | None]
    loads: list[tuple[int, int, float]] = attrs.field(factory=list)


def served(requests: Sequence[Request], backend: str = "trio", slots: int | None = None) -> Seen:
    """Return the results of the requests."""

    async def go() -> Seen:
        engine = Engine(LINEAR, slots)
        seen = Seen(engine, [None] * len(requests))
        start = anyio.current_time()

        async def one(number: int, request: Request) -> None:
            await anyio.sleep(request.arrival)
            with anyio.move_on_at(start + request.until) if request.until is not None else anyio.CancelScope():
                await engine.generate(request.steps, prompt=request.prompt, priority=request.priority)
                seen.ends[number] = anyio.current_time() - start

        async def watch() -> None:
            while True:
                seen.loads.append((engine.running, engine.waiting, engine.held))
                await anyio.sleep(0.5)

        async with anyio.create_task_group() as serving:
            serving.start_soon(engine.serve)
            serving.start_soon(watch)
            async with anyio.create_task_group() as tasks:
                for number, request in enumerate(requests):
                    tasks.start_soon(one, number, request)
            serving.cancel_scope.cancel()
        return seen

    return clock.run_virtually(go, backend=backend)


@BACKENDS
def test_a_step_takes_longer_in_a_larger_batch(backend: str) -> None:
    """One request takes 1.5 s a step; two take 2 s a step each, until the shorter one ends."""
    assert served([Request(0, 10)], backend).ends == pytest.approx([15])
    # Both for 10 steps of 2 s, then the longer one alone for 10 steps of 1.5 s.
    assert served([Request(0, 10), Request(0, 20)], backend).ends == pytest.approx([20, 35])


@BACKENDS
def test_cancelling_frees_the_slot_at_once(backend: str) -> None:
    """A cancelled request slows the other one only until then, and its tokens are counted."""
    seen = served([Request(0, 20), Request(0, 1000, until=10)], backend)
    # 5 steps together in 10 s, then 15 steps alone.
    assert seen.ends == [pytest.approx(10 + 22.5), None]
    assert seen.engine.tokens == pytest.approx(25)


@BACKENDS
def test_a_request_without_a_slot_waits(backend: str) -> None:
    """With one slot, each request has the batch to itself, in the order of arrival."""
    seen = served([Request(0, 10), Request(1, 10), Request(2, 10)], backend, slots=1)
    assert seen.ends == pytest.approx([15, 30, 45])
    assert max(waiting for _, waiting, _ in seen.loads) == 2


@BACKENDS
def test_cancelling_one_that_runs_or_waits_lets_the_next_one_in(backend: str) -> None:
    """The first is cancelled at 5 s, the second while it waits, and the third starts at 5 s."""
    requests = [Request(0, 100, until=5), Request(1, 10, until=3), Request(2, 10)]
    assert served(requests, backend, slots=1).ends == [None, None, pytest.approx(20)]


def test_the_lowest_priority_number_comes_first() -> None:
    """The lowest priority runs first, and the oldest among equals, as in vLLM's queue."""
    requests = [Request(0, 10), Request(1, 10), Request(2, 10, priority=-1), Request(3, 10)]
    assert served(requests, slots=1).ends == pytest.approx([15, 45, 30, 60])


def test_held_tokens_are_prompts_and_generated_tokens() -> None:
    """A request holds 100 tokens of prompt and one more each 1.5 s; nothing once it has ended."""
    seen = served([Request(0, 10, prompt=100), Request(20, 1)])
    assert seen.loads[6][:2] == (1, 0)
    assert seen.loads[6][2] == pytest.approx(102)
    assert seen.loads[35] == (0, 0, 0)


REQUESTS = st.lists(
    st.builds(
        Request,
        arrival=st.integers(0, 20),
        steps=st.integers(1, 30),
        until=st.none() | st.integers(0, 60),
        priority=st.integers(-1, 1),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(REQUESTS, st.integers(1, 4))
def test_never_more_than_the_slots_and_never_idle_while_one_waits(requests: list[Request], slots: int) -> None:
    """No slot is idle while a request waits, and every request that is not cancelled ends."""
    seen = served(requests, slots=slots)
    assert all(0 <= running <= slots and (not waiting or running == slots) for running, waiting, _ in seen.loads)
    assert (seen.engine.running, seen.engine.waiting) == (0, 0)
    # Identified by their ends: of two equal requests, one may be cancelled.
    ended = list(zip(requests, seen.ends, strict=True))
    done, lost = ([request for request, end in ended if (end is None) == gone] for gone in (False, True))
    assert all(request.until is not None for request in lost)
    assert sum(a.steps for a in done) - 1e-3 <= seen.engine.tokens <= sum(a.steps for a in done + lost) + 1e-3
