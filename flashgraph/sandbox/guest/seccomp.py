"""The seccomp filter of a child: a list of allowed system calls; all others fail with EPERM.

It is an allow list, so that calls of future kernels are excluded.  It has no way to make a process (``fork``,
``execve``, ``clone`` without the flags of a thread), or to reach one (signals, ``ptrace``, ``process_vm_*``,
``prlimit64`` of another).  Nor can a child open a socket, mount, or hold memory outside its limits (``memfd_create``,
System V shared memory, larger pipes).  It cannot pass descriptors or out-of-band data over a socket: these are rarely
used, and kernels often have bugs there.  Calls with restricted arguments are in `_conditions`.

Locks report success and are not taken: a child could lock files that all children see, which another child would
notice.  A child's own files are its own, and it has one process.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct
from typing import Any

from . import libc
from .syscalls import MACHINES

__all__ = ["program", "supported"]

_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _RETURN, _AND = 0x20, 0x15, 0x35, 0x25, 0x06, 0x54
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_ERRNO = 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

# The flags of pthread_create in glibc and musl: a thread of this process, and no new namespace.
_THREAD = 0x003D0F00
_MUSL_DETACHED = 0x00400000
_ALL = 0xFFFFFFFF

# C libraries have a fallback for ENOSYS, but give up on EPERM.
_UNKNOWN = ("clone3", "openat2", "futex_waitv", "io_uring_setup", "set_mempolicy")

# F_DUPFD..F_SETFL, F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS.  Not F_SETOWN and F_SETSIG, which
# direct signals at other processes, nor F_SETPIPE_SZ, which takes kernel memory.
_FCNTL = (0, 1, 2, 3, 4, 5, 36, 1030, 1032, 1034)
# F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
_LOCKS = (6, 7, 37, 38)
_OUT_OF_BAND = 1
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_PRCTL = (15, 16, 0x53564D41)
# SOCK_STREAM: unlike a datagram, a connected stream cannot be sent elsewhere.
_STREAM, _SOCKET_FLAGS = 1, 0o2004000

Check = tuple[int, int, tuple[int, ...]]
"""Offset in the call's data, mask, and the allowed values."""


def _argument(index: int, values: tuple[int, ...], mask: int = _ALL) -> Check:
    return (_ARGUMENTS + 8 * index, mask, values)


def _conditions(pid: int) -> dict[str, tuple[Check, ...]]:
    return {
        "clone": (_argument(0, (_THREAD,), _ALL ^ _MUSL_DETACHED),),
        "fcntl": (_argument(1, _FCNTL),),
        "ioctl": (_argument(1, _IOCTL),),
        "kill": (_argument(0, (pid,)),),
        "prctl": (_argument(0, _PRCTL),),
        "prlimit64": (_argument(0, (0, pid)),),
        "recvfrom": (_argument(3, (0,), _OUT_OF_BAND),),
        # Needed once, for the descriptors of a call; nobody sends descriptors after that.
        "recvmsg": (_argument(2, (0,), _OUT_OF_BAND),),
        # Without an address, which a connected stream does not need.  A pointer has two halves.
        "sendto": (_argument(3, (0,), _OUT_OF_BAND), _argument(4, (0,)), (_ARGUMENTS + 8 * 4 + 4, _ALL, (0,))),
        "socketpair": (_argument(0, (1,)), _argument(1, (_STREAM,), _ALL ^ _SOCKET_FLAGS)),
        "tgkill": (_argument(0, (pid,)),),
    }


def supported() -> bool:
    """Return whether there is a table for this machine."""
    return platform.machine() in MACHINES


@functools.cache
def program(pid: int) -> Any:
    """Return the filter for the process ``pid``, which may signal only itself, for `libc.install_filter`.

    Raises `KeyError` on machines without a table.
    """
    architecture, numbers = MACHINES[platform.machine()]
    conditions = _conditions(pid)
    special = {*conditions, *_UNKNOWN, "flock"}
    plain = sorted(number for name, number in numbers.items() if name not in special)
    code = _op(_LOAD, _ARCHITECTURE) + _op(_EQUAL, architecture, 1, 0) + _op(_RETURN, _KILL) + _op(_LOAD, _NUMBER)
    for first, last in _ranges(plain):
        code += _op(_AT_LEAST, first, 0, 2) + _op(_ABOVE, last, 1, 0) + _op(_RETURN, _ALLOW)
    for name, checks in conditions.items():
        body = _sham(_argument(1, _LOCKS)) if name == "fcntl" else b""
        body += b"".join(map(_check, checks)) + _op(_RETURN, _ALLOW)
        code += _op(_EQUAL, numbers[name], 0, len(body) // 8) + body
    for name in _UNKNOWN:
        code += _op(_EQUAL, numbers[name], 0, 1) + _op(_RETURN, _ERRNO | errno.ENOSYS)
    code += _op(_EQUAL, numbers["flock"], 0, 1) + _op(_RETURN, _ERRNO)
    return libc.filter_program(code + _op(_RETURN, _ERRNO | errno.EPERM))


def _check(check: Check) -> bytes:
    """Return instructions that continue behind themselves if the check holds, and else fail the call."""
    offset, mask, values = check
    count = len(values)
    code = _op(_LOAD, offset) + _op(_AND, mask)
    for at, value in enumerate(values):
        code += _op(_EQUAL, value, count - at, 0)
    return code + _op(_RETURN, _ERRNO | errno.EPERM)


def _sham(check: Check) -> bytes:
    """Return instructions that report success without the call if the check holds, and else continue behind them."""
    offset, mask, values = check
    count = len(values)
    code = _op(_LOAD, offset) + _op(_AND, mask)
    for at, value in enumerate(values):
        code += _op(_EQUAL, value, count - at - 1, 0 if at < count - 1 else 1)
    return code + _op(_RETURN, _ERRNO)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _op(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
