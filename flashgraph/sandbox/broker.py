"""A run with a model: the candidate continues while its calls are answered, and its clock stops while it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import anyio

from flashgraph.errors import ModelError
from flashgraph.llm.protocol import Message
from flashgraph.sandbox.call import ChildCall
from flashgraph.sandbox.guest import wire
from flashgraph.tasks.task import Llm

__all__ = ["converse"]


async def converse(call: ChildCall, llm: Llm | None) -> Any:
    """Return the child's value; answer its calls of the model meanwhile.

    Raises what `ChildCall.receive` raises, and errors of ``llm`` that concern more than one request: `BudgetExhausted`,
    a fatal `ModelError`, a fault.
    """
    if llm is None:
        frame = await call.receive()
        return frame["value"] if "value" in frame else call.forged("a call of a model that it was not given")
    broker = _Broker(call, llm)
    value: Any = None
    async with anyio.create_task_group() as tasks:
        broker.scope = tasks.cancel_scope
        try:
            while "value" not in (frame := await call.receive()):
                number, messages = broker.admitted(frame)
                await broker.open()
                tasks.start_soon(broker.answer, number, messages)
            value = frame["value"]
        except Exception as error:
            # Raised after the group, which would wrap it.
            broker.failure = broker.failure or error
        # Nobody will read the answers of calls that are still in flight.
        tasks.cancel_scope.cancel()
    if broker.failure is not None:
        raise broker.failure
    return value


class _Broker:
    """The calls of the model that one run makes."""

    def __init__(self, call: ChildCall, llm: Llm) -> None:
        self.call = call
        self.llm = llm
        self.failure: Exception | None = None
        self.scope = anyio.CancelScope()
        self._asked = 0
        self._sent = 0
        """Bytes of all prompts so far."""
        self._open = 0
        self._slots = anyio.Semaphore(call.limits.llm_in_flight)
        self._clock = anyio.Lock()

    def admitted(self, frame: Mapping[str, Any]) -> tuple[int, str | Sequence[Message]]:
        """Return the call's number and messages; anything that the child's own side would not send is forged."""
        number, messages = frame["llm"], frame.get("messages")
        if type(number) is not int or number != self._asked:
            self.call.forged("a call of the model out of turn")
        if number >= self.call.limits.llm_calls:
            self.call.forged("more calls of the model than the run may make")
        self._asked += 1
        if not (isinstance(messages, str) or _are_messages(messages)):
            self.call.forged("a prompt that is neither text nor messages")
        size = wire.prompt_size(messages)
        self._sent += size
        if size > self.call.limits.prompt_bytes or self._sent > self.call.limits.prompts_bytes:
            self.call.forged("more of prompts than the run may send")
        return number, messages

    async def open(self) -> None:
        """Count a call that the child waits for."""
        self._open += 1
        if self._open == 1:
            await self._set_clock()

    async def answer(self, number: int, messages: str | Sequence[Message]) -> None:
        """Call the model and send the child its answer."""
        try:
            async with self._slots:
                answer: dict[str, Any] = {"reply": number, "text": (await self.llm(messages)).text}
        except Exception as error:
            if not isinstance(error, ModelError) or error.fatal:
                self.failure = self.failure or error
                self.scope.cancel()
                return
            answer = {"reply": number, "error": str(error)}
        self._open -= 1
        if self._open == 0:
            await self._set_clock()
        await self.call.send(_packed(answer))

    async def _set_clock(self) -> None:
        # One at a time and by the present count, so that the last message is about the last change.
        async with self._clock:
            await self.call.pause(self._open > 0)


def _are_messages(value: Any) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and set(one) == {"role", "content"} for one in value)
        and all(isinstance(part, str) for one in value for part in one.values())
        and all(one["role"] in wire.ROLES for one in value)
    )


def _packed(answer: dict[str, Any]) -> bytes:
    try:
        return wire.pack(answer)
    except wire.Malformed:
        return wire.pack({"reply": answer["reply"], "error": "the reply cannot be encoded"})
