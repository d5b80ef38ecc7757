"""What a program sends to the model, counted where it cannot be argued with: outside of its sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from flashgraph.llm.protocol import Message, Reply, text_in
from flashgraph.task import Llm

__all__ = ["Meter"]


@attrs.define(eq=False)
class Meter:
    """A model that counts its calls and the characters of their prompts, of every call and before it is sent."""

    llm: Llm
    calls: int = 0
    characters: int = 0

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply:
        self.calls += 1
        texts = [messages] if isinstance(messages, str) else map(text_in, messages)
        self.characters += sum(map(len, texts))
        return await self.llm(messages, **params)
