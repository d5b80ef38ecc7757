"""How a forked child shuts itself in, before it reads a byte of what it shall run.

The order matters: what needs a capability comes first, then the capabilities go, then the filter takes away the
calls that could get them back.  Any step that fails ends the child; nothing runs half confined.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
from typing import NamedTuple

from . import libc, seccomp

__all__ = [
    "CHANNEL",
    "DEVICES",
    "REPORTING_BYTES",
    "Bounds",
    "address_space",
    "confine",
    "keep_only",
    "take_descriptors",
]

CHANNEL = 3
"""The child's descriptor of its channel; beside it there are only stdin (empty), stdout and stderr."""

REPORTING_BYTES = 32 * 1024 * 1024
"""Address space beyond the candidate's limit, so that running out of memory can still be reported."""

NOBODY = 65534
DESCRIPTORS = 128
SIGNALS = 64
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Bounds(NamedTuple):
    """`wire.SPAWN`, unpacked."""

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    scratch_bytes: int
    output_bytes: int
    threads: int


def keep_only(descriptor: int) -> None:
    """Move ``descriptor`` to `CHANNEL` and close all others: those of the server and of siblings."""
    os.dup2(descriptor, CHANNEL)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))


def take_descriptors() -> bool:
    """Wait for a call's channel, stdout and stderr and make them 1 to 3; False when none will come."""
    with socket.socket(fileno=CHANNEL) as server:
        _, descriptors, _, _ = socket.recv_fds(server, 1, 3)
        server.detach()
    if len(descriptors) != 3:
        return False
    for descriptor, place in zip(descriptors, (CHANNEL, 1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    return True


def address_space() -> int:
    """Bytes of address space this process takes now, to 1 MiB.

    Found by trying out limits, because the sandbox has no /proc to look it up in.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, min(1 << 47, hard if hard != resource.RLIM_INFINITY else 1 << 47)
    try:
        while high - low > 1 << 20:
            middle = (low + high) // 2
            resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
            try:
                mmap.mmap(-1, mmap.PAGESIZE, _PRIVATE).close()
                high = middle
            except (OSError, MemoryError):
                low = middle
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return high


def confine(bounds: Bounds, *, base: int, jailed: bool, scratch: str) -> None:
    """Shut this process in: namespaces (if ``jailed``), limits, capabilities, filter.

    ``base`` is the server's address space, which the candidate's limit does not pay for; ``scratch`` becomes the
    working folder, empty.  Raises `OSError` for what the kernel refuses.
    """
    if jailed:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount_scratch(scratch, bounds.scratch_bytes)
        # They are the machine's own: a time that one child sets would be there for all.
        for device in DEVICES:
            libc.make_read_only(device)
    os.chdir(scratch)
    if jailed:
        _become_nobody()
        # A user namespace counts its own processes: the limit on threads is then this child's alone.
        libc.unshare(libc.CLONE_NEWUSER)
        _limit(resource.RLIMIT_NPROC, bounds.threads)
    _limit_resources(bounds, base)
    libc.drop_capabilities()
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    if seccomp.supported():
        libc.install_filter(seccomp.program(os.getpid()))
    elif jailed:
        raise OSError(f"no seccomp filter for {os.uname().machine}")


def _become_nobody() -> None:
    """The superuser is exempt from the limit on threads, so the server's root does not stay root."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit_resources(bounds: Bounds, base: int) -> None:
    # The server watches the CPU clock to the millisecond; the kernel's limit is there if the server is stopped.
    _limit(resource.RLIMIT_CPU, int(bounds.cpu_seconds) + 2)
    _limit(resource.RLIMIT_FSIZE, max(bounds.scratch_bytes, bounds.output_bytes))
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    # Counted for the user, on all of the machine.
    _limit(resource.RLIMIT_SIGPENDING, SIGNALS)
    soft = base + bounds.memory_bytes
    _limit(resource.RLIMIT_AS, soft, soft + REPORTING_BYTES)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or keep the one that is there if it is lower."""
    _, ceiling = resource.getrlimit(which)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
