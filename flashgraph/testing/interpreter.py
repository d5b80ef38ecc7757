"""A reference interpreter of the synchronous algorithm, small and sequential enough to verify by reading.

It does not use the scheduler.  It works on one item at a time, always for the earliest stage that has items.  It has no
capacities, no workers and no time, and its release rules wait for everyone.  A round makes at most one admission, so
that lag is always 0 and staleness rules do nothing.  `interpret` refuses graphs for which this may be false
(`Several`).
"""

from __future__ import annotations

import inspect
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.graph.analysis import gathers_of, scopes, topological
from flashgraph.graph.contexts import Parent, emitted
from flashgraph.graph.params import given, objects
from flashgraph.graph.spec import EdgeSpec, GraphSpec, SourceSpec, StageSpec
from flashgraph.policies.failure import missing
from flashgraph.run.pools import for_task
from flashgraph.tasks.task import Task

__all__ = ["Line", "NotApplicable", "interpret"]


class NotApplicable(Exception):
    """The graph uses something that this interpreter leaves out."""


class _NoStream(random.Random):
    """A stream that refuses draws: a stage's stream is keyed by its item's number, which the interpreter lacks."""

    def random(self) -> float:
        raise NotApplicable("a stage draws")

    def getrandbits(self, k: int, /) -> int:
        raise NotApplicable("a stage draws")


@attrs.frozen
class Line:
    """One step: a stage's outcome for an item, or an admission, whose ``outcome`` is its version."""

    node: str
    value: Any
    outcome: str


@attrs.define(eq=False)
class _Item:
    value: Any
    edge: str
    scope: tuple[tuple[_Group, int], ...]
    uses: tuple[tuple[str, int], ...]
    loops: Mapping[str, int]


@attrs.define(eq=False)
class _Group:
    origin: _Item
    gathers: dict[str, list[fg.Member[Any]]]
    alive: dict[str, list[int]]
    """By gather and member, the number of items that may still bring the member there."""
    failed: dict[int, str] = attrs.field(factory=dict)
    over: set[str] = attrs.field(factory=set)
    uses: dict[str, dict[tuple[str, int], None]] = attrs.field(factory=dict)
    dead: bool = False


