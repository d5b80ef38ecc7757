"""`Sandbox`: warm servers, and calls distributed among them."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from flashgraph.errors import DataError
from flashgraph.sandbox import probe
from flashgraph.sandbox.broker import converse
from flashgraph.sandbox.call import ChildCall, ChildJob, NotConfined, NotStarted
from flashgraph.sandbox.guest.wire import Malformed
from flashgraph.sandbox.jail import no_confinement
from flashgraph.sandbox.limits import SandboxLimits
from flashgraph.sandbox.outcome import CandidateFailed, Ran
from flashgraph.sandbox.worker import Worker
from flashgraph.tasks.task import Llm

__all__ = ["Sandbox"]

log = logging.getLogger("flashgraph.sandbox")

_DEFAULT_LIMITS = SandboxLimits()
_ATTEMPTS = 2


class Sandbox:
    """Run code that a model wrote, each call in a fresh process that can do no harm.

    ``workers`` is the number of warm servers that fork these processes; one serves dozens of calls at once.
    ``preload`` names modules that candidates may import besides the standard library; each is loaded once.
    ``unconfined`` runs the code without bubblewrap: limits hold, but the code can reach the user's files.

    Example: ``async with sandbox.open(): ran = await sandbox.run(code, arguments={"question": "..."})``
    """

    def __init__(
        self,
        *,
        unconfined: bool = False,
        workers: int = 1,
        limits: SandboxLimits = _DEFAULT_LIMITS,
        preload: Sequence[str] = (),
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise DataError(f"sandbox: workers={workers!r}; expected a whole number over 0.\nFix: Sandbox(workers=1).")
        if isinstance(preload, str):
            raise DataError(f"sandbox: preload={preload!r}; expected names in a list.\nFix: preload=[{preload!r}].")
        self.limits = limits
        self._confined = not unconfined
        self._count = workers
        self._preload = tuple(preload)
        self._workers: list[Worker] | None = None

    def open(self) -> AbstractAsyncContextManager[None]:
        """Hold the warm servers; leaving the block in any way ends all their processes and deletes their files.

        Raises `DataError` if confinement cannot be set up here, or does not hold against a harmless probe.  Raises it
        too if a module of ``preload`` cannot be imported, or the sandbox is already open.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        if self._workers is not None:
            raise DataError("sandbox: it is already open.\nFix: open it once, around all the calls.")
        if not sys.platform.startswith("linux"):
            raise DataError(
                f"sandbox: found {sys.platform}, expected Linux.\nFix: run in a Linux container or virtual machine."
            )
        if not self._confined:
            log.warning("the sandbox is off: code that a model wrote can reach your files")
        workers = self._workers = []
        self._starting = anyio.Lock()
        try:
            for _ in range(self._count):
                workers.append(await self._start())
            if self._confined:
                await self._check()
            yield
        finally:
            self._workers = None
            for worker in workers:
                worker.kill()

    async def run(
        self,
        code: str,
        entry: str = "main",
        arguments: Mapping[str, Any] = {},
        *,
        driver: str = "",
        llm: Llm | None = None,
        limits: SandboxLimits | None = None,
    ) -> Ran:
        """Run ``code`` as the module ``candidate`` in a fresh process and return the result of ``entry(**arguments)``.

        With ``driver``, that text is run as the module ``driver`` after the candidate; it may import the candidate, and
        contains the entry.  Both run in one process, so the candidate can forge the value that the driver returns.
        ``arguments`` and the value are JSON.  With ``llm``, an entry with the parameter ``llm`` gets a callable
        ``llm(prompt: str | list[dict]) -> str`` that several threads can use; the wall clock stops while it waits.

        Raises `CandidateFailed` for every fault of the candidate.  Raises `DataError` when the sandbox is not open or
        ``arguments`` are not JSON.  Errors of ``llm`` (`BudgetExhausted`, a fatal `ModelError`) are raised too, except
        `RequestFailed`, which the candidate gets as a `RuntimeError`.  Cancelling kills the process.
        """
        job = ChildJob(code, entry, dict(arguments), driver, llm is not None)
        for attempt in range(1, _ATTEMPTS + 1):
            worker = await self._worker()
            worker.calls += 1
            try:
                async with worker.slots:
                    with ChildCall(limits or self.limits) as call:
                        await call.begin(worker, job)
                        return call.finish(await converse(call, llm))
            except Malformed as error:
                raise DataError(f"sandbox: the code or its arguments cannot be sent: {error}; expected JSON.") from None
            except NotStarted:
                if attempt == _ATTEMPTS:
                    raise CandidateFailed("killed", "the process was killed before the code began") from None
            except NotConfined as error:
                if attempt == _ATTEMPTS:
                    raise no_confinement(f"that a process cannot confine itself ({error})") from None
            finally:
                worker.calls -= 1
        raise AssertionError("every attempt returns or raises")

    async def _worker(self) -> Worker:
        """Return the server with the fewest calls; restart it if it has died."""
        workers = self._workers
        if not workers:
            raise DataError("sandbox: it is not open.\nFix: async with sandbox.open(): ...")
        async with self._starting:
            for at, worker in enumerate(workers):
                if not worker.responds():
                    worker.kill()
                    log.warning("a server of the sandbox has died and is restarted")
                    workers[at] = await self._start()
            return min(workers, key=lambda worker: worker.calls)

    async def _start(self) -> Worker:
        return await Worker.start(confined=self._confined, preload=self._preload, usual=self.limits)

    async def _check(self) -> None:
        """Run the probe: a candidate could do all that the probe can."""
        try:
            ran = await self.run(probe.CODE, arguments={"secrets": probe.secrets()})
        except CandidateFailed as error:
            raise no_confinement(f"that a probe fails in it ({error})") from None
        if ran.value:
            raise no_confinement(f"that in the sandbox a probe could {', '.join(ran.value)}")
