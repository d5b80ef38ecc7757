"""Generated graphs: shapes as plain data, and the graph that a shape builds.

Values are tokens whose number is a hash of the way they took; latencies, failures and filtered results are hashes of
it too, so a run depends on nothing but its shape, its schedule and its seeds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
import attrs

import flashgraph as fg
from flashgraph.graph.dsl import PoolNode

__all__ = ["Choice", "Ending", "Fan", "Ledgered", "Loop", "Rule", "Segment", "Shape", "Split", "Step", "Token", "build"]


def draw(*key: object) -> float:
    """A number in [0, 1) that is a hash of ``key``."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6], "big") / 2**48


@attrs.frozen
class Token:
    """``path`` is a hash of the way here, ``version`` the version of the pool that its data comes from, ``side`` that
    of the second pool; ``named`` are the artifacts (pool, number) that were named as parents on that way, and ``loose``
    those that were provisional in what was read without naming any."""

    path: int
    version: int
    named: frozenset[tuple[str, int]] = frozenset()
    loose: frozenset[tuple[str, int]] = frozenset()
    side: int | None = None

    def via(self, *key: object) -> Token:
        return attrs.evolve(self, path=int(draw(self.path, *key) * 2**40))


@attrs.frozen
class Rival(fg.Contender):
    """An artifact that is tried on more, and the token that its members are made of."""

    token: Token

    def members(self, width: int) -> list[Token]:
        return [self.token.via("rival", i) for i in range(width)]


