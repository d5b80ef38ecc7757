"""Read a proposer's reply: its requests for tools, or the programs that it proposes."""

from __future__ import annotations

from typing import Literal, get_args

import attrs

from flashgraph.parts.meta_harness.interface import identity
from flashgraph.text.replies import blocks

__all__ = ["ProposerReply", "ToolRequest", "read_reply"]

Tool = Literal["LIST", "READ", "FAILURES", "EXAMPLES"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

BEFORE = " \t>*-`.0123456789"
"""The characters that may precede a tool's name: bullets, numbers, quotes."""

MOST_DIGITS = 9
"""The most digits in the number of an entry."""


@attrs.frozen
class ToolRequest:
    """One use of a tool; ``argument`` is the text after the tool's name."""

    tool: Tool
    argument: str = ""

    @property
    def number(self) -> int | None:
        """The argument as the number of an entry; None if it has none, or one that no entry can have."""
        digits = _digits(self.argument)
        return int(digits[0]) if digits and len(digits[0]) <= MOST_DIGITS else None


@attrs.frozen
class ProposerReply:
    """A reply: programs end the conversation, and requests continue it. Without either, the reply is unreadable."""

    programs: tuple[str, ...] = ()
    requests: tuple[ToolRequest, ...] = ()


def read_reply(text: str) -> ProposerReply:
    """Return the distinct programs of a reply, in order; without any, its distinct requests.

    A program is a fenced block with a class MemorySystem at its top level, whatever language the fence names.
    """
    programs: dict[str, str] = {}
    for block in blocks(text):
        if any(map(_begins_class, block.body.split("\n"))):
            programs.setdefault(identity(block.body), block.body.strip() + "\n")
    if programs:
        return ProposerReply(programs=tuple(programs.values()))
    found = [request for line in text.splitlines() if (request := _request(line)) is not None]
    return ProposerReply(requests=tuple(dict.fromkeys(found)))


def _begins_class(line: str) -> bool:
    """Return whether a line begins the class MemorySystem at the top level."""
    words = line.replace("(", " ").replace(":", " ").split(None, 2)
    return line.startswith("class") and words[:2] == ["class", "MemorySystem"]


def _request(line: str) -> ToolRequest | None:
    """Return the request that a line makes; None if it does not begin with a tool's name in capitals."""
    request = line.lstrip(BEFORE)
    for tool in TOOLS:
        rest = request.removeprefix(tool)
        if rest != request and not (rest[:1].isalnum() or rest[:1] == "_"):
            return ToolRequest(tool, rest.lstrip(" \t:").rstrip(" \t`*.").strip("<> #"))
    return None


def _digits(text: str) -> list[str]:
    """Return the runs of decimal digits in a text."""
    return "".join(c if c.isdecimal() else " " for c in text).split()
