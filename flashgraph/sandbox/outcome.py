"""What comes of a run: `Ran`, or `CandidateFailed` raised."""

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
    "output": "The code put out too much",
    "killed": "The process of the code ended before it returned",
    "protocol": "The code interfered with the sandbox's own messages",
    "entry": "The code cannot be called as it must be",
}


@attrs.frozen
class Ran:
    """A run that returned.

    ``value`` is JSON.  It, ``stdout`` and ``stderr`` are the candidate's word: nothing in them proves that the code
    was really run as meant.  ``seconds`` is real time, waiting for the model included.
    """

    value: Any
    stdout: str
    stderr: str
    seconds: float


class CandidateFailed(FlashgraphError):
    """A candidate failed, by its own fault; the sandbox goes on.

    ``kind`` is what happened: ``syntax`` (it cannot be compiled), ``error`` (it raised), ``entry`` (the function is
    missing, async or takes other arguments), ``timeout``, ``cpu``, ``memory``, ``output`` (a limit was reached),
    ``killed`` (a crash, or it ended its own process), ``protocol`` (forged or broken messages).  ``message`` says it
    with the traceback where there is one, in which the code's own file is ``candidate.py``; ``stdout`` and
    ``stderr`` are the last 2000 characters.  ``str()`` is all of it, fit to be shown to a model.
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
