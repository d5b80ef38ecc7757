"""The outcome of a run: `Ran`, or `CandidateFailed` raised."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from flashgraph.errors import FlashgraphError

__all__ = ["CandidateFailed", "Kind", "Ran"]

Kind = Literal["syntax", "error", "timeout", "cpu", "memory", "output", "killed", "protocol", "entry"]

_TAIL = 2000

_HEADS: dict[str, str] = {
    "syntax": "The code cannot be compiled",
    "error": "The code raised an exception",
    "timeout": "The code took too long",
    "cpu": "The code used too much CPU time",
    "memory": "The code used too much memory",
    "output": "The code produced too much output",
    "killed": "The process of the code ended before it returned",
    "protocol": "The code interfered with the sandbox's own messages",
    "entry": "The code's entry cannot be called as required",
}


@attrs.frozen
class Ran:
    """A run that returned.

    ``value`` is JSON.  The candidate made it, ``stdout`` and ``stderr``, so that nothing in them proves that the code
    ran as intended.  ``seconds`` is real time, including the time spent waiting for the model.
    """

    value: Any
    stdout: str
    stderr: str
    seconds: float


class CandidateFailed(FlashgraphError):
    """A candidate failed by its own fault; the sandbox continues to work.

    ``kind`` is one of:

    - ``syntax``: it cannot be compiled.
    - ``error``: it raised an exception.
    - ``entry``: the function is missing, async or has other parameters.
    - ``timeout``, ``cpu``, ``memory``, ``output``: it reached a limit.
    - ``killed``: it crashed, or ended its own process.
    - ``protocol``: it sent forged or malformed messages.

    ``message`` is the explanation, with the traceback if there is one, in which the code's own file is
    ``candidate.py``.  ``stdout`` and ``stderr`` are the last 2000 characters.  ``str()`` has all of it, in a form for a
    model.
    """

    def __init__(self, kind: Kind, message: str, stdout: str = "", stderr: str = "") -> None:
        self.kind: Kind = kind
        self.message = message
        self.stdout = stdout[-_TAIL:]
        self.stderr = stderr[-_TAIL:]
        super().__init__(kind, message, self.stdout, self.stderr)

    def __str__(self) -> str:
        text = f"{_HEADS[self.kind]}: {self.message}"
        if "\n" in self.message:
            text = f"{_HEADS[self.kind]}:\n{self.message}"
        for name, tail in (("stdout", self.stdout), ("stderr", self.stderr)):
            if tail.strip():
                text += f"\n{name} ended with:\n{tail.rstrip()}"
        return text
