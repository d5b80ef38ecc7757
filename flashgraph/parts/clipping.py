"""Making texts fit: one to a number of characters, several to a number together, a request to its model's context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from flashgraph.errors import ContextTooLong
from flashgraph.llm.protocol import CHARACTERS_PER_TOKEN, Reply
from flashgraph.tasks.task import Llm

__all__ = ["SHOWN_TOKENS", "asked", "clipped", "fitted", "within"]

SHOWN_TOKENS = 32_000
"""Tokens of samples, answers and feedback that a reflection is shown, at four characters a token."""

LEAST_TOKENS = 250
"""A request that is too long with so few tokens of them is too long for other reasons."""

LEAST = 40
"""Characters that are left of each text, however little there is room for."""

_log = logging.getLogger("flashgraph")


def clipped(text: str, most: int) -> str:
    """Return at most ``most`` characters of a text, and a line in the place of the rest.

    A longer text loses its middle, because errors are told at the end.
    """
    if len(text) <= most:
        return text
    head = most // 3
    tail = most - head
    return f"{text[:head]}\n[... {len(text) - most} characters left out ...]\n{text[len(text) - tail :]}"


def fitted(texts: Sequence[str], most: int) -> list[str]:
    """Return texts of about ``most`` characters together: the longest are clipped, to one length, and no others."""
    left, cap = most, 0
    for place, length in enumerate(sorted(map(len, texts))):
        cap = left // (len(texts) - place)
        if length > cap:
            return [clipped(text, max(cap, LEAST)) for text in texts]
        left -= length
    return list(texts)


def within(texts: Sequence[str], tokens: int, of: str) -> list[str]:
    """Return what a reflection is shown, within so many tokens; say so in the log where that is not all.

    ``of`` names what it belongs to, for the log: it is said once for each name and number.
    """
    shown = fitted(texts, tokens * CHARACTERS_PER_TOKEN)
    if shown != list(texts):
        _say(of, tokens)
    return shown


async def asked(llm: Llm, prompt: Callable[[int], str], tokens: int = SHOWN_TOKENS, **sampling: Any) -> Reply:
    """Ask with ``prompt(tokens)``; where that is longer than the model's context, with half of the tokens, and so on.

    ``sampling`` goes with each request.  Raises `ContextTooLong` when the prompt cannot be made shorter.
    """
    said = prompt(tokens)
    while True:
        try:
            return await llm(said, **sampling)
        except ContextTooLong:
            longer = said
            while tokens > LEAST_TOKENS and said == longer:
                tokens //= 2
                said = prompt(tokens)
            if said == longer:
                raise


@cache
def _say(of: str, tokens: int) -> None:
    _log.warning(
        "%s: what a reflection is shown was clipped to about %d tokens, the longest texts first. To learn from all of "
        "it, shorten the feedback, or give reflection_tokens a higher value that the model's context has room for.",
        of, tokens,
    )  # fmt: skip
