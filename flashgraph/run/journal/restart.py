"""Restart a run from its best artifact, after its task has changed.

Scores of the old task and of the new one are never mixed.  The old journal is kept beside the new one for reading.
All earlier spending stays counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import attrs

from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.header import Changes, Header
from flashgraph.run.journal.jsontext import dumped
from flashgraph.run.journal.reopening import CARRIED, Carried, carried, replayed, uncharged
from flashgraph.run.journal.store import JournalError, Store
from flashgraph.run.journal.writer import JournalWriter
from flashgraph.run.machine import Machine
from flashgraph.run.result import texts_of
from flashgraph.tasks.task import Task

__all__ = ["restart"]


def restart(path: Path, before: Header, header: Header, codec: Codec, machine: Machine, changes: Changes) -> None:
    """Replace the journal at ``path`` with a new one; the old one becomes ``journal-1.db`` (or the next free number).

    ``machine`` supplies the plan of the old run.  Raises what `replayed` raises, before it replaces anything.
    """
    task = _task_of(before, machine.task)
    old = type(machine)(machine.plan, Ledger(Budget()), lambda event: None, machine.seed, task)
    store = Store(path, create=False)
    try:
        resumed = replayed(store, before, codec, old, changes)
        spent = Counter(old.ledger.settled)
        spent.update(old.ledger.reserved)  # by requests whose replies were lost
        examined = Examined(store, JournalWriter(store, codec), old.ledger)
        spent.update(uncharged(examined, old.ledger))
        best = old.champion[1] if old.champion is not None else None
        texts = {**carried(store.db, store.path).texts, **((texts_of(best.value) or {}) if best is not None else {})}
    finally:
        store.close()
    kept = next(free for n in count(1) if not (free := path.with_name(f"{path.stem}-{n}{path.suffix}")).exists())
    _begin(
        path.with_name(f"{path.name}.new"), header, codec, Carried(texts, resumed.at, kept.name), spent, examined.before
    )
    try:
        try:
            os.link(path, kept)  # a journal of this name exists at every moment, should the process be killed
        except OSError:  # the file system has no hard links
            os.replace(path, kept)
        os.replace(path.with_name(f"{path.name}.new"), path)
    except OSError as error:
        raise JournalError(
            f"{path}: cannot keep the journal of the old task as {kept.name}: {error.strerror}.\n"
            "Fix: give write permission to the folder, or start a new run."
        ) from error


def _task_of(before: Header, now: Task[Any, Any] | None) -> Task[Any, Any] | None:
    """Return the task with the bounds of the old one, because the old pools weighed their scores within those."""
    bounds = before.made_of.get("bounds")
    return now if now is None or bounds is None else attrs.evolve(now, bounds=tuple(bounds))


def _begin(
    path: Path,
    header: Header,
    codec: Codec,
    taken: Carried,
    spent: Mapping[str, float],
    tested: Mapping[str, float],
) -> None:
    """Write a journal that holds only the start of a run: tests cost ``tested`` of the amounts ``spent``."""
    path.unlink(missing_ok=True)
    store = Store(path, create=True)
    try:
        JournalWriter(store, codec).begin(header)
        sql = (
            "INSERT INTO tests (work, request, how, prompt_tokens, completion_tokens, finish, spent)"
            " VALUES (?, '', 'carried', 0, 0, '', ?)"
        )
        took = (CARRIED, dumped(attrs.asdict(taken)))
        rest = {name: amount - tested.get(name, 0.0) for name, amount in spent.items()}
        rows = [(sql, ("", dumped(rest))), (sql, ("carried", dumped(dict(tested))))]
        store.put([*rows, ("INSERT INTO meta VALUES (?, ?)", took)]).result()
    finally:
        store.close()
