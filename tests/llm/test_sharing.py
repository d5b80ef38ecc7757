"""One model object in several concurrent runs: the run that ends first takes nothing from the others."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import ModelUnavailable
from flashgraph.llm.http import HttpModel
from flashgraph.llm.sharing import Shared
from flashgraph.testing import run_virtually
from flashgraph.testing.runs import TASK
from tests.run.endpoints import requests

from .server import chat, running

pytestmark = pytest.mark.anyio


@attrs.define(eq=False)
class Made:
    """Resources that are made in sequence, with counts of those made and of those open."""

    seconds: float = 0.0
    fails: int = 0
    count: int = 0
    open: int = 0

    @asynccontextmanager
    async def make(self) -> AsyncIterator[int]:
        await anyio.sleep(self.seconds)
        if self.fails:
            self.fails -= 1
            raise ModelUnavailable("not yet")
        self.count += 1
        self.open += 1
        try:
            yield self.count
        finally:
            self.open -= 1
            await anyio.sleep(self.seconds)


async def test_the_last_closes_what_the_first_has_made() -> None:
    """Users may leave in any order; a later user creates it again."""
    shared, made = Shared[int](), Made()
    first, second = shared.hold(made.make), shared.hold(made.make)
    assert [await first.__aenter__(), await second.__aenter__()] == [1, 1]
    await first.__aexit__(None, None, None)
    assert (shared.value, made.open) == (1, 1)
    await second.__aexit__(None, None, None)
    assert (shared.value, made.open) == (None, 0)
    async with shared.hold(made.make) as third:
        assert (third, made.open) == (2, 1)


async def test_who_waits_for_one_that_cannot_be_made_makes_it() -> None:
    """Only the first user gets the failure; the next one creates the resource."""
    shared, made, found = Shared[int](), Made(fails=1), []

    async def hold() -> None:
        try:
            async with shared.hold(made.make) as number:
                found.append(number)
        except ModelUnavailable:
            found.append(0)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold)
    assert sorted(found)[0] == 0
    assert len(found) == 3
    assert made.open == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(["asyncio", "trio"]),
)
def test_in_any_order_of_coming_leaving_and_cancelling(
    users: list[tuple[int, int, int]], seconds: int, fails: int, backend: Any
) -> None:
    """Every user has an open one, there is one at a time, and none is left."""
    made = Made(seconds, fails)

    async def run() -> None:
        shared = Shared[int]()

        async def use(begin: int, length: int, cancelled: int) -> None:
            await anyio.sleep(begin)
            with anyio.move_on_after(cancelled):
                try:
                    async with shared.hold(made.make) as number:
                        assert (shared.value, made.open, number) == (made.count, 1, made.count)
                        await anyio.sleep(length)
                        assert (shared.value, made.open) == (number, 1)
                except ModelUnavailable:
                    pass

        async with anyio.create_task_group() as tasks:
            for user in users:
                tasks.start_soon(use, *user)
        assert not shared._held

    run_virtually(run, backend=backend)
    assert made.open == 0


async def test_a_run_that_ends_takes_no_connection_from_another() -> None:
    """Two runs use one `HttpModel`: the short one ends, and the long one continues."""
    with running(chat("hi")) as server:
        model = HttpModel(server.url, "tiny", key="", limit=2)
        ended: dict[int, fg.Result] = {}

        async def run(count: int) -> None:
            ended[count] = await fg.arun(requests(count), TASK, models={"task": model})

        async with anyio.create_task_group() as tasks:
            for count in (2, 40):
                tasks.start_soon(run, count)
    assert [ended[count].status for count in (2, 40)] == ["completed", "completed"]
    assert len(server.chats) == 42


def test_runs_in_threads_of_their_own() -> None:
    """Each event loop has its own connections."""
    with running(chat("hi")) as server:
        model = HttpModel(server.url, "tiny", key="", limit=2)
        ended: list[fg.Result] = []

        def run(count: int) -> None:
            ended.append(fg.run(requests(count), TASK, models={"task": model}))

        threads = [threading.Thread(target=run, args=(count,)) for count in (2, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [result.status for result in ended] == ["completed", "completed"]
    assert len(server.chats) == 22
