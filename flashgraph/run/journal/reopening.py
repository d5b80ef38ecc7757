"""Going on with a stored run: its machine as it was, and what it has spent beside its turns."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping

import attrs

from flashgraph.run.budget import Ledger
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.columns import UNUSABLE, damaged, maybe, real, select, whole, word
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.header import Changes, Header
from flashgraph.run.journal.jsontext import loaded
from flashgraph.run.journal.losses import ROLLED_BACK, Loss
from flashgraph.run.journal.replay import Diverged, replay
from flashgraph.run.journal.store import VACUUMED, JournalError, Store, explained
from flashgraph.run.journal.writer import JournalWriter
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity
from flashgraph.run.resumed import Resumed

__all__ = ["CARRIED", "Carried", "carried", "charge_loss", "end_of", "replayed", "uncharged"]


_log = logging.getLogger("flashgraph")

CARRIED = "carried"
"""The key of the ``meta`` table below which a run that has begun anew has what it took along."""


@attrs.frozen
class Carried:
    """What a run that has begun anew took along: the ``texts`` of its best artifact, the seconds of its clock, and the
    name of its old journal."""

    texts: Mapping[str, str] = attrs.field(factory=dict)
    at: float = 0.0
    journal: str = ""


def carried(db: sqlite3.Connection) -> Carried:
    """Return what a run has taken along; nothing for one that has not begun anew."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (CARRIED,)).fetchone()
    return Carried() if row is None else Carried(**loaded(row[0]))


def replayed(store: Store, before: Header, codec: Codec, machine: Machine, changes: Changes) -> Resumed:
    """Make a fresh machine what the run's was; return what its driver needs to go on.

    Raises `JournalError` for a journal that cannot be read or was made smaller, and `DataError` when the machine does
    not go the way it went because of ``changes``.
    """
    if store.db.execute("SELECT 1 FROM meta WHERE key = ?", (VACUUMED,)).fetchone():
        raise JournalError(
            f"{store.path.parent}: what it takes to go on was dropped by prune --vacuum; the run can only be read.\n"
            "Fix: start a new run."
        )
    # Under the limits that held then; the turns of later sessions bring theirs.
    machine.ledger.limits = {name: limit for name, limit in before.limits.items() if name != "seconds"}
    try:
        machine.resize(Capacity(**before.capacity))
    except UNUSABLE as error:
        raise damaged(store.path, "meta", "capacity", error) from error
    try:
        resumed = replay(store.db, store.path, codec, machine)
    except Diverged as error:
        raise changes.blamed(str(store.path.parent), error) from error
    except sqlite3.Error as error:
        raise explained(store.path, "read", error) from error
    return attrs.evolve(resumed, at=max(resumed.at, carried(store.db).at))


def end_of(store: Store) -> tuple[int, str]:
    """Return how many turns a journal has, and the checksum of the last one; "" where there is none."""
    sql = "SELECT seq, at, body, chain FROM turns ORDER BY seq DESC LIMIT 1"
    last = next(select(store.db, store.path, "turns", (whole, real, word, maybe(word)), sql), None)
    if last is None:
        return 0, ""
    seq, _, _, chain = last
    return seq + 1, chain or ""


def charge_loss(loss: Loss, store: Store, writer: JournalWriter, examined: Examined, ledger: Ledger) -> None:
    """Count what missing turns have spent, in the journal itself, and say so."""
    known = Counter(ledger.at_most())
    known.update(uncharged(examined, ledger))
    spent = loss.spent(known)
    examined.charge(ROLLED_BACK, str(loss), spent)
    _log.warning("%s: %s", store.path, loss)


def uncharged(examined: Examined, ledger: Ledger) -> dict[str, float]:
    """Return what was spent beside the run's turns, by limit, as far as its account does not have it yet."""
    return {name: amount - ledger.charged.get(name, 0.0) for name, amount in examined.spent().items()}
