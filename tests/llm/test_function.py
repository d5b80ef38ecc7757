"""`FunctionModel`: the arguments and results of its function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from flashgraph.errors import DataError
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Message, Model, Reply, Usage, bounds_cost

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello there"}]


def shout(messages: Sequence[Message]) -> str:
    return str(messages[-1]["content"]).upper()


async def shout_later(messages: Sequence[Message]) -> str:
    return shout(messages)


def obey(messages: Sequence[Message], params: Mapping[str, Any]) -> str:
    return str(params["temperature"])


class Counter:
    def __call__(self, messages: Sequence[Message]) -> str:
        return str(len(messages))


async def test_a_sync_function() -> None:
    """Its text comes back free, with usage estimated at four characters a token."""
    assert await FunctionModel(shout).complete(HELLO, {}) == Reply(
        "HELLO THERE", Usage(2, 2, estimated=True), 0.0, model="shout"
    )


async def test_an_async_function() -> None:
    """It is awaited."""
    assert (await FunctionModel(shout_later).complete(HELLO, {})).text == "HELLO THERE"


async def test_params_go_to_a_second_argument_only() -> None:
    """A function of one argument does not get them."""
    assert (await FunctionModel(obey).complete(HELLO, {"temperature": 0.5})).text == "0.5"
    assert (await FunctionModel(shout).complete(HELLO, {"temperature": 0.5})).text == "HELLO THERE"


async def test_a_reply_is_returned_as_it_is() -> None:
    """The reply keeps its own usage and cost."""
    reply = Reply("x", Usage(5, 6), 0.25)
    assert await FunctionModel(lambda _: reply).complete(HELLO, {}) is reply


async def test_another_type_is_told() -> None:
    """A function without a return is an error that names the type."""
    with pytest.raises(DataError, match=r"found NoneType None, expected str or fg\.Reply"):
        await FunctionModel(lambda _: None).complete(HELLO, {})  # type: ignore[arg-type, return-value]


async def test_what_it_raises_goes_through() -> None:
    """A bug keeps its type and traceback."""

    def broken(messages: Sequence[Message]) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await FunctionModel(broken).complete(HELLO, {})


async def test_names_and_the_protocol() -> None:
    """The name is a function's or a callable object's class's; the model is free and satisfies the protocol."""
    model = FunctionModel(Counter())
    async with model.open():
        assert (await model.complete(HELLO, {})).text == "1"
    assert isinstance(model, Model)
    assert (model.name, model.limit, model.worst_cost(10, 10)) == ("Counter", 64, 0.0)
    assert FunctionModel(shout, name="loud", limit=2).name == "loud"


# ---- prices ----------------------------------------------------------------------------------------------


async def test_a_function_with_a_price() -> None:
    """Its text costs the price of its tokens; a reply costs what it says, or else the same."""
    model = FunctionModel(shout, price=(1.0, 10.0))
    assert (await model.complete(HELLO, {})).cost == 2 * 1.0 + 2 * 10.0
    assert model.worst_cost(3, 4) == 43.0
    own = FunctionModel(lambda _: Reply("x", Usage(5, 6), 0.25), price=(1.0, 10.0))
    assert (await own.complete(HELLO, {})).cost == 0.25
    silent = FunctionModel(lambda _: Reply("x", Usage(5, 6)), price=(1.0, 10.0))
    assert (await silent.complete(HELLO, {})).cost == 65.0
    assert [bounds_cost(m) for m in (model, FunctionModel(shout))] == [True, False]


@pytest.mark.parametrize(
    "price",
    [
        (1.0,),
        1.0,
        "12",
        ("1", "2"),
        (None, None),
        (True, False),
        {1: 2, 3: 4},
        (1j, 1),
        (10**400, 1),
        (-1.0, 0.0),
        (float("nan"), 0.0),
        (float("inf"), 0.0),
    ],
)
async def test_what_is_no_price(price: Any) -> None:
    with pytest.raises(DataError, match=r"FunctionModel: price=.*\nFix: price=\(1\.5e-7, 6e-7\)"):
        FunctionModel(shout, price=price)
    with pytest.raises(DataError, match="HttpModel: price="):
        HttpModel("http://127.0.0.1", "tiny", price=price)
