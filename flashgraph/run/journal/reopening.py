"""Resume a stored run: restore its machine, and charge what it spent outside its turns."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flashgraph.run.budget import Ledger
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.columns import UNUSABLE, damaged, json_of, mapping, maybe, real, select, whole, word
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.header import Changes, Header
from flashgraph.run.journal.losses import ROLLED_BACK, Loss
from flashgraph.run.journal.replay import Diverged, replay
from flashgraph.run.journal.store import JournalError, Store, fetched
from flashgraph.run.journal.tables import VACUUMED
from flashgraph.run.journal.writer import JournalWriter
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity
from flashgraph.run.session_start import SessionStart

__all__ = ["CARRIED", "Carried", "carried", "charge_loss", "end_of", "replayed", "uncharged"]


_log = logging.getLogger("flashgraph")

CARRIED = "carried"
"""The key of the ``meta`` table for the things that a restarted run took over."""


@attrs.frozen
class Carried:
    """The things that a restarted run took over: the ``texts`` of its best artifact, its clock in seconds, and the name
    of its old journal."""

    texts: Mapping[str, str] = attrs.field(factory=dict)
    at: float = 0.0
    journal: str = ""


def carried(db: sqlite3.Connection, path: Path) -> Carried:
    """Return what a run took over when it restarted; empty if it did not.  Raises `JournalError`."""
    sql = "SELECT key, value FROM meta WHERE key = ?"
    rows = select(db, path, "meta", (word, json_of(_carried)), sql, CARRIED)
    return next((taken for _, taken in rows), Carried())


def _carried(value: Any) -> Carried:
    found = Carried(**mapping(value))
    real(found.at)
    word(found.journal)
    for name, text in mapping(found.texts).items():
        word(name)
        word(text)
    return found


def replayed(store: Store, before: Header, codec: Codec, machine: Machine, changes: Changes) -> SessionStart:
    """Bring a fresh machine to the run's last state; return what its driver needs to continue.

    Raises `JournalError` for a journal that cannot be read or was vacuumed, and `DataError` when the replay diverges
    because of ``changes``.
    """
    if fetched(store.db, store.path, "meta", "SELECT 1 FROM meta WHERE key = ?", VACUUMED):
        raise JournalError(
            f"{store.path.parent}: prune --vacuum has dropped what resuming needs; the run can only be read.\n"
            "Fix: start a new run."
        )
    # The replay starts with the limits of that time; the turns of later sessions contain theirs.
    machine.ledger.limits = {name: limit for name, limit in before.limits.items() if name != "seconds"}
    try:
        machine.resize(Capacity(**before.capacity))
    except UNUSABLE as error:
        raise damaged(store.path, "meta", "capacity", error) from error
    try:
        resumed = replay(store.db, store.path, codec, machine)
    except Diverged as error:
        raise changes.explain(str(store.path.parent), error) from error
    return attrs.evolve(resumed, at=max(resumed.at, carried(store.db, store.path).at))


def end_of(store: Store) -> tuple[int, str]:
    """Return how many turns a journal has, and the checksum of the last one; "" if it has none."""
    sql = "SELECT seq, at, body, chain FROM turns ORDER BY seq DESC LIMIT 1"
    last = next(select(store.db, store.path, "turns", (whole, real, word, maybe(word)), sql), None)
    if last is None:
        return 0, ""
    seq, _, _, chain = last
    return seq + 1, chain or ""


def charge_loss(loss: Loss, store: Store, writer: JournalWriter, examined: Examined, ledger: Ledger) -> None:
    """Count what missing turns spent, in the journal itself, and log it."""
    known = Counter(ledger.at_most())
    known.update(uncharged(examined, ledger))
    spent = loss.spent(known)
    examined.charge(ROLLED_BACK, str(loss), spent)
    _log.warning("%s: %s", store.path, loss)


def uncharged(examined: Examined, ledger: Ledger) -> dict[str, float]:
    """Return what was spent outside the run's turns and not charged to its account yet, by limit."""
    return {name: amount - ledger.charged.get(name, 0.0) for name, amount in examined.spent().items()}
