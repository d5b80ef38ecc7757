"""Reference model of a plan, computed from graph and schedule: the policies of every edge, and the place of every
stage."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import attrs
import networkx as nx
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.check import check
from flashgraph.graph.spec import EdgeSpec
from flashgraph.llm.limits import fixed
from flashgraph.policies.schedule import Schedule
from flashgraph.run.plan import Capacity, Plan, compile_plan
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import no_pause, plan_by_hand
from flashgraph.testing.shape import Shape
from flashgraph.testing.strategies import schedules, shapes
from flashgraph.testing.tokens import Ledgered, Token
from tests.graph.parameters import params_like
from tests.proof.tried import Property, expect, refusal

__all__ = ["PLANS"]


def compiles(shape: Shape, schedule: Schedule, limit: int, most: int | None) -> None:
    """I2, I3, I11: lockstep waits for everyone and discards nothing as stale; other schedules have the graph's
    policies.

    A schedule may replace a policy.  Queues and workers have the declared bounds, or those of their kind.
    """
    graph = build(shape, no_pause)
    named = graph.spec.stages[0].name
    chosen = attrs.evolve(schedule, workers={} if most is None else {named: most})
    plan = plan_by_hand(graph, chosen, limit)
    for edge in graph.spec.edges:
        _expect_edge(plan, edge, chosen)
    _expect_places(plan)
    for stage in graph.spec.stages:
        found = plan.stages[stage.name]
        bound = most if stage.name == named and most is not None else stage.workers
        if bound is None:
            bound = limit if stage.model is not None else 64 if inspect.iscoroutinefunction(stage.body) else 1
        expect(found.workers == bound, f"I3: {stage.name} may have {found.workers} workers, expected {bound}")
        expect(found.endpoint == ("by hand" if stage.model else None), f"I4: {stage.name} calls {found.endpoint}")
        expect(found.spec is stage, f"I11: {stage.name} is compiled to another stage: {found.spec}")
    kept = Capacity.of(plan)
    again = kept.put_in(plan_by_hand(graph, schedule, limit + 1))
    same = [(s.workers, s.endpoint) for s in again.stages.values()]
    expect(same == [(s.workers, s.endpoint) for s in plan.stages.values()], f"I13: {kept} makes {same}")
    expect(dict(again.limits) == dict(plan.limits), f"I13: {kept} has the limits {again.limits}")


def _expect_edge(plan: Plan, edge: EdgeSpec, schedule: Schedule) -> None:
    found, said = plan.edges[edge.name], f"I11: edge {edge.name} of {schedule.name}"
    early = schedule.speculate
    release = edge.release if early and edge.release is not None else fg.everyone()
    expect(found.release == release, f"{said} releases by {found.release}, expected {release}")
    late = (edge.late or "cancel") if early else "drop"
    expect(found.late == late, f"{said} treats late members as {found.late}, expected {late}")
    sends = hasattr(edge.order, "arrange")
    arrange = edge.order if early and sends else None
    expect(found.arrange == arrange, f"{said} sends members by {found.arrange}, expected {arrange}")
    order = fg.fifo() if edge.order is None or sends else edge.order
    expect(found.order == order, f"{said} has the order {found.order}, expected {order}")
    expect(found.orders == (order != fg.fifo()), f"{said} asks an order's function, or not")
    stale: Any = edge.stale or fg.accept()
    for lag in range(5):
        lags = dict.fromkeys(plan.pools, lag)
        kind = stale.judge(lags, 0).kind
        expected = kind if not schedule.serial or kind == "refresh" else "accept"
        decided = found.stale.judge(lags, 0).kind
        expect(decided == expected, f"{said} says {decided} at lag {lag}, expected {expected}")
    expect(found.judges == (edge.stale is not None and _says_anything(found.stale)), f"{said} judges, or not")
    failure = edge.on_failure or fg.missing()
    expect(found.on_failure == failure, f"{said} fails by {found.on_failure}, expected {failure}")
    expect(found.keeps_orphans == (edge.orphans == "keep"), f"{said} keeps orphans, or not")
    same = ("src", "dst", "scatter", "gather", "fanout", "only", "when", "otherwise", "loop")
    for name in same:
        expect(getattr(found, name) == getattr(edge, name), f"{said} has {name}={getattr(found, name)!r}")
    if edge.capacity is not None:
        expect(found.capacity == edge.capacity, f"I2: edge {edge.name} holds {found.capacity}")
    elif edge.loop is None:
        expect(found.capacity == 64, f"I2: edge {edge.name} holds {found.capacity}, expected 64")
    else:
        expect(found.capacity >= 64, f"I2: loop edge {edge.name} holds {found.capacity}")


def _says_anything(rule: Any) -> bool:
    return type(rule).__name__ != "Accept"


def _expect_places(plan: Plan) -> None:
    """I9: a node nearer to a pool has the smaller distance, and an earlier node the smaller rank."""
    graph = plan.graph
    net: Any = nx.DiGraph([(e.src, e.dst) for e in graph.edges])
    net.add_nodes_from(graph.nodes)
    pools = [pool.name for pool in graph.pools]
    back = net.reverse()
    ways: list[Mapping[str, int]] = [nx.single_source_shortest_path_length(back, pool) for pool in pools]
    far = {node: min((way[node] for way in ways if node in way), default=math.inf) for node in graph.nodes}
    repairers: set[str] = set()
    for edge in plan.edges.values():
        for repairer in (str(getattr(r, "name", r)) for r in edge.stale.repairers()):
            repairers.add(repairer)
            far[repairer] = min(far[repairer], far[edge.dst])
        ahead = nx.has_path(net, edge.dst, edge.src)
        if not ahead and edge.src in plan.stages and edge.dst in plan.stages:
            earlier = plan.stages[edge.src].rank < plan.stages[edge.dst].rank
            expect(earlier, f"I11: {edge.src} comes before {edge.dst}, and has a greater rank")
    repairers |= set(graph.repairers)
    for name, stage in plan.stages.items():
        distance = min(far[name], len(graph.nodes))
        expect(stage.distance == distance, f"I9: {name} is {stage.distance} from a pool, expected {distance}")
        expect(stage.repairs == (name in repairers), f"I9: {name} counts as a repair stage, or not")
    for node in graph.nodes:
        out = [e.name for e in plan.outgoing[node]]
        expected = [e.name for e in graph.edges if e.src == node and not e.otherwise]
        expected += [e.name for e in graph.edges if e.src == node and e.otherwise]
        expect(out == expected, f"I11: {node} has the edges {out}, expected {expected}")
        into = [e.name for e in plan.incoming[node]]
        expect(into == [e.name for e in graph.edges if e.dst == node], f"I11: {node} is fed by {into}")


def refuses(shape: Shape) -> None:
    """I4: a limit that lets nothing pass is refused when the graph is compiled."""
    graph = check(build(shape, no_pause))
    roles = {s.model for s in graph.spec.stages if s.model is not None}
    said = refusal(lambda: compile_plan(graph, fg.lockstep(), {}, dict.fromkeys(roles, "e"), {"e": fixed(0)}))
    expect(said is not None and "model 'e': found limit=0" in said, f"I4: a limit of 0 is refused with: {said}")


def knows_parameters(defaults: Mapping[str, int], chosen: Mapping[str, int], deep: int) -> None:
    """I13: a node of an included graph, at any depth, knows its parameters by its own names."""
    graph = fg.Graph("inner", params=params_like(defaults))
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool, rounds=1)
    def emit(ctx: fg.Draw[Ledgered]) -> Token | None:
        return None

    graph.edge(emit, pool)
    for level in range(deep):
        outer = fg.Graph(f"outer{level}", params=params_like({f"own{level}": -1}))
        outer.include(graph, f"p{level}")
        graph = outer
    prefix = "".join(f"p{level}." for level in reversed(range(deep)))
    values = {param.name: param.default for param in graph.spec.params.values()}
    values |= {f"{prefix}{name}": value for name, value in chosen.items() if name in defaults}
    plan = compile_plan(check(graph), fg.lockstep(), values, {}, {})
    (source,) = plan.sources.values()
    own = {**defaults, **{name: value for name, value in chosen.items() if name in defaults}}
    found = attrs.asdict(plan.given(source)["params"])
    expect(found == own, f"I13: at depth {deep} the source knows {found}, expected {own}")
    every = {
        f"{prefix}{name}": value for prefix, made in plan.objects.items() for name, value in attrs.asdict(made).items()
    }
    outside = {f"{''.join(f'p{i}.' for i in reversed(range(level + 1, deep)))}own{level}": -1 for level in range(deep)}
    expected = {**{f"{prefix}{name}": value for name, value in own.items()}, **outside}
    expect(every == expected, f"I13: the graph at depth {deep} has {every}, expected {expected}")


PLANS: Mapping[str, Property] = {
    "model of plans": Property(
        ("I2", "I3", "I9", "I11", "I13"),
        compiles,
        {
            "shape": shapes(),
            "schedule": schedules(),
            "limit": st.integers(1, 7),
            "most": st.sampled_from([None, None, 1, 3]),
        },
        5,
    ),
    "parameters of included graphs": Property(
        ("I13",),
        knows_parameters,
        {
            "defaults": st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3),
            "chosen": st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=3),
            "deep": st.integers(0, 2),
        },
    ),
    "invalid plans": Property(("I4",), refuses, {"shape": shapes()}, 0.6),
}
