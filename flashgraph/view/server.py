"""The server of the page: it reads journals and answers a browser on this machine.

Journals are opened for reading only.  A page learns what is new by Server-Sent Events.  SQLite's ``data_version`` says
whether something is new, so that nothing is read, and no read transaction is open, while a run writes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.to_thread

from flashgraph.errors import FlashgraphError
from flashgraph.llm.serving import HttpRequest, Response, serve_http
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.reading import StoredRun
from flashgraph.view.facts import (
    Shelf,
    artifact_facts,
    call_facts,
    changes_of,
    curve_of,
    run_facts,
    standing_of,
)  # fmt: skip
from flashgraph.view.guard import HEADERS, Guard

__all__ = ["viewed"]

POLL = 0.25
"""Seconds between two looks at a journal: a page gets at most four updates a second."""

BEAT = 15.0
"""Seconds after which a silent stream sends a comment, so that a dead client is noticed."""

LOT = 20_000
"""The most events of one message: a page of a long run shows something before it has all."""

STANDING = 1.0
"""The least seconds between two accounts of the whole run, unless its status changes."""

MOST = 32
"""The most streams at once."""

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


@asynccontextmanager
async def viewed(target: Path, *, port: int = 0) -> AsyncIterator[Guard]:
    """Serve the page of a run, or of a folder of runs, on a port of this machine until the block ends.

    Raises `DataError` if there is no such run or folder, and OSError if the port is taken.
    """
    shelf = Shelf(target)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    guard = Guard(listener.extra(anyio.abc.SocketAttribute.local_port), secrets.token_urlsafe(24))
    pages = _Pages(shelf, guard)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve_http, listener, pages.answer)
        yield guard
        tasks.cancel_scope.cancel()


class _Pages:
    def __init__(self, shelf: Shelf, guard: Guard) -> None:
        self._shelf = shelf
        self._guard = guard
        self._streams = 0
        names = [entry.name for entry in (resources.files("flashgraph.view") / "static").iterdir() if entry.is_file()]
        self._files = frozenset(names)

    async def answer(self, request: HttpRequest) -> Response:
        """Answer one request."""
        refused = self._guard.refusal(request)
        if refused is not None:
            return refused
        name = "index.html" if request.path == "/" else request.path.removeprefix("/static/")
        if name in self._files:
            body = (resources.files("flashgraph.view") / "static" / name).read_bytes()
            return Response(200, body, HEADERS, f"{TYPES.get(name.rpartition('.')[2], 'text/plain')}; charset=utf-8")
        asked = {key: values[0] for key, values in parse_qs(request.query).items()}
        try:
            return await self._data(request, asked)
        except FlashgraphError as error:
            return _json({"error": str(error)}, 404)

    async def _data(self, request: HttpRequest, asked: dict[str, str]) -> Response:
        if request.path == "/api/runs":
            runs = await anyio.to_thread.run_sync(self._shelf.summaries)
            return _json({"first": self._shelf.first, "runs": runs})
        folder = await anyio.to_thread.run_sync(self._shelf.folder, asked.get("run", ""))
        if folder is None:
            return _json({"error": "no such run"}, 404)
        if request.path == "/api/stream":
            if self._streams >= MOST:
                return _json({"error": f"{MOST} pages are open already"}, 503)
            since = request.headers.get("last-event-id", asked.get("since", "0"))
            stream = self._stream(folder, int(since) if since.isascii() and since.isdigit() else 0)
            return Response(200, b"", HEADERS, "text/event-stream", stream=stream)
        read = READS.get(request.path)
        if read is None:
            return _json({"error": "no such page"}, 404)

        def found() -> Any:
            with StoredRun.open(folder) as run, run.snapshot():
                return read(run, asked)

        return _json(await anyio.to_thread.run_sync(found))

    async def _stream(self, folder: Path, since: int) -> AsyncIterator[bytes]:
        """Yield what is new in a run, at most four times a second, until its client is gone."""
        self._streams += 1
        run: StoredRun | None = None
        try:
            run = await anyio.to_thread.run_sync(StoredRun.open, folder)
            tail = _Tail(run, since)
            silent = 0.0
            while True:
                pieces = await anyio.to_thread.run_sync(tail.new)
                silent = 0.0 if pieces else silent + POLL
                for piece in pieces:
                    yield piece
                if silent >= BEAT:
                    silent = 0.0
                    yield b": still here\n\n"
                if not tail.more:
                    await anyio.sleep(POLL)
        except FlashgraphError as error:
            yield _event("broken", {"error": str(error)})
        finally:
            self._streams -= 1
            if run is not None:
                run.close()


class _Tail:
    """The unread part of a run for one page."""

    def __init__(self, run: StoredRun, since: int) -> None:
        self._run = run
        self._path = run.folder / JOURNAL
        self._file = self._path.stat().st_ino
        """A restart puts another file in its place, which this connection does not see."""
        self._since = since
        self._versions: dict[str, int] = {}
        self._seen: tuple[int, str] | None = None
        self._owed = False
        self._stood = 0.0
        """When the last standing was sent; it reads the whole journal, unlike the events."""
        self.more = False
        """Whether the last call left something out."""

    def new(self) -> list[bytes]:
        """Return the messages since the last call; none if nothing was written and the run's status is the same."""
        if not self._path.exists() or self._path.stat().st_ino != self._file:
            raise JournalError(f"{self._path}: the run was restarted or removed.\nFix: load the page again.")
        now = (self._run.changed(), self._run.status)
        self._owed = self._owed or now != self._seen
        ended = self._seen is None or now[1] != self._seen[1]
        due = self._owed and (ended or time.monotonic() - self._stood >= STANDING)
        if now == self._seen and not self.more and not due:
            return []
        found = []
        with self._run.snapshot():
            if now != self._seen and (changes := changes_of(self._run, self._versions)):
                found.append(_event("changes", changes))
            if due:
                self._owed, self._stood = False, time.monotonic()
                found.append(_event("standing", standing_of(self._run)))
            self._seen = now
            lot: list[Any] = []
            for _, rows in self._run.event_lists(since=self._since):
                lot += rows
                if len(lot) >= LOT:
                    break
        self.more = len(lot) >= LOT
        if lot:
            first, self._since = self._since, self._since + len(lot)
            found.append(_event("events", {"first": first, "rows": lot}, self._since))
        return found


def _event(kind: str, data: Any, number: int | None = None) -> bytes:
    id = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{id}data: {printed(data)}\n\n".encode(errors="replace")


def _json(data: Any, status: int = 200) -> Response:
    return Response(status, printed(data).encode(errors="replace"), HEADERS)


def _number(asked: dict[str, str], name: str) -> int:
    text = asked.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1


READS: dict[str, Callable[[StoredRun, dict[str, str]], Any]] = {
    "/api/run": lambda run, asked: run_facts(run),
    "/api/call": lambda run, asked: call_facts(run, _number(asked, "id")),
    "/api/artifact": lambda run, asked: artifact_facts(run, asked.get("pool", ""), _number(asked, "id")),
    "/api/curve": lambda run, asked: curve_of(run),
}
