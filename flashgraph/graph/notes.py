"""Where the checks write down what they find."""

from __future__ import annotations

from collections.abc import Callable

from flashgraph.errors import Place, Problem

__all__ = ["Note", "Notes"]

Note = Callable[[str, str, str, str], None]
"""(code, found, expected, fix) of a problem whose place and subject are known."""


class Notes:
    """Problems as they are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: str, place: Place, what: str, found: str, expected: str, fix: str) -> None:
        self.problems.append(Problem(code, place, what, found, expected, fix))

    def of(self, place: Place, what: str) -> Note:
        """A function that notes problems of one thing."""

        def note(code: str, found: str, expected: str, fix: str) -> None:
            self.add(code, place, what, found, expected, fix)

        return note