class _Interpreter:
    def __init__(self, graph: GraphSpec, task: Task[Any, Any], seed: int, llm: Any, most: float) -> None:
        self.graph, self.task, self.seed, self.llm = graph, task, seed, llm
        self.most = most
        self.rank = topological(graph)
        self.gathers = gathers_of(graph, scopes(graph)[0])
        self.stages = sorted(graph.stages, key=lambda s: self.rank[s.name])
        self.queues: dict[str, deque[_Item]] = {e.name: deque() for e in graph.edges}
        self.members: dict[str, deque[_Item]] = {e.name: deque() for e in graph.edges}
        self.pools: dict[str, Any] = {pool.name: for_task(pool.factory(), task) for pool in graph.pools}
        self.version = dict.fromkeys(self.pools, 0)
        self.admitted = dict.fromkeys(self.pools, 0)
        self.lines: list[Line] = []
        self.cursors = {s.name: s.state for s in graph.sources}
        self.sequential = random.Random(seed)

    async def run(self) -> list[Line]:
        emissions = dict.fromkeys((s.name for s in self.graph.sources), 0)
        waits: dict[str, tuple[int, ...]] = {}
        while True:
            able = [
                s
                for s in self.graph.sources
                if (s.rounds is None or emissions[s.name] < s.rounds) and waits.get(s.name) != self.versions(s)
            ]
            if not able or self.enough:
                return self.lines
            source = min(able, key=lambda s: (not s.evidence, emissions[s.name]))
            value, uses = self.emit(source, emissions[source.name])
            if value is None:
                waits[source.name] = self.versions(source)
                continue
            emissions[source.name] += 1
            self.route(source.name, value, _Item(None, "", (), _parents(source, uses), {}))
            await self.drain()

    def versions(self, source: SourceSpec) -> tuple[int, ...]:
        return tuple(self.version.get(pool, 0) for pool in source.reads)

    def view(self, node: SourceSpec | StageSpec) -> Any:
        views = tuple(self.pools[pool] for pool in node.reads)
        return views[0] if len(views) == 1 else views or None

    def emit(self, source: SourceSpec, number: int) -> tuple[Any, tuple[Parent, ...]]:
        keyed = random.Random(f"{self.seed}/{source.name}/{number}")
        stream = self.sequential if source.stream == "sequential" else keyed
        params = {p.name: p.default for p in self.graph.params.values()}
        ctx: fg.Draw[Any, Any, Any] = fg.Draw(
            self.task,
            self.view(source),
            stream,
            **given(objects(self.graph.classes, params), source),
            emission=number,
            champion=self.pools[source.reads[0]].best() if source.reads else None,
            state=self.cursors[source.name],
        )
        value, self.cursors[source.name] = emitted(source.body(ctx), ctx.state)
        return value, ctx.used or ()

    @property
    def enough(self) -> bool:
        return len(self.lines) >= self.most

    async def drain(self) -> None:
        """Finish the round: empty the earliest stage that has items, then look again."""
        while (stage := next((s for s in self.stages if self.first(s) is not None), None)) and not self.enough:
            while (item := self.first(stage)) is not None:
                await self.work(stage, item)
                self.admit()
        self.admit()

    def first(self, stage: StageSpec) -> _Item | None:
        for edge in self.graph.into(stage.name):
            if self.members[edge.name] or self.queues[edge.name]:
                return (self.members[edge.name] or self.queues[edge.name])[0]
        return None

    async def work(self, stage: StageSpec, item: _Item) -> None:
        edge = self.graph.edge(item.edge)
        assert edge is not None
        if edge.scatter is not None and not self.members[edge.name]:
            self.queues[edge.name].popleft()
            self.open(edge, item)
            return
        (self.members if edge.scatter is not None else self.queues)[edge.name].popleft()
        params = {p.name: p.default for p in self.graph.params.values()}
        ctx: fg.Context[Any, Any] = fg.Context(
            self.task, self.view(stage), _NoStream(), **given(objects(self.graph.classes, params), stage)
        )
        ctx.llm = self.llm
        try:
            result = stage.body(
                *((item.value, ctx) if len(inspect.signature(stage.body).parameters) > 1 else (item.value,))
            )
            result = await result if inspect.isawaitable(result) else result
        except NotApplicable:
            raise
        except Exception as error:
            self.lines.append(Line(stage.name, item.value, "failed"))
            if any(e.takes_failures for e in self.graph.out_of(stage.name)):
                self.route(stage.name, fg.Failed(item.value, f"{type(error).__name__}: {error}"), item)
                self.end(item)
                return
            self.end(item, f"{type(error).__name__}: {error}")
            return
        if isinstance(result, fg.Several):
            raise NotApplicable("a stage returns Several")
        self.lines.append(Line(stage.name, item.value, "done"))
        if result is not None:
            uses = tuple(dict.fromkeys([*item.uses, *_parents(stage, ctx.used or ())]))
            self.route(stage.name, result, attrs.evolve(item, uses=uses))
        self.end(item)

    def route(self, node: str, value: Any, source: _Item) -> None:
        taken = False
        for edge in sorted(self.graph.out_of(node), key=lambda e: e.otherwise):
            if isinstance(value, fg.Failed) != edge.takes_failures:
                continue
            passes = source.loops.get(edge.name, 0)
            refused = edge.loop is not None and passes >= edge.loop
            if refused or (edge.otherwise and taken) or (edge.when is not None and not edge.when(value)):
                continue
            taken = True
            loops = {**source.loops, edge.name: passes + 1} if edge.loop else source.loops
            item = _Item(value, edge.name, source.scope, source.uses, loops)
            self.carry(item, 1)
            if edge.gather:
                group, index = item.scope[-1]
                group.gathers[edge.name][index] = fg.Member(index, "arrived", value)
                group.uses.setdefault(edge.name, {}).update(dict.fromkeys(item.uses))
                self.end(item)
            else:
                self.queues[edge.name].append(item)

    def open(self, edge: EdgeSpec, whole: _Item) -> None:
        assert edge.scatter is not None
        values = list(edge.scatter(whole.value))
        blank: list[fg.Member[Any]] = [fg.Member(i) for i in range(len(values))]
        gathers = self.gathers[edge.name]
        group = _Group(whole, {g: list(blank) for g in gathers}, {g: [0] * len(values) for g in gathers})
        for index, value in enumerate(values):
            member = _Item(value, edge.name, (*whole.scope, (group, index)), whole.uses, whole.loops)
            self.carry(member, 1)
            self.members[edge.name].append(member)
        self.settle(group)
        self.end(whole)

    def carry(self, item: _Item, change: int) -> None:
        """Add ``change`` to the item's counts at the gathers that it may reach, in each group around it."""
        for group, index in item.scope:
            for name in self.ahead(item.edge, frozenset(group.gathers)):
                group.alive[name][index] += change

    def ahead(self, name: str, gathers: frozenset[str]) -> set[str]:
        """Return those of ``gathers`` that an item on the edge ``name`` may reach, that edge included."""
        found, seen, todo = set[str](), set[str](), [name]
        while todo:
            here = todo.pop()
            if here in gathers:
                found.add(here)
            elif here not in seen and (edge := self.graph.edge(here)) is not None:
                seen.add(here)
                todo += [e.name for e in self.graph.out_of(edge.dst)]
        return found

    def end(self, item: _Item, failed: str | None = None) -> None:
        self.carry(item, -1)
        for depth, (group, index) in enumerate(reversed(item.scope)):
            if failed is not None and not depth:
                group.failed[index] = failed
            self.settle(group)

    def settle(self, group: _Group) -> None:
        """Release the group if every member has ended, or fail it if too many have failed."""
        if group.dead or any(outer.dead for outer, _ in group.origin.scope):
            return
        for name, members in group.gathers.items():
            edge = self.graph.edge(name)
            assert edge is not None
            if name in group.over:
                continue
            for index, left in enumerate(group.alive[name]):
                if left == 0 and members[index].state == "open":
                    state = "failed" if index in group.failed else "missing"
                    members[index] = fg.Member(index, state, None, group.failed.get(index, ""))  # type: ignore[arg-type]  # a literal
            rule = edge.on_failure or missing()
            if rule.fails(sum(m.state == "failed" for m in members), len(members)):
                group.over.add(name)
                for outer, place in group.origin.scope[-1:]:
                    outer.failed[place] = "its group failed"
                self.drop(group)
            elif all(m.state != "open" for m in members):
                group.over.add(name)
                origin = group.origin
                value: Any = fg.Group(origin.value, tuple(members))
                uses = tuple(dict.fromkeys([*origin.uses, *group.uses.get(name, ())]))
                item = _Item(value, name, origin.scope, uses, origin.loops)
                self.carry(item, 1)
                self.queues[name].append(item)

    def drop(self, group: _Group) -> None:
        """Remove the rest of a failed group, and groups inside it."""
        group.dead = True
        for queue in (*self.queues.values(), *self.members.values()):
            for item in [i for i in queue if any(g is group for g, _ in i.scope)]:
                queue.remove(item)
                self.end(item)

    def admit(self) -> None:
        for pool in self.pools:
            for edge in self.graph.into(pool):
                while self.queues[edge.name]:
                    item = self.queues[edge.name].popleft()
                    self.take_in(pool, item)
                    self.end(item)

    def take_in(self, pool: str, item: _Item) -> None:
        before, origin = self.pools[pool], getattr(item.value, "origin", None)
        if isinstance(item.value, fg.Group) and isinstance(origin, fg.Contender):
            if origin.artifact not in before.artifacts:
                return
            after = before.apply(fg.PoolEvent("evidence", origin.artifact, item.value, (), False))
            if after != before and origin.artifact in after.artifacts:
                self.version[pool], self.pools[pool] = self.version[pool] + 1, after
                self.lines.append(Line(pool, item.value, str(self.version[pool])))
            return
        uses = tuple(artifact for name, artifact in item.uses if name == pool)
        after = self.pools[pool].apply(fg.PoolEvent("admit", self.admitted[pool], item.value, uses, False))
        if after != self.pools[pool]:
            self.version[pool], self.admitted[pool] = self.version[pool] + 1, self.admitted[pool] + 1
            self.pools[pool] = after
            self.lines.append(Line(pool, item.value, str(self.version[pool])))


async def interpret(
    graph: fg.Graph, task: Task[Any, Any], *, seed: int = 0, llm: Any = None, most: int | None = None
) -> list[Line]:
    """Return the steps of the synchronous algorithm in order, up to about ``most``.

    ``llm`` answers the stages' model calls at once.  Raises `NotApplicable` if a stage draws or returns `Several`.
    """
    return await _Interpreter(graph.checked().spec, task, seed, llm, math.inf if most is None else most).run()


def _parents(node: SourceSpec | StageSpec, named: Sequence[Parent]) -> tuple[tuple[str, int], ...]:
    return tuple(parent if isinstance(parent, tuple) else (node.reads[0], parent) for parent in named)
