"""A plan: a checked graph, a schedule and the models' limits, compiled into lookups for the scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.analysis import distances, gathers_of, reaches, topological
from flashgraph.graph.capacity import loop_capacity
from flashgraph.graph.check import CheckedGraph, checked_with
from flashgraph.graph.check.shape import ASSUMED_WINDOW
from flashgraph.graph.params import given, objects
from flashgraph.graph.ports import Failed
from flashgraph.graph.spec import (
    DEFAULT_LATE,
    EdgeSpec,
    Failure,
    GraphSpec,
    PoolSpec,
    QueueRule,
    Release,
    ScatterRule,
    SourceSpec,
    StageSpec,
    Staleness,
)
from flashgraph.llm.limits import Limits, fixed, parse_limits
from flashgraph.policies.failure import missing
from flashgraph.policies.order import fifo
from flashgraph.policies.release import everyone
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.staleness import Accept, accept, without_overlap

__all__ = ["EdgePlan", "Plan", "StagePlan", "compile_plan", "window_of"]

DEFAULT_CAPACITY = 64
SYNC_WORKERS = 1
ASYNC_WORKERS = 64


@attrs.frozen
class EdgePlan:
    """An edge with every policy decided."""

    name: str
    src: str
    dst: str
    capacity: int
    scatter: Callable[[Any], Sequence[Any]] | None
    gather: bool
    fanout: int | None
    release: Release
    late: Literal["cancel", "drop", "amend"]
    order: QueueRule
    arrange: ScatterRule | None
    only: type | None
    when: Callable[[Any], bool] | None
    otherwise: bool
    loop: int | None
    stale: Staleness
    on_failure: Failure
    keeps_orphans: bool
    judges: bool = attrs.field(init=False)
    """Whether the staleness rule may do anything but accept."""

    @judges.default
    def _judges(self) -> bool:
        return not isinstance(self.stale, Accept)

    distinct: Callable[[Any], Hashable] | None = None
    """The function whose keys the edge takes once each.

    None in a serial schedule, because published loops judge equal texts again.
    """
    takes_failures: bool = attrs.field(init=False)
    """Whether it takes the failures of its stage, and nothing else."""

    @takes_failures.default
    def _takes_failures(self) -> bool:
        return self.only is Failed

    orders: bool = attrs.field(init=False)
    """Whether its queue's order calls a function."""

    @orders.default
    def _orders(self) -> bool:
        return self.order != fifo()


@attrs.frozen
class StagePlan:
    """A stage with its bounds.

    ``rank`` is its place in topological order, and ``distance`` counts its edges to a pool.  ``endpoint`` is the
    service of its model role: an endpoint, or the name of several.
    """

    spec: StageSpec
    workers: int
    rank: int
    distance: int
    endpoint: str | None
    repairs: bool


@attrs.frozen
class Plan:
    """A graph as `Machine` uses it; see `compile_plan`."""

    checked: CheckedGraph
    schedule: Schedule
    params: Mapping[str, Any]
    stages: Mapping[str, StagePlan]
    sources: Mapping[str, SourceSpec]
    pools: Mapping[str, PoolSpec]
    edges: Mapping[str, EdgePlan]
    outgoing: Mapping[str, tuple[EdgePlan, ...]]
    incoming: Mapping[str, tuple[EdgePlan, ...]]
    gathers: Mapping[str, tuple[str, ...]]
    """By scattering edge, the gathering edges that its groups arrive at."""
    reaches: Mapping[str, Mapping[str, tuple[str, ...]]]
    """By scattering edge and by edge, the gathering edges that a member can still reach from there."""
    limits: Mapping[str, Limits]
    """By endpoint, the limits on requests in flight."""
    endpoints: Mapping[str, str]
    """By role, its service."""
    services: Mapping[str, Mapping[str, float]]
    """By service, the endpoints that it may use, with their weights."""
    objects: Mapping[str, Any] = attrs.field(init=False, eq=False)
    """By prefix, the parameters of the graph ("") and of the graphs in it, as objects of their classes."""

    @objects.default
    def _objects(self) -> dict[str, Any]:
        return objects(self.graph.classes, self.params)

    @property
    def graph(self) -> GraphSpec:
        return self.checked.spec

    def window_of(self, source: SourceSpec) -> int:
        """Return how many rounds of ``source`` may be open at once."""
        return window_of(source, self.schedule)

    def given(self, node: SourceSpec | StageSpec | None) -> dict[str, Any]:
        """Return the arguments of a node's `Draw` or `Context` that hold its pools, and its graph's parameters."""
        return given(self.objects, node)


@attrs.frozen
class Capacity:
    """The part of a plan that may differ between the sessions of a run.

    Workers are by stage, limits by endpoint (as text), endpoints by model role, and endpoints with weights by service.
    """

    workers: Mapping[str, int]
    limits: Mapping[str, str]
    endpoints: Mapping[str, str]
    services: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, plan: Plan) -> Capacity:
        workers = {name: stage.workers for name, stage in plan.stages.items()}
        return cls(workers, {n: str(limits) for n, limits in plan.limits.items()}, plan.endpoints, plan.services)

    def put_in(self, plan: Plan) -> Plan:
        """Return a plan with this capacity instead of its own."""
        stages = {
            name: attrs.evolve(
                stage,
                workers=self.workers[name],
                endpoint=self.endpoints[stage.spec.model] if stage.spec.model else None,
            )
            for name, stage in plan.stages.items()
        }
        limits = {name: parse_limits(text) for name, text in self.limits.items()}
        return attrs.evolve(plan, stages=stages, limits=limits, endpoints=self.endpoints, services=self.services)


