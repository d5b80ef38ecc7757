"""The embedded model: weights on this machine, with llama.cpp in a child process; no account and no server needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.abc
import attrs
from anyio.streams.buffered import BufferedByteReceiveStream

from flashgraph.errors import DataError, ModelUnavailable
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Message, Reply
from flashgraph.llm.sharing import Shared
from flashgraph.llm.weights import Report, locate
from flashgraph.text.terminal import Screen

__all__ = ["LocalModel"]

SERVER = Path(__file__).with_name("local_server.py")
SLOTS = 2
REPLY_TOKENS = 400
CONTEXT = 16_384
START_SECONDS = 180.0
STOP_SECONDS = 5.0


def _bounded(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"max_tokens": REPLY_TOKENS, **params}


@attrs.define(eq=False)
class LocalModel:
    """The weights ``weights`` (a name of `flashgraph.llm.weights.CATALOG`, or a path), served on this machine.

    `open` downloads them if necessary and starts the server in a child process on a free loopback port.  It waits until
    the server answers; leaving the block stops the child.  ``limit`` requests run at once and share a context of
    ``context`` tokens; a single request may use the whole context.  A reply ends after 400 tokens unless the request
    says otherwise, because small models do not always stop.  ``report`` gets the progress instead of the screen.  One
    object can serve several roles and several concurrent runs.
    """

    weights: str = "1.5b"
    limit: int = attrs.field(default=SLOTS, kw_only=True, validator=attrs.validators.ge(1))
    context: int = attrs.field(default=CONTEXT, kw_only=True, validator=attrs.validators.ge(512))
    threads: int = attrs.field(factory=lambda: os.cpu_count() or 1, kw_only=True, validator=attrs.validators.ge(1))
    timeout: float = attrs.field(default=600.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, converter=_bounded)
    report: Report | None = attrs.field(default=None, kw_only=True, repr=False)
    _server: Shared[HttpModel] = attrs.field(factory=Shared, init=False, repr=False)

    @property
    def name(self) -> str:
        return f"local:{self.weights}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the server.

        Raises `DataError` if the engine is not installed or the weights are not available, and `ModelUnavailable` if
        the server does not start.
        """
        if find_spec("xllamacpp") is None:
            raise DataError(
                f"{self.name} needs the llama.cpp engine; run: pip install 'flashgraph[local]' "
                "(or use openai:URL#MODEL, vllm:URL#MODEL)"
            )
        async with self._server.hold(self._serving):
            yield

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[HttpModel]:
        with tempfile.TemporaryFile("w+b") as log:
            with _reporting(self.report) as report:
                path = await locate(self.weights, report)
                report(f"starting {path.name} on {self.threads} threads", 0, 0)
            process = await self._start(path, log)
            try:
                address = await _address(process, self.name, log)
                served = HttpModel(
                    address, self.name, limit=self.limit, timeout=self.timeout, params=self.params, key=""
                )
                async with served.open():
                    yield served
            finally:
                await _stop(process)

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`."""
        if (server := self._server.value) is None:
            raise RuntimeError(f"{self.name} is not open: use `async with model.open():` around its calls")
        return await server.complete(messages, params)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return 0: the embedded model is free."""
        return 0.0

    async def _start(self, path: Path, log: IO[bytes]) -> anyio.abc.Process:
        arguments = {"model": str(path), "parallel": self.limit, "context": self.context, "threads": self.threads}
        # By its path, because the child needs nothing else of this package.  With -P, because this folder on its path
        # would hide standard modules with the same names.  In a session of its own, so that Ctrl-C reaches only the
        # parent, which ends its requests before it stops the server.
        return await anyio.open_process(
            [sys.executable, "-P", str(SERVER), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


def _reporting(report: Report | None) -> AbstractContextManager[Report]:
    return Screen() if report is None else nullcontext(report)


async def _address(process: anyio.abc.Process, name: str, log: IO[bytes]) -> str:
    """Return the child's first line: it prints its address once the weights are loaded."""
    assert process.stdout is not None
    try:
        with anyio.fail_after(START_SECONDS):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1024)
    except TimeoutError:
        raise ModelUnavailable(f"{name} was not ready after {START_SECONDS:g} s:\n{_tail(log)}") from None
    except anyio.IncompleteRead:
        raise ModelUnavailable(f"{name}: its server ended while it started:\n{_tail(log)}") from None
    return line.decode()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(f"    {line}" for line in log.read().decode(errors="replace").splitlines()[-8:])


async def _stop(process: anyio.abc.Process) -> None:
    """Stop the child by closing its input, and finally by force; a cancelled run waits for this too."""
    assert process.stdin is not None
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(STOP_SECONDS):
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
