"""Schedules: the policies of a run that say how its work overlaps.

`lockstep` is the published synchronous algorithm.  `pipelined` lets rounds and stages overlap, with the graph's
speculation and staleness rules.  `throughput` overlaps enough to fill a model server.  Their default numbers were
measured: docs/benchmarks/index.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.policies.champion import ChampionRule, proven, the_best
from flashgraph.policies.control import Control, drain_first

RESERVE = 0.05
"""The share of a budget reserved for evidence: enough to validate one candidate fully in a run of 20 minutes."""

__all__ = ["Schedule", "lockstep", "pipelined", "throughput"]


@attrs.frozen
class Schedule:
    """How a graph is run.

    ``window`` bounds a source's open rounds.  With ``serial``, one round and one stage run at a time, in order.
    ``speculate`` enables release rules and discriminative orders.  ``focus`` is the share of a source's emissions that
    see only the pool's best line while other rounds are open.  ``champion`` chooses the run's result. ``reserve`` is
    the share of each limit of the budget that only sources of evidence use.

    ``workers`` maps stages to their most workers, and ``edges`` maps edge names to policies that replace the graph's.
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
    """Run one round at a time without speculation: the published algorithm, call for call.

    Requests of one stage still run concurrently, as in synchronous implementations.
    """
    return Schedule("lockstep", serial=True, speculate=False)


def pipelined(
    window: int = 8,
    *,
    control: Control | None = None,
    focus: float = 1.0,
    workers: Mapping[str, int] | None = None,
) -> Schedule:
    """Overlap rounds and stages for the shortest time to a score, with ``window`` open rounds of each source.

    By default the window is narrow and sources see only the best line. Each generation then starts from the newest best
    artifact, and the server answers fast because it is not full.
    """
    return _overlapped("pipelined", window, control, focus, workers)


def throughput(
    window: int = 40,
    *,
    control: Control | None = None,
    focus: float = 1.0,
    workers: Mapping[str, int] | None = None,
) -> Schedule:
    """Make as many proposals as a model server can serve, with a window wide enough to fill it.

    Each request takes longer than with `pipelined`, and scores are lower at the same number of calls.
    """
    return _overlapped("throughput", window, control, focus, workers)


def _overlapped(
    name: str, window: int, control: Control | None, focus: float, workers: Mapping[str, int] | None
) -> Schedule:
    control = control or drain_first()
    return Schedule(
        name, window=window, focus=focus, champion=proven(), reserve=RESERVE, control=control, workers=workers or {}
    )
