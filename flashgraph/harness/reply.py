"""Reading a proposer's reply: the tools it asks for, or the programs it proposes."""

from __future__ import annotations

import re
from typing import Literal

import attrs

from flashgraph.harness.interface import identity

__all__ = ["Request", "Turn", "read_reply"]

_TOOL = re.compile(r"^[\s>*\-`\d.]*(LIST|READ|FAILURES|EXAMPLES)\b[ \t:]*(.*?)[\s`*.]*$", re.MULTILINE)
# A fence that is not closed was cut off: what there is of it is read all the same, and fails with a reason.
_FENCE = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_CLASS = re.compile(r"^class\s+MemorySystem\b", re.MULTILINE)


@attrs.frozen
class Request:
    """One use of a tool; ``argument`` is what stands behind the tool's name."""

    tool: Literal["LIST", "READ", "FAILURES", "EXAMPLES"]
    argument: str = ""

    @property
    def number(self) -> int | None:
        """The argument as the number of an entry."""
        found = re.search(r"\d+", self.argument)
        return int(found[0]) if found else None


@attrs.frozen
class Turn:
    """A reply: programs end the conversation, requests go on with it, neither is a reply that cannot be read."""

    programs: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()


def read_reply(text: str) -> Turn:
    """The distinct programs of a reply, in order; where it has none, the distinct requests in it.

    A program is a fenced block with a class MemorySystem at its top level, whatever language the fence names.
    """
    programs: dict[str, str] = {}
    for body in _FENCE.findall(text):
        if _CLASS.search(body):
            programs.setdefault(identity(body), body.strip() + "\n")
    if programs:
        return Turn(programs=tuple(programs.values()))
    found = [Request(tool, argument.strip("<> #")) for tool, argument in _TOOL.findall(text)]
    return Turn(requests=tuple(dict.fromkeys(found)))
