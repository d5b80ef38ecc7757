"""The causes of ends in a journal; those of schemas up to 3 held reasons alone, and this module alone reads them.

What the reasons of those versions do not tell apart gets the more general cause.
"""

from __future__ import annotations

from typing import Any

from flashgraph import errors
from flashgraph.run.cause import LIMITS, Cause

__all__ = ["cause", "cause_of_drain", "cause_of_failure", "cause_of_job", "cause_of_session"]

MODEL_ERRORS = tuple(
    f"{name}: " for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ModelError)
)
"""How the reasons of jobs began whose model requests failed."""

FAILURES = {
    " times, most often with: ": Cause.FRUITLESS,
    " failed 20 times in a row, the last time with: ": Cause.STREAK,
    " raised 20 times in a row, the last time with: ": Cause.FUNCTION,
    "' failed: ": Cause.SOURCE,
}
"""What the reasons of failed runs contained."""

GOALS = {
    "a score of ": Cause.TARGET,
    "the best has the greatest score": Cause.PERFECT,
    "proposals in a row have ": Cause.PATIENCE,
    "used nothing of the budget": Cause.IDLE,
}
"""What the reasons of runs contained that ended by themselves."""


def cause(value: Any) -> Cause:
    """Return a stored cause.  Raises `ValueError` for what is none."""
    try:
        return Cause(value)
    except ValueError:
        raise ValueError("a cause of an end") from None


def cause_of_job(how: str, reason: str) -> Cause:
    """Return the cause of a job's end from its old reason."""
    if how == "failed":
        return Cause.MODEL if reason.startswith(MODEL_ERRORS) else Cause.RAISED
    if reason.startswith("it did not end within "):
        return Cause.ABANDONED
    return Cause.CANCELLED if reason == "cancelled" else Cause.MODEL


def cause_of_failure(job: int, reason: str) -> Cause:
    """Return the cause of a failure from its old reason; the functions on edges have no ``job``, but a number below
    0."""
    return Cause.FUNCTION if job < 0 else cause_of_job("failed", reason)


def cause_of_drain(reason: str) -> Cause:
    """Return why a run was drained from its old reason."""
    return next((found for part, found in GOALS.items() if part in reason), Cause.CALLER)


def cause_of_session(status: str, reason: str) -> Cause:
    """Return the cause of a run's end from its old reason."""
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