def window_of(source: SourceSpec, schedule: Schedule) -> int:
    """Return how many rounds of ``source`` may be open at once: the smaller bound of graph and schedule."""
    return schedule.window if source.window is None else min(source.window, schedule.window)


def compile_plan(
    checked: CheckedGraph,
    schedule: Schedule,
    params: Mapping[str, Any],
    endpoints: Mapping[str, str],
    limits: Mapping[str, int] | Mapping[str, Limits],
    services: Mapping[str, Mapping[str, float]] | None = None,
) -> Plan:
    """Compile a graph without problems.

    ``endpoints`` names the service of each model role, and ``limits`` bounds the requests in flight at each endpoint.
    ``services`` has the endpoints of each service with their weights; without it, every endpoint is a service.

    Raises `DataError` for limits under which no request could be sent.  Also if a loop edge's own capacity is too small
    for the schedule's window (`check` has used the default window).
    """
    checked = checked_with(checked, params)
    graph = checked.spec
    policies = _limits(limits)
    services = services or {name: {name: 1.0} for name in policies}
    loops = loop_capacity(graph, {s.name: window_of(s, schedule) for s in graph.sources})
    edges = {edge.name: _edge(edge, schedule, loops.get(edge.name, 0)) for edge in graph.edges}
    return Plan(
        checked=checked,
        schedule=schedule,
        params=params,
        stages=_stages(graph, schedule, edges, endpoints, _most(policies, services)),
        sources={s.name: s for s in graph.sources},
        pools={p.name: p for p in graph.pools},
        edges=edges,
        outgoing={
            n: tuple(sorted((e for e in edges.values() if e.src == n), key=lambda e: e.otherwise)) for n in graph.nodes
        },
        incoming={n: tuple(e for e in edges.values() if e.dst == n) for n in graph.nodes},
        gathers=gathers_of(graph, checked.scopes),
        reaches=reaches(graph, checked.scopes),
        limits=policies,
        endpoints=endpoints,
        services=services,
    )


def _limits(limits: Mapping[str, int] | Mapping[str, Limits]) -> dict[str, Limits]:
    policies = {name: fixed(limit) if isinstance(limit, int) else limit for name, limit in limits.items()}
    for name, each in policies.items():
        if (flaw := each.flaw()) is not None:
            raise DataError(f"model {name!r}: found {flaw.found}, expected {flaw.expected}.\nFix: {flaw.fix}.")
    return policies


def _most(limits: Mapping[str, Limits], services: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """Return how many requests each service takes at once, at most."""
    return {name: sum(limits[endpoint].most for endpoint in weights) for name, weights in services.items()}


def _edge(edge: EdgeSpec, schedule: Schedule, needed: int) -> EdgePlan:
    """Decide every policy of an edge that must hold at least ``needed`` items."""
    chosen = attrs.evolve(edge, **dict(schedule.edges.get(edge.name, {})))
    if chosen.capacity is not None and chosen.capacity < needed:
        raise DataError(
            f"edge {edge.name}: capacity={chosen.capacity}; a window of {schedule.window} rounds needs at least "
            f"{needed} there to be free of deadlock.\nFix: window={ASSUMED_WINDOW}, or leave the "
            "capacity out and it is sized by the schedule."
        )
    # An order may be the user's own: its methods say which kind it is, as in `check`.
    order: Any = chosen.order
    arranges = hasattr(order, "arrange")
    stale = chosen.stale or accept()
    return EdgePlan(
        name=edge.name,
        src=edge.src,
        dst=edge.dst,
        capacity=chosen.capacity or max(DEFAULT_CAPACITY, needed),
        scatter=edge.scatter,
        gather=edge.gather,
        fanout=edge.fanout,
        release=(chosen.release if schedule.speculate else None) or everyone(),
        late=(chosen.late or DEFAULT_LATE) if schedule.speculate else "drop",
        order=fifo() if order is None or arranges else order,
        arrange=order if arranges and schedule.speculate else None,
        only=edge.only,
        when=edge.when,
        otherwise=edge.otherwise,
        loop=edge.loop,
        stale=without_overlap(stale) if schedule.serial else stale,
        on_failure=chosen.on_failure or missing(),
        keeps_orphans=chosen.orphans == "keep",
        distinct=None if schedule.serial else edge.distinct,
    )


def _stages(
    graph: GraphSpec,
    schedule: Schedule,
    edges: Mapping[str, EdgePlan],
    endpoints: Mapping[str, str],
    most: Mapping[str, int],
) -> dict[str, StagePlan]:
    """Compile each stage; ``most`` is what each service takes at once."""
    rank, distance, repairers = topological(graph), distances(graph), set(graph.repairers)
    for edge in edges.values():
        for repairer in edge.stale.repairers():
            # An item in repair still waits before its edge's end: it is as near to the pool as that end.
            name = str(getattr(repairer, "name", repairer))
            repairers.add(name)
            distance[name] = min(distance[name], distance[edge.dst])
    return {
        s.name: StagePlan(
            spec=s,
            workers=_workers(s, schedule, most.get(endpoints.get(s.model or "", ""))),
            rank=rank[s.name],
            distance=distance[s.name],
            endpoint=endpoints.get(s.model) if s.model else None,
            repairs=s.name in repairers,
        )
        for s in graph.stages
    }


def _workers(stage: StageSpec, schedule: Schedule, limit: int | None) -> int:
    """Return the most workers of a stage: what the schedule or the graph says, else what its endpoint takes at once."""
    chosen = schedule.workers.get(stage.name, stage.workers)
    if chosen is not None:
        return chosen
    if limit is not None:
        return limit
    return ASYNC_WORKERS if inspect.iscoroutinefunction(stage.body) else SYNC_WORKERS
