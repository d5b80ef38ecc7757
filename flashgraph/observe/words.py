"""Wording that progress, reports and explanations share."""

from __future__ import annotations

from pathlib import Path

from flashgraph.errors import DataError
from flashgraph.evidence import Evidence

__all__ = ["clock", "counted", "score_text", "unwritable", "with_article"]


def clock(seconds: float) -> str:
    """Return seconds as ``M:SS`` or ``H:MM:SS``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 round``, ``2,000 rounds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def score_text(score: float | None, evidence: Evidence | None = None) -> str:
    """Return a score with its evidence, ``0.71 (30 of 100, 0.62 to 0.79)``, or the number alone without evidence."""
    return str(evidence) if evidence is not None else "-" if score is None else f"{score:.3f}"


def with_article(noun: str) -> str:
    """Return a noun with its article: ``a Trial``, ``an Attempt``."""
    return f"an {noun}" if noun[:1] in "AEIOUaeiou" else f"a {noun}"


def unwritable(path: Path, error: OSError) -> DataError:
    """Return the error for an output ``path`` that cannot be written, with its fix."""
    fix = f"mkdir -p {path.parent}" if isinstance(error, FileNotFoundError) else "give -o a path that you may write"
    return DataError(f"{path}: cannot be written: {error.strerror}.\nFix: {fix}.")
