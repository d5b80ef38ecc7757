"""Requirements on the values of a graph's parameters, beyond their type; a source checks them before any cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.graph.ports import Draw, Param

__all__ = ["Requirement", "at_least", "between", "number_or_none", "one_of", "require"]


@attrs.frozen
class Requirement:
    """One parameter, the test of its value, and the expected value and the fix as phrases."""

    param: Param[Any]
    holds: Callable[[Any], bool]
    expected: str
    fix: Callable[[Any], str]


def one_of(param: Param[Any], *names: str) -> Requirement:
    """The value is one of the names."""
    known = list(names)
    return Requirement(param, known.__contains__, "one of " + ", ".join(names), lambda v: did_you_mean(str(v), known))


def at_least(param: Param[Any], least: float) -> Requirement:
    """The value is ``least`` or more."""
    return Requirement(
        param, lambda v: bool(v >= least), f"{least:g} or more", lambda v: f"--set {param.name}={param.default!r}"
    )


def between(param: Param[Any], least: float, most: float) -> Requirement:
    """The value is from ``least`` to ``most``."""
    return Requirement(
        param,
        lambda v: bool(least <= v <= most),
        f"a number from {least:g} to {most:g}",
        lambda v: f"--set {param.name}={param.default!r}",
    )


def number_or_none(param: Param[Any]) -> Requirement:
    """The value is a number, or None."""
    return Requirement(
        param,
        lambda v: v is None or (isinstance(v, int | float) and not isinstance(v, bool)),
        "a number, or None",
        lambda v: f"--set {param.name}=None",
    )


def require(ctx: Draw[Any, Any], *requirements: Requirement) -> None:
    """Raise `DataError`, naming every parameter whose value does not meet its requirement."""
    wrong = [
        f"parameter {r.param.name!r}: found {ctx[r.param]!r}, expected {r.expected}.\nFix: {r.fix(ctx[r.param])}"
        for r in requirements
        if not r.holds(ctx[r.param])
    ]
    if wrong:
        raise DataError("\n".join(wrong))
