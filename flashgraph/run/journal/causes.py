"""The causes of ends in a journal.

Schemas up to 3 store only reasons.  This module alone derives causes from them.  Where an old reason fits several
causes, the result is the most general one.
"""

from __future__ import annotations

from typing import Any

from flashgraph import errors
from flashgraph.run.cause import LIMITS, Cause

__all__ = ["cause", "cause_of_drain", "cause_of_failure", "cause_of_job", "cause_of_session"]

MODEL_ERRORS = tuple(
    f"{name}: " for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ModelError)
)
"""Prefixes of the reasons of jobs whose model requests failed."""

FAILURES = {
    " times, most often with: ": Cause.FRUITLESS,
    " failed 20 times in a row, the last time with: ": Cause.STREAK,
    " raised 20 times in a row, the last time with: ": Cause.FUNCTION,
    "' failed: ": Cause.SOURCE,
}
"""Parts of the reasons of failed runs."""

GOALS = {
    "a score of ": Cause.TARGET,
    "the best has the greatest score": Cause.PERFECT,
    "proposals in a row have ": Cause.PATIENCE,
    "used nothing of the budget": Cause.IDLE,
}
"""Parts of the reasons of runs that stopped at a goal."""


def cause(value: Any) -> Cause:
    """Return a stored cause.  Raises `ValueError` for an unknown one."""
    try:
        return Cause(value)
    except ValueError:
        raise ValueError("a cause of an end") from None


def cause_of_job(how: str, reason: str) -> Cause:
    """Derive the cause of a job's end from its old reason."""
    if how == "failed":
        return Cause.MODEL if reason.startswith(MODEL_ERRORS) else Cause.RAISED
    if reason.startswith("it did not end within "):
        return Cause.ABANDONED
    return Cause.CANCELLED if reason == "cancelled" else Cause.MODEL


def cause_of_failure(job: int, reason: str) -> Cause:
    """Derive the cause of a failure from its old reason; a negative ``job`` is a function on an edge."""
    return Cause.FUNCTION if job < 0 else cause_of_job("failed", reason)


def cause_of_drain(reason: str) -> Cause:
    """Derive the cause of a drain from its old reason."""
    return next((found for part, found in GOALS.items() if part in reason), Cause.CALLER)


def cause_of_session(status: str, reason: str) -> Cause:
    """Derive the cause of a run's end from its old status and reason."""
    match status:
        case "completed":
            return Cause.DONE
        case "budget" if reason.endswith(" seconds are over"):
            return Cause.SECONDS
        case "budget":
            limit = reason.removeprefix("no ").removesuffix(" left")
            return Cause(limit) if limit in LIMITS else Cause.RESERVE
        case "stopped":
            return cause_of_drain(reason)
        case "failed":
            return next((found for part, found in FAILURES.items() if part in reason), Cause.ERROR)
    return Cause.CALLER
