"""Small hand-made graphs of properties: the pool that they end in, and how they run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

import flashgraph as fg
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK
from tests.proof.tried import FOREVER

__all__ = ["Kept", "run_small"]


@attrs.frozen
class Kept:
    """A pool that keeps its values, and raises at value number ``breaks`` (None: never)."""

    breaks: int | None = None
    how: Literal["raises", "best raises", "best is a stranger", "changes in place"] = "raises"
    version: int = 0
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        version = self.version + 1
        if version == self.breaks and self.how == "raises":
            raise ZeroDivisionError(f"of {version}")
        kept = fg.Artifact(event.artifact, event.value, event.parents)
        if version == self.breaks and self.how == "changes in place":
            self.artifacts[event.artifact] = kept  # type: ignore[index]  # it is a dict
        return Kept(self.breaks, self.how, version, {**self.artifacts, event.artifact: kept})

    def best(self) -> fg.Artifact | None:
        if self.version == self.breaks and self.how == "best raises":
            raise ZeroDivisionError(f"of {self.version}")
        if self.version == self.breaks and self.how == "best is a stranger":
            return fg.Artifact(self.version + 7, f"of {self.version}", ())
        return None

    def best_line(self) -> Kept:
        return self


def run_small(graph: fg.Graph, schedule: fg.Schedule, models: Mapping[str, Any] = MappingProxyType({})) -> fg.Result:
    """Run a graph, with ``models`` if it calls any; return its result, or raise its error."""

    async def run() -> fg.Result:
        budget = fg.Budget(seconds=FOREVER)
        async with fg.open_run(graph, TASK, models=models, schedule=schedule, budget=budget, settle=settle) as opened:
            return await opened.wait()

    return run_virtually(run)
