"""Replay every admission of an ACE run on plain data, and check its properties."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.parts import Checkpoints
from flashgraph.parts.ace import Delta, Merged, Operation, Playbook, PlaybookStart, Tags, digest
from flashgraph.run import events as ev
from flashgraph.sim.clock import settle
from flashgraph.testing.invariants import check_invariants
from tests.algorithms import ace_world
from tests.algorithms.ace_book import Book
from tests.algorithms.ace_world import World

ROLES = ("generator", "reflector", "curator")
KEYS = ("helpful", "harmful")
STALE = "a change of a line that is another by now"


class SlowModel:
    """A role of a world whose replies each take their own time, up to ``longest`` seconds."""

    def __init__(self, world: World, role: str, limit: int, longest: float, seed: int) -> None:
        self.name, self.limit = role, limit
        self._world, self._longest, self._seed = world, longest, seed

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        prompt = messages[-1]["content"]
        # A long tail: most replies are quick, and a few are very slow.
        share = ace_world.digest(self._seed, self.name, prompt) % 1000 / 1000
        await anyio.sleep(0.1 + self._longest * share**4)
        return fg.Reply(self._world.reply(self.name, prompt), fg.Usage(10, 5), 0.0)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.0


@attrs.define
class Replay:
    """The expected playbook, admission by admission."""

    world: World
    book: Book = attrs.field()
    trained: int = 0
    present: set[str] = attrs.field(factory=set)
    gone: set[str] = attrs.field(factory=set)
    conflicts: int = 0
    """Deltas that named a line which had changed before their admission."""
    samples: set[int] = attrs.field(factory=set)
    """The indices of the training samples whose deltas were admitted."""

    @book.default
    def _started(self) -> Book:
        return Book(self.world.task().seed["playbook"], self.world.params["budget_tokens"])

    def admitted(self, value: object, repairs: int, playbook: Playbook) -> None:
        """Check an admission; ``playbook`` is the value after it."""
        before = self.counted()
        match value:
            case PlaybookStart():
                pass
            case Tags():
                living: list[str] = [tag for bullet, tag in value.counts if self.book.resolved(bullet) is not None]
                assert self.book.tag(value.counts)
                assert self.counted() == tuple(before[i] + living.count(k) for i, k in enumerate(KEYS))
            case Delta():
                self._edited(value, repairs)
            case Merged(ids, text, seen):
                self.book.edit([self._readable(Operation.merge(ids, text, seen))], self.trained)
            case _:
                raise AssertionError(value)
        assert shown(playbook) == self.book.state()
        self._ids(playbook)

    def filtered(self, value: object) -> None:
        """Check an admission without effect: only tags of removed lines, or neutral ones, may be such."""
        assert isinstance(value, Tags)
        assert not self.book.tag(value.counts)

    def counted(self) -> tuple[int, ...]:
        """The sums of the counters."""
        return tuple(sum(b[k] for b in self.book.bullets) for k in KEYS)

    def _edited(self, delta: Delta, repairs: int) -> None:
        operations = [self._readable(operation) for operation in delta.operations]
        changed = operations.count(STALE)
        # The curator saw a conflict once again; only a line that has changed since then is refused.
        assert not changed or repairs == 1
        self.conflicts += bool(changed)
        before, counted = list(map(dict, self.book.bullets)), self.counted()
        self.trained += 1
        self.samples.add(delta.sample)
        self.book.edit(operations, self.trained)
        left = [b for b in before if self.book.resolved(b["id"]) is None]
        assert self.counted() == tuple(counted[i] - sum(b[k] for b in left) for i, k in enumerate(KEYS))

    def _changed(self, operation: Operation) -> bool:
        texts = {b["id"]: b["text"] for b in self.book.bullets}
        return any(
            bullet not in texts or digest(texts[bullet]) != seen
            for bullet, seen in zip(operation.ids, operation.seen, strict=True)
        )

    def _readable(self, operation: Operation) -> Any:
        """Return an operation as `Book` reads it, or a refusal if its lines have changed."""
        if self._changed(operation):
            return STALE
        named = {"bullet_id": operation.ids[0]} if len(operation.ids) == 1 else {"source_ids": operation.ids}
        fields = {"type": operation.kind, "content": operation.text, "section": operation.section}
        return {**fields, **(named if operation.ids else {})}

    def _ids(self, playbook: Playbook) -> None:
        """Check that no id is reused, and that a new id has a new number."""
        now = {b.id for b in playbook.bullets}
        self.gone |= self.present - now
        self.present = now
        assert not now & self.gone
        numbers = [int(b.id[-5:]) for b in playbook.bullets]
        assert len(set(numbers)) == len(numbers)
        assert max(numbers, default=0) <= playbook.numbered


def shown(playbook: Playbook) -> Any:
    """Return the playbook in the form of `Book.state`."""
    bullets = [(b.id, b.section, b.text, b.helpful, b.harmful) for b in playbook.bullets]
    return (
        bullets,
        list(playbook.template),
        dict(playbook.aliases),
        playbook.numbered,
        playbook.trained,
        len(playbook.refused),
        [b.id for b in playbook.evicted],
    )


@attrs.frozen
class Finished:
    """A run, replayed to its end."""

    result: fg.Result
    replay: Replay
    playbook: Playbook
    scores: Checkpoints
    open: int
    """Requests still in flight."""


class Kept(dict[int, Any]):
    """Keeps deleted entries, because events are published when durable, and the machine may be ahead by then."""

    def __init__(self, values: Mapping[int, Any] | None = None) -> None:
        super().__init__(values or {})
        self.every = dict(self)

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.every[key] = value


async def run_replayed(
    world: World,
    schedule: fg.Schedule | str,
    *,
    limit: int = 64,
    longest: float = 10.0,
    seed: int = 0,
    budget: fg.Budget | None = None,
    params: Mapping[str, Any] | None = None,
) -> Finished:
    """Run ACE on a world under virtual time, compare every admission with plain data, and check I1 to I10."""
    replay, items = Replay(world), dict[int, Any]()
    made, values = Kept(), Kept()
    models = {role: SlowModel(world, role, limit, longest, seed) for role in ROLES}

    def watch(event: ev.Event) -> None:
        if isinstance(event, ev.Created) and event.edge.endswith("->playbook"):
            items[event.item] = made.every[event.item]
        elif isinstance(event, ev.Created) and event.edge == "select->validate" and event.group is None:
            snapshot = made.every[event.item].value
            # A window is tested before the training uses any of its samples.
            early = snapshot.split == "val" or not replay.samples & set(snapshot.indices)
            failures.extend([] if early else [f"snapshot {snapshot.step} has seen its window"])
        elif isinstance(event, ev.Admitted) and event.pool == "playbook":
            tell(lambda: replay.admitted(items[event.item].value, items[event.item].repairs, pool(event.version)))
        elif isinstance(event, ev.Ended) and event.item in items and event.how == "filtered":
            tell(lambda: replay.filtered(items[event.item].value))

    def pool(version: int) -> Playbook:
        value: Playbook = values.every[version]
        return value

    # A hook that raises is only logged, so its findings are kept for the end.
    failures: list[object] = []

    def tell(check: Any) -> None:
        try:
            check()
        except AssertionError as error:
            failures.append(error)

    async with fg.open_run(
        "ace",
        world.task(),
        models=models,
        schedule=schedule,
        params={**world.params, **(params or {})},
        seed=seed,
        budget=budget or fg.Budget(calls=100_000),
        settle=settle,
        on_event=watch,
        target_score=math.inf,
    ) as run:
        made = run.machine.flow.places.items = Kept()
        values = run.machine.pools["playbook"]._views = Kept(run.machine.pools["playbook"]._views)
        result = await run.wait()
    if failures:
        raise failures[0] if isinstance(failures[0], AssertionError) else AssertionError(failures[0])
    check_invariants(result.events, run.machine.plan, budget)
    started = sum(isinstance(e, ev.CallStarted) for e in result.events)
    ended = sum(isinstance(e, ev.CallEnded) for e in result.events)
    return Finished(
        result, replay, run.machine.pools["playbook"].value, run.machine.pools["scores"].value, started - ended
    )
