"""The graph's own functions on edges: conditions, scatters, orders, and rules of release, failure and staleness.

They are called by the scheduler itself, outside of any job, so none of them may raise through it.  One that does fails
what it was asked about, like a stage that fails; and like a stage, one that does nothing else ends the run: its items
go nowhere, and sources would pay for new ones for ever.
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
"""A stage, or a function on an edge, that fails so often without one success is broken: the run stops rather than
spend its budget on it."""


class FunctionRaised(Exception):
    """A function on an edge has raised; the text is the reason why what it was asked about fails."""


class EdgeFunctions:
    """Calls them, tells ``note`` of each that raises (its edge, what it is there, the error, and the user's line), and
    counts how often in a row each has."""

    def __init__(self, places: dict[str, Place], note: Callable[[str, str, str, str], None]) -> None:
        self.broken: str | None = None
        """Why the run has to stop: a function that only raises."""
        self._places = places
        self._note = note
        self._in_a_row: Counter[tuple[str, str]] = Counter()

    def call(self, edge: str, function: str, body: Callable[[], T]) -> T:
        """What ``body`` returns, which asks the ``function`` of ``edge``.  Raises `FunctionRaised`."""
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
        # A method of the library's, given something else than it takes, has no line of the user's: the edge has.
        place = str(Place.of_error(raised) or self._places[edge])
        self._note(edge, function, error, place)
        self._in_a_row[edge, function] += 1
        times = self._in_a_row[edge, function]
        if times >= FAILURES_IN_A_ROW and self.broken is None:
            self.broken = (
                f"the {function} of edge {edge} raised {times} times in a row, the last time with: {error} ({place})"
            )
        # Without the place: it reaches stages as a member's reason, and a run that was moved must ask the same again.
        return f"{function} of {edge}: {error}"
