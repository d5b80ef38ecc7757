"""Graphs that are generated from shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.graph.dsl import PoolNode
from flashgraph.testing.shape import Choice, Ending, Fan, Loop, Rule, Segment, Shape, Split, Step
from flashgraph.testing.tokens import Ledgered, Rival, Token, draw, provisional

__all__ = ["build"]

Pause = Callable[[float], Awaitable[None]]

NOTHING: Any = None
"""The context of a stage that reads none."""


class Fault(Exception):
    """The error that generated stages raise."""


class _Builder:
    def __init__(self, shape: Shape, pause: Pause) -> None:
        self.shape = shape
        self.pause = pause
        self.graph = fg.Graph("generated")
        self.count = 0
        self.pool: PoolNode[Any, Any] = self.graph.pool("pool", lambda: Ledgered(threshold=shape.ending.threshold))
        self.side: PoolNode[Any, Any] | None = (
            self.graph.pool("side", lambda: Ledgered(name="side")) if shape.second_pool else None
        )

    @property
    def both(self) -> bool:
        """Whether sources read both pools."""
        return self.shape.both and self.side is not None

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    async def work(self, step: Step, name: str, token: Token, ctx: fg.Context[Any]) -> Token | None:
        for call in range(step.calls):
            await ctx.llm(f"{name} {token.path} {call}")
        await self.pause(self.shape.seconds(name, token.path))
        return self.made(step, name, token, ctx)

    def made(self, step: Step, name: str, token: Token, ctx: fg.Context[Any]) -> Token | None:
        """Return what a stage makes of a token after its waits, or raise its failure."""
        shape = self.shape
        if draw(shape.salt, "fail", name, token.path) < step.fail:
            raise Fault(name)
        if draw(shape.salt, "drop", name, token.path) < step.drop:
            return None
        made = token.via(name)
        if not step.reads:
            return made
        made = attrs.evolve(made, **self.ancestry(step, token, ctx))
        return attrs.evolve(made, **{"side" if self.beside(step) else "version": ctx.view.version})

    def ancestry(self, step: Step, token: Token, ctx: fg.Context[Any]) -> dict[str, Any]:
        """Return the ancestry fields of a result whose stage has read a pool."""
        if not step.names:
            # An item that carries this version already descends from the view.
            known = (token.side if self.beside(step) else token.version) == ctx.view.version
            return {"loose": token.loose | (frozenset() if known else provisional(ctx.view))}
        known = list(ctx.view.artifacts)
        chosen = known[:1] if step.names == "oldest" else known[-1:]
        ctx.parents(*chosen)
        return {"named": token.named | {(ctx.view.name, artifact) for artifact in chosen}}

    def beside(self, step: Step) -> bool:
        """Return whether a step reads the second pool."""
        return step.side and self.side is not None

    def stage(self, step: Step, group: bool = False) -> Any:
        name = self.name("gather" if group else "stage")

        async def gathered(batch: fg.Group[Token, Token], ctx: fg.Context[Any]) -> Token | None:
            members = batch.values
            oldest = min([batch.origin.version, *(m.version for m in members)])
            path = batch.origin.path + sum(place * m.path for place, m in enumerate(members, 1))
            every = (batch.origin, *members)
            named, loose = (frozenset().union(*(getattr(m, of) for m in every)) for of in ("named", "loose"))
            side = min((m.side for m in every if m.side is not None), default=None)
            return await self.work(step, name, Token(path, oldest, named, loose, side), ctx)

        async def single(token: Token, ctx: fg.Context[Any]) -> Token | None:
            return await self.work(step, name, token, ctx)

        async def several(token: Token, ctx: fg.Context[Any]) -> fg.Several[Token] | None:
            made = await self.work(step, name, token, ctx)
            return None if made is None else fg.Several([made.via(i) for i in range(step.several)])

        def at_once(token: Token, ctx: fg.Context[Any]) -> Token | None:
            return self.made(step, name, token, ctx)

        def blind(token: Token) -> Token | None:
            return self.made(step, name, token, NOTHING)

        options: dict[str, Any] = {"name": name, "workers": step.workers}
        if step.calls:
            options["model"] = step.role
        if step.reads:
            options["reads"] = self.side if self.beside(step) else self.pool
        if step.several > 1:
            options["fanout"] = step.several + self.shape.salt % 2
        if step.counts:
            options["counts"] = "evaluations"
        plain = at_once if step.reads else blind
        alone: Any = plain if step.plain and not step.calls else single
        body: Any = gathered if group else several if step.several > 1 else alone
        return self.graph.stage(**options)(body)

    def repairer(self, step: Step) -> Any:
        name = self.name("repair")

        async def repair(stale: fg.Stale[Token], ctx: fg.Context[Any]) -> fg.Verdict[Token]:
            await self.pause(self.shape.seconds(name, stale.value.path))
            assert stale.lag >= len(stale.changes) > 0
            u = draw(name, stale.value.path)
            if u < 0.2:
                return fg.Verdict.discard("generated")
            token, loose = stale.value, stale.value.loose | provisional(ctx.view)
            # ``changes`` are those of the pool with the larger lag, which may be the second one.
            side = token.side
            if side is not None and stale.lag > ctx.view.version - token.version:
                side += stale.lag
            made = attrs.evolve(token.via(name), version=ctx.view.version, side=side, loose=loose)
            return fg.Verdict.patch(made)

        counts: dict[str, Any] = {"counts": "evaluations"} if step.counts else {}
        return self.graph.stage(name=name, reads=self.pool, workers=step.workers, **counts)(repair)

    def most(self, width: int) -> int:
        """Return the declared fan-out of a scatter into ``width``: a bound that every other shape does not reach."""
        return max(1, width) + self.shape.salt % 2

    def edge(self, src: Any, dst: Any, step: Step, **options: Any) -> None:
        if step.stale in ("discard", "strict"):
            options["stale"] = fg.discard(above=2 if step.stale == "discard" else 0)
        elif step.stale == "side" and self.both:
            options["stale"] = fg.discard(above=0, of=self.side)
        elif step.stale == "refresh" and step.reads:
            options["stale"] = fg.refresh(above=0)
        elif step.stale == "repair":
            options["stale"] = fg.repair(self.repairer(step), above=0)
        elif step.stale == "touched":
            options["stale"] = fg.repair(self.repairer(step), above=0, when=_touched)
        elif step.stale == "either":
            options["stale"] = fg.discard(above=3) | fg.repair(self.repairer(step), above=1)
        if step.order and "order" not in options:
            options["order"] = fg.freshest() if step.order == "freshest" else fg.priority(_urgency)
        if step.capacity is not None:
            options["capacity"] = step.capacity
        if step.keeps:
            options["orphans"] = "keep"
        self.graph.edge(src, dst, **options)

    def segment(self, tail: Any, segment: Segment) -> Any:
        match segment:
            case Step():
                stage = self.stage(segment)
                self.edge(tail, stage, segment)
                return self.rescued(stage) if segment.caught else stage
            case Fan():
                return self.fan(tail, segment)
            case Choice() | Split():
                left, right, join = self.stage(segment.left), self.stage(segment.right), self.stage(segment.join)
                routed = isinstance(segment, Choice)
                self.edge(tail, left, segment.left, **({"when": _even} if routed else {}))
                self.edge(tail, right, segment.right, **({"otherwise": True} if routed else {}))
                self.edge(left, join, segment.join)
                self.graph.edge(right, join)
                return join
            case Loop():
                body, check = self.stage(segment.body), self.stage(segment.check)
                self.edge(tail, body, segment.body)
                self.edge(body, check, segment.check)
                self.graph.edge(check, body, when=_even, loop=segment.times)
                # This stage takes the other items, and those that have used up their passes.
                after = self.stage(Step())
                self.graph.edge(check, after, otherwise=True)
                return after

    def rescued(self, stage: Any) -> Any:
        """Add a way for the failures of a stage, and a stage at which it meets the way of the results."""
        name = self.name("rescue")

        def rescue(failed: fg.Failed[Token]) -> Token:
            assert failed.reason
            return failed.value.via(name)

        way, join = self.graph.stage(name=name)(rescue), self.stage(Step())
        self.graph.edge(stage, way, only=fg.Failed)
        self.graph.edge(stage, join)
        self.graph.edge(way, join)
        return join

    def fan(self, tail: Any, fan: Fan) -> Any:
        inner = self.stage(fan.member)
        order = _discriminating(fan)
        self.edge(tail, inner, fan.member, scatter=scatter_into(fan.width), fanout=self.most(fan.width), **order)
        for segment in fan.inner:
            inner = self.segment(inner, segment)
        if fan.other is None:
            return self.gather(inner, fan.after, fan)
        way = self.stage(fan.other[0])
        self.edge(inner, way, fan.other[0], **({"otherwise": True} if fan.apart else {}))
        join = self.stage(Step())
        self.graph.edge(self.gather(inner, fan.after, fan, **({"when": _even} if fan.apart else {})), join)
        self.graph.edge(self.gather(way, fan.other[1], fan), join)
        return join

    def gather(self, tail: Any, after: Step, fan: Fan, **options: Any) -> Any:
        """Add a stage that takes the groups of a fan."""
        stage = self.stage(after, group=True)
        options |= _early(fan)
        if after.stale in ("discard", "strict"):
            options["stale"] = fg.discard(above=2 if after.stale == "discard" else 0)
        rule = fg.fail_above(fan.fail_above) if fan.fail_above is not None else None
        # Generated repair stages take single tokens only.
        stale = {"repair": "", "touched": "", "either": "discard"}.get(after.stale, after.stale)
        step = attrs.evolve(after, order="", stale=stale)
        self.edge(tail, stage, step, gather=True, on_failure=rule, **options)
        return stage

    def source(self, name: str) -> Any:
        shape = self.shape

        def emit(ctx: fg.Draw[Any]) -> Token | None:
            views: tuple[Ledgered, ...] = ctx.view if self.both else (ctx.view,)
            seen = [fact for view in views for fact in (view.version, view.narrowed)]
            if shape.shy and ctx.open and draw(shape.salt, "shy", name, ctx.emission, *seen) < shape.shy:
                return None
            named: frozenset[tuple[str, int]] = frozenset()
            for view, pool in zip(views, pools, strict=True):
                newest = list(view.artifacts)[-1:]
                ctx.parents(*newest, of=pool)
                named |= {(view.name, artifact) for artifact in newest}
            side = views[1].version if self.both else None
            return Token(int(ctx.random.random() * 2**40), views[0].version, named, side=side)

        pools = (self.pool, self.side) if self.both and self.side is not None else (self.pool,)
        reads: Any = pools if self.both else self.pool
        return self.graph.source(name=name, reads=reads, rounds=self.shape.rounds)(emit)

    def contend(self, width: int) -> None:
        """Add a source that has the newest artifact tried on more samples."""

        def emit(ctx: fg.Draw[Ledgered]) -> Rival | None:
            newest = list(ctx.view.artifacts)[-1:]
            if not newest:
                return None
            ctx.parents(*newest)
            named = frozenset({(ctx.view.name, newest[0])})
            return Rival(newest[0], Token(int(ctx.random.random() * 2**40), ctx.view.version, named))

        def scatter(rival: Rival) -> list[Token]:
            return rival.members(width)

        source = self.graph.source(name="confirm", reads=self.pool, rounds=self.shape.rounds, evidence=True)(emit)
        measure = self.stage(Step())
        self.graph.edge(source, measure, scatter=scatter, fanout=width)
        self.graph.edge(measure, self.pool, gather=True, release=fg.fraction(0.5), late="amend")

    def finish(self, tail: Any) -> None:
        ending = self.shape.ending
        stale = fg.discard(above=ending.discard_above) if ending.discard_above is not None else None
        if not ending.width:
            self.graph.edge(tail, self.pool, stale=stale)
            return
        member = self.stage(ending.member)
        order = _discriminating(ending)
        self.edge(
            tail, member, ending.member, scatter=scatter_into(ending.width), fanout=self.most(ending.width), **order
        )
        early = _early(ending)
        self.graph.edge(member, self.pool, gather=True, stale=stale, **early)


def _discriminating(group: Fan | Ending) -> dict[str, Any]:
    """Return the options of a scattering edge that orders members by earlier passes."""
    return {"order": fg.discriminative(2, passed=_even)} if group.discriminative else {}


def _early(group: Fan | Ending) -> dict[str, Any]:
    """Return the options of a gathering edge that releases its groups early."""
    if group.late is None:
        return {}
    rules: dict[Rule, Any] = {
        "fraction": fg.fraction(group.release),
        "count": fg.count(max(1, round(4 * group.release))),
        "deadline": fg.deadline(4 * group.release),
        "decided": fg.decided(_decided),
        "sampled": fg.sampled(max(1, round(4 * group.release)), share=0.5),
    }
    return {"release": rules[group.rule], "late": group.late}


def _decided(group: fg.Group[Token, Token]) -> bool:
    return sum(map(_even, group.values)) >= 2


def _touched(token: Token, view: Ledgered) -> bool:
    return (token.path + len(view.artifacts)) % 3 > 0


def _urgency(token: Token) -> int:
    return token.path % 5


def _cancelling(segment: Segment) -> Segment:
    """Return the segment with late members cancelled, also in nested groups."""
    if not isinstance(segment, Fan):
        return segment
    inner = tuple(map(_cancelling, segment.inner))
    return attrs.evolve(segment, late=segment.late and "cancel", inner=inner)


def _even(token: Token) -> bool:
    return token.path % 2 == 0


def scatter_into(width: int) -> Any:
    """Return a function that scatters into ``width`` members; of three or more members the last two are equal."""

    def scatter(token: Token) -> Sequence[Token]:
        return [token.via("member", min(i, width - 2) if width > 2 else i) for i in range(width)]

    return scatter


def build(shape: Shape, pause: Pause = anyio.sleep) -> fg.Graph:
    """Return the graph of a shape; it passes `check` by construction, and its stages await ``pause`` for their time."""
    builder = _Builder(shape, pause)
    first = builder.source("source")
    tails = [first, builder.source("other")] if shape.second_source else [first]
    entry = builder.stage(Step())
    for tail in tails:
        builder.graph.edge(tail, entry)
    tail = entry
    if builder.side is not None:
        builder.graph.edge(entry, builder.side)
        # The next stages may route by a condition, and the copy for the pool must not take their items.
        tail = builder.segment(entry, Step())
    for place, segment in enumerate(shape.segments):
        if isinstance(segment, Fan) and any(isinstance(later, Loop) for later in shape.segments[place:]):
            # `check` refuses amendments that pass into a cycle.
            segment = _cancelling(segment)
        tail = builder.segment(tail, segment)
    builder.finish(tail)
    if shape.contends:
        builder.contend(shape.contends)
    return builder.graph
