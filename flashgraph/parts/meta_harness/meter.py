"""Count what a program sends to the model, outside of its sandbox, where it cannot change the count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from flashgraph.llm.protocol import Message, Reply, text_in
from flashgraph.tasks.task import Llm

__all__ = ["Meter"]


@attrs.define(eq=False)
class Meter:
    """A model that counts its calls and the characters of their prompts, each call before it is sent.

    The characters of a message's role count too, because a program could hide context there.
    """

    llm: Llm
    calls: int = 0
    characters: int = 0

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply:
        self.calls += 1
        if isinstance(messages, str):
            self.characters += len(messages)
        else:
            self.characters += sum(len(text_in(message)) + len(message["role"]) for message in messages)
        return await self.llm(messages, **params)
