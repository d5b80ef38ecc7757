"""The parts of GEPA alone: its pool and its merge."""

from flashgraph.parts.gepa.crossover import Cross, Crossings
from flashgraph.parts.gepa.pareto import FRONTIERS, Frontier, ParetoFrontier

__all__ = [
    "FRONTIERS",
    "Cross",
    "Crossings",
    "Frontier",
    "ParetoFrontier",
]
