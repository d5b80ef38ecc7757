"""`check_model` checks a model's promises on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import PassingFault
from flashgraph.testing import ModelViolation, SlowModel, check_model

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Sound:
    """A model that replies at once and costs what it says."""

    name = "sound"
    limit: Any = 3
    cost: float | None = 0.001

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        await anyio.lowlevel.checkpoint()
        return fg.Reply("hello", fg.Usage(3, 1), self.cost)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.01 * (prompt + completion)


class Limitless(Sound):
    limit = 0


class Nameless(Sound):
    name = ""


class Dear(Sound):
    cost = 1.0


class Cheaper(Sound):
    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 1.0 / (prompt + completion)


class Endless(Sound):
    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return float("inf")


class Texts(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> Any:
        return "hello"


class Wordless(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> Any:
        return fg.Reply(None, fg.Usage(3, 1))


class Debts(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        return fg.Reply("hello", fg.Usage(-3, 1))


class Edits(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        messages[0]["content"] = ""  # type: ignore[index]  # what it must not do
        return fg.Reply("hello", fg.Usage(3, 1))


class Down(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        raise fg.ModelUnavailable("down")


class Busy(Sound):
    """A model that fails requests that overlap."""

    answered = 0

    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        self.answered += 1
        if self.answered > 1:
            raise fg.RequestFailed("busy")
        return await super().complete(messages, params)


class Sometimes(Sound):
    """A model whose every second request meets a passing fault."""

    asked = 0

    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        self.asked += 1
        if self.asked % 2:
            raise PassingFault(fg.ModelUnavailable("503"), pause=0.001)
        return await super().complete(messages, params)


class Silent(Sound):
    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        await anyio.sleep_forever()
        raise AssertionError("never")


class Stubborn(Sound):
    """A model that continues after its cancellation."""

    async def complete(self, messages: Sequence[fg.Message], params: Mapping[str, Any]) -> fg.Reply:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.3)
        return await super().complete(messages, params)


@BACKENDS
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Limitless(), "limit is 0"),
        (Nameless(), "name is ''"),
        (Dear(), r"a reply cost 1\.0 USD, its worst cost was 0\.04"),
        (Cheaper(), "worst_cost falls with more tokens"),
        (Endless(), r"worst_cost\(10, 10\) is inf"),
        (Texts(), "complete returned a str"),
        (Wordless(), "the reply's text is None"),
        (Debts(), "the usage is"),
        (Edits(), "complete changed its messages"),
        (Silent(), r"no reply after 0\.2 s"),
        (Stubborn(), r"no reply after 0\.2 s|a cancelled call did not end within 0\.2 s"),
        (object(), "a object has no name"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_protocol_is_reported(model: Any, message: str, backend: str) -> None:
    """A broken promise is reported; the message has the finding and the expectation."""
    with pytest.raises(ModelViolation, match=message) as caught:
        check_model(model, backend=backend, seconds=0.2)
    assert "expected: " in str(caught.value)


@BACKENDS
def test_what_a_model_raises_comes_out(backend: str) -> None:
    """An unavailable server breaks no promise, and its error is raised."""
    with pytest.raises(fg.ModelUnavailable, match="down"):
        check_model(Down(), backend=backend)
    with pytest.raises(BaseExceptionGroup) as caught:
        check_model(Busy(), backend=backend)
    assert caught.group_contains(fg.RequestFailed)


@BACKENDS
def test_sound_models_pass(backend: str) -> None:
    """A sound model, one with passing faults and the kit's own pass."""
    check_model(Sound(), backend=backend)
    check_model(Sometimes(), backend=backend)
    check_model(SlowModel(lambda messages: "hello", seconds=0.001), backend=backend)
