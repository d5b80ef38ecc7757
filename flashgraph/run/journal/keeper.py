"""Hold a run's folder: no other process can write to it, and it is released however the run ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import filelock

from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.columns import moment, select, whole, word
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.header import Changes, Header
from flashgraph.run.journal.losses import Loss, find_loss, keep_damaged_log
from flashgraph.run.journal.private import FILE, advice, make_folder
from flashgraph.run.journal.reopening import carried, charge_loss, end_of, replayed, uncharged
from flashgraph.run.journal.restart import restart
from flashgraph.run.journal.store import JournalError, Store, connect, fetched
from flashgraph.run.journal.writer import JournalWriter
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity
from flashgraph.run.session_start import SessionStart

__all__ = ["JOURNAL", "Kept", "keep", "lock_error", "read_header", "require_no_link", "unusable"]

JOURNAL = "journal.db"


@attrs.frozen
class Kept:
    """A journal open for writing, and the state that the run resumes from (None for a new run)."""

    writer: JournalWriter
    store: Store
    start: SessionStart | None
    examined: Examined
    seed: Mapping[str, str] = attrs.field(factory=dict)
    """The texts that replace the task's seed after a restart; else empty."""


def read_header(folder: Path, journal: str = JOURNAL) -> Header:
    """Return the settings that the run in a folder was started with.  Raises `JournalError`."""
    path = folder / journal
    with closing(connect(path, readonly=True)) as db:
        rows = dict(fetched(db, path, "meta", "SELECT key, value FROM meta"))
    try:
        return Header.of_rows(path, rows)
    except KeyError as error:
        raise JournalError(
            f"{folder}: the run was killed before it began: its journal has no {error}.\nFix: start a new run."
        ) from None


def unusable(folder: Path) -> str:
    """Return in one line why the run in a folder cannot be resumed; empty if its header is sound."""
    try:
        read_header(folder)
    except JournalError as error:
        return str(error).partition("\n")[0]
    return ""


def require_no_link(folder: Path) -> None:
    """Raise `JournalError` if a run's folder is a symbolic link, which may lead to a run that the user did not name."""
    if folder.is_symlink():
        raise JournalError(
            f"{folder}: found a symbolic link, expected the run's own folder; nothing is written through a link.\n"
            f"Fix: name the folder itself: {folder.resolve()}"
        )


@contextmanager
def keep(
    folder: Path,
    header: Header,
    machine: Machine,
    limits: Mapping[str, float],
    *,
    resume: bool = False,
    accept_changes: bool = False,
    patient: bool = False,
) -> Iterator[Kept]:
    """Hold a run's folder and write its journal; with ``resume``, first bring ``machine`` to the run's last state.

    Raises `JournalError` when another process holds the folder or the journal cannot be made or read, and `DataError`
    when changes of the graph prevent resuming.
    """
    if resume:
        require_no_link(folder)
    lock = filelock.FileLock(folder / "lock", mode=FILE)
    try:
        make_folder(folder)
        lock.acquire(timeout=0.2)  # a reader holds the lock briefly while it looks
    except filelock.Timeout:
        raise JournalError(f"{folder}: {_holder(folder)}.\nFix: wait for it to end, or stop it.") from None
    except OSError as error:
        raise lock_error(folder, error) from error
    try:
        codec = Codec.of_graph(machine.plan.checked)
        loss: Loss | None = None
        if resume:
            before = read_header(folder)
            changes = Changes.between(before, header)
            changes.require(str(folder), accept_changes)
            loss = _find_loss(folder / JOURNAL, accept_changes)
            if changes.restart:
                restart(folder / JOURNAL, before, header, codec, machine, changes)
                before = header
        store = Store(folder / JOURNAL, create=not resume)
        try:
            resumed = replayed(store, before, codec, machine, changes) if resume else None
            turns, chain = end_of(store)
            writer = JournalWriter(store, codec, turns=turns, chain=chain, patient=patient)
            if resume:
                writer.renew(header)
            else:
                writer.begin(header)
            examined = Examined(store, writer, machine.ledger)
            if resumed is not None:
                if loss is not None:
                    charge_loss(loss, store, writer, examined, machine.ledger)
                resumed = attrs.evolve(
                    resumed, reopen=dict(limits), capacity=Capacity(**header.capacity),
                    tested=uncharged(examined, machine.ledger),
                )  # fmt: skip
            writer.open_session()
            yield Kept(writer, store, resumed, examined, carried(store.db, store.path).texts)
        finally:
            store.close()
    finally:
        lock.release()


def _find_loss(path: Path, accepted: bool) -> Loss | None:
    """Return what is missing from a journal, and keep a copy of a damaged log.

    Raises `JournalError` when the spending of the missing turns is unknown, unless that was accepted.
    """
    loss = find_loss(path)
    if loss is None:
        return None
    if loss.mark is None and not accepted:
        raise JournalError(
            f"{path}: {loss}, and it is unknown what they spent.\n"
            "Fix: replace the run's folder with an undamaged copy; or --accept-changes, which resumes from the "
            "readable turns and counts the missing ones as free."
        )
    if loss.commits:
        keep_damaged_log(path)
    return loss


def lock_error(folder: Path, error: OSError) -> JournalError:
    """Return the error for a run's folder that cannot be locked, with a fix."""
    return JournalError(f"{folder}: the folder cannot be held: {error}.\nFix: {advice(error, folder)}.")


def _holder(folder: Path) -> str:
    path = folder / JOURNAL
    sql = "SELECT id, pid, host, opened FROM sessions ORDER BY id DESC LIMIT 1"
    try:
        with closing(connect(path, readonly=True)) as db:
            _, process, host, opened = next(select(db, path, "sessions", (whole, whole, word, moment), sql))
    except (JournalError, StopIteration):
        return "another process holds it"
    return f"process {process} on {host} holds it since {opened}"
