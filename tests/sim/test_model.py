"""The simulated server: continuous batching on the injected clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.sim.model import Engine, SimModel
from flashgraph.sim.profiles import PROFILES, profile_named
from flashgraph.testing import clock

LINEAR = attrs.evolve(PROFILES["vllm"], step=1.0, step_per_request=0.5, prefill=10**9)
BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def timed(requests: Sequence[tuple[float, float, float | None]], backend: str) -> tuple[list[float | None], Engine]:
    """When each (arrival, steps, cancelled at) ended; None for one that was cancelled."""

    async def go() -> tuple[list[float | None], Engine]:
        engine = Engine(LINEAR)
        ends: list[float | None] = [None] * len(requests)
        start = anyio.current_time()

        async def one(number: int, arrival: float, steps: float, until: float | None) -> None:
            await anyio.sleep(arrival)
            with anyio.move_on_at(start + until) if until else anyio.CancelScope():
                await engine.generate(steps)
                ends[number] = anyio.current_time() - start

        async with anyio.create_task_group() as serving:
            serving.start_soon(engine.serve)
            async with anyio.create_task_group() as tasks:
                for number, request in enumerate(requests):
                    tasks.start_soon(one, number, *request)
            serving.cancel_scope.cancel()
        return ends, engine

    return clock.run_virtually(go, backend=backend)


@BACKENDS
def test_a_step_takes_longer_in_a_larger_batch(backend: str) -> None:
    """One request: 1.5 s a step.  Two: 2 s a step for both, until the shorter one ends."""
    assert timed([(0, 10, None)], backend)[0] == pytest.approx([15])
    # Both for 10 steps of 2 s, then the longer one alone for 10 steps of 1.5 s.
    assert timed([(0, 10, None), (0, 20, None)], backend)[0] == pytest.approx([20, 35])


@BACKENDS
def test_cancelling_frees_the_slot_at_once(backend: str) -> None:
    """What was cut off slows the other down only until then; its tokens are counted."""
    ends, engine = timed([(0, 20, None), (0, 1000, 10)], backend)
    # 5 steps together in 10 s, then 15 steps alone.
    assert ends == [pytest.approx(10 + 22.5), None]
    assert engine.tokens == pytest.approx(25)


def test_lengths_do_not_depend_on_order() -> None:
    """A reply's length is drawn from the request alone: equal requests take equal tokens."""

    async def ask(texts: list[str]) -> dict[str, int]:
        model = SimModel(PROFILES["vllm"])
        found: dict[str, int] = {}

        async def one(text: str) -> None:
            found[text] = (await model.complete([{"role": "user", "content": text}], {})).usage.completion

        async with model.open(), anyio.create_task_group() as tasks:
            for text in texts:
                tasks.start_soon(one, text)
        return found

    texts = [f"question {n}" for n in range(30)]
    first = clock.run_virtually(lambda: ask(texts))
    assert clock.run_virtually(lambda: ask(texts[::-1])) == first
    assert len(set(first.values())) > 20


def test_max_tokens_cut_a_reply_and_say_so() -> None:
    """A truncated reply is flagged."""

    async def go() -> fg.Reply:
        model = SimModel(PROFILES["api"])
        async with model.open():
            return await model.complete([{"role": "user", "content": "x"}], {"max_tokens": 3})

    reply = clock.run_virtually(go)
    assert (reply.usage.completion, reply.truncated) == (3, True)


def test_profiles_have_the_published_mean_length() -> None:
    """699 tokens on average with a tail to 6,000 (FlashEvolve)."""
    import random

    profile = PROFILES["vllm"]
    lengths = [profile.reply_tokens(random.Random(n)) for n in range(4000)]
    assert 620 < sum(lengths) / len(lengths) < 780
    assert max(lengths) <= profile.longest
    assert sorted(lengths)[3990] > 3000


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(fg.DataError, match="did you mean 'vllm'"):
        profile_named("vlm")


def test_a_string_makes_a_simulated_model() -> None:
    """``sim:PROFILE`` works wherever a model is named."""
    from flashgraph.llm.resolve import resolve

    model: Any = resolve("sim:api")
    assert (model.name, model.limit) == ("sim:api", 64)
