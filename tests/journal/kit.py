"""Runs that are killed and resumed: scenarios, a server that logs its answers, and what must hold afterwards."""

from __future__ import annotations

import importlib
import json
import math
import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.graph.loading import load_graph
from flashgraph.llm.protocol import Message
from flashgraph.run import events as ev
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.store import Store
from flashgraph.run.paid_replies import request_key
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.world import World
from flashgraph.testing.invariants import check_invariants
from tests.algorithms.ace_world import World as AceWorld
from tests.journal import cyclic
from tests.journal.forks import Ended, die, in_child

for lazy in ("run.driver", "llm.cache", "llm.responses", "llm.resolve", "run.result"):
    importlib.import_module(f"flashgraph.{lazy}")  # so that a fork has them already

__all__ = [
    "SCENARIOS",
    "Finished",
    "Scenario",
    "Server",
    "admitted",
    "answers",
    "here",
    "next_loop",
    "proven",
    "rows",
    "session",
    "sound",
]

Answer = Callable[[Sequence[Message]], str]


class Server:
    """A model that logs every answer, by its request's key, before it gives it: ``log`` shows what was really paid.

    Requests are logged beside it in ``sent``.  Latencies are a hash of the request, lognormal with a median of
    ``seconds``.
    """

    def __init__(self, role: str, answer: Answer, log: Path, *, seconds: float, limit: int) -> None:
        self._role, self._answer, self._log, self._seconds = role, answer, log, seconds
        self.name, self.limit = role, limit

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._sent = os.open(self._log.with_name("sent"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            yield
        finally:
            os.close(self._file)
            os.close(self._sent)

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        # Without the parameters, because a budget adds to them.
        key = request_key(self._role, messages, {})
        os.write(self._sent, f"{key}\n".encode())
        await anyio.sleep(self._latency(key))
        text = self._answer(messages)
        os.write(self._file, f"{key}\n".encode())
        return fg.Reply(text, fg.Usage(sum(len(m["content"]) for m in messages) // 4, len(text) // 4), 0.001)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.002

    def _latency(self, key: str) -> float:
        one, two = (int(key[i : i + 12], 16) / 2**48 for i in (0, 12))
        return self._seconds * math.exp(0.8 * math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * two))


@attrs.frozen
class Scenario:
    """A run to make: the graph, its task, an answer for each role, and its budget."""

    name: str
    make: Callable[[], fg.Graph]
    task: fg.Task[Any, Any]
    roles: Mapping[str, Answer]
    budget: fg.Budget
    params: Mapping[str, Any] = attrs.field(factory=dict)
    _made: list[fg.Graph] = attrs.field(factory=list, init=False)

    def graph(self) -> fg.Graph:
        """Return the graph, made and checked once, so that a fork has it already."""
        if not self._made:
            graph = self.make()
            graph.checked()
            self._made.append(graph)
        return self._made[0]


def gepa(name: str, proposals: int, train: int, val: int) -> Scenario:
    world = World(seed=1, train=train, val=val)
    roles = dict.fromkeys(("task", "reflection"), world.answer)
    return Scenario(name, partial(load_graph, "gepa"), world.task(), roles, fg.Budget(proposals=proposals))


def ace(name: str, number: int) -> Scenario:
    world = AceWorld(number)
    roles = {role: _said(world, role) for role in ("generator", "reflector", "curator")}
    return Scenario(name, partial(load_graph, "ace"), world.task(), roles, fg.Budget(calls=100_000), world.params)


def _said(world: AceWorld, role: str) -> Answer:
    return lambda messages: world.reply(role, messages[-1]["content"])


def circle(name: str, rounds: int) -> Scenario:
    roles = dict.fromkeys(("writer", "judge"), cyclic.answer)
    return Scenario(name, partial(cyclic.build, rounds), cyclic.TASK, roles, fg.Budget(calls=100_000))


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        gepa("gepa", 4, 9, 5),
        ace("ace", 3),
        circle("cyclic", 4),
        gepa("large gepa", 25, 40, 20),
        ace("large ace", 21),
        circle("large cyclic", 25),
    )
}


@attrs.frozen
class Finished:
    """The report of a session: its result without the events, the contents of the pools, and the number of sessions in
    the log."""

    status: str
    reason: str
    spent: fg.Spent
    pools: tuple[tuple[Any, ...], ...]
    sessions: int
    lost: int
    events: int
    commits: int
    seconds: float

    @classmethod
    def of(cls, result: fg.Result, commits: int) -> Finished:
        pools = tuple(
            (a.pool, a.id, a.version, repr(a.value), a.parents, a.score, tuple(a.scores.items()), a.retracted)
            for a in result.artifacts
        )
        return cls(
            result.status, result.reason, attrs.evolve(result.spent, seconds=0.0), pools,
            1 + sum(isinstance(e, ev.Reopened) for e in result.events),
            sum(isinstance(e, ev.CallEnded) and e.how == "lost" for e in result.events),
            len(result.events), commits, result.spent.seconds,
        )  # fmt: skip


Act = Callable[[Run], Any]


async def _drive(
    scenario: Scenario,
    folder: Path,
    stores: list[Store],
    seconds: float,
    limit: int,
    act: Act | None,
    watched: bool = True,
    **options: Any,
) -> Finished:
    log = folder.parent / "answers"
    models = {r: Server(r, answer, log, seconds=seconds, limit=limit) for r, answer in scenario.roles.items()}
    options.setdefault("budget", scenario.budget)
    seen = os.open(folder.parent / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event: ev.Event) -> None:
        if isinstance(event, ev.Admitted | ev.Confirmed | ev.EvidenceAdded | ev.Retracted):
            os.write(seen, f"{event.pool} {event.version} {type(event).__name__} {event.artifact}\n".encode())

    options = {"params": scenario.params, "models": models, "on_event": hook, **options}
    async with fg.open_run(scenario.graph(), scenario.task, folder=folder, **options) as run:
        if act is not None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(act, run)
                result = await run.wait()
                tasks.cancel_scope.cancel()
        else:
            result = await run.wait()
        plan = run.machine.plan
        if watched:
            check_invariants(result.events, plan, options["budget"])
    return Finished.of(result, stores[-1].commits if stores else 0)


def _session(
    scenario: Scenario, folder: Path, on_store: Callable[[Store], None] | None, virtual: bool, **options: Any
) -> Finished:
    stores: list[Store] = []
    make = Store.__init__

    def made(store: Store, *args: Any, **named: Any) -> None:
        make(store, *args, **named)
        stores.append(store)
        if on_store is not None:
            on_store(store)

    Store.__init__ = made  # type: ignore[method-assign, assignment]
    try:
        backend = next_loop(folder)
        if virtual:
            drive = partial(_drive, scenario, folder, stores, 2.0, settle=settle, **options)
            return run_virtually(drive, backend=backend)
        return anyio.run(partial(_drive, scenario, folder, stores, 0.002, **options), backend=backend)
    finally:
        Store.__init__ = make  # type: ignore[method-assign]


def session(
    scenario: Scenario,
    folder: Path,
    *,
    kill_at: int | None = None,
    kill_answered: int | None = None,
    kill_inside: int | None = None,
    kill_after: float | None = None,
    virtual: bool = True,
    limit: int = 4,
    act: Act | None = None,
    **options: Any,
) -> Ended:
    """Run one session in a child process; resume when the folder holds a journal.

    ``kill_at`` kills the child right after that commit, ``kill_answered`` after the commit that reaches that many
    answers, and ``kill_inside`` at that statement within a transaction.  ``kill_after`` kills it from outside after
    that many seconds.  In real time the number of commits depends on the machine; the answers do not.
    """
    before = answers(folder).total()

    def on_store(store: Store) -> None:
        if kill_at is not None:
            store.on_commit = lambda count: die() if count >= kill_at else None
        if kill_answered is not None:
            store.on_commit = lambda count: die() if answers(folder).total() - before >= kill_answered else None
        if kill_inside is not None:
            told = iter(range(1, kill_inside + 1))
            store.db.set_trace_callback(lambda sql: die() if next(told, kill_inside) >= kill_inside else None)

    folder.parent.mkdir(parents=True, exist_ok=True)
    scenario.graph()
    if "resume" not in options:
        options["resume"] = begun(folder)
    run = partial(_session, scenario, folder, on_store, virtual, limit=limit, act=act, **options)
    return in_child(run, kill_after=kill_after)


def here(
    scenario: Scenario,
    folder: Path,
    *,
    on_store: Callable[[Store], None] | None = None,
    virtual: bool = True,
    limit: int = 4,
    act: Act | None = None,
    **options: Any,
) -> Finished:
    """Run one session in this process, which raises its own errors; resume when the folder holds a journal."""
    if "resume" not in options:
        options["resume"] = begun(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return _session(scenario, folder, on_store, virtual, limit=limit, act=act, **options)


def next_loop(folder: Path) -> str:
    """Return the event loop of a run's next session.

    Sessions alternate between loops, so that each resumes the work of the other.  A hash of the test's name selects the
    first one, so that half of the tests begin on trio.
    """
    try:
        sessions = rows(folder, "SELECT count(*) FROM sessions")
    except (sqlite3.Error, UnicodeError):  # some tests damage the journal or make it unreadable
        sessions = []
    name = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    number = zlib.crc32(name.encode()) + (sessions[0][0] if sessions else 0)
    return ("trio", "asyncio")[number % 2]


def begun(folder: Path) -> bool:
    """Return whether a folder holds a run that can be resumed."""
    return any(key == "graph" for (key,) in rows(folder, "SELECT key FROM meta"))


def rows(folder: Path, sql: str) -> list[Any]:
    """Return the rows of a query on a run's journal; none if there is no journal yet."""
    path = folder / JOURNAL
    if not path.exists():
        return []
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        db.close()


def answers(folder: Path, log: str = "answers") -> Counter[str]:
    """Count the server's answers by request; with ``log="sent"``, count the requests."""
    path = folder.parent / log
    return Counter(path.read_text().split()) if path.exists() else Counter()


def finished_calls(folder: Path) -> list[tuple[int, str]]:
    """Return the job and the server's request key of every call whose reply is in the journal."""
    texts = {name: zlib.decompress(data).decode() for name, data in rows(folder, "SELECT hash, data FROM payloads")}
    found = []
    for job, role, listed in rows(folder, "SELECT job, role, messages FROM calls WHERE how = 'done'"):
        messages = [{"role": who, "content": texts[name]} for who, name in json.loads(listed)]
        found.append((job, request_key(role, messages, {})))
    return found


def admitted(folder: Path) -> list[Any]:
    """Return the contents of the pools according to the journal, in order of admission."""
    what = "turn, pool, version, kind, artifact, parents, score, value"
    return rows(folder, f"SELECT {what} FROM admissions ORDER BY turn, pool, version")


def sound(folder: Path) -> None:
    """Check that a journal is intact after any kill."""
    if (folder / JOURNAL).exists():
        db = sqlite3.connect(folder / JOURNAL)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            db.close()


def proven(folder: Path) -> None:
    """Check a finished run over all of its sessions.

    No finished call was paid again.  Each answer of the server is in the journal or counted as lost.  The admissions
    that hooks saw are those of the journal.
    """
    done = Counter(finished_calls(folder))
    twice = {entry: count for entry, count in done.items() if count > 1}
    assert not twice, f"paid twice: {twice}"
    (lost,) = rows(folder, "SELECT count(*) FROM calls WHERE how IN ('lost', 'cancelled')")[0]
    paid = answers(folder)
    kept = Counter(key for _, key in done.elements())
    assert not kept - paid, "the journal has replies that the server did not give"
    assert (paid - kept).total() <= lost, f"{(paid - kept).total()} answers are nowhere, {lost} are counted as lost"
    kinds = {"admit": "Admitted", "confirm": "Confirmed", "evidence": "EvidenceAdded", "retract": "Retracted"}
    kept_steps = {
        (pool, version): (kinds[kind], str(artifact))
        for pool, version, kind, artifact in rows(folder, "SELECT pool, version, kind, artifact FROM admissions")
    }
    log = folder.parent / "seen"
    for line in log.read_text().splitlines() if log.exists() else []:
        pool, version, kind, artifact = line.split()
        assert kept_steps.get((pool, int(version))) == (kind, artifact), f"seen, and not admitted: {line}"
