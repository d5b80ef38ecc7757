"""Pools: versioned shared state as pure state machines."""

from flashgraph.pools.archive import Archive
from flashgraph.pools.pareto import ParetoFrontier

__all__ = ["Archive", "ParetoFrontier"]
