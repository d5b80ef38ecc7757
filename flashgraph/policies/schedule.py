"""Schedules: the policies that a run is compiled with.

A graph says what evolves; a schedule says how much of it overlaps.  `lockstep` is the published synchronous
algorithm, `pipelined` lets rounds and stages overlap and honours the graph's speculation and staleness rules, and
`throughput` overlaps as much as fills a model server.  Which numbers they default to was measured: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.policies.control import Control, drain_first

__all__ = ["Schedule", "lockstep", "pipelined", "throughput"]


@attrs.frozen
class Schedule:
    """How a graph is run.

    ``window`` bounds a source's open rounds; ``serial`` runs one round at a time and one stage at a time, in order;
    ``speculate`` honours release rules and discriminative orders; ``focus`` is the share of a source's emissions
    that see only the pool's best line while other rounds are open; ``workers`` maps stages to worker bounds
    (most); ``edges`` maps edge names to policies that replace the graph's.
    """

    name: str
    window: int = 1
    serial: bool = False
    speculate: bool = True
    focus: float = 0.0
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
    return Schedule("pipelined", window=window, focus=focus, control=control or drain_first(), workers=workers or {})


def throughput(
    window: int = 40,
    *,
    control: Control | None = None,
    focus: float = 1.0,
    workers: Mapping[str, int] | None = None,
) -> Schedule:
    """As many proposals as a model server can take: a window so wide that it is full.  Each request waits longer then,
    and at equal calls scores are lower than with `pipelined`."""
    return Schedule("throughput", window=window, focus=focus, control=control or drain_first(), workers=workers or {})
