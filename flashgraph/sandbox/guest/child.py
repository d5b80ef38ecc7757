"""The child: read one job, run the candidate, answer.

After `confine` a candidate may control everything in this process, including this module.  It can send whatever it
wants, and the trusted side treats all messages so.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, NoReturn

from . import wire
from .broker import Broker
from .candidate import Failed, out_of_memory, perform
from .confine import CHANNEL, Bounds, confine, keep_only, take_descriptors

__all__ = ["live", "rehearse"]

_REHEARSALS = 50
_READY = wire.pack({"ready": True})


class Channel:
    """Frames to and from the trusted side."""

    def __init__(self) -> None:
        self.received = bytearray()

    def send(self, frame: bytes) -> None:
        """Send all of ``frame``."""
        view = memoryview(frame)
        while view:
            view = view[os.write(CHANNEL, view) :]

    def receive(self) -> Any:
        """Return the next frame's value.  Raises `EOFError` when the other side is gone."""
        while (found := wire.unpack(self.received)) is None:
            data = os.read(CHANNEL, 16384)
            if not data:
                raise EOFError
            self.received += data
        value, length = found
        del self.received[:length]
        return value


class Capped(io.RawIOBase):
    """Stdout or stderr; printing more than the limit ends the process."""

    def __init__(self, descriptor: int, limit: int, channel: Channel) -> None:
        self.descriptor, self.left, self.channel = descriptor, limit, channel
        self.name = {1: "stdout", 2: "stderr"}[descriptor]
        self.limit = limit

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def write(self, data: Any) -> int:
        """Write as much as the limit allows; end the process if that is not all."""
        data = memoryview(data).cast("B")
        self.left -= len(data)
        with contextlib.suppress(OSError):
            os.write(self.descriptor, data[: max(0, len(data) + min(0, self.left))])
        if self.left < 0:
            message = f"it printed more than {self.limit} bytes to {self.name}"
            self.channel.send(wire.pack({"failed": "output", "message": message}))
            os._exit(1)
        return len(data)


def live(bounds: Bounds, server: int, *, base: int, jailed: bool, scratch: str) -> NoReturn:
    """Be the child until the process ends: confine it at once, then wait for a call."""
    try:
        keep_only(server)
        refused = ""
        try:
            confine(bounds, base=base, jailed=jailed, scratch=scratch)
        except Exception as error:
            refused = str(error) or type(error).__name__
        channel = Channel()
        _open_outputs(bounds, channel)
        if take_descriptors():
            # Before "ready" no candidate has run, so the trusted side knows who sent "refused".
            channel.send(wire.pack({"refused": refused}) if refused else _READY)
            if not refused:
                channel.send(_answer(channel.receive(), channel, bounds))
    finally:
        # Not sys.exit, which would wait for the candidate's threads and run its atexit functions.
        os._exit(0)


def _open_outputs(bounds: Bounds, channel: Channel) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        buffered = io.BufferedWriter(Capped(descriptor, bounds.output_bytes, channel), 8192)
        setattr(sys, name, io.TextIOWrapper(buffered, "utf-8", "backslashreplace", line_buffering=True))


def rehearse() -> None:
    """Do in the server what each child will do, so that children inherit the results.

    The interpreter specializes code as it runs; in a child every such change would copy a page.
    """
    job = {"code": "def main(): return 1", "driver": "", "entry": "main", "arguments": {}, "llm": False}
    for _ in range(_REHEARSALS):
        found = wire.unpack(wire.pack(job))
        assert found is not None
        wire.pack({"value": perform(found[0], None)})
    del sys.modules["candidate"]


def _answer(job: dict[str, Any], channel: Channel, bounds: Bounds) -> bytes:
    """Return the last frame."""
    limit = bounds.output_bytes
    try:
        broker = Broker(channel, *(job[name] for name in wire.ASKING)) if job["llm"] else None
        try:
            frame = wire.pack({"value": perform(job, broker)})
        except wire.Malformed as error:
            raise Failed("error", f"the result of {job['entry']}() is not JSON: {error}") from None
        if len(frame) > limit + wire.SLACK // 2:
            raise Failed("output", f"the result of {job['entry']}() is more than {limit} bytes of JSON")
        _flush()
        return frame
    except Failed as failed:
        with contextlib.suppress(Exception):
            _flush()
        return wire.pack({"failed": failed.kind, "message": failed.message})
    except MemoryError:
        return out_of_memory()


def _flush() -> None:
    """Flush both streams, whatever the candidate has made of them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
