"""The ``llm`` callable that a candidate gets: each call is one round trip to the trusted side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from .child import Channel

__all__ = ["Broker"]


class Broker:
    """``llm("a question")`` or ``llm([{"role": "user", "content": "a question"}])``; the reply's text.

    Threads may call it at the same time.  Raises `RuntimeError` when the model could not answer or the calls of this
    run are used up, `TypeError` and `ValueError` for what is no prompt.
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
        """The model's answer to ``prompt``."""
        _check_prompt(prompt)
        with self._sending:
            if self._left <= 0:
                raise RuntimeError(f"llm: this run may call the model {self._calls} times, and has")
            number = self._calls - self._left
            size = wire.prompt_size(prompt)
            if size > self._limit:
                raise ValueError(f"llm: a prompt of {size} bytes; at most {self._limit} can be sent")
            if size > self._bytes_left:
                raise RuntimeError(f"llm: the prompts of this run may have {self._total} bytes together, and have")
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
        """The reply to call ``number``: whichever thread waits reads for all, so that no thread has to be kept."""
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
