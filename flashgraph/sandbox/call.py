"""One call, seen from the trusted side: send the job, receive frames, judge the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, cast, get_args

import anyio
import attrs

from flashgraph.sandbox.guest import wire
from flashgraph.sandbox.guest.wire import MESSAGE_LENGTH
from flashgraph.sandbox.limits import SandboxLimits
from flashgraph.sandbox.outcome import CandidateFailed, Kind, Ran
from flashgraph.sandbox.worker import Gone, Worker

__all__ = ["ChildCall", "ChildJob", "NotConfined", "NotStarted"]

_OWN_KINDS = ("syntax", "error", "entry", "memory", "output")
"""Kinds that a child may claim, because they concern only itself."""


class NotStarted(Exception):
    """The server died before the candidate's first line ran, so the call can be made again."""


class NotConfined(Exception):
    """The child could not confine itself, and ran nothing."""


@attrs.frozen
class ChildJob:
    """A child's job."""

    code: str
    entry: str
    arguments: Mapping[str, Any]
    driver: str
    llm: bool


class ChildCall:
    """The sockets and files of one call.

    Use it as ``with ChildCall(limits) as call: await call.begin(worker, job); ...``.  Leaving the block kills the child
    if it still runs.
    """

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self.began = time.perf_counter()
        self._received = bytearray()
        self._ready = False
        self._sending = anyio.Lock()
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> ChildCall:
        with contextlib.ExitStack() as stack:
            self._channel, self._their_channel = _sockets(stack, socket.SOCK_STREAM)
            self._lease, self._their_lease = _sockets(stack, socket.SOCK_SEQPACKET)
            self._out, self._err = (_file(stack, name, self.limits.output_bytes) for name in ("out", "err"))
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    async def begin(self, worker: Worker, job: ChildJob) -> None:
        """Get a child and send it its job.  Raises `NotStarted`, or `CandidateFailed` as `receive` does."""
        bounds = {name: getattr(self.limits, name) for name in wire.ASKING}
        frame = wire.pack({**attrs.asdict(job, recurse=False), **bounds})
        theirs = (self._their_channel, self._their_lease)
        try:
            await worker.spawn(self.limits, [*(end.fileno() for end in theirs), self._out, self._err])
        except Gone:
            raise NotStarted from None
        for end in theirs:
            end.close()
        await self.send(frame)

    async def send(self, frame: bytes) -> None:
        """Send all of ``frame``; if the child is gone, `receive` reports it."""
        async with self._sending:
            view = memoryview(frame)
            while view:
                try:
                    view = view[self._channel.send(view, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._channel)
                except OSError:
                    return

    async def receive(self) -> dict[str, Any]:
        """Return the child's next frame: ``llm`` or ``value``.

        Raises `CandidateFailed` for a frame that reports a failure, a forged frame, and the end of the process.  Raises
        `NotStarted` or `NotConfined` when the candidate never ran.
        """
        while True:
            frame = await self._frame()
            if not self._ready and "refused" in frame:
                raise NotConfined(str(frame["refused"]))
            if not self._ready and frame == {"ready": True}:
                self._ready = True
            elif "failed" in frame:
                self._claimed(frame)
            elif self._ready and ("value" in frame or "llm" in frame):
                return frame
            else:
                self.forged(f"a message with the keys {', '.join(map(repr, list(frame)[:5]))}")

    async def _frame(self) -> dict[str, Any]:
        # JSON may take six bytes for one byte of text.
        largest = max(self.limits.output_bytes, 6 * self.limits.prompt_bytes) + wire.SLACK
        while True:
            length = wire.head(self._received)
            if length is not None and length > largest:
                self.forged(f"a message of {length} bytes")
            try:
                found = wire.unpack(self._received)
            except wire.Malformed as error:
                self.forged(f"a message that is not JSON ({error})")
            if found is not None:
                value, used = found
                del self._received[:used]
                if isinstance(value, dict):
                    return value
                self.forged("a message that is not a JSON object")
            try:
                data = self._channel.recv(min(largest, 256 * 1024))
            except BlockingIOError:
                await anyio.wait_readable(self._channel)
                continue
            except OSError:
                data = b""
            if not data:
                await self._ended()
            self._received += data

    def finish(self, value: Any) -> Ran:
        """Return the result, after the value has arrived."""
        stdout, stderr = self._printed()
        return Ran(value, stdout, stderr, time.perf_counter() - self.began)

    async def pause(self, paused: bool) -> None:
        """Stop or restart the child's wall clock."""
        while True:
            try:
                self._lease.send(wire.PAUSE if paused else wire.RESUME, socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                await anyio.wait_writable(self._lease)
            except OSError:
                return

    def forged(self, what: str) -> NoReturn:
        """Raise the failure for a message that the sandbox's own code does not send."""
        self._fail("protocol", f"the sandbox received {what}")

    def _claimed(self, frame: dict[str, Any]) -> NoReturn:
        kind, message = frame["failed"], frame.get("message")
        if kind not in _OWN_KINDS or not isinstance(message, str):
            self.forged("a failure that is none of its kinds")
        self._fail(cast(Kind, kind), message[-MESSAGE_LENGTH:])

    async def _ended(self) -> NoReturn:
        """Raise the failure for the process's end, by the server's report."""
        ended = await self._status()
        if ended is None:
            if not self._ready:
                raise NotStarted
            self._fail("killed", "the sandbox's server died, and the process with it")
        limits, why = self.limits, ended["why"]
        if why == "timeout":
            self._fail("timeout", f"it ran for {limits.wall_seconds:g} s apart from its model calls, and was killed")
        if why == "cpu" or ended["cpu"] >= limits.cpu_seconds:
            self._fail("cpu", f"it used {limits.cpu_seconds:g} s of CPU time, and was killed")
        if not self._ready:
            raise NotStarted
        if ended["signal"]:
            self._fail("killed", f"it died of {_signal_name(ended['signal'])}")
        self._fail("killed", f"it ended its own process with the exit status {ended['status']}")

    async def _status(self) -> dict[str, Any] | None:
        while True:
            try:
                said = self._lease.recv(4096)
            except BlockingIOError:
                await anyio.wait_readable(self._lease)
                continue
            except OSError:
                return None
            return cast(dict[str, Any], json.loads(said)) if said else None

    def _fail(self, kind: Kind, message: str) -> NoReturn:
        assert kind in get_args(Kind)
        raise CandidateFailed(kind, message, *self._printed())

    def _printed(self) -> tuple[str, str]:
        """Return stdout and stderr so far."""
        return self._text(self._out), self._text(self._err)

    def _text(self, file: int) -> str:
        # The child shares the offset and may have set it anywhere; the file's size is sealed.
        size = min(os.lseek(file, 0, os.SEEK_CUR), self.limits.output_bytes)
        return os.pread(file, size, 0).decode(errors="replace")


def _sockets(until: contextlib.ExitStack, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Return our end, which never blocks, and the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    until.enter_context(ours)
    until.enter_context(theirs)
    ours.setblocking(False)
    return ours, theirs


def _file(until: contextlib.ExitStack, name: str, size: int) -> int:
    """Create a file in memory that can neither grow nor shrink, which bounds endless printing."""
    file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    until.callback(os.close, file)
    os.ftruncate(file, size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return file


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
