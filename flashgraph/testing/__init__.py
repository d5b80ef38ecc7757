"""Property tests for evolution algorithms: generated graphs, schedules, latencies and faults, and the invariants.

This is the only package that imports hypothesis (extra ``flashgraph[testing]``); see docs/how-to/test-your-work.md.

For your own work, `check_algorithm` checks a graph file against the invariants.  `check_pool`, `check_model` and
`check_policy` check a part against its protocol.  `Watch` checks the events of any run.

For the scheduler, `shapes` and `schedules` generate graphs and schedules.  `SchedulerMachine` plays everything that may
happen to them, and `explore` enumerates it.  `interpret` is the synchronous algorithm to compare with, and `again`
repeats a failing example.
"""

from __future__ import annotations

from flashgraph.errors import DataError
from flashgraph.extras import missing

try:
    import hypothesis as hypothesis
except ModuleNotFoundError as error:
    raise DataError(f"flashgraph.testing: {missing(error)}") from None

from flashgraph.sim.clock import VirtualLoop, run_virtually, settle
from flashgraph.testing.algorithms import SlowModel, check_algorithm
from flashgraph.testing.drawing import drawing
from flashgraph.testing.explorer import Explored, explore
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import Hand, Oracle, no_pause, plan_by_hand
from flashgraph.testing.interpreter import interpret
from flashgraph.testing.invariants import INVARIANTS, InvariantViolation, Watch, check_invariants
from flashgraph.testing.models import ModelViolation, check_model
from flashgraph.testing.moves import Move
from flashgraph.testing.policies import PolicyViolation, check_policy
from flashgraph.testing.pools import PoolViolation, check_pool
from flashgraph.testing.runs import run_shape
from flashgraph.testing.scheduler import SchedulerMachine, again
from flashgraph.testing.shape import Choice, Ending, Fan, Loop, Segment, Shape, Split, Step
from flashgraph.testing.state import check_state
from flashgraph.testing.strategies import moving_limits, schedules, segments, shapes, steps

__all__ = [
    "INVARIANTS",
    "Choice",
    "Ending",
    "Explored",
    "Fan",
    "Hand",
    "InvariantViolation",
    "Loop",
    "ModelViolation",
    "Move",
    "Oracle",
    "PolicyViolation",
    "PoolViolation",
    "SchedulerMachine",
    "Segment",
    "Shape",
    "SlowModel",
    "Split",
    "Step",
    "VirtualLoop",
    "Watch",
    "again",
    "build",
    "check_algorithm",
    "check_invariants",
    "check_model",
    "check_policy",
    "check_pool",
    "check_state",
    "drawing",
    "explore",
    "interpret",
    "moving_limits",
    "no_pause",
    "plan_by_hand",
    "run_shape",
    "run_virtually",
    "schedules",
    "segments",
    "settle",
    "shapes",
    "steps",
]
