"""The events of a run: the last ones in memory, the others in a file beside the journal.

An evaluation has about 2.4 kB of events, too much for the memory of a run of days.  The file has no name and ends with
the process, because a run is resumed from its journal.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

from flashgraph.run.events import Event

__all__ = ["EventLog", "Events"]

CHUNK = 1024
"""The number of events that are written, and read back, together."""

_log = logging.getLogger("flashgraph")


class _Stored(Sequence[Event]):
    """Events in chunks, from the first one on."""

    def chunk(self, number: int) -> list[Event]:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(index, slice):
            return tuple([self[place] for place in range(*index.indices(len(self)))])
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"event {index} of {len(self)}")
        return self.chunk(place // CHUNK)[place % CHUNK]

    def __iter__(self) -> Iterator[Event]:
        length = len(self)
        for begin in range(0, length, CHUNK):
            yield from self.chunk(begin // CHUNK)[: length - begin]

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __repr__(self) -> str:
        return f"<{len(self)} events>"


class EventLog(_Stored):
    """A growing log of events.

    With a ``folder``, which must exist when the first chunk is full, a file keeps all chunks but the last.  Without
    one, or if the file cannot be written, memory keeps them.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._chunks: list[tuple[int, int] | list[Event]] = []
        """The full chunks: offset and length in the file in bytes, or the events."""
        self._tail: list[Event] = []
        self._read: tuple[int, list[Event]] = (-1, [])
        """The chunk that was last read back, with its number."""

    def __len__(self) -> int:
        return CHUNK * len(self._chunks) + len(self._tail)

    def extend(self, events: Iterable[Event]) -> None:
        """Add events to the end."""
        self._tail.extend(events)
        while len(self._tail) >= CHUNK:
            full, self._tail = self._tail[:CHUNK], self._tail[CHUNK:]
            self._chunks.append(self._kept(full))

    def chunk(self, number: int) -> list[Event]:
        """Return the events from ``number`` times `CHUNK` up to the next chunk, as far as they exist."""
        if number >= len(self._chunks):
            return self._tail
        held = self._chunks[number]
        if isinstance(held, list):
            return held
        if self._read[0] != number:
            assert self._file is not None
            at, length = held
            self._file.seek(at)
            # This process made the file, and no other can open it.
            self._read = (number, pickle.loads(self._file.read(length)))
        return self._read[1]

    def view(self) -> Events:
        """Return the events so far; later ones do not change the view."""
        return Events(self, len(self))

    def _kept(self, full: list[Event]) -> tuple[int, int] | list[Event]:
        if self._folder is None:
            return full
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it is read as long as the log exists
            data = pickle.dumps(full, pickle.HIGHEST_PROTOCOL)
            at = self._file.seek(0, 2)
            self._file.write(data)
            self._file.flush()
            return at, len(data)
        except (OSError, pickle.PicklingError) as error:
            _log.warning("the events of the run are kept in memory from now on: %s", error)
            self._folder = None
            return full


class Events(_Stored):
    """The first ``length`` events of a log, read from its file on demand.  It equals any sequence of equal events."""

    def __init__(self, log: EventLog, length: int) -> None:
        self._log = log
        self._length = length

    def __len__(self) -> int:
        return self._length

    def chunk(self, number: int) -> list[Event]:
        return self._log.chunk(number)
