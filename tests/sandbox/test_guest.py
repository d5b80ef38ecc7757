"""The parts of the other side: frames, and the tables of the filter."""

from __future__ import annotations

import contextlib
import platform
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.sandbox.guest import seccomp, wire
from flashgraph.sandbox.guest.syscalls import MACHINES

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(values=st.lists(JSON, max_size=4), cut=st.integers(0, 50))
def test_frames_come_back(values: list[Any], cut: int) -> None:
    """They come in order, and only when the last byte of each is present."""
    data = b"".join(map(wire.pack, values))
    received, found = bytearray(data[:cut]), []
    rest = data[cut:]
    while True:
        got = wire.unpack(received)
        if got is not None:
            value, length = got
            found.append(value)
            del received[:length]
        elif rest:
            received, rest = received + rest[:7], rest[7:]
        else:
            break
    assert found == values
    assert not received


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    """Nothing else is raised, whatever a candidate sends."""
    with contextlib.suppress(wire.Malformed):
        wire.unpack(len(data).to_bytes(4, "little") + data)


@pytest.mark.parametrize("value", [float("inf"), "\udfff", {1, 2}, object()])
def test_what_is_not_json_is_malformed(value: Any) -> None:
    """The error comes before it is sent."""
    with pytest.raises(wire.Malformed):
        wire.pack(value)


def test_depth_is_bounded_on_both_sides() -> None:
    """The bound is 100 levels; width does not count."""
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    assert wire.unpack(wire.pack(deep)) is not None
    assert wire.unpack(wire.pack([[0]] * 5000)) is not None
    with pytest.raises(wire.Malformed, match="deeper than 100"):
        wire.pack({"a": deep})


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_has_a_filter(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table has every call that the filter names, no number twice, and no forbidden call."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    seccomp.program.cache_clear()
    described, instructions = seccomp.program(1)
    seccomp.program.cache_clear()
    assert described.length == len(instructions) // 8 < 4096
    numbers = MACHINES[machine][1]
    assert len(set(numbers.values())) == len(numbers)
    forbidden = {"fork", "vfork", "execve", "execveat", "socket", "connect", "bind", "ptrace", "mount", "unshare"}
    forbidden |= {"setns", "bpf", "memfd_create", "tkill", "pidfd_open", "process_vm_writev", "setuid", "chroot"}
    assert not forbidden & set(numbers)
