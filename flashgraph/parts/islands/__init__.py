"""The parts of island search alone: its pool, and programs as artifacts."""

from flashgraph.parts.islands.pool import Cell, Elite, Entrant, Islands, ProposalFailure, Settings
from flashgraph.parts.islands.programs import (
    Check,
    change,
    component,
    edited,
    goal,
    outcomes,
    printed,
    rewritten_program,
    same_program,
)

__all__ = [
    "Cell",
    "Check",
    "Elite",
    "Entrant",
    "Islands",
    "ProposalFailure",
    "Settings",
    "change",
    "component",
    "edited",
    "goal",
    "outcomes",
    "printed",
    "rewritten_program",
    "same_program",
]
