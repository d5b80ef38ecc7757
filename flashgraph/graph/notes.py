"""The problems that the checks find."""

from __future__ import annotations

from collections.abc import Callable

from flashgraph.errors import Place, Problem

__all__ = ["Note", "Notes"]

Note = Callable[[str, str, str, str], None]
"""A function of (code, found, expected, fix) that adds a `Problem` with a fixed place and name."""


class Notes:
    """A list of problems that grows as they are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: str, place: Place, what: str, found: str, expected: str, fix: str) -> None:
        self.problems.append(Problem(code, place, what, found, expected, fix))

    def of(self, place: Place, what: str) -> Note:
        """Return a function that adds problems with this place and name."""

        def note(code: str, found: str, expected: str, fix: str) -> None:
            self.add(code, place, what, found, expected, fix)

        return note
