"""The calls of the held-out test, kept like those of the run: an answered request is not sent again, and all count.

The scheduler does not know of the test.  Reopening a run charges the test's cost to the run's account, as part of that
turn.  So the budget holds over all sessions, and a replay makes the same decisions.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from flashgraph.llm.protocol import Reply, Usage
from flashgraph.run.budget import Ledger
from flashgraph.run.journal.columns import amounts, count, json_of, maybe, number, select, whole, word
from flashgraph.run.journal.jsontext import dumped
from flashgraph.run.journal.payloads import Payloads
from flashgraph.run.journal.store import Statement, Store, fetched
from flashgraph.run.journal.tools import KEPT, beside_text, written
from flashgraph.run.journal.writer import JournalWriter, durable

__all__ = ["Examined"]

COLUMNS = "id, work, request, reply, model, prompt_tokens, completion_tokens, usd, finish, tools"
DONE = (whole, word, word, word, maybe(word), count, count, maybe(number), word, beside_text)


class Examined:
    """The test's requests so far.  ``work`` names one candidate on one sample, ``request`` the content of its request.

    A request that was in flight when its process ended is lost: it counts with all that was reserved for it.
    """

    def __init__(self, store: Store, writer: JournalWriter, ledger: Ledger) -> None:
        self._store, self._writer, self._ledger = store, writer, ledger
        store.put([("UPDATE tests SET how = 'lost' WHERE how = 'out'", ())]).result()
        self._replies: dict[tuple[str, str], deque[Reply]] = {}
        payloads = Payloads(store.db, store.path)
        sql = f"SELECT {COLUMNS} FROM tests WHERE how = 'done' AND {KEPT} ORDER BY id"
        rows = select(store.db, store.path, "tests", DONE, sql)
        for _, work, request, reply, model, prompt, completion, usd, finish, parts in rows:
            found = Reply(payloads(reply), Usage(prompt, completion), usd, finish, model, **parts)
            self._replies.setdefault((work, request), deque()).append(found)
        self._works = {work for work, _ in self._replies}
        self.before = self._total("WHERE work != ''")
        """The cost of the tests of earlier sessions, by limit; without other charges."""
        self._last: int = fetched(store.db, store.path, "tests", "SELECT coalesce(max(id), 0) FROM tests")[0][0]

    def __contains__(self, work: str) -> bool:
        """Return whether an earlier session got an answer for this piece of work."""
        return work in self._works

    def spent(self) -> dict[str, float]:
        """Return what earlier sessions spent outside the run's turns, by limit."""
        return self._total()

    def _total(self, where: str = "") -> dict[str, float]:
        total: Counter[str] = Counter()
        sql = f"SELECT id, spent FROM tests {where} ORDER BY id"
        for _, spent in select(self._store.db, self._store.path, "tests", (whole, json_of(amounts)), sql):
            total.update(spent)
        return dict(total)

    def charge(self, how: str, said: str, spent: Mapping[str, float]) -> None:
        """Store another expense outside the run's turns.  Raises `JournalError` when that fails."""
        self._last += 1
        sql = (
            "INSERT INTO tests (id, work, request, how, prompt_tokens, completion_tokens, finish, spent)"
            " VALUES (?, '', '', ?, 0, 0, ?, ?)"
        )
        total = Counter(self._ledger.at_most())
        total.update(spent)
        mark = self._writer.mark(dict(total), test=self._last)
        self._store.put([(sql, (self._last, how, said, dumped(dict(spent))))], mark).result()

    def take(self, work: str, request: str) -> Reply | None:
        """Return the next stored reply for this request; None when there is no more."""
        replies = self._replies.get((work, request))
        return replies.popleft() if replies else None

    async def asked(self, work: str, request: str, reserved: Mapping[str, float]) -> int:
        """Store that a request is sent and what is reserved for it; return its number once that is durable.

        Raises `JournalError` when it cannot be stored.
        """
        number = self._last = self._last + 1
        row = (number, work, request, dumped(dict(reserved)))
        sql = (
            "INSERT INTO tests (id, work, request, how, prompt_tokens, completion_tokens, finish, spent)"
            " VALUES (?, ?, ?, 'out', 0, 0, '', ?)"
        )
        mark = self._writer.mark(self._ledger.at_most(), test=number)
        wait = durable(self._store.put([(sql, row)], mark), self._writer.patient)
        if wait is not None:
            await wait()
        return number

    def ended(self, number: int, reply: Reply | None, spent: Mapping[str, float], settled: Mapping[str, float]) -> None:
        """Store how a request ended (without a reply it failed) and what the whole run has settled so far."""
        statements: list[Statement] = []
        if reply is None:
            sql = "UPDATE tests SET how = 'failed', spent = ? WHERE id = ?"
            statements.append((sql, (dumped(dict(spent)), number)))
        else:
            sql = (
                "UPDATE tests SET how = 'done', spent = ?, reply = ?, model = ?, prompt_tokens = ?,"
                " completion_tokens = ?, usd = ?, finish = ?, tools = ? WHERE id = ?"
            )
            text = self._writer.payload(reply.text, statements)
            usage = (reply.usage.prompt, reply.usage.completion)
            row = (dumped(dict(spent)), text, reply.model, *usage, reply.cost, reply.finish, written(reply), number)
            statements.append((sql, row))
        statements.append(("INSERT OR REPLACE INTO account VALUES (0, ?)", (dumped(dict(settled)),)))
        self._store.put(statements, self._writer.mark(self._ledger.at_most(), test=number))
