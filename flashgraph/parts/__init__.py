"""The parts of algorithms: evaluation, reflection, pools and cursors.

The folders ``gepa``, ``ace``, ``meta_harness`` and ``islands`` hold the parts of one algorithm alone.
"""

from flashgraph.parts.ace.checkpoints import Checkpoints, Snapshot, StepScores, same_snapshot
from flashgraph.parts.archive import Archive
from flashgraph.parts.clipping import SHOWN_TOKENS, call_within, clipped, fitted, within
from flashgraph.parts.costs import curating, reflecting
from flashgraph.parts.evaluation import Attempt, Candidate, Trial, Validated, Work, attempt, reachable, same_text
from flashgraph.parts.gepa.pareto import FRONTIERS, Frontier, ParetoFrontier
from flashgraph.parts.racing import Finalists, PairedRace, Race, promoted
from flashgraph.parts.reflection import examples, fenced_answers, fenced_text, rewrite_prompt, rewriting, rewritten
from flashgraph.parts.sampling import Epochs, RoundRobin

__all__ = [
    "FRONTIERS",
    "SHOWN_TOKENS",
    "Archive",
    "Attempt",
    "Candidate",
    "Checkpoints",
    "Epochs",
    "Finalists",
    "Frontier",
    "PairedRace",
    "ParetoFrontier",
    "Race",
    "RoundRobin",
    "Snapshot",
    "StepScores",
    "Trial",
    "Validated",
    "Work",
    "attempt",
    "call_within",
    "clipped",
    "curating",
    "examples",
    "fenced_answers",
    "fenced_text",
    "fitted",
    "promoted",
    "reachable",
    "reflecting",
    "rewrite_prompt",
    "rewriting",
    "rewritten",
    "same_snapshot",
    "same_text",
    "within",
]
