"""The parts of GEPA alone: its items, its pool, its merge and its repair."""

from flashgraph.parts.gepa.items import Child, Minibatch, Minibatches, Proposal, SamplesSent, Turns, settled, solved
from flashgraph.parts.gepa.merges import Merge, Merges
from flashgraph.parts.gepa.pareto import FRONTIERS, Frontier, ParetoFrontier
from flashgraph.parts.gepa.pruning import Pruned, Prunings
from flashgraph.parts.gepa.rebasing import rebased

__all__ = [
    "FRONTIERS",
    "Child",
    "Frontier",
    "Merge",
    "Merges",
    "Minibatch",
    "Minibatches",
    "ParetoFrontier",
    "Proposal",
    "Pruned",
    "Prunings",
    "SamplesSent",
    "Turns",
    "rebased",
    "settled",
    "solved",
]
