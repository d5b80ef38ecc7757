"""Write a run's turns, calls and admissions as rows."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import zlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
import attrs

from flashgraph.llm.messages import said_in
from flashgraph.llm.rates import rate_text
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause, End
from flashgraph.run.jobs import Done
from flashgraph.run.journal.chain import linked
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.collected import Collected, is_failure
from flashgraph.run.journal.columns import json_of, select, word
from flashgraph.run.journal.header import BUDGET, Header
from flashgraph.run.journal.jsontext import dumped
from flashgraph.run.journal.mark import Mark
from flashgraph.run.journal.payloads import LONGEST, named
from flashgraph.run.journal.seal import SEAL, seal
from flashgraph.run.journal.standings import Standings
from flashgraph.run.journal.store import PATIENCE, JournalError, Statement, Store, fetched
from flashgraph.run.journal.tools import written
from flashgraph.run.machine import Machine
from flashgraph.run.turns import Answered, Completed, Turn

__all__ = ["ID", "JournalWriter", "durable", "signature"]

_log = logging.getLogger("flashgraph")

KEPT = {
    ev.Admitted, ev.Confirmed, ev.EvidenceAdded, ev.Retracted, ev.ChampionChanged, ev.JobEnded, ev.EdgeFailed,
    ev.CallEnded, ev.LimitChanged, ev.RateLearned, ev.EndpointDown, ev.EndpointUp,
}  # fmt: skip
"""Events that get rows of their own."""

Changed = ev.Admitted | ev.Confirmed | ev.EvidenceAdded | ev.Retracted
KINDS: Mapping[type[ev.Event], str] = {
    ev.Admitted: "admit", ev.Confirmed: "confirm", ev.EvidenceAdded: "evidence", ev.Retracted: "retract",
}  # fmt: skip
"""The ``kind`` of rows in the table ``admissions``."""
ID = "id"
"""The key of the ``meta`` table for a journal's own name."""

NO_JOB = -1
"""The job number of a failure of a function on an edge."""


def signature(machine: Machine) -> list[int]:
    """Return counters of a machine's state.  Replays of the same turns agree in them; diverged ones soon differ."""
    return [*machine.counts(), *(pool.version for pool in machine.pools.values())]


