"""Small words that progress, reports and explanations share."""

from __future__ import annotations

__all__ = ["clock", "counted", "with_article"]


def clock(seconds: float) -> str:
    """Seconds as ``M:SS`` or ``H:MM:SS``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """``1 round``, ``2,000 rounds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def with_article(noun: str) -> str:
    """``a Trial``, ``an Attempt``."""
    return f"an {noun}" if noun[:1] in "AEIOUaeiou" else f"a {noun}"
