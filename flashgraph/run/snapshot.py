"""A machine's state between two turns as frozen values, for tests, oracles and viewers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.run.cause import End
from flashgraph.run.places import Place

__all__ = ["MachineSnapshot"]


@attrs.frozen
class MachineSnapshot:
    """A copy of a machine's state, by `flashgraph.run.machine.Machine.snapshot`.

    Items, groups, jobs and calls are given by number.  Later turns do not change the copy.
    """

    at: float
    """Seconds on the run's clock."""
    counts: tuple[int, int, int]
    """How many jobs, calls and items there have been."""
    status: End | None
    """How the run ended, once it is over."""
    stopping: End | None
    """How the run ends when all that runs is cancelled; None while nothing is being cancelled."""
    draining: End | None
    """How the run ends when all that runs has ended; None while new work may start."""
    places: Mapping[int, Place]
    """By open item, where it is."""
    queued: Mapping[str, tuple[int, ...]]
    """By edge, the items in its queue, in the order in which they leave."""
    members: Mapping[str, tuple[int, ...]]
    """By scattering edge, the members that wait for a worker, in the order in which they leave."""
    pending: tuple[int, ...]
    """Released groups that wait for room on their edge; some may have ended."""
    timers: Mapping[tuple[int, str], float]
    """By group and gathering edge, when its deadline rule has to be asked again."""
    streaks: Mapping[str, Mapping[Any, int]]
    """By edge with a discriminative order and by member, how often in a row the member has passed."""
    claims: tuple[tuple[str, int, int], ...]
    """The claims on distinct values: each key, with its open items and its artifacts."""
    uncommitted: tuple[int, ...]
    """Jobs of a serial run that have ended and wait for those that started before them."""
    delivering: tuple[int, ...]
    """Jobs that are done and whose results wait for room."""
    ranks: Mapping[int, Any]
    """By call that waits for a slot, its rank; the smallest goes first."""
    in_flight: Mapping[int, str]
    """By call in flight, its endpoint."""
    settled: Mapping[str, float]
    """By limit, the amounts that are spent."""
    reserved: Mapping[str, float]
    """By limit, the amounts that are reserved for work in flight."""
    versions: Mapping[str, int]
    """By pool, its version."""
    phase: str | None
    """In a serial run, the stage that may start work now."""
    adjust_at: float | None
    """When the control policy sets the workers next; None if it never does."""
    opening_since: float | None
    """Since when a round could be opened that waits until nothing else happens; None if none could."""
