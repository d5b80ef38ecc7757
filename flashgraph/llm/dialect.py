"""Parameters that a server calls otherwise or refuses, learned from what it says to the first request that has them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Dialect"]

BOUND, NEW_BOUND = "max_tokens", "max_completion_tokens"

OPTIONAL = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed",
)  # fmt: skip
"""Parameters without which a request still means the same."""

REFUSES = re.compile(
    r"unsupported|n[o']t support|n[o']t (allowed|permitted|accepted|available)|deprecated|unrecognized|"
    r"(unknown|unexpected|invalid|extra) (parameter|field|argument|input)",
    re.IGNORECASE,
)

_log = logging.getLogger("flashgraph")


@attrs.define
class Dialect:
    """How the model ``name`` wants its parameters."""

    name: str
    renames: bool = False
    refused: set[str] = attrs.field(factory=set)

    def spoken(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request as this server takes it: its bound by the server's name, and without what it refuses."""
        sent = {key: value for key, value in body.items() if key not in self.refused}
        if self.renames and BOUND in sent:
            sent[NEW_BOUND] = sent.pop(BOUND)
        return sent

    def learn(self, said: str, sent: Mapping[str, Any]) -> bool:
        """Return whether a refusal, by what it says, is one of a parameter that was sent: then ask again.

        OpenAI's newer models know ``max_tokens`` by another name, and reasoning models refuse a temperature.
        """
        if BOUND in sent and NEW_BOUND in said:
            self.renames = True
            return True
        if not REFUSES.search(said):
            return False
        named = [key for key in OPTIONAL if key in sent and re.search(rf"\b{key}\b", said)]
        for key in named:
            if key not in self.refused:
                self.refused.add(key)
                _log.warning("%s refuses %s=%r: it is left out from now on", self.name, key, sent[key])
        return bool(named)
