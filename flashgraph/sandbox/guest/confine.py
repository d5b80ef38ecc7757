"""Confine a forked child before it reads a byte of the candidate.

The order matters: steps that need a capability come first, then the capabilities are dropped, then the filter removes
the calls that could restore them.  A step that fails ends the child; nothing runs half confined.
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
"""The child's descriptor of its channel; the others are stdin (empty), stdout and stderr."""

REPORTING_BYTES = 32 * 1024 * 1024
"""Address space beyond the candidate's limit, so that running out of memory can still be reported."""

NOBODY = 65534
DESCRIPTORS = 128
SIGNALS = 64
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Bounds(NamedTuple):
    """The fields of `wire.SPAWN`."""

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    scratch_bytes: int
    output_bytes: int
    threads: int


def keep_only(descriptor: int) -> None:
    """Move ``descriptor`` to `CHANNEL` and close all others, which belong to the server and to siblings."""
    os.dup2(descriptor, CHANNEL)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))


def take_descriptors() -> bool:
    """Wait for a call's channel, stdout and stderr, and move them to 3, 1 and 2; return False if none will come."""
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
    """Return the bytes of address space that this process uses now, to 1 MiB.

    It tries limits, because the sandbox has no /proc with the number.
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
    """Confine this process: namespaces (if ``jailed``), limits, capabilities, filter.

    ``base`` is the server's address space, which the candidate's limit does not include; ``scratch`` becomes the empty
    working folder.  Raises `OSError` if the kernel refuses a step.
    """
    if jailed:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount_scratch(scratch, bounds.scratch_bytes)
        # They are the machine's own, so that a time that one child sets would be visible to all.
        for device in DEVICES:
            libc.make_read_only(device)
    os.chdir(scratch)
    if jailed:
        _become_nobody()
        # A user namespace counts its own processes, so that the limit on threads applies to this child alone.
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
    """Give up root, because the superuser is exempt from the limit on threads."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit_resources(bounds: Bounds, base: int) -> None:
    # The server watches the CPU clock to the millisecond; the kernel's limit holds if the server is stopped.
    _limit(resource.RLIMIT_CPU, int(bounds.cpu_seconds) + 2)
    _limit(resource.RLIMIT_FSIZE, max(bounds.scratch_bytes, bounds.output_bytes))
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    # It counts for the user on the whole machine.
    _limit(resource.RLIMIT_SIGPENDING, SIGNALS)
    soft = base + bounds.memory_bytes
    _limit(resource.RLIMIT_AS, soft, soft + REPORTING_BYTES)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or keep the present one if it is lower."""
    _, ceiling = resource.getrlimit(which)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
