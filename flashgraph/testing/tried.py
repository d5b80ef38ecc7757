"""What properties are made of: what they are told, how they say that something does not hold, and runs to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.testing.clock import run_virtually
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.runs import Finished, run_shape

__all__ = ["Property", "expect", "ran"]

FOREVER = 1e6
"""Virtual seconds that no run of a generated graph takes: one that is still going then waits for nothing."""


def ran(backend: str, *args: Any, budget: fg.Budget | None = None, **options: Any) -> Finished:
    timed = attrs.evolve(budget or fg.Budget(), seconds=FOREVER)
    done = run_virtually(lambda: run_shape(*args, budget=timed, **options), backend=backend)
    expect("seconds" not in done.result.reason, "I9: the run waits, and nothing that it waits for will happen")
    return done


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantViolation(message)


@attrs.frozen
class Property:
    """What it shows, its function, and the strategies for its arguments; ``share`` is its part of a proof, ``loops``
    the event loops that each example runs on, where it does not draw one.

    The function raises where an invariant does not hold, and returns the runs that it has made, if it makes any.
    """

    shows: tuple[str, ...]
    check: Callable[..., Sequence[Finished] | None]
    given: Mapping[str, st.SearchStrategy[Any]]
    share: float = 1.0
    loops: tuple[str, ...] = ()
    known: Sequence[Mapping[str, Any]] = ()
    """Examples that are always tried: ones that generated ones are seldom like."""
