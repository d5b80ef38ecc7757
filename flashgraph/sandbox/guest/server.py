"""The warm server: an interpreter with loaded modules that forks a child for each call, kills it and reaps it.

It has one thread and one poll loop, and reads nothing from a candidate: the children's channels lead to the trusted
side directly.  Only the server keeps clocks, in real time, because the trusted side may use a virtual clock.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from typing import Any

from . import child, libc, seccomp, wire
from .confine import Bounds, address_space

__all__ = ["main"]

# A child's CPU time may be used up sooner if its threads run on several cores.
_CORES = os.cpu_count() or 1
_SHORTEST_WATCH = 0.01
# For a candidate's threads, instead of the usual 8 MiB, because stacks count as memory.
_STACK_BYTES = 2 * 1024 * 1024
# Enough to hide the making of a child from single calls; the cores bound a burst anyway.
_SPARES = 2 * _CORES


class Spare:
    """A confined child that waits for a call with exactly these bounds."""

    def __init__(self, pid: int, socket_: socket.socket, bounds: Bounds, scratch: str) -> None:
        self.pid, self.socket, self.bounds, self.scratch = pid, socket_, bounds, scratch
        self.process = os.pidfd_open(pid)


class Running:
    """One call: its child, its lease and its remaining time."""

    def __init__(self, spare: Spare, lease: socket.socket) -> None:
        self.pid, self.bounds, self.scratch = spare.pid, spare.bounds, spare.scratch
        self.process = spare.process
        self.lease = lease
        self.deadline: float | None = time.monotonic() + self.bounds.wall_seconds
        self.left = self.bounds.wall_seconds
        self.why = ""

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        # The kernel's name for a process's CPU clock (clock_getcpuclockid): the complement of its id, and kind 2.
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def pause(self) -> None:
        """Stop the wall clock, because the child waits for the model."""
        if self.deadline is not None:
            self.left, self.deadline = self.deadline - time.monotonic(), None

    def resume(self) -> None:
        """Restart the wall clock."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self.left

    def watch(self) -> float:
        """Kill the child if a limit is reached; return the seconds until the next check."""
        if self.why:
            return 3600.0
        cpu_left = self.bounds.cpu_seconds - self.cpu()
        wall_left = 3600.0 if self.deadline is None else self.deadline - time.monotonic()
        if cpu_left <= 0 or wall_left <= 0:
            self.kill("cpu" if cpu_left <= 0 else "timeout")
        return max(_SHORTEST_WATCH, min(cpu_left / _CORES, wall_left))

    def kill(self, why: str) -> None:
        """Kill the child and, if it is the first process of a namespace, all that it started."""
        self.why = self.why or why
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)

    def reap(self) -> dict[str, Any]:
        """Take the ended child's status and release its process."""
        cpu = self.cpu()
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.process)
        code = os.waitstatus_to_exitcode(status)
        return {
            "why": self.why,
            "signal": max(0, -code),
            "status": max(0, code),
            "cpu": max(cpu, usage.ru_utime + usage.ru_stime),
        }