class JournalWriter:
    """Write what a run does into its journal.

    The journal has ``turns`` already, the last one with the checksum ``chain``.  ``patient`` is for virtual clocks: the
    writer blocks for every commit, because virtual time would advance if all tasks slept.
    """

    def __init__(self, store: Store, codec: Codec, *, turns: int = 0, chain: str = "", patient: bool = False) -> None:
        self._store = store
        self._chain = chain
        self._id = ""
        self._tests = 0
        self._codec = codec
        self._loose = codec.loose()
        self.patient = patient
        self._turn = turns
        self._known: set[str] = set()
        self._events: list[ev.Event] = []
        self._collected = Collected()
        self._started: dict[int, ev.CallStarted] = {}
        self._stages: dict[int, str] = {}
        self._account = ""
        self._standings = Standings()
        self._session = 0

    def begin(self, header: Header) -> None:
        """Store the settings that the run is started with.  Raises `JournalError`."""
        rows = dict(header.rows()) | _sealed(header) | self._identified()
        self._store.put([("INSERT INTO meta VALUES (?, ?)", row) for row in rows.items()]).result()
        self._store.settle()

    def renew(self, header: Header) -> None:
        """Store the settings of a resumed run: prices, budget, task, and the command line, if it has one.

        The limits of the first session stay stored, because a replay needs them.  Raises `JournalError`.
        """
        rows = dict(header.rows())
        new = {name: rows[name] for name in ("prices", "task", "made_of")} | {BUDGET: rows["limits"]}
        new |= {"order": rows["order"], **_sealed(header)} if header.order else {}
        new |= self._identified()
        self._store.put([("INSERT OR REPLACE INTO meta VALUES (?, ?)", row) for row in new.items()]).result()
        self._store.settle()

    def _identified(self) -> dict[str, str]:
        """Return the journal's name, to which marks refer: a journal that replaces it has another name."""
        sql = "SELECT key, value FROM meta WHERE key = ?"
        found = select(self._store.db, self._store.path, "meta", (word, json_of(word)), sql, ID)
        self._id = next((id for _, id in found), None) or secrets.token_hex(8)
        return {ID: dumped(self._id)}

    def mark(self, spent: Mapping[str, float], *, test: int = 0) -> Mark:
        """Return the journal's length with all rows put so far; ``test`` is the number of a call of the test."""
        self._tests = max(self._tests, test)
        return Mark(self._id, self._turn, self._tests, self._chain, spent)

    def open_session(self) -> None:
        """Store that this process works on the run."""
        sql = "SELECT coalesce(max(id), -1) FROM sessions"
        ((last,),) = fetched(self._store.db, self._store.path, "sessions", sql)
        self._session = last + 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = (self._session, now, platform.node(), os.getpid())
        self._store.put([("INSERT INTO sessions (id, opened, host, pid) VALUES (?, ?, ?, ?)", row)]).result()

    def close_session(self, end: End, at: float, settled: Mapping[str, float]) -> None:
        """Store how the session ended, and all that the run spent, including cancelled requests."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        sql = "UPDATE sessions SET closed = ?, status = ?, reason = ?, at = ?, cause = ? WHERE id = ?"
        account = ("INSERT OR REPLACE INTO account VALUES (0, ?)", (dumped(dict(settled)),))
        # The turn that stopped the run is not stored, because a resume repeats it.  Its failures tell the reason.
        failures = [self._failure(event) for event in self._events if is_failure(event)]
        row = (now, end.status, _plain(end.reason), at, end.cause, self._session)
        try:
            self._store.put(
                [*failures, (sql, row), account], None, (self._turn, self._collected.end(at, settled))
            ).result()
        except JournalError as error:
            # The run has its result, and its stored part can be resumed.
            _log.warning("the journal lacks the end of the run: %s", error)

    def note(self, event: ev.Event) -> None:
        """Collect an event; it is stored with its turn."""
        self._collected.add(event)
        if isinstance(event, ev.CallStarted):
            self._started[event.call] = event
        elif isinstance(event, ev.JobStarted):
            self._stages[event.job] = event.stage
        elif type(event) in KEPT:
            self._events.append(event)

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Hand a turn to the writing thread; see `flashgraph.run.driver.Memory`.  Raises `JournalError`."""
        statements: list[Statement] = []
        body = self._body(turn, statements)
        # A resume repeats what a halted run still does: of that turn only the answers are stored.
        body["sign"] = None if turn.halted else signature(machine)
        text = dumped(body)
        self._chain = linked(self._chain, self._turn, turn.at, text)
        sql = "INSERT INTO turns (seq, at, body, chain) VALUES (?, ?, ?, ?)"
        statements.append((sql, (self._turn, turn.at, text, self._chain)))
        self._read_events(turn, machine, statements)
        events = self._collected.take(turn, machine)
        account = dumped(machine.ledger.settled)
        if account != self._account:
            self._account = account
            statements.append(("INSERT OR REPLACE INTO account VALUES (0, ?)", (account,)))
        self._turn += 1
        mark = self.mark(machine.ledger.at_most())
        return durable(self._store.put(statements, mark, (self._turn - 1, events)), self.patient)

    # ---- rows --------------------------------------------------------------------------------------------

    def payload(self, text: str, statements: list[Statement]) -> str:
        """Store a text once; return its hash."""
        data = text.encode(errors="surrogatepass")  # a reply may end within a character
        if len(data) > LONGEST:
            raise JournalError(
                f"{self._store.path}: cannot store a text of {len(data):,} bytes; expected at most {LONGEST:,}.\n"
                "Fix: let the stage that makes it return less, such as the text's beginning."
            )
        name = named(data)
        if name not in self._known:
            self._known.add(name)
            statements.append(("INSERT OR IGNORE INTO payloads VALUES (?, ?)", (name, zlib.compress(data, 1))))
        return name

    def _encoded(self, value: Any, statements: list[Statement]) -> Any:
        return self._codec.encode(value, lambda text: self.payload(text, statements))

    def _json(self, value: Any, statements: list[Statement]) -> str:
        return dumped(self._encoded(value, statements))

    def _shown(self, value: Any, statements: list[Statement]) -> str:
        """Return a pool's own value as JSON for readers of the run; the run itself never reads it."""
        return dumped(self._loose.encode(value, lambda text: self.payload(text, statements)))

    def _body(self, turn: Turn, statements: list[Statement]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if turn.reopen is not None:
            body["reopen"] = dict(turn.reopen)
        if turn.tested:
            body["tested"] = dict(turn.tested)
        if turn.capacity is not None:
            body["capacity"] = attrs.asdict(turn.capacity)
        if turn.drain is not None:
            body["drain"] = [turn.drain.cause, turn.drain.reason]
        if turn.goal is not None:
            body["goal"] = attrs.asdict(turn.goal)
        if turn.halted:
            body["halted"] = True
        if turn.answered:
            body["answered"] = [
                [
                    a.call,
                    a.job,
                    a.how,
                    dict(a.spent),
                    *a.usage,
                    a.usd,
                    a.finish,
                    a.pause,
                    a.outage,
                    a.estimated,
                    *([[attrs.astuple(quota) for quota in a.quotas]] if a.quotas else []),
                ]
                for a in turn.answered
            ]
        if turn.measured:
            body["measured"] = [[m.endpoint, m.load and attrs.astuple(m.load)] for m in turn.measured]
        if turn.completed:
            body["completed"] = [self._completed(c, statements) for c in turn.completed]
        if turn.asked:
            body["asked"] = [[a.job, a.role, dict(a.amounts), a.size] for a in turn.asked]
        for completed in turn.completed:
            if completed.source:
                cursor = self._json(completed.cursor, statements)
                statements.append(("INSERT OR REPLACE INTO sources VALUES (?, ?)", (completed.source, cursor)))
            if completed.stream is not None:
                state = dumped(completed.stream)
                statements.append(("INSERT OR REPLACE INTO stream VALUES (0, ?)", (state,)))
        return body

    def _completed(self, completed: Completed, statements: list[Statement]) -> list[Any]:
        outcome = completed.outcome
        if isinstance(outcome, Done):
            uses = None if outcome.uses is None else [u if isinstance(u, int) else list(u) for u in outcome.uses]
            return [completed.job, "done", self._encoded(outcome.value, statements), uses]
        return [completed.job, outcome.how, outcome.reason, outcome.cause]

    def _read_events(self, turn: Turn, machine: Machine, statements: list[Statement]) -> None:
        answers = {answer.call: answer for answer in turn.answered}
        events, self._events = self._events, []
        if turn.halted:
            events = [e for e in events if isinstance(e, ev.CallEnded) or is_failure(e)]
        changed = {e.pool for e in events if isinstance(e, Changed)}
        for pool in sorted(changed):
            chosen = machine.pools[pool].best
            if pool in machine.plan.graph.results:
                best = (pool, None if chosen is None else chosen.id)
                statements.append(("INSERT OR REPLACE INTO best VALUES (?, ?)", best))
            statements.extend(self._standings.rows(pool, machine.pools[pool]))
        for event in events:
            match event:
                case ev.CallEnded():
                    self._call(event, answers.get(event.call), machine, statements)
                case ev.JobEnded(how="failed") | ev.EdgeFailed():
                    statements.append(self._failure(event))
                case ev.Admitted() | ev.Confirmed() | ev.EvidenceAdded() | ev.Retracted():
                    self._admission(event, machine, statements)
                case ev.ChampionChanged():
                    statements.append(self._standings.champion(event, self._turn))
                case ev.LimitChanged():
                    self._endpoint(event, "limit", event.limit, event.reason, statements)
                case ev.RateLearned():
                    rate = rate_text(event.of, event.limit, event.seconds)
                    self._endpoint(event, event.of, event.limit, rate, statements)
                case ev.EndpointDown():
                    self._endpoint(event, "down", event.seconds, event.reason, statements)
                case ev.EndpointUp():
                    self._endpoint(event, "up", None, "", statements)
                case _:
                    pass
        for event in events:
            if isinstance(event, ev.JobEnded):
                self._stages.pop(event.job, None)

    def _failure(self, event: ev.JobEnded | ev.EdgeFailed) -> Statement:
        if isinstance(event, ev.JobEnded):
            job, where, reason, cause = event.job, event.stage, event.reason, event.cause
        else:
            job, where, cause = NO_JOB, event.edge, Cause.FUNCTION
            reason = f"{event.function}: {event.error} ({event.place})"
        row = (self._turn, event.at, job, where, _plain(reason), cause)
        return "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?)", row

    def _endpoint(
        self,
        event: ev.LimitChanged | ev.RateLearned | ev.EndpointDown | ev.EndpointUp,
        what: str,
        value: float | None,
        reason: str,
        statements: list[Statement],
    ) -> None:
        row = (self._turn, event.at, event.endpoint, what, value, _plain(reason))
        statements.append(("INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, ?)", row))

    def _call(
        self, event: ev.CallEnded, answer: Answered | None, machine: Machine, statements: list[Statement]
    ) -> None:
        started = self._started.pop(event.call, None)
        stage = self._stages.get(event.job, "")
        if not stage and event.job in machine.jobs:  # an earlier session started it
            stage = self._stages[event.job] = machine.jobs[event.job].node
        messages = [[m["role"], self.payload(said_in(m), statements)] for m in answer.messages] if answer else []
        reply = answer.reply if answer is not None else None
        statements.append(
            (
                f"INSERT OR REPLACE INTO calls VALUES ({', '.join('?' * 18)})",
                (
                    event.call,
                    event.job,
                    stage,
                    event.role,
                    started.endpoint if started is not None else "",
                    answer.request if answer is not None else "",
                    dumped(messages),
                    event.how,
                    self.payload(reply.text, statements) if reply is not None else None,
                    reply.model if reply is not None else None,
                    event.prompt_tokens,
                    event.completion_tokens,
                    event.usd,
                    dumped(dict(answer.spent) if answer is not None else {}),
                    event.seconds,
                    event.finish,
                    self._turn,
                    written(reply) if reply is not None else None,
                ),
            )
        )

    def _admission(self, event: Changed, machine: Machine, statements: list[Statement]) -> None:
        record = machine.pools[event.pool].records[event.artifact]
        known = record.last
        kind = KINDS[type(event)]
        row = (
            self._turn, event.at, event.pool, event.version, kind, event.artifact, dumped(list(known.parents)),
            record.lag, int(known.provisional), known.score,
            dumped(list(known.scores.items())), self._shown(known.value, statements) if kind == "admit" else "null",
        )  # fmt: skip
        statements.append((f"INSERT INTO admissions VALUES ({', '.join('?' * 12)})", row))


def _sealed(header: Header) -> dict[str, str]:
    """Return the row of the seal of the start options; empty for a run that was started from Python."""
    return {SEAL: seal(dict(header.rows())["order"])} if header.order else {}


def _plain(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def durable(done: Future[None], patient: bool) -> Callable[[], Awaitable[None]] | None:
    """Wait briefly for a commit, or with ``patient`` until it is done; return a function that waits for the rest.

    Returns None if the commit is done.  Both raise `JournalError` when it failed.
    """
    try:
        done.result(None if patient else PATIENCE)
    except NotYet:
        return lambda: _committed(done)
    return None


async def _committed(done: Future[None]) -> None:
    # With a limiter of its own: stages may block all shared threads while they wait for this very turn.
    alone = anyio.CapacityLimiter(1)
    await anyio.to_thread.run_sync(done.result, abandon_on_cancel=True, limiter=alone)
