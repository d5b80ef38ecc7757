"""The model calls of a stored run, those of its held-out tests, and the endpoints that answered them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flashgraph.run.costs import StageCost
from flashgraph.run.journal.columns import (
    Expected,
    anything,
    json_of,
    list_of,
    mapping,
    maybe,
    number,
    pair,
    real,
    whole,
    word,
)  # fmt: skip
from flashgraph.run.journal.rows import Rows
from flashgraph.run.journal.store import JournalError
from flashgraph.run.journal.stored import StoredCall, StoredEndpoint

__all__ = ["StoredCalls"]

PAGE = 500
"""The number of calls in one read."""

CALL = (
    whole, whole, word, word, word, word, maybe(word), whole, whole, maybe(number), number, word, real,
    json_of(list_of(pair(word, word))), maybe(word),
)  # fmt: skip


class StoredCalls:
    """Read a journal's model calls."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._counted = (-1, 0)
        """The last turn whose requests were counted, and how many requests up to it have no answer."""

    def totals(self) -> tuple[int, int, int, int]:
        """Return (tokens of prompts, tokens of replies, failed calls, lost calls)."""
        ((prompt, completion, failed, lost),) = self._rows.read(
            "calls",
            (real, real, real, real),
            "SELECT total(prompt_tokens), total(completion_tokens), total(how = 'failed'), total(how = 'lost') FROM"
            " (SELECT prompt_tokens, completion_tokens, how FROM calls"
            " UNION ALL SELECT prompt_tokens, completion_tokens, how FROM tests)",
        )
        return round(prompt), round(completion), round(failed), round(lost)

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs of the run's own calls that have ended, by stage and role in the order of their names."""
        rows = self._rows.read(
            "calls",
            (whole, word, word, real, real, real, real),
            "SELECT min(id), stage, role, total(how != 'throttled'), total(prompt_tokens), total(completion_tokens),"
            " total(usd) FROM calls GROUP BY stage, role ORDER BY stage, role",
        )
        return tuple(
            [
                StageCost(stage, role, round(calls), round(prompt), round(reply), usd)
                for _, stage, role, calls, prompt, reply, usd in rows
            ]
        )

    def unanswered(self) -> int:
        """Return how many requests were sent and have no answer."""
        # Only turns since the last count are read.  A resume abandons earlier requests.
        until, known = self._counted
        ((reopened, last),) = self._rows.read(
            "turns",
            (maybe(whole), maybe(whole)),
            "SELECT max(seq) FILTER (WHERE body LIKE '{\"reopen\"%'), max(seq) FROM turns WHERE seq > ?",
            until,
        )
        first, known = (until + 1, known) if reopened is None else (reopened, 0)
        known += self._sent(first, until if last is None else last)
        self._counted = (until if last is None else last, known)
        ((testing,),) = self._rows("tests", "SELECT count(*) FROM tests WHERE how = 'out'")
        return int(known + testing)

    def _sent(self, first: int, last: int) -> int:
        """Return how many more requests some turns have sent than answered."""
        lengths = [f"json_array_length(body, '$.{name}')" for name in ("asked", "answered")]
        kinds = [f"coalesce(json_type(body, '$.{name}'), 'array') != 'array'" for name in ("asked", "answered")]
        sql = f"SELECT total({lengths[0]}) - total({lengths[1]}), total({kinds[0]} OR {kinds[1]}) FROM turns"
        try:
            ((sent, odd),) = self._rows("turns", f"{sql} WHERE seq BETWEEN ? AND ?", first, last)
        except JournalError:
            # SQLite's JSON functions refuse a journal of 0.1.0 with NaN, and do not name a damaged row.
            odd = 1
        if not odd:
            return int(sent)
        turns = self._rows.read(
            "turns",
            (whole, json_of(_asked)),
            "SELECT seq, body FROM turns WHERE seq BETWEEN ? AND ? AND (body LIKE '%\"asked\"%' OR body LIKE"
            " '%\"answered\"%')",
            first,
            last,
        )
        return sum(asked for _, asked in turns)

    def ended(self, last: int | None) -> Iterator[StoredCall]:
        """Yield the model calls that have ended, in the order of their requests; with ``last``, only that many newest.

        They are read page by page, so that a long read of an active run does not delay it.
        """
        after = -1
        if last is not None:
            sql = "SELECT coalesce(min(id), 0) - 1 FROM (SELECT id FROM calls ORDER BY id DESC LIMIT ?)"
            ((after,),) = self._rows.read("calls", (whole,), sql, last)
        more = True
        while more:
            more = False
            for call in self._page("id > ?", after, PAGE):
                yield call
                after, more = call.id, True

    def _page(self, where: str, number: int, most: int) -> Iterator[StoredCall]:
        sql = (
            "SELECT id, job, stage, role, endpoint, how, model, prompt_tokens, completion_tokens, usd, seconds, finish,"
            f" at, messages, reply FROM calls JOIN turns ON turns.seq = calls.turn WHERE {where} ORDER BY id LIMIT ?"
        )
        for row in self._rows.read("calls", CALL, sql, number, most):
            said = tuple((role, self._rows.text(name)) for role, name in row[-2])
            reply = None if row[-1] is None else self._rows.text(row[-1])
            yield StoredCall(*[*row[:-2], said, reply])

    def one(self, id: int) -> StoredCall | None:
        """Return the call with this number; None while it has not ended."""
        return next((call for call in self._page("id = ?", id, 1)), None)

    def endpoints(self) -> tuple[StoredEndpoint, ...]:
        """Return the endpoints that answered, by name, each with its last limit if it changed, and whether it is up."""
        calls = self._rows.read(
            "calls",
            (word, real, real, real),
            "SELECT endpoint, total(how != 'throttled'), total(how = 'throttled'), total(finish = 'length') FROM calls"
            " WHERE endpoint != '' GROUP BY endpoint ORDER BY endpoint",
        )
        # SQLite takes the bare columns from the row with the maximum.
        sql = "SELECT name, value, reason, count(*), max(rowid) FROM endpoints WHERE what = 'limit' GROUP BY name"
        expected: tuple[Expected, ...] = (word, real, word, whole, whole)
        found = self._rows.read("endpoints", expected, sql)
        moved = {name: (round(limit), reason, count) for name, limit, reason, count, _ in found}
        sql = "SELECT name, what, max(rowid) FROM endpoints WHERE what IN ('down', 'up') GROUP BY name"
        standing = {name: what for name, what, _ in self._rows.read("endpoints", (word, word, whole), sql)}
        sql = (
            "SELECT name, what, reason, max(rowid) FROM endpoints WHERE what NOT IN ('limit', 'down', 'up')"
            " GROUP BY name, what ORDER BY name, what"
        )
        told = self._rows.read("endpoints", (word, word, word, whole), sql)
        return tuple(
            StoredEndpoint(
                name, round(asked), round(throttled), round(cut), *moved.get(name, (None, "", 0)),
                down=standing.get(name) == "down", rates=tuple([rate for of, _, rate, _ in told if of == name]),
            )
            for name, asked, throttled, cut in calls
        )  # fmt: skip


def _asked(turn: Any) -> int:
    """Return how many more requests a turn has sent than answered."""
    asked, answered = (mapping(turn).get(name, []) for name in ("asked", "answered"))
    return len(list_of(anything)(asked)) - len(list_of(anything)(answered))
