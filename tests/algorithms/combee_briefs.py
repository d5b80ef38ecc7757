"""Graphs around Combee's part alone: they emit one brief a round and keep the insights."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

import flashgraph as fg
from flashgraph.algorithms.combee import HOLE, Brief, Insight, part


@attrs.frozen
class Numbered(Brief):
    """The brief of a round."""

    number: int


@attrs.frozen
class Found:
    """A pool of insights, by the brief's number."""

    texts: Mapping[int, str] = attrs.field(factory=dict)
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Insight]) -> Found:
        brief = event.value.brief
        assert isinstance(brief, Numbered)
        return Found({**self.texts, brief.number: event.value.text}, self.artifacts)

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Found:
        return self


def numbered(number: int, records: int) -> Numbered:
    shown = tuple(f"record {number}.{i}" for i in range(records))
    return Numbered(shown, f"Brief {number}, think:\n{HOLE}", f"Brief {number}, join:\n{HOLE}", number)


def alone(rounds: int, records: int) -> fg.Graph:
    """Return a graph that sends ``rounds`` briefs of ``records`` records through one copy of the part."""
    graph = fg.Graph("alone")
    found = graph.pool("found", Found)
    included = graph.include(part, "learn")

    @graph.source(reads=found, rounds=rounds)
    def pick(ctx: fg.Draw[Found]) -> Numbered:
        return numbered(ctx.emission, records)

    graph.edge(pick, included["shuffle"])
    graph.edge(included["combine"], found)
    return graph


def twice() -> fg.Graph:
    """Return a graph with two copies: one model finds facts, and another extends and joins them."""
    graph = fg.Graph("twice")
    found = graph.pool("found", Found)
    facts = graph.include(part, "facts", roles={"reflection": "scribe"})
    rules = graph.include(part, "rules", params={"duplication": 1}, roles={"reflection": "judge"})

    @graph.source(reads=found, rounds=1)
    def pick(ctx: fg.Draw[Found]) -> Numbered:
        return numbered(0, 9)

    @graph.stage
    def further(insight: Insight, ctx: fg.Context) -> Numbered:
        return Numbered(tuple(insight.text.split()), f"Judge:\n{HOLE}", f"Settle:\n{HOLE}", 1)

    graph.edge(pick, facts["shuffle"])
    graph.edge(facts["combine"], further)
    graph.edge(further, rules["shuffle"])
    graph.edge(rules["combine"], found)
    return graph