@attrs.frozen
class Ledgered:
    """A pool that counts its versions itself and keeps what reaches ``threshold`` (a hash in [0, 1)).

    ``strays`` are the artifacts whose parents were not those of this pool that their tokens name; ``narrowed`` says
    that this view was asked to show the best line alone.
    """

    threshold: float = 0.0
    name: str = "pool"
    version: int = 0
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)
    strays: tuple[int, ...] = ()
    narrowed: bool = False

    def apply(self, event: fg.PoolEvent[Token | fg.Group[Token, Token] | fg.Group[Rival, Token]]) -> Ledgered:
        value = event.value
        if isinstance(value, fg.Group) and isinstance(value.origin, Rival):
            return self._learned(event.artifact, value.values)
        tokens = (value,) if isinstance(value, Token) else value.values
        whole = tokens if isinstance(value, Token) else (value.origin, *value.values)
        named = {artifact for token in whole for pool, artifact in token.named if pool == self.name}
        stray = event.kind != "retract" and sorted(event.parents) != sorted(named)
        score = sum(draw(t.path, "score") for t in tokens) / len(tokens) if tokens else 0.0
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if score >= self.threshold and event.kind != "retract":
            rest[event.artifact] = fg.Artifact(event.artifact, score, event.parents, score, provisional=event.partial)
        elif event.kind == "admit":
            return self
        strays = (*self.strays, event.artifact) if stray else self.strays
        return attrs.evolve(self, version=self.version + 1, artifacts=dict(sorted(rest.items())), strays=strays)

    def _learned(self, artifact: int, tokens: Sequence[Token]) -> Ledgered:
        """With more evidence for an artifact: none where nothing has arrived, or the artifact is gone."""
        before = self.artifacts.get(artifact)
        if before is None or not tokens:
            return self
        score = ((before.score or 0.0) + sum(draw(t.path, "score") for t in tokens)) / (1 + len(tokens))
        held = {**self.artifacts, artifact: attrs.evolve(before, score=score)}
        return attrs.evolve(self, version=self.version + 1, artifacts=held)

    def best(self) -> fg.Artifact | None:
        return max(self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def focus(self) -> Ledgered:
        return attrs.evolve(self, narrowed=True)


class _Brief:
    """Shown without what is as it is by default: reports of failing examples are read by people."""

    def __repr__(self) -> str:
        shown = []
        for place in attrs.fields(type(self)):  # type: ignore[arg-type]  # those below are attrs classes
            value = getattr(self, place.name)
            if place.default is attrs.NOTHING:
                shown.append(repr(value))
            elif value != place.default:
                shown.append(f"{place.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


Rule = Literal["fraction", "count", "deadline", "decided", "sampled"]


@attrs.frozen(repr=False)
class Step(_Brief):
    """One stage.  ``fail`` and ``drop`` are shares of items it fails on or filters; ``calls`` model calls it makes."""

    fail: float = 0.0
    drop: float = 0.0
    calls: int = 0
    reads: bool = False
    side: bool = False
    """Whether what it reads is the second pool, in a shape that has one."""
    names: Literal["", "oldest", "newest"] = ""
    """Which of the artifacts that it reads it names as a parent of what it makes."""
    workers: int | None = None
    several: int = 1
    stale: str = ""
    """How its in-edge treats stale items: ``""``, ``"discard"``, ``"strict"`` (discard at any lag), ``"repair"``,
    ``"touched"`` (repair under a condition), ``"either"`` (discard, or else repair) or ``"refresh"`` (needs ``reads``).
    """
    capacity: int | None = None
    order: Literal["", "freshest", "priority"] = ""
    spends: bool = False
    """Whether each of its jobs is an evaluation."""
    keeps: bool = False
    """Whether its in-edge keeps orphans."""
    plain: bool = False
    """Whether it is no coroutine, and takes no time, where it calls no model."""


@attrs.frozen(repr=False)
class Fan(_Brief):
    """A stage on each of ``width`` members, more segments inside, and a stage behind the gather."""

    width: int
    member: Step
    inner: tuple[Segment, ...]
    after: Step
    release: float = 1.0
    late: Literal["cancel", "drop", "amend"] | None = None
    fail_above: float | None = None
    discriminative: bool = False
    rule: Rule = "fraction"
    other: tuple[Step, Step] | None = None
    """A stage on the way to a second gather of the same members, and the stage behind that; both groups go on."""
    apart: bool = False
    """Whether each member goes to one of the two gathers only."""


@attrs.frozen(repr=False)
class Choice(_Brief):
    """Two ways, by a condition and ``otherwise``, that meet again."""

    left: Step
    right: Step
    join: Step


@attrs.frozen(repr=False)
class Split(_Brief):
    """Both ways at once, that meet again: each item becomes two."""

    left: Step
    right: Step
    join: Step


@attrs.frozen(repr=False)
class Loop(_Brief):
    """A stage and a check that sends some items back, at most ``times``."""

    times: int
    body: Step
    check: Step


Segment = Step | Fan | Choice | Split | Loop


@attrs.frozen(repr=False)
class Ending(_Brief):
    """How the pool is reached: directly, or by a group of ``width`` that may be released early and amended."""

    width: int = 0
    member: Step = Step()
    release: float = 1.0
    late: Literal["cancel", "drop", "amend"] | None = None
    discard_above: int | None = None
    threshold: float = 0.0
    rule: Rule = "fraction"
    discriminative: bool = False


@attrs.frozen(repr=False)
class Shape(_Brief):
    """A whole graph: one or two sources that share the way to one pool.  With ``second_pool`` the first stage's
    results go to another pool too.

    ``latency`` names a distribution of stage and call times: ``"zero"``, ``"constant"``, ``"long-tail"`` or
    ``"bimodal"``.
    """

    segments: tuple[Segment, ...]
    ending: Ending = Ending()
    rounds: int = 4
    second_source: bool = False
    second_pool: bool = False
    latency: str = "long-tail"
    salt: int = 0
    refused: float = 0.0
    """The share of requests that fail for good, half of them by a timeout."""
    shy: float = 0.0
    """The share of views that the sources find nothing to draw from while other rounds of theirs are open."""

    contends: int = 0
    """The members on which the newest artifact is tried once more; 0 for none."""

    def fate(self, request: str) -> str:
        """How a request ends: ``"answered"``, ``"failed"`` at once or ``"timeout"``."""
        u = draw(self.salt, "refused", request)
        return "answered" if u >= self.refused else "failed" if u < self.refused / 2 else "timeout"

    def seconds(self, *key: object) -> float:
        """A latency for ``key``."""
        u = draw(self.salt, "latency", *key)
        match self.latency:
            case "zero":
                return 0.0
            case "constant":
                return 1.0
            case "bimodal":
                return 0.5 if u < 0.8 else 30.0
            case _:
                # Sixty-fourths add up without rounding: equal instants are equal on every clock.
                return round(64 * math.exp(3 * (u - 0.5)) + (2560 if u > 0.97 else 0)) / 64


Pause = Callable[[float], Awaitable[None]]

NOTHING: Any = None
"""For the context of a stage that looks at none."""


class Fault(Exception):
    """What generated stages raise."""


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

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    async def work(self, step: Step, name: str, token: Token, at: fg.Context[Any]) -> Token | None:
        for call in range(step.calls):
            await at.llm(f"{name} {token.path} {call}")
        await self.pause(self.shape.seconds(name, token.path))
        return self.made(step, name, token, at)

    def made(self, step: Step, name: str, token: Token, at: fg.Context[Any]) -> Token | None:
        """What a stage makes of a token when it has waited for all that it waits for."""
        shape = self.shape
        if draw(shape.salt, "fail", name, token.path) < step.fail:
            raise Fault(name)
        if draw(shape.salt, "drop", name, token.path) < step.drop:
            return None
        made = token.via(name)
        if not step.reads:
            return made
        made = attrs.evolve(made, **self.ancestry(step, token, at))
        return attrs.evolve(made, **{"side" if self.beside(step) else "version": at.view.version})

    def ancestry(self, step: Step, token: Token, at: fg.Context[Any]) -> dict[str, Any]:
        """What a result says of its ancestry, when its stage has read a pool."""
        if not step.names:
            # What was read at this version before has said what it descends from.
            known = (token.side if self.beside(step) else token.version) == at.view.version
            return {"loose": token.loose | (frozenset() if known else provisional(at.view))}
        known = list(at.view.artifacts)
        chosen = known[:1] if step.names == "oldest" else known[-1:]
        at.uses(*chosen)
        return {"named": token.named | {(at.view.name, artifact) for artifact in chosen}}

    def beside(self, step: Step) -> bool:
        """Whether a step reads the second pool."""
        return step.side and self.side is not None

    def stage(self, step: Step, group: bool = False) -> Any:
        name = self.name("gather" if group else "stage")

        async def gathered(batch: fg.Group[Token, Token], at: fg.Context[Any]) -> Token | None:
            members = batch.values
            oldest = min([batch.origin.version, *(m.version for m in members)])
            path = batch.origin.path + sum(place * m.path for place, m in enumerate(members, 1))
            every = (batch.origin, *members)
            named, loose = (frozenset().union(*(getattr(m, of) for m in every)) for of in ("named", "loose"))
            side = min((m.side for m in every if m.side is not None), default=None)
            return await self.work(step, name, Token(path, oldest, named, loose, side), at)

        async def single(token: Token, at: fg.Context[Any]) -> Token | None:
            return await self.work(step, name, token, at)

        async def several(token: Token, at: fg.Context[Any]) -> fg.Several[Token] | None:
            made = await self.work(step, name, token, at)
            return None if made is None else fg.Several([made.via(i) for i in range(step.several)])

        def at_once(token: Token, at: fg.Context[Any]) -> Token | None:
            return self.made(step, name, token, at)

        def blind(token: Token) -> Token | None:
            return self.made(step, name, token, NOTHING)

        options: dict[str, Any] = {"name": name, "workers": step.workers}
        if step.calls:
            options["llm"] = "model"
        if step.reads:
            options["reads"] = self.side if self.beside(step) else self.pool
        if step.several > 1:
            options["fanout"] = step.several + self.shape.salt % 2
        if step.spends:
            options["spends"] = "evaluations"
        plain = at_once if step.reads else blind
        alone: Any = plain if step.plain and not step.calls else single
        body: Any = gathered if group else several if step.several > 1 else alone
        return self.graph.stage(**options)(body)

    def repairer(self, step: Step) -> Any:
        name = self.name("repair")

        async def repair(stale: fg.Stale[Token], at: fg.Context[Any]) -> fg.Verdict[Token]:
            await self.pause(self.shape.seconds(name, stale.value.path))
            assert stale.lag >= len(stale.changes) > 0
            u = draw(name, stale.value.path)
            if u < 0.2:
                return fg.Verdict.discard("generated")
            token, loose = stale.value, stale.value.loose | provisional(at.view)
            # Told what has changed in the pool that it lags behind most, which may be the other one.
            side = token.side
            if side is not None and stale.lag > at.view.version - token.version:
                side += stale.lag
            made = attrs.evolve(token.via(name), version=at.view.version, side=side, loose=loose)
            return fg.Verdict.patch(made)

        spends: dict[str, Any] = {"spends": "evaluations"} if step.spends else {}
        return self.graph.stage(name=name, reads=self.pool, workers=step.workers, **spends)(repair)

    def most(self, width: int) -> int:
        """The fan-out that is declared of a scatter into ``width``: a bound, which every other shape does not reach."""
        return max(1, width) + self.shape.salt % 2

    def edge(self, src: Any, dst: Any, step: Step, **options: Any) -> None:
        if step.stale in ("discard", "strict"):
            options["stale"] = fg.discard(above=2 if step.stale == "discard" else 0)
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
                return stage
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
                # What follows takes the others, and those whose passes are used up.
                after = self.stage(Step())
                self.graph.edge(check, after, otherwise=True)
                return after

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
        """A stage that takes the groups of a fan."""
        stage = self.stage(after, group=True)
        options |= _early(fan)
        if after.stale in ("discard", "strict"):
            options["stale"] = fg.discard(above=2 if after.stale == "discard" else 0)
        rule = fg.fail_above(fan.fail_above) if fan.fail_above is not None else None
        # The generated repair stages take single tokens.
        stale = {"repair": "", "touched": "", "either": "discard"}.get(after.stale, after.stale)
        step = attrs.evolve(after, order="", stale=stale)
        self.edge(tail, stage, step, gather=True, on_failure=rule, **options)
        return stage

    def source(self, name: str) -> Any:
        shape = self.shape

        def emit(at: fg.Draw[Ledgered]) -> Token | None:
            view = (at.view.version, at.view.narrowed)
            if shape.shy and at.open and draw(shape.salt, "shy", name, at.emission, *view) < shape.shy:
                return None
            newest = list(at.view.artifacts)[-1:]
            at.uses(*newest)
            named = frozenset((at.view.name, artifact) for artifact in newest)
            return Token(int(at.random.random() * 2**40), at.view.version, named)

        return self.graph.source(name=name, reads=self.pool, rounds=self.shape.rounds)(emit)

    def contend(self, width: int) -> None:
        """A second source, which has the newest artifact tried on more."""

        def emit(at: fg.Draw[Ledgered]) -> Rival | None:
            newest = list(at.view.artifacts)[-1:]
            if not newest:
                return None
            at.uses(*newest)
            named = frozenset({(at.view.name, newest[0])})
            return Rival(newest[0], Token(int(at.random.random() * 2**40), at.view.version, named))

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
    """The options by which a scattering edge sends members out by what earlier ones have passed."""
    return {"order": fg.discriminative(2, passed=_even)} if group.discriminative else {}


def _early(group: Fan | Ending) -> dict[str, Any]:
    """The options by which a gathering edge releases its groups early."""
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


def provisional(view: Ledgered) -> frozenset[tuple[str, int]]:
    """The artifacts of a view whose evidence is not complete."""
    return frozenset((view.name, artifact.id) for artifact in view.artifacts.values() if artifact.provisional)


def _decided(group: fg.Group[Token, Token]) -> bool:
    return sum(map(_even, group.values)) >= 2


def _touched(token: Token, view: Ledgered) -> bool:
    return (token.path + len(view.artifacts)) % 3 > 0


def _urgency(token: Token) -> int:
    return token.path % 5


def _cancelling(segment: Segment) -> Segment:
    """The segment with late members cancelled, also in the groups inside of it."""
    if not isinstance(segment, Fan):
        return segment
    inner = tuple(map(_cancelling, segment.inner))
    return attrs.evolve(segment, late=segment.late and "cancel", inner=inner)


def _even(token: Token) -> bool:
    return token.path % 2 == 0


def scatter_into(width: int) -> Any:
    """Scatters into different members, but for the last two of three or more: equal values are different members."""

    def scatter(token: Token) -> Sequence[Token]:
        return [token.via("member", min(i, width - 2) if width > 2 else i) for i in range(width)]

    return scatter


def build(shape: Shape, pause: Pause = anyio.sleep) -> fg.Graph:
    """The graph of a shape; it passes `check` by construction.  Its stages take their time by awaiting ``pause``."""
    builder = _Builder(shape, pause)
    first = builder.source("source")
    tails = [first, builder.source("other")] if shape.second_source else [first]
    entry = builder.stage(Step())
    for tail in tails:
        builder.graph.edge(tail, entry)
    tail = entry
    if builder.side is not None:
        builder.graph.edge(entry, builder.side)
        # What follows may route by conditions, which the copy for the pool would leave nothing for.
        tail = builder.segment(entry, Step())
    for place, segment in enumerate(shape.segments):
        if isinstance(segment, Fan) and any(isinstance(later, Loop) for later in shape.segments[place:]):
            # `check` refuses amendments that go on into a cycle.
            segment = _cancelling(segment)
        tail = builder.segment(tail, segment)
    builder.finish(tail)
    if shape.contends:
        builder.contend(shape.contends)
    return builder.graph
