"""Scores: what one output is worth, with feedback for a reflection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import SupportsFloat, SupportsIndex

import attrs

from flashgraph.errors import DataError

__all__ = ["Score"]

Number = SupportsFloat | SupportsIndex


def _number(value: Number, of: str = "value") -> float:
    """Return a number of any kind as a float. Raises `DataError` for text and for values that are no number."""
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(
        f"fg.Score: {of} is {value!r:.80} (a {type(value).__name__}); expected a number.\n"
        "Fix: give a number, as in fg.Score(0.5, feedback=..., objectives={'speed': 1.0})."
    )


def _words(feedback: object) -> str:
    """Return feedback as text: an exception with its type, nothing for None."""
    if isinstance(feedback, BaseException):
        return f"{type(feedback).__name__}: {feedback}"
    return "" if feedback is None else str.__str__(str(feedback))


def _objectives(given: Mapping[str, Number] | None) -> dict[str, float]:
    """Return named values as floats. Raises `DataError` if they are no mapping, or a value is no number."""
    if given is not None and not isinstance(given, Mapping):
        raise DataError(
            f"fg.Score: objectives are {given!r:.80} (a {type(given).__name__}); expected a mapping from names to "
            "numbers.\nFix: objectives={'speed': 1.0}, or leave them out."
        )
    return {str(name): _number(value, f"objective {str(name)!r}") for name, value in (given or {}).items()}


class _ByComponent(str):
    """Feedback by component, as one text."""

    components: Mapping[str, str]


def _feedback(feedback: object) -> str:
    """Return feedback as text; that of a mapping keeps its parts."""
    if isinstance(feedback, _ByComponent) or not isinstance(feedback, Mapping):
        return feedback if isinstance(feedback, _ByComponent) else _words(feedback)
    parts = {str(name): _words(text) for name, text in feedback.items()}
    text = _ByComponent("\n".join(f"{name}: {said}" for name, said in parts.items()))
    text.components = parts
    return text


@attrs.frozen
class Score:
    """The score of one output.

    ``value`` is higher for a better output, within the task's ``bounds``. A reflection may read ``feedback``; a mapping
    from components to feedback gives each component its own, in ``components``.
    ``objectives`` are further named values, also higher for better outputs. Numbers of any kind become floats, and
    feedback becomes text. Raises `DataError` if a value or an objective is no number; the sample then fails with that
    reason.
    """

    value: float = attrs.field(converter=_number)
    feedback: str = attrs.field(default="", converter=_feedback)
    objectives: Mapping[str, float] = attrs.field(factory=dict, converter=_objectives)

    @property
    def components(self) -> Mapping[str, str]:
        """Feedback by component; empty for feedback on the whole."""
        return self.feedback.components if isinstance(self.feedback, _ByComponent) else {}
