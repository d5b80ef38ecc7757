"""flashgraph: evolution algorithms for LLM agents as typed graphs, run by an overlapping scheduler.

Layers, each importing only those above it (``tests/test_layers.py`` checks the code)::

    version       the version number
    errors        the errors that a user can cause, with the place and the fix
    extras        optional libraries, and the extra that installs each
    text          readers of model replies (thoughts, fences, edits, JSON), and all terminal output
    evidence      the samples behind a score: estimates, intervals, paired comparisons
    llm           the model protocol, the backends (each the only importer of its library), limits and rates
    tasks         samples, attempts, scores, data, metrics
    graph         ports, specs, the DSL, checks; no I/O, no scheduler
    policies      staleness, release, order, failure, control, schedules, settings
    sandbox       running programs that a model wrote
    parts         the parts of algorithms: evaluation, reflection, pools; a folder for each algorithm's own
    run           the plan, the pure state machine, the driver, the journal, the held-out test
    sim           virtual time, latency profiles and a simulated model
    launch        opening a run: its options, its models, its journal
    api           `run`, `arun`, `open_run`
    gepa, dspy    drop-ins for `gepa.optimize` and `dspy.GEPA`
    observe       progress, drawings, explanations, reports
    view          the live page of stored runs and its exports
    cli           the command line
    testing       strategies and invariants for users' own tests; the only importer of hypothesis
    algorithms    the graph files (also ``algorithms/`` at the top of the repository)
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flashgraph.api import arun, open_run, run
from flashgraph.errors import (
    BudgetExhausted,
    DataError,
    FlashgraphError,
    GraphError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    Problem,
    RequestFailed,
    UnusableReply,
)
from flashgraph.graph.contexts import Context, Draw, Emit
from flashgraph.graph.dsl import Graph
from flashgraph.graph.loading import load_graph, load_task
from flashgraph.graph.ports import (
    Artifact,
    Change,
    Contender,
    Costs,
    Failed,
    Group,
    Member,
    Pool,
    PoolEvent,
    Resource,
    Several,
    Stale,
    Verdict,
)
from flashgraph.llm.protocol import Message, Model, Reply, Usage
from flashgraph.parts.sampling import Epochs
from flashgraph.policies.control import balanced, drain_first, shortest_first
from flashgraph.policies.failure import fail_above, missing
from flashgraph.policies.order import discriminative, fifo, freshest, priority
from flashgraph.policies.release import count, deadline, decided, everyone, fraction, sampled
from flashgraph.policies.schedule import Schedule, lockstep, pipelined, throughput
from flashgraph.policies.staleness import accept, discard, refresh, repair
from flashgraph.run.budget import Budget
from flashgraph.run.result import Result, ResultArtifact
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Llm, Task
from flashgraph.version import VERSION

if TYPE_CHECKING:
    from flashgraph.observe.best import load_best
    from flashgraph.run.journal.reading import StoredRun
    from flashgraph.tasks import data

__version__ = VERSION


def __getattr__(name: str) -> Any:
    """Import these names lazily: their modules take longest to import, and few programs need them."""
    if name == "data":
        return import_module("flashgraph.tasks.data")
    if name == "StoredRun":
        return import_module("flashgraph.run.journal.reading").StoredRun
    if name == "load_best":
        return import_module("flashgraph.observe.best").load_best
    raise AttributeError(f"module 'flashgraph' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


__all__ = [
    "Artifact",
    "Budget",
    "BudgetExhausted",
    "Change",
    "Contender",
    "Context",
    "Costs",
    "DataError",
    "Draw",
    "Emit",
    "Epochs",
    "Failed",
    "FlashgraphError",
    "Graph",
    "GraphError",
    "Group",
    "Llm",
    "Member",
    "Message",
    "Model",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "Pool",
    "PoolEvent",
    "Problem",
    "Reply",
    "RequestFailed",
    "Resource",
    "Result",
    "ResultArtifact",
    "Schedule",
    "Score",
    "Several",
    "Stale",
    "StoredRun",
    "Task",
    "UnusableReply",
    "Usage",
    "Verdict",
    "accept",
    "arun",
    "balanced",
    "count",
    "data",
    "deadline",
    "decided",
    "discard",
    "discriminative",
    "drain_first",
    "everyone",
    "fail_above",
    "fifo",
    "fraction",
    "freshest",
    "load_best",
    "load_graph",
    "load_task",
    "lockstep",
    "missing",
    "open_run",
    "pipelined",
    "priority",
    "refresh",
    "repair",
    "run",
    "sampled",
    "shortest_first",
    "throughput",
]
