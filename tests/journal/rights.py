"""Test within this process what an unprivileged user may not do, although root may do everything."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["unprivileged"]

VERSION = 0x20080522
OVER_FILES = 0b1110
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER: root's power over files regardless of permissions."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Make file permissions bind root as they bind any other user.

    It holds for this thread and those that it starts.  Another user id would not do, because that user may be unable to
    read the checkout or the interpreter.
    """
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root's rights over files can be put down on Linux alone")
    libc, header, before = ctypes.CDLL(None, use_errno=True), _Header(VERSION, 0), (_Sets * 2)()

    def call(name: str, sets: ctypes.Array[_Sets]) -> None:
        if getattr(libc, name)(ctypes.byref(header), sets) != 0:
            raise OSError(ctypes.get_errno(), name)

    call("capget", before)
    bound = (_Sets * 2).from_buffer_copy(before)
    bound[0].effective &= ~OVER_FILES
    call("capset", bound)
    try:
        yield
    finally:
        call("capset", before)
