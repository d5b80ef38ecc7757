"""Schedules: the policies that a run is compiled with.

A graph says what evolves; a schedule says how much of it overlaps.  `lockstep` is the published synchronous
algorithm, `pipelined` lets rounds and stages overlap and honours the graph's speculation and staleness rules, and
`throughput` overlaps as much as fills a model server.  Their default
numbers were measured: docs/benchmarks/index.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.policies.champion import ChampionRule, proven, the_best
from flashgraph.policies.control import Control, drain_first

RESERVE = 0.05
"""Of a budget: enough to validate one candidate in full in a run of twenty minutes."""

__all__ = ["Schedule", "lockstep", "pipelined", "throughput"]


@attrs.frozen
class Schedule:
    """How a graph is run.

    ``window`` bounds a source's open rounds; ``serial`` runs one round at a time and one stage at a time, in order;
    ``speculate`` honours release rules and discriminative orders; ``focus`` is the share of a source's emissions
    that see only the pool's best line while other rounds are open; ``champion`` says which
    artifact is handed out; ``reserve`` is the share of each limit of the budget that only sources of evidence use;
    ``workers`` maps stages to worker bounds
    (most); ``edges`` maps edge names to policies that replace the graph's.
    """

    name: str
    window: int = 1
    serial: bool = False
    speculate: bool = True
    focus: float = 0.0
    champion: ChampionRule = attrs.field(factory=the_best)
    reserve: float = 0.0
    control: Control = attrs.field(factory=drain_first)
    workers: Mapping[str, int] = attrs.field(factory=dict)
    edges: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.name


def lockstep() -> Schedule:
    """One round at a time, no speculation: the published algorithm, call for call.  Requests of one stage still
    run side by side, as its synchronous implementations do."""
    return Schedule("lockstep", serial=True, speculate=False)


def pipelined(
    window: int = 8,
    *,
    control: Control | None = None,
    focus: float = 1.0,
    workers: Mapping[str, int] | None = None,
) -> Schedule:
    """Rounds and stages overlap for the shortest time to a score; ``window`` rounds of each source are open at once.

    A narrow window and the best line only: each generation starts from the newest best while it is still new, and a
    server that is not full answers it sooner.
    """
    return _overlapped("pipelined", window, control, focus, workers)


def throughput(
    window: int = 40,
    *,
    control: Control | None = None,
    focus: float = 1.0,
    workers: Mapping[str, int] | None = None,
) -> Schedule:
    """As many proposals as a model server can take: a window so wide that it is full.  Each request waits longer then,
    and at equal calls scores are lower than with `pipelined`."""
    return _overlapped("throughput", window, control, focus, workers)


def _overlapped(
    name: str, window: int, control: Control | None, focus: float, workers: Mapping[str, int] | None
) -> Schedule:
    control = control or drain_first()
    return Schedule(
        name, window=window, focus=focus, champion=proven(), reserve=RESERVE, control=control, workers=workers or {}
    )
