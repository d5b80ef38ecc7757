"""The machine as it was, from its turns: whoever is told the same has become the same."""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flashgraph.errors import FlashgraphError
from flashgraph.llm.protocol import Load, Quota, Reply, Usage
from flashgraph.run.goal import Goal
from flashgraph.run.jobs import Cancel, Done, Failed, Start
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.jsontext import loaded
from flashgraph.run.journal.writer import signature
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity
from flashgraph.run.resumed import Resumed, Served
from flashgraph.run.turns import Answered, Asked, Completed, Measured, Turn, apply

__all__ = ["Diverged", "Payloads", "replay", "turns"]


class Diverged(FlashgraphError):
    """The graph's functions decide otherwise than when the run was made: it cannot be told again."""


class Payloads:
    """The texts that were put aside, by their hashes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._last:
            found = self._db.execute("SELECT data FROM payloads WHERE hash = ?", (name,)).fetchone()
            if found is None:
                raise ValueError(f"the text {name} is missing")
            if len(self._last) > 1000:
                self._last.clear()
            self._last[name] = zlib.decompress(found[0]).decode(errors="surrogatepass")
        return self._last[name]


def turns(db: sqlite3.Connection, codec: Codec) -> Iterator[tuple[Turn, list[int] | None]]:
    """The journal's turns in their order, each with the signature of the machine after it, if it has one."""
    payloads = Payloads(db)
    for at, text in db.execute("SELECT at, body FROM turns ORDER BY seq"):
        body = loaded(text)
        yield (
            Turn(
                at,
                tuple(_answered(*entry) for entry in body.get("answered", ())),
                tuple(_completed(entry, codec, payloads) for entry in body.get("completed", ())),
                tuple(Asked(*entry) for entry in body.get("asked", ())),
                body.get("drain"),
                body.get("reopen"),
                body.get("halted", False),
                Capacity(**body["capacity"]) if "capacity" in body else None,
                body.get("tested", {}),
                tuple(Measured(name, load and Load(*load)) for name, load in body.get("measured", ())),
                Goal(**body["goal"]) if "goal" in body else None,
            ),
            body["sign"],
        )  # fmt: skip


def _answered(call: int, job: int, how: str, spent: Any, prompt: int, reply: int, usd: Any, finish: str,
              pause: Any, outage: str, estimated: bool, quotas: Sequence[Any] = ()) -> Answered:  # fmt: skip
    return Answered(
        call, job, how, spent, (prompt, reply), usd, finish, pause=pause, outage=outage, estimated=estimated,
        quotas=tuple([Quota(*quota) for quota in quotas]),
    )  # fmt: skip


def _completed(entry: list[Any], codec: Codec, payloads: Payloads) -> Completed:
    job, how, value, *uses = entry
    if how == "done":
        (named,) = uses
        return Completed(job, Done(codec.decode(value, payloads), None if named is None else tuple(named)))
    return Completed(job, Failed(value, how))


def replay(db: sqlite3.Connection, codec: Codec, machine: Machine) -> Resumed:
    """Tell a fresh machine all turns; returns what a driver needs to go on.

    Raises `Diverged` when the machine does not go the way that it went.
    """
    starts: dict[int, Start] = {}
    at = 0.0
    for number, (turn, signed) in enumerate(turns(db, codec)):
        try:
            commands = apply(turn, machine)
        except KeyError as error:
            raise _diverged(number, turn.at) from error
        if signed is not None and signature(machine) != signed:
            raise _diverged(number, turn.at)
        at = turn.at
        for completed in turn.completed:
            starts.pop(completed.job, None)
        for command in commands:
            if isinstance(command, Start):
                starts[command.job.id] = command
    # A session that ended in order may have waited since its last turn.
    (closed,) = db.execute("SELECT max(at) FROM sessions").fetchone()
    at = max(at, closed or 0.0)
    cancelled = [Cancel(s.job) for s in starts.values() if s.job.cancelled and not machine.reopens(s.job)]
    stream = random.Random(machine.seed)
    if (state := db.execute("SELECT state FROM stream").fetchone()) is not None:
        version, internal, gauss = loaded(state[0])
        stream.setstate((version, tuple(internal), gauss))
    payloads = Payloads(db)
    cursors = {name: source.cursor for name, source in machine.plan.sources.items()}
    for name, text in db.execute("SELECT name, cursor FROM sources"):
        cursors[name] = codec.decode(loaded(text), payloads)
    return Resumed(at, stream, cursors, (*starts.values(), *cancelled), _served(db, starts, payloads))


def _served(db: sqlite3.Connection, starts: Mapping[int, Start], payloads: Payloads) -> Served:
    """Replies that jobs which did not end have had; not those with calls of tools, which a journal does not keep."""
    served = Served()
    for job in starts:
        rows = db.execute(
            "SELECT request, reply, model, prompt_tokens, completion_tokens, usd, finish FROM calls "
            "WHERE job = ? AND how = 'done' AND finish != 'tool_calls' ORDER BY id",
            (job,),
        )
        for key, text, model, prompt, completion, usd, finish in rows:
            served.add(job, key, Reply(payloads(text), Usage(prompt, completion), usd, finish, model))
    return served


def _diverged(turn: int, at: float) -> Diverged:
    return Diverged(
        f"turn {turn} of the journal (second {at:.1f}): told again, the run goes another way than it went. A function "
        "that routes, scatters, orders, releases or admits decides otherwise now.\n"
        "Fix: resume with the graph, the pools and the version of flashgraph that the run was made with."
    )
