"""A graph as text, for the report of a failing example."""

from __future__ import annotations

from collections.abc import Sequence

import flashgraph as fg
from flashgraph.graph.analysis import topological
from flashgraph.graph.spec import EdgeSpec, GraphSpec, SourceSpec, StageSpec
from flashgraph.observe.description import policies_of
from flashgraph.observe.words import counted
from flashgraph.run import events as ev

__all__ = ["drawing", "schedule_line", "tail"]


def drawing(graph: fg.Graph | GraphSpec) -> str:
    """Return every source and stage in topological order, with its options and its edges, as lines of text."""
    spec = graph if isinstance(graph, GraphSpec) else graph.spec
    rank = topological(spec)
    every: list[SourceSpec | StageSpec] = [*spec.sources, *spec.stages]
    nodes = sorted(every, key=lambda n: rank[n.name])
    lines = []
    for node in nodes:
        lines.append(node.name + _bracketed("()", _notes(node)))
        lines += [f"  -> {edge.dst}{_bracketed('[]', policies_of(edge))}" for edge in _out_of(spec, node.name)]
    return "\n".join(lines)


def _out_of(spec: GraphSpec, name: str) -> list[EdgeSpec]:
    return [edge for edge in spec.edges if edge.src == name]


def _notes(node: SourceSpec | StageSpec) -> list[str]:
    reads = [f"reads {pool}" for pool in node.reads]
    if isinstance(node, SourceSpec):
        return [*([counted(node.rounds, "round")] if node.rounds is not None else []), *reads]
    calls = [f"calls {node.model}"] if node.model is not None else []
    return [*([counted(node.workers, "worker")] if node.workers is not None else []), *calls, *reads]


def _bracketed(pair: str, phrases: Sequence[str]) -> str:
    return f" {pair[0]}{', '.join(phrases)}{pair[1]}" if phrases else ""


def tail(events: Sequence[ev.Event], count: int = 12) -> str:
    """Return the last events of a log, numbered."""
    first = max(0, len(events) - count)
    return "\n".join(f"  {i}: {event}" for i, event in enumerate(events[first:], first))


def schedule_line(schedule: fg.Schedule) -> str:
    """Return a generated schedule as the call that makes it."""
    if schedule.serial:
        return "fg.lockstep()"
    control = schedule.control
    chosen = f"fg.{control}()" if control.interval is None else f"fg.balanced({control.interval})"
    return f"fg.pipelined({schedule.window}, control={chosen}, focus={schedule.focus})"
