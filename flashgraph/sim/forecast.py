"""A forecast: the real scheduler on a graph whose models are simulated, under a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.loading import load_graph, load_task
from flashgraph.graph.spec import GraphSpec
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.driver import Driver
from flashgraph.run.events import Event
from flashgraph.run.goal import Goal
from flashgraph.run.journal.header import fingerprint
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity, Plan, compile_plan
from flashgraph.sim.engine import Engine
from flashgraph.sim.measures import Forecast, RunMeasures
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import Profile
from flashgraph.sim.scene import Scene, scene_of

__all__ = ["Simulation", "amounts_to", "check", "early_edges", "expanded", "forecast"]


@attrs.frozen
class Simulation:
    """The parameters of a simulation, as plain values that can be sent to another process.

    ``graph`` and ``task`` are files or names. ``profiles`` holds a server for each model role; roles with equal
    profiles share it. ``limit`` replaces each server's slots as the limit of requests in flight. ``settings`` are those
    of ``--set``, with the short names of `expanded`.
    """

    graph: str
    profiles: Mapping[str, Profile]
    schedule: str = "pipelined"
    settings: Mapping[str, str] = attrs.field(factory=dict)
    minutes: float = 20.0
    seed: int = 0
    limit: int | None = None
    task: str | None = None
    pass_rate: float = 0.5

    def with_settings(self, settings: Mapping[str, str]) -> Simulation:
        """Return the same simulation with more settings, which may include ``schedule`` and ``limit``."""
        merged = {**self.settings, **settings}
        schedule, limit = merged.pop("schedule", self.schedule), merged.pop("limit", None)
        if limit is not None and not (limit.isdecimal() and int(limit) >= 1):
            raise DataError(f"setting limit={limit}; expected a whole number from 1.\nFix: e.g. limit=64.")
        return attrs.evolve(
            self, schedule=schedule, settings=merged, limit=self.limit if limit is None else int(limit)
        )  # fmt: skip


def expanded(graph: GraphSpec, settings: Mapping[str, str]) -> dict[str, str]:
    """Return ``settings`` with the short names expanded.

    ``alpha`` becomes the release of the `early_edges`, and ``workers`` that of every stage that calls a model.
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if name == "alpha" and name not in graph.params:
            early = early_edges(graph)
            if not early:
                raise DataError(
                    f"setting alpha={value}: graph {graph.name!r} has no edge to a pool with a release; alpha sets "
                    "that release.\nFix: set the release of an edge, e.g. 'EDGE.release=fraction(0.5)'."
                )
            found |= {f"{edge}.release": f"fraction({value})" for edge in early}
        elif name == "workers" and name not in graph.params:
            found |= {f"{stage.name}.workers": value for stage in graph.stages if stage.model is not None}
        else:
            found[name] = value
    return found


def early_edges(graph: GraphSpec) -> list[str]:
    """Return the edges on which a pool receives groups before all of their members have arrived."""
    pools = {pool.name for pool in graph.pools}
    return [e.name for e in graph.edges if e.gather and e.release is not None and e.dst in pools]


def check(simulation: Simulation) -> None:
    """Raise what `forecast` raises for a wrong simulation, without running it."""
    _Parts.of(simulation, None)


def amounts_to(simulation: Simulation) -> str:
    """Return a text of all that the settings decide.

    Simulations of one graph with equal texts are the same, however their settings are written. Raises what `check`
    raises.
    """
    plan = _Parts.of(simulation, None).plan
    _, _, policies = fingerprint(plan)
    return json.dumps([policies, attrs.asdict(Capacity.of(plan)), dict(plan.params)], sort_keys=True, default=repr)


@attrs.frozen
class _Parts:
    """The parts of a simulation; ``servers`` holds a profile and its roles by endpoint."""

    scene: Scene
    servers: Mapping[str, tuple[Profile, list[str]]]
    plan: Plan

    @classmethod
    def of(cls, simulation: Simulation, scene: Scene | None) -> _Parts:
        graph = load_graph(simulation.graph)
        checked = graph.checked()
        spec = checked.spec
        if scene is None:
            task = None if simulation.task is None else load_task(simulation.task)
            scene = scene_of(spec, task, pass_rate=simulation.pass_rate, seed=simulation.seed)
        servers = _servers(spec, simulation)
        chosen, values = apply_settings(
            spec, schedule_of(simulation.schedule), {}, expanded(spec, simulation.settings)
        )  # fmt: skip
        endpoints = {role: endpoint for endpoint, (_, roles) in servers.items() for role in roles}
        limits = {endpoint: simulation.limit or profile.slots for endpoint, (profile, _) in servers.items()}
        return cls(scene, servers, compile_plan(checked, chosen, values, endpoints, limits))


async def forecast(
    simulation: Simulation,
    settle: Callable[[], Awaitable[None]],
    scene: Scene | None = None,
    *,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Forecast:
    """Run a simulation. The clock must be virtual; ``settle`` belongs to it (see `flashgraph.api.open_run`).

    ``progress`` is called with the simulated seconds as they pass. Raises `GraphError` if the graph does not pass its
    checks, and `DataError` for wrong settings, roles without a profile, and graphs that cannot be simulated.
    """
    parts = _Parts.of(simulation, scene)
    scene, servers = parts.scene, parts.servers
    engines = {endpoint: Engine(profile, simulation.limit) for endpoint, (profile, _) in servers.items()}
    models = {
        role: SimModel(profile, scene.answer, simulation.seed, role=role, engine=engines[endpoint])
        for endpoint, (profile, roles) in servers.items()
        for role in roles
    }
    budget = Budget(seconds=simulation.minutes * 60)
    watch = RunMeasures(scene.truth)

    def see(event: Event) -> None:
        watch.on_event(event)
        progress(event.at)

    machine = Machine(parts.plan, Ledger(budget), see, simulation.seed, scene.task)
    watch.machine = machine
    goal = Goal(seconds=budget.seconds)
    driver = Driver(machine, scene.task, models, seconds=budget.seconds, settle=settle, goal=goal)
    async with AsyncExitStack() as stack:
        for _, (_, roles) in servers.items():
            await stack.enter_async_context(models[roles[0]].open())
        await driver.run()
        seconds = driver.elapsed
    made = {endpoint: engine.tokens for endpoint, engine in engines.items()}
    return watch.forecast(seconds, {endpoint: profile for endpoint, (profile, _) in servers.items()}, made)


def _servers(graph: GraphSpec, simulation: Simulation) -> dict[str, tuple[Profile, list[str]]]:
    """Return the profile and roles of each server, by name."""
    found: list[tuple[Profile, list[str]]] = []
    for role in sorted({s.model for s in graph.stages if s.model is not None}):
        if role not in simulation.profiles:
            raise DataError(
                f"graph {graph.name!r} calls the model {role!r}, which has no profile.\n"
                f"Fix: --profile {role}=vllm, or --profile vllm for all of them."
            )
        profile = simulation.profiles[role]
        shared = next((roles for known, roles in found if known == profile), None)
        if shared is None:
            found.append((profile, [role]))
        else:
            shared.append(role)
    return {"+".join(roles): (profile, roles) for profile, roles in found}
