"""The output of the command line during a run: a display on a terminal, otherwise lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from flashgraph.api import Run
from flashgraph.graph.spec import GraphSpec
from flashgraph.observe.frame import frame, status
from flashgraph.observe.progress import Progress
from flashgraph.run.budget import Budget
from flashgraph.run.events import ChampionChanged, Event
from flashgraph.run.result import texts_of
from flashgraph.text import terminal
from flashgraph.text.differences import words
from flashgraph.text.terminal import Frame, say

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Follower", "HeldOutCount"]

FRAME_SECONDS = 0.25
LINE_SECONDS = 30.0
"""Seconds between two lines about a run whose output is not a terminal."""


class Follower:
    """Follows a run: its events, and the state of its account and its slots."""

    def __init__(self, graph: GraphSpec, budget: Budget, live: bool) -> None:
        self.progress = Progress(graph, budget)
        self._live = live
        self._run: Run | None = None
        self._best: dict[str, str] = {}

    def begin(self, run: Run) -> None:
        """Count the events of earlier sessions, which the hook does not receive."""
        for event in run.result.events:
            self.progress.on_event(event)
        self._run = run

    def on_event(self, event: Event) -> None:
        """Count an event; print a line about it, unless a live display shows it."""
        if not (news := self.progress.on_event(event)):
            return
        found = [news]
        if isinstance(event, ChampionChanged) and (changed := self._changed(event)):
            self.progress.news.append(changed)
            found.append(changed)
        if not self._live:
            for line in found:
                say(line, err=True)

    def _changed(self, event: ChampionChanged) -> str:
        """Return the words of the new champion that differ from those of the previous one."""
        if self._run is None or event.artifact is None:
            return ""
        held = self._run.machine.pools[event.pool].value.artifacts
        texts = texts_of(held[event.artifact].value) if event.artifact in held else None
        before, self._best = self._best, texts or {}
        if not before or texts is None:
            return ""
        return words("\n".join(before.values()), "\n".join(texts.values()))

    def notify(self, message: str) -> None:
        """Show a message in the display until it ends."""
        self.progress.notice = message

    def _read(self) -> None:
        """Read the state that no event carries: the time, reservations, limits, and requests that wait for a slot."""
        assert self._run is not None
        machine = self._run.machine
        self.progress.now = self._run.elapsed
        self.progress.reserved = dict(machine.ledger.reserved)
        self.progress.waiting = len(machine.slots.ranks)
        for name, limit in machine.slots.limits.items():
            if name in self.progress.endpoints:
                self.progress.endpoints[name].limit = limit

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the run until the block ends: a display on a terminal, otherwise a line every 30 seconds."""
        async with anyio.create_task_group() as tasks:
            if self._live:
                with terminal.live(self._frame()) as view:
                    tasks.start_soon(self._frames, view)
                    yield
                    tasks.cancel_scope.cancel()
                    self._read()
                    view.update(self._frame(), refresh=True)
            else:
                tasks.start_soon(self._lines)
                yield
                tasks.cancel_scope.cancel()

    def _frame(self) -> Frame:
        return Frame(lambda width, height, ascii_only: frame(self.progress, width, height, ascii_only))

    async def _frames(self, view: Live) -> None:
        while True:
            self._read()
            view.update(self._frame(), refresh=True)
            await anyio.sleep(FRAME_SECONDS)

    async def _lines(self) -> None:
        while True:
            await anyio.sleep(LINE_SECONDS)
            self._read()
            say(status(self.progress), err=True)


class HeldOutCount:
    """Counts the attempts of the held-out test and prints a line at each quarter."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self) -> None:
        self._done += 1
        quarter = 4 * self._done // self._total
        if quarter in (1, 2, 3) and quarter > 4 * (self._done - 1) // self._total:
            say(f"tested {self._done:,} of {self._total:,}", err=True)
