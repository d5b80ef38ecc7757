"""Meta-Harness's parts: the interface of harness programs, the archive, the proposer's conversation and its tools."""

from flashgraph.parts.meta_harness.agent import Proposals, propose_programs
from flashgraph.parts.meta_harness.archive import Entry, HarnessArchive
from flashgraph.parts.meta_harness.baselines import FEW_SHOT, NO_MEMORY, baselines
from flashgraph.parts.meta_harness.datasets import dataset_of, datasets, lesson, require_datasets
from flashgraph.parts.meta_harness.interface import DRIVER, INTERFACE, identity
from flashgraph.parts.meta_harness.items import (
    OVERALL,
    Checked,
    FailedProgram,
    LearnedState,
    Lesson,
    Prediction,
    Program,
    Question,
    Trained,
    same_harness,
)
from flashgraph.parts.meta_harness.meter import Meter
from flashgraph.parts.meta_harness.standing import HarnessScore, hopeless

__all__ = [
    "DRIVER",
    "FEW_SHOT",
    "INTERFACE",
    "NO_MEMORY",
    "OVERALL",
    "Checked",
    "Entry",
    "FailedProgram",
    "HarnessArchive",
    "HarnessScore",
    "LearnedState",
    "Lesson",
    "Meter",
    "Prediction",
    "Program",
    "Proposals",
    "Question",
    "Trained",
    "baselines",
    "dataset_of",
    "datasets",
    "hopeless",
    "identity",
    "lesson",
    "propose_programs",
    "require_datasets",
    "same_harness",
]