class Server:
    """The poll loop over the control socket, the leases and the children."""

    def __init__(self, control: socket.socket, usual: Bounds, *, jailed: bool, scratch: str) -> None:
        self.control = control
        self.jailed = jailed
        self.scratch = scratch
        self.base = address_space()
        self.own_process = os.pidfd_open(os.getpid())
        if jailed:
            # Made here once for all children, because each is process 1 of its own namespace.
            seccomp.program(1)
        self.poll = select.poll()
        self.poll.register(control.fileno(), select.POLLIN)
        self.leases: dict[int, Running] = {}
        self.processes: dict[int, Running] = {}
        self.usual = usual
        self.spares: list[Spare] = []

    def serve(self) -> None:
        """Serve until the trusted side closes the control socket."""
        while True:
            due = min([running.watch() for running in self.processes.values()], default=None)
            wanting = len(self.spares) < _SPARES
            events = self.poll.poll(0 if wanting else None if due is None else due * 1000 + 1)
            if wanting and not events:
                self.prepare()
            # New children last, because they could reuse descriptors that an earlier event closed.
            events.sort(key=lambda event: event[0] == self.control.fileno())
            for descriptor, _ in events:
                if descriptor in self.leases:
                    self.read_lease(self.leases[descriptor])
                elif descriptor in self.processes:
                    self.end(self.processes[descriptor])
                elif descriptor == self.control.fileno() and not self.spawn():
                    return

    def read_lease(self, running: Running) -> None:
        """Process the trusted side's message on a lease; a closed lease means that the call was abandoned."""
        try:
            said = running.lease.recv(16, socket.MSG_DONTWAIT)
        except OSError:
            said = b""
        if said == wire.PAUSE:
            running.pause()
        elif said == wire.RESUME:
            running.resume()
        else:
            self.poll.unregister(running.lease.fileno())
            del self.leases[running.lease.fileno()]
            running.kill("given up")

    def end(self, running: Running) -> None:
        """Report a child's end."""
        self.poll.unregister(running.process)
        del self.processes[running.process]
        ended = running.reap()
        if self.leases.pop(running.lease.fileno(), None):
            self.poll.unregister(running.lease.fileno())
            with contextlib.suppress(OSError):
                running.lease.send(json.dumps(ended).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        running.lease.close()
        if not self.jailed:
            shutil.rmtree(running.scratch, ignore_errors=True)

    def spawn(self) -> bool:
        """Give one request a child; return False at the end of requests."""
        request, descriptors, _, _ = socket.recv_fds(self.control, wire.SPAWN.size, wire.DESCRIPTORS)
        if len(request) != wire.SPAWN.size or len(descriptors) != wire.DESCRIPTORS:
            return False
        channel, lease, out, err = descriptors
        # Without free processes the call ends as if its child never existed: its lease closes.
        with socket.socket(fileno=lease) as held, contextlib.suppress(OSError):
            spare = self.hand_over(Bounds(*wire.SPAWN.unpack(request)), (channel, out, err))
            running = Running(spare, socket.socket(fileno=held.detach()))
            self.leases[lease] = self.processes[running.process] = running
            self.poll.register(lease, select.POLLIN)
            self.poll.register(running.process, select.POLLIN)
        for descriptor in (channel, out, err):
            os.close(descriptor)
        return True

    def hand_over(self, bounds: Bounds, descriptors: tuple[int, int, int]) -> Spare:
        """Return the child that took a call: a waiting one, or a new one.  Raises `OSError` if none can start."""
        while True:
            waited = bounds == self.usual and bool(self.spares)
            spare = self.spares.pop() if waited else self.make(bounds)
            with spare.socket:
                try:
                    socket.send_fds(spare.socket, [b"!"], descriptors)
                    return spare
                except OSError:
                    # The child has ended: it had no memory, or could not confine itself.
                    os.close(spare.process)
                    os.waitpid(spare.pid, 0)
                    if not waited:
                        raise

    def make(self, bounds: Bounds) -> Spare:
        """Fork a child.  Raises `OSError` when the machine has no more processes."""
        scratch = self.scratch if self.jailed else tempfile.mkdtemp(dir=self.scratch)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = self.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                child.live(bounds, theirs.fileno(), base=self.base, jailed=self.jailed, scratch=scratch)
        return Spare(pid, ours, bounds, scratch)

    def prepare(self) -> None:
        """Make a child in advance, while there is nothing else to do."""
        try:
            self.spares.append(self.make(self.usual))
        except OSError:
            time.sleep(_SHORTEST_WATCH)

    def fork(self) -> int:
        """Fork; a jailed child is the first process of its own namespace, and sees no other."""
        if self.jailed:
            # A process can do this only once, unless it returns first (setns).
            libc.setns(self.own_process, libc.CLONE_NEWPID)
            libc.unshare(libc.CLONE_NEWPID)
        return os.fork()


def main(configuration: str) -> None:
    """Serve by the JSON object ``configuration``: control (a descriptor), jailed, packages, ..."""
    asked = json.loads(configuration)
    control = socket.socket(fileno=asked["control"])
    problem = ""
    if asked["jailed"] and not seccomp.supported():
        problem = f"there is no seccomp filter for {os.uname().machine}"
    # A numerical library's threads would not survive the fork.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    sys.path[:] = [*filter(os.path.isabs, sys.path), *asked["packages"]]
    for name in asked["preload"]:
        try:
            importlib.import_module(name)
        except Exception as error:
            problem = f"preload {name!r}: {type(error).__name__}: {error}"
    os.environ.clear()
    threading.stack_size(_STACK_BYTES)
    sys.argv[:] = ["sandbox"]
    control.send(json.dumps({"problem": problem}).encode())
    child.rehearse()
    gc.collect()
    gc.freeze()
    Server(control, Bounds(*asked["usual"]), jailed=asked["jailed"], scratch=asked["scratch"]).serve()
    # Without unwinding, because the children die with this process.
    os._exit(0)
