"""Rebuild a machine from its turns: a fresh machine that gets the same turns reaches the same state."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flashgraph.errors import FlashgraphError
from flashgraph.llm.protocol import Load, Quota, Reply, Usage
from flashgraph.run.cause import End
from flashgraph.run.goal import Goal
from flashgraph.run.jobs import Cancel, Done, JobFailure, Start
from flashgraph.run.journal.causes import cause, cause_of_drain, cause_of_job
from flashgraph.run.journal.chain import linked
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.columns import (
    UNUSABLE,
    anything,
    count,
    damaged,
    json_of,
    maybe,
    number,
    real,
    select,
    whole,
    word,
)  # fmt: skip
from flashgraph.run.journal.jsontext import loaded
from flashgraph.run.journal.payloads import Payloads
from flashgraph.run.journal.tools import KEPT, beside_text
from flashgraph.run.journal.writer import signature
from flashgraph.run.machine import Machine
from flashgraph.run.paid_replies import PaidReplies
from flashgraph.run.plan import Capacity
from flashgraph.run.session_start import SessionStart
from flashgraph.run.turns import Answered, Asked, Completed, Measured, Turn, apply

__all__ = ["Diverged", "replay", "turns"]


class Diverged(FlashgraphError):
    """The replay diverged from the journal: a function of the graph decides differently from the run."""


def turns(db: sqlite3.Connection, path: Path, codec: Codec) -> Iterator[tuple[Turn, list[int] | None]]:
    """Yield the journal's turns in order, each with the signature of the machine after it, if it has one.

    Raises `JournalError` for a turn that is damaged, missing or altered.
    """
    payloads = Payloads(db, path)
    before = ""
    sql = "SELECT seq, at, body, chain FROM turns ORDER BY seq"
    for place, (seq, at, text, chain) in enumerate(select(db, path, "turns", (whole, real, word, anything), sql)):
        # Journals of 0.1.0 have no checksums, up to the turn where a newer version resumed them.
        before = "" if chain is None else linked(before, seq, at, text)
        if seq != place or (chain or "") != before:
            raise damaged(path, "turns", seq, "it was changed, or turns before it are missing")
        try:
            turn, signed = _turn(at, loaded(text), codec, payloads)
        except UNUSABLE as error:
            raise damaged(path, "turns", seq, error) from error
        yield turn, signed


def _turn(at: float, body: dict[str, Any], codec: Codec, payloads: Payloads) -> tuple[Turn, list[int] | None]:
    turn = Turn(
        at,
        tuple(_answered(*entry) for entry in body.get("answered", ())),
        tuple(_completed(entry, codec, payloads) for entry in body.get("completed", ())),
        tuple(Asked(*entry) for entry in body.get("asked", ())),
        _drain(body["drain"]) if "drain" in body else None,
        body.get("reopen"),
        body.get("halted", False),
        Capacity(**body["capacity"]) if "capacity" in body else None,
        body.get("tested", {}),
        tuple(Measured(name, load and Load(*load)) for name, load in body.get("measured", ())),
        Goal(**body["goal"]) if "goal" in body else None,
    )
    return turn, body["sign"]


def _answered(call: int, job: int, how: str, spent: Any, prompt: int, reply: int, usd: Any, finish: str,
              pause: Any, outage: str, estimated: bool, quotas: Sequence[Any] = ()) -> Answered:  # fmt: skip
    return Answered(
        call, job, how, spent, (prompt, reply), usd, finish, pause=pause, outage=outage, estimated=estimated,
        quotas=tuple([Quota(*quota) for quota in quotas]),
    )  # fmt: skip


def _completed(entry: list[Any], codec: Codec, payloads: Payloads) -> Completed:
    job, how, value, *more = entry
    if how == "done":
        (named,) = more
        return Completed(
            job,
            Done(
                codec.decode(value, payloads),
                None if named is None else tuple(n if isinstance(n, int) else (n[0], n[1]) for n in named),
            ),
        )
    return Completed(job, JobFailure(cause(more[0]) if more else cause_of_job(how, value), value, how))


def _drain(entry: Any) -> End:
    if isinstance(entry, str):  # schemas up to 3
        return End("stopped", cause_of_drain(entry), entry)
    why, reason = entry
    return End("stopped", cause(why), reason)


def replay(db: sqlite3.Connection, path: Path, codec: Codec, machine: Machine) -> SessionStart:
    """Replay all turns of the journal at ``path`` on a fresh machine; return what a driver needs to continue.

    Raises `Diverged` when the machine decides differently from the run, and `JournalError` for a row that cannot be
    used.
    """
    starts: dict[int, Start] = {}
    at = 0.0
    for seq, (turn, signed) in enumerate(turns(db, path, codec)):
        try:
            commands = apply(turn, machine)
        except UNUSABLE as error:  # the turn refers to something that this machine does not have
            raise _diverged(seq, turn.at, error) from error
        if signed is not None and signature(machine) != signed:
            raise _diverged(seq, turn.at)
        at = turn.at
        for completed in turn.completed:
            starts.pop(completed.job, None)
        for command in commands:
            if isinstance(command, Start):
                starts[command.job.id] = command
    # A session that ended in order may have waited after its last turn.
    sessions = select(db, path, "sessions", (whole, maybe(real)), "SELECT id, at FROM sessions")
    at = max([at, *(closed or 0.0 for _, closed in sessions)])
    cancelled = [Cancel(s.job) for s in starts.values() if s.job.cancelled and not machine.reopens(s.job)]
    payloads = Payloads(db, path)
    stream = random.Random(machine.seed)
    for row, state in select(db, path, "stream", (whole, json_of()), "SELECT id, state FROM stream"):
        try:
            version, internal, gauss = state
            stream.setstate((version, tuple(internal), gauss))
        except UNUSABLE as error:
            raise damaged(path, "stream", row, error) from error
    cursors = {name: source.state for name, source in machine.plan.sources.items()}
    for name, data in select(db, path, "sources", (word, json_of()), "SELECT name, cursor FROM sources"):
        try:
            cursors[name] = codec.decode(data, payloads)
        except UNUSABLE as error:
            raise damaged(path, "sources", name, error) from error
    return SessionStart(at, stream, cursors, (*starts.values(), *cancelled), _served(db, path, starts, payloads))


def _served(db: sqlite3.Connection, path: Path, starts: Mapping[int, Start], payloads: Payloads) -> PaidReplies:
    """Return the replies to unfinished jobs that are whole."""
    served = PaidReplies()
    sql = (
        "SELECT id, request, reply, model, prompt_tokens, completion_tokens, usd, finish, tools FROM calls "
        f"WHERE job = ? AND how = 'done' AND {KEPT} ORDER BY id"
    )
    expected = (whole, word, word, maybe(word), count, count, maybe(number), word, beside_text)
    for job in starts:
        for _, key, text, model, *counts, usd, finish, parts in select(db, path, "calls", expected, sql, job):
            reply = Reply(payloads(text), Usage(*counts), usd, finish, model, **parts)
            served.add(job, key, reply)
    return served


def _diverged(turn: int, at: float, error: Exception | None = None) -> Diverged:
    why = f" ({type(error).__name__}: {error})" if error is not None else ""
    return Diverged(
        f"the replay diverged from the journal at turn {turn} (second {at:.1f}){why}: a function that routes, "
        "scatters, orders, releases or admits decides otherwise now.\n"
        "Fix: resume with the graph, the pools and the version of flashgraph that the run was made with."
    )
