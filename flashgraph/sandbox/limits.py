"""Limits of one run of a candidate."""

from __future__ import annotations

import math
from typing import Any

import attrs

from flashgraph.errors import DataError

__all__ = ["SandboxLimits"]

MIB = 1024 * 1024
_MOST = 1 << 60


def _refused(field: attrs.Attribute[Any], value: Any, expected: str) -> DataError:
    return DataError(f"limits: {field.name}={value!r}; expected {expected}.\nFix: Limits({field.name}=...).")


def _positive(_: SandboxLimits, field: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise _refused(field, value, "a number over 0")


def _whole(_: SandboxLimits, field: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MOST:
        raise _refused(field, value, "a whole number over 0")


def _at_least(least: int) -> Any:
    def check(_: SandboxLimits, field: attrs.Attribute[Any], value: Any) -> None:
        if value < least:
            raise _refused(field, value, f"at least {least}, because nothing runs with less")

    return check


@attrs.frozen
class SandboxLimits:
    """Limits of one run, each enforced by the kernel or by the trusted server, not by the candidate's process.

    ``cpu_seconds`` is for all threads together.  ``wall_seconds`` is real time, without the time spent waiting for the
    model.  ``memory_bytes`` is address space beyond that of the interpreter and the preloaded modules.
    ``scratch_bytes`` is additional, and so is ``output_bytes``, which bounds stdout, stderr and the returned JSON
    separately.  ``threads`` includes the main thread.

    ``llm_calls`` bounds the calls of the model in one run, ``llm_in_flight`` those in flight at once; further ones
    wait.  ``prompt_bytes`` bounds each prompt, and ``prompts_bytes`` all of one run, because the run's journal keeps
    prompts.

    Raises `DataError` for anything but numbers over 0, and for less than an interpreter needs.
    """

    cpu_seconds: float = attrs.field(default=10.0, validator=_positive)
    wall_seconds: float = attrs.field(default=30.0, validator=_positive)
    memory_bytes: int = attrs.field(default=512 * MIB, validator=[_whole, _at_least(16 * MIB)])
    scratch_bytes: int = attrs.field(default=16 * MIB, validator=_whole)
    output_bytes: int = attrs.field(default=MIB, validator=[_whole, _at_least(4096)])
    threads: int = attrs.field(default=32, validator=_whole)
    llm_calls: int = attrs.field(default=64, validator=_whole)
    llm_in_flight: int = attrs.field(default=8, validator=_whole)
    prompt_bytes: int = attrs.field(default=MIB // 4, validator=_whole)
    prompts_bytes: int = attrs.field(default=4 * MIB, validator=_whole)
