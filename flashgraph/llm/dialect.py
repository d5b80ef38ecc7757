"""Parameters that a server renames or refuses, learned from its error for the first request that has them."""

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
"""Parameters that a request can do without."""

REFUSES = re.compile(
    r"unsupported|n[o']t support|n[o']t (allowed|permitted|accepted|available)|deprecated|unrecognized|"
    r"(unknown|unexpected|invalid|extra) (parameter|field|argument|input)",
    re.IGNORECASE,
)

PINS = re.compile(
    r"(may|can|must) (only )?be (set to )?(the default|1\b)|only (1(\.0)? is|supports?|allows?|accepts?|the default)|"
    r"cannot both|mutually exclusive|strictly positive|not valid|is fixed",
    re.IGNORECASE,
)
"""Errors for a parameter that allows only one value, or excludes another parameter."""

TOO_MANY = re.compile(r"\d{3}|exceed|too (large|many|high)|between", re.IGNORECASE)
"""Errors for the value of a bound, and not for its name."""

_log = logging.getLogger("flashgraph")


@attrs.define
class Dialect:
    """The parameter names that the model ``name`` accepts."""

    name: str
    renames: bool = False
    """Whether the server uses the newer name of the bound, whatever a request uses."""
    older: bool = False
    """Whether the server uses the older name of the bound."""
    refused: set[str] = attrs.field(factory=set)

    def adapted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request for this server: the token limit under the server's name, without refused parameters."""
        sent = {key: value for key, value in body.items() if key not in self.refused}
        for known, old, new in ((self.renames, BOUND, NEW_BOUND), (self.older, NEW_BOUND, BOUND)):
            if known and old in sent:
                sent[new] = sent.pop(old)
        return sent

    def learn(self, said: str, sent: Mapping[str, Any]) -> bool:
        """Learn from a server's error; return whether it is about a parameter in ``sent``, so that a retry can succeed.

        OpenAI's newer models rename ``max_tokens``, and reasoning models refuse a temperature.
        """
        refuses = REFUSES.search(said) is not None
        if not self.renames | self.older:
            self.renames = BOUND in sent and (
                NEW_BOUND in said or (refuses and _names(said, BOUND) and not TOO_MANY.search(said))
            )
            self.older = NEW_BOUND in sent and refuses and _names(said, NEW_BOUND)
            if self.renames or self.older:
                return True
        elif (BOUND in sent and self.renames and NEW_BOUND in said) or (NEW_BOUND in sent and self.older):
            return True  # another request learned it after this one was sent
        if not refuses and not PINS.search(said):
            return False
        named = [key for key in OPTIONAL if key in sent and _names(said, key)]
        if "both" in said:
            named = named[-1:]
        for key in named:
            if key not in self.refused:
                self.refused.add(key)
                _log.warning("%s refuses %s=%r: it is left out from now on", self.name, key, sent[key])
        return bool(named)


def _names(said: str, key: str) -> bool:
    return re.search(rf"\b{key}\b", said, re.IGNORECASE) is not None
