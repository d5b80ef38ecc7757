"""The runs that properties are tried on."""

from __future__ import annotations

from typing import Any

import attrs

import flashgraph as fg
from flashgraph.testing.clock import run_virtually
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.runs import Finished, run_shape

__all__ = ["expect", "ran"]

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
