"""The ``llm`` callable of a candidate: each call is one round trip to the trusted side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from .child import Channel

__all__ = ["Broker"]


class Broker:
    """Return the reply's text for ``llm("a question")`` or ``llm([{"role": "user", "content": "a question"}])``.

    Threads may call it at the same time.  Raises `RuntimeError` when the model could not answer or the calls of this
    run are used up, `TypeError` and `ValueError` for an invalid prompt.
    """

    def __init__(self, channel: Channel, calls: int, limit: int, total: int) -> None:
        self._channel = channel
        self._left = self._calls = calls
        self._limit = limit
        self._bytes_left = self._total = total
        self._sending = threading.Lock()
        self._state = threading.Condition()
        self._reading = False
        self._replies: dict[int, dict[str, Any]] = {}

    def __call__(self, prompt: str | list[dict[str, str]]) -> str:
        """Return the model's answer to ``prompt``."""
        _check_prompt(prompt)
        with self._sending:
            if self._left <= 0:
                raise RuntimeError(f"llm: this run has used up its {self._calls} calls of the model")
            number = self._calls - self._left
            size = wire.prompt_size(prompt)
            if size > self._limit:
                raise ValueError(f"llm: a prompt of {size} bytes; expected at most {self._limit}")
            if size > self._bytes_left:
                raise RuntimeError(f"llm: the prompts of this run would exceed {self._total} bytes together")
            try:
                frame = wire.pack({"llm": number, "messages": prompt})
            except wire.Malformed as error:
                raise ValueError(f"llm: the prompt cannot be sent: {error}") from None
            self._left -= 1
            self._bytes_left -= size
            self._channel.send(frame)
        reply = self._wait(number)
        if "text" in reply:
            return str(reply["text"])
        raise RuntimeError(f"llm: {reply.get('error')}")

    def _wait(self, number: int) -> dict[str, Any]:
        """Return the reply to call ``number``: any waiting thread reads for all, so no thread of its own is needed."""
        while True:
            with self._state:
                self._state.wait_for(lambda: number in self._replies or not self._reading)
                if number in self._replies:
                    return self._replies.pop(number)
                self._reading = True
            try:
                reply = self._channel.receive()
                with self._state:
                    self._replies[reply["reply"]] = reply
            finally:
                with self._state:
                    self._reading = False
                    self._state.notify_all()


def _check_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        return
    if isinstance(prompt, (list, tuple)) and prompt and all(map(_is_message, prompt)):
        return
    raise TypeError(
        'llm: expected a text, or messages like [{"role": "user", "content": "..."}], '
        f"with one of the roles {', '.join(wire.ROLES)}"
    )


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and set(message) == {"role", "content"}
        and all(isinstance(part, str) for part in message.values())
        and message["role"] in wire.ROLES
    )
