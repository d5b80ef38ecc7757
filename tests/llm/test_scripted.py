"""`ScriptedModel`: the script, the delays and the counts, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import trio.testing

from flashgraph.errors import DataError, RequestFailed
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.llm.scripted import RecordedCall, ScriptedModel

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_replies_in_order_with_exceptions_and_an_end() -> None:
    """Lines are text, `Reply` or exception; then an error says that the script has run out."""
    own = Reply("two", cost=1.0)
    model = ScriptedModel(["one", own, RequestFailed("three")])
    assert (await model.complete(HELLO, {"seed": 1})).text == "one"
    assert await model.complete(HELLO, {}) is own
    with pytest.raises(RequestFailed, match="three"):
        await model.complete(HELLO, {})
    with pytest.raises(DataError, match="this is call 4, but the script has 3 replies"):
        await model.complete(HELLO, {})
    assert model.calls[0] == RecordedCall(tuple(HELLO), {"seed": 1})
    assert len(model.calls) == 4


async def test_a_function_of_the_messages() -> None:
    """The script may be computed."""

    def echo(messages: Sequence[Message]) -> str:
        return str(messages[0]["content"])

    assert (await ScriptedModel(echo).complete(HELLO, {})).text == "hello"


@pytest.mark.parametrize("delay", [2.0, lambda index: 1.0 + index])
async def test_delays_and_the_peak(delay: Any) -> None:
    """Calls overlap by their delays; the peak is their maximum at once."""
    model = ScriptedModel(["a", "b"], delay)
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(model.complete, HELLO, {})
        group.start_soon(model.complete, HELLO, {})
    assert anyio.current_time() - start == pytest.approx(2.0)
    assert (model.peak, model.in_flight) == (2, 0)


async def test_a_cancelled_call_is_no_longer_in_flight() -> None:
    """It still counts as a call."""
    model = ScriptedModel(["never"], delay=3600)
    with anyio.move_on_after(1):
        await model.complete(HELLO, {})
    assert (model.in_flight, model.peak, len(model.calls)) == (0, 1, 1)


async def test_it_is_a_model() -> None:
    """It is free and open."""
    model = ScriptedModel([], limit=3, name="task")
    async with model.open():
        pass
    assert isinstance(model, Model)
    assert (model.name, model.limit, model.worst_cost(1, 1)) == ("task", 3, 0.0)
