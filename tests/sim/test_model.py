"""The simulated model: lengths, truncation, profiles."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.sim import clock
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES, profile_named


def test_lengths_do_not_depend_on_order() -> None:
    """A reply's length depends only on its request: equal requests take equal tokens."""

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
    """Replies have 699 tokens on average, with a tail to 6,000 (FlashEvolve)."""
    import random

    profile = PROFILES["vllm"]
    lengths = [profile.reply_tokens(random.Random(n)) for n in range(4000)]
    assert 620 < sum(lengths) / len(lengths) < 780
    assert max(lengths) <= profile.longest
    assert sorted(lengths)[3990] > 3000


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(fg.DataError, match="as a model, write sim:vllm"):
        profile_named("vlm")


def test_a_string_makes_a_simulated_model() -> None:
    """``sim:PROFILE`` works wherever a model is named."""
    from flashgraph.llm.resolve import resolve

    model: Any = resolve("sim:api")
    assert (model.name, model.limit) == ("sim:api", 64)
