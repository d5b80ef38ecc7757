"""Pools: versioned shared state as pure state machines."""

from flashgraph.pools.archive import Archive
from flashgraph.pools.checkpoints import Answered, Checkpoints, Snapshot, same_snapshot
from flashgraph.pools.pareto import FRONTIERS, Frontier, ParetoFrontier

__all__ = ["FRONTIERS", "Answered", "Archive", "Checkpoints", "Frontier", "ParetoFrontier", "Snapshot", "same_snapshot"]
