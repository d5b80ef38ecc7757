"""The few system calls that Python 3.11 lacks, each raising `OSError` with its name."""

from __future__ import annotations

import ctypes
import os
from typing import Any

__all__ = [
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "PR_SET_DUMPABLE",
    "PR_SET_NO_NEW_PRIVS",
    "PR_SET_PDEATHSIG",
    "drop_capabilities",
    "filter_program",
    "install_filter",
    "make_read_only",
    "mount_scratch",
    "prctl",
    "setns",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

SECCOMP_MODE_FILTER = 2
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
# Version 3, this process; made before the fork, because a new ctypes type costs more than the call.
_CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _checked(result: int, name: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def prctl(option: int, value: int) -> None:
    """Call ``prctl(option, value)``."""
    _checked(_libc.prctl(option, value, 0, 0, 0), f"prctl({option})")


def unshare(flags: int) -> None:
    """Leave namespaces; with ``CLONE_NEWPID``, the next child leaves it."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(descriptor: int, flags: int) -> None:
    """Join the namespaces of the process of ``descriptor``, a pidfd."""
    _checked(_libc.setns(descriptor, flags), f"setns({flags:#x})")


def mount_scratch(path: str, size: int) -> None:
    """Mount an empty tmpfs of ``size`` bytes at ``path``; nothing on it can be executed."""
    options = f"size={max(size, 4096)},nr_inodes={64 + size // 4096},mode=0777"
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _checked(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", flags, options.encode()), f"mount({path})")


def make_read_only(path: str) -> None:
    """Make a mount read-only: a device there can be used as before, but its times and modes cannot be changed."""
    held = os.statvfs(path).f_flag & (MS_NOSUID | MS_NOEXEC)
    # A mount's flags must be kept; ST_NOATIME and similar ones have other values for mount.
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | held | _times(os.statvfs(path).f_flag)
    _checked(_libc.mount(None, path.encode(), None, flags, None), f"mount({path}, read-only)")


def _times(flags: int) -> int:
    """Return the ``mount`` flags for access times that correspond to flags of ``statvfs``."""
    kinds = ((1024, 1024), (2048, 2048), (4096, 1 << 21))  # noatime, nodiratime, relatime
    return sum(flag for said, flag in kinds if flags & said)


def drop_capabilities() -> None:
    """Drop every capability of this process."""
    _checked(_libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES), "capset")


def filter_program(instructions: bytes) -> Any:
    """Return a seccomp filter (BPF instructions of 8 bytes each) for `install_filter`."""
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    return _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p)), buffer


def install_filter(program: Any) -> None:
    """Install a seccomp filter, permanently."""
    described, _ = program
    _checked(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(described), 0, 0), "seccomp")
