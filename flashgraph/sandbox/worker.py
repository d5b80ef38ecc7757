"""One warm server: start it, request children, end it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from flashgraph.errors import DataError
from flashgraph.sandbox.guest import wire
from flashgraph.sandbox.jail import NOBODY, SCRATCH, Jail, no_confinement
from flashgraph.sandbox.limits import SandboxLimits

__all__ = ["Gone", "Worker"]


_ENDING_SECONDS = 2.0
# Each call has a few descriptors here and in the server; by default a process may have 1024.
_MOST_CALLS = 64


class Gone(Exception):
    """The server has died, or died during a request."""


class Worker:
    """A server process and the socket for its requests.

    ``calls`` counts its present and waiting calls, ``slots`` bounds those at once; ``alive`` is false once the server
    was found dead.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, scratch: str | None) -> None:
        self.process = process
        self.control = control
        self.calls = 0
        self.slots = anyio.Semaphore(_MOST_CALLS)
        self.alive = True
        self._scratch = scratch
        self._asking = anyio.Lock()

    @classmethod
    async def start(cls, *, confined: bool, preload: Sequence[str], usual: SandboxLimits) -> Worker:
        """Start a server and wait until it is warm; it makes children with the limits ``usual`` in advance.

        Raises `DataError` if it cannot be confined, or a module of ``preload`` cannot be imported.
        """
        jail = Jail.of(confined=confined, preload=preload)
        scratch = None if confined else tempfile.mkdtemp(prefix="flashgraph-")
        with tempfile.TemporaryFile() as errors:
            configuration = {
                "jailed": confined,
                "preload": list(preload),
                "scratch": scratch or SCRATCH,
                "usual": _bounds(usual),
            }
            worker = cls._launch(jail, configuration, errors.fileno())
            try:
                greeting = await _receive(worker.control)
                if not greeting:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip()
                    raise no_confinement(f"that the sandbox's server does not start ({said[-500:] or 'no message'})")
                problem = json.loads(greeting)["problem"]
                if problem:
                    raise DataError(
                        f"sandbox: {problem}; expected a module that is installed beside flashgraph, not one in a "
                        "project's folder.\nFix: install it (pip install ...), or leave it out of preload."
                    )
            except BaseException:
                worker.kill()
                raise
        return worker

    @classmethod
    def _launch(cls, jail: Jail, configuration: dict[str, Any], errors: int) -> Worker:
        """Start the process.

        This runs in the event loop's thread, because the kernel kills the sandbox with the *thread* that started it
        (bubblewrap's --die-with-parent).  A helper thread would end when idle.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, contextlib.ExitStack() as stack:
            command = jail.serving(control=theirs.fileno(), **configuration)
            confined = configuration["jailed"]
            passed = [theirs.fileno()]
            if confined:
                info, says = (stack.enter_context(end) for end in _pipe())
                blocks, proceed = (stack.enter_context(end) for end in _pipe())
                passed += [says.fileno(), blocks.fileno()]
                command[1:1] = ["--info-fd", str(says.fileno()), _block_option(), str(blocks.fileno())]
            process = subprocess.Popen(
                command,
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=jail.environment,
                start_new_session=True,
            )
            worker = cls(process, ours, None if confined else configuration["scratch"])
            if confined:
                says.close()
                _admit(info, proceed)
        return worker

    async def spawn(self, limits: SandboxLimits, descriptors: Sequence[int]) -> None:
        """Request one child.  Raises `Gone` when the server has died."""
        request = wire.SPAWN.pack(*_bounds(limits))
        async with self._asking:
            while True:
                try:
                    socket.send_fds(self.control, [request], descriptors)
                    return
                except BlockingIOError:
                    await anyio.wait_writable(self.control)
                except OSError:
                    self.alive = False
                    raise Gone from None

    def responds(self) -> bool:
        """Return whether the server is alive, as far as can be known without waiting."""
        self.alive = self.alive and self.process.poll() is None
        return self.alive

    def kill(self) -> None:
        """Kill the server and thereby all its children; return when the process is gone."""
        self.alive = False
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # Every process of the sandbox except the children holds it, and these cannot outlive them; the wait is short.
        with contextlib.suppress(OSError, ValueError):
            select.select([self.control], [], [], _ENDING_SECONDS)
        self.control.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _bounds(limits: SandboxLimits) -> tuple[float, ...]:
    """Return the fields of `wire.SPAWN`."""
    return (
        float(limits.cpu_seconds),
        float(limits.wall_seconds),
        limits.memory_bytes,
        limits.scratch_bytes,
        limits.output_bytes,
        limits.threads,
    )


def _pipe() -> tuple[io.FileIO, io.FileIO]:
    reads, writes = os.pipe()
    return io.FileIO(reads, "rb"), io.FileIO(writes, "wb")


def _block_option() -> str:
    # The superuser maps a second user into the sandbox, which the children become; see guest/confine.py.
    return "--userns-block-fd" if os.geteuid() == 0 else "--block-fd"


def _admit(info: io.FileIO, proceed: io.FileIO) -> None:
    """Read which process waits in the new sandbox, prepare it, and let it continue.

    A failure here shows as a server that does not start, with bubblewrap's own message.
    """
    said = b""
    while b"}" not in said and (data := info.read(4096)):
        said += data
    if b"}" not in said:
        return
    place = Path("/proc", str(json.loads(said)["child-pid"]))
    # When memory is short the kernel should kill candidates, and not the run.
    with contextlib.suppress(OSError):
        (place / "oom_score_adj").write_text("1000")
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            _map_users(place)
    with contextlib.suppress(OSError):
        proceed.write(b"1")


def _map_users(place: Path) -> None:
    """Map root and nobody; only root if this machine's root has no nobody (a rootless container)."""
    for file in ("uid_map", "gid_map"):
        try:
            (place / file).write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n")
        except OSError:
            (place / file).write_text("0 0 1\n")


async def _receive(sock: socket.socket) -> bytes:
    """Return one datagram; empty if the other side is gone."""
    while True:
        try:
            return sock.recv(65536)
        except BlockingIOError:
            await anyio.wait_readable(sock)
        except OSError:
            return b""
