"""The graph's own functions on edges: conditions, scatters, orders, and rules of release, failure and staleness.

The scheduler itself calls them, outside of any job, and must survive their errors.  A function that raises fails the
item or group that it was called for, as a failed stage does.  One that always raises ends the run, as a stage does: its
items go nowhere, and sources would pay for new ones forever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from flashgraph.errors import Place
from flashgraph.run.contained import escaped, reason

__all__ = ["FAILURES_IN_A_ROW", "EdgeFunctions", "FunctionRaised"]

T = TypeVar("T")

FAILURES_IN_A_ROW = 20
"""Failures in a row of a stage, or of a function on an edge, that stop the run before they use up its budget."""


class FunctionRaised(Exception):
    """A function on an edge has raised; the text is the reason for the failure of its item or group."""


class EdgeFunctions:
    """Calls the functions and counts how often in a row each has raised.

    ``note`` is called for each error, with the edge, the role of the function there, the error, and the user's line.
    """

    def __init__(self, places: dict[str, Place], note: Callable[[str, str, str, str], None]) -> None:
        self.broken: str | None = None
        """Why the run has to stop: a function has raised too many times in a row."""
        self._places = places
        self._note = note
        self._in_a_row: Counter[tuple[str, str]] = Counter()

    def call(self, edge: str, function: str, body: Callable[[], T]) -> T:
        """Return the result of ``body``, which calls the ``function`` of ``edge``.  Raises `FunctionRaised`."""
        try:
            value = body()
        except BaseException as raised:
            if (error := raised if isinstance(raised, Exception) else escaped(raised)) is None:
                raise
            raise FunctionRaised(self._raised(edge, function, error)) from raised
        if self._in_a_row:
            self._in_a_row.pop((edge, function), None)
        return value

    def _raised(self, edge: str, function: str, raised: Exception) -> str:
        error = reason(raised)
        # An error in a method of the library, by a wrong argument, has no line of the user's; the edge has one.
        place = str(Place.of_error(raised) or self._places[edge])
        self._note(edge, function, error, place)
        self._in_a_row[edge, function] += 1
        times = self._in_a_row[edge, function]
        if times >= FAILURES_IN_A_ROW and self.broken is None:
            self.broken = (
                f"the {function} of edge {edge} raised {times} times in a row, the last time with: {error} ({place})"
            )
        # Without the place: stages see the reason of a member, and a moved run must make the same requests.
        return f"{function} of {edge}: {error}"
