"""Clip texts: one to a number of characters, several to a total, a request to its model's context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from flashgraph.errors import ContextTooLong
from flashgraph.llm.protocol import CHARACTERS_PER_TOKEN, Reply
from flashgraph.tasks.task import Llm

__all__ = ["SHOWN_TOKENS", "call_within", "clipped", "fitted", "within"]

SHOWN_TOKENS = 32_000
"""Tokens of samples, answers and feedback in a reflection prompt, at four characters a token."""

LEAST_TOKENS = 250
"""If a request with so few tokens of samples is too long, the samples are not the reason."""

LEAST = 40
"""Characters that are kept of each text, whatever the limit."""

_log = logging.getLogger("flashgraph")


def clipped(text: str, most: int) -> str:
    """Return at most ``most`` characters of a text, with a line in place of the rest.

    A longer text loses its middle, because errors are reported at the end.
    """
    if len(text) <= most:
        return text
    head = most // 3
    tail = most - head
    return f"{text[:head]}\n[... {len(text) - most} characters left out ...]\n{text[len(text) - tail :]}"


def fitted(texts: Sequence[str], most: int) -> list[str]:
    """Return the texts clipped to about ``most`` characters in total; the longest are cut to one common length."""
    left, cap = most, 0
    for place, length in enumerate(sorted(map(len, texts))):
        cap = left // (len(texts) - place)
        if length > cap:
            return [clipped(text, max(cap, LEAST)) for text in texts]
        left -= length
    return list(texts)


def within(texts: Sequence[str], tokens: int, of: str) -> list[str]:
    """Return the texts clipped to ``tokens`` in total; log a warning if any is clipped.

    ``of`` names the owner of the texts; the log warns once for each name and number of tokens.
    """
    shown = fitted(texts, tokens * CHARACTERS_PER_TOKEN)
    if shown != list(texts):
        _warn_once(of, tokens)
    return shown


async def call_within(llm: Llm, prompt: Callable[[int], str], tokens: int = SHOWN_TOKENS, **sampling: Any) -> Reply:
    """Send ``prompt(tokens)``; if it exceeds the model's context, send it with half the tokens, and so on.

    ``sampling`` goes with each request. Raises `ContextTooLong` if the prompt cannot be made shorter.
    """
    text = prompt(tokens)
    while True:
        try:
            return await llm(text, **sampling)
        except ContextTooLong:
            longer = text
            while tokens > LEAST_TOKENS and text == longer:
                tokens //= 2
                text = prompt(tokens)
            if text == longer:
                raise


@cache
def _warn_once(of: str, tokens: int) -> None:
    _log.warning(
        "%s: the texts of a reflection prompt were clipped to about %d tokens, the longest first.\n"
        "Fix: shorten the feedback, or set reflection_tokens to a higher value that fits the model's context.",
        of, tokens,
    )  # fmt: skip
