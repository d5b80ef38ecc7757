"""Divide one data set into the parts of a task."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from flashgraph.errors import DataError, did_you_mean

__all__ = ["split"]

DISTINCT = "[row for at, row in enumerate(rows) if row not in rows[:at]]"
"""The rows without duplicates, in Python: rows need not be hashable."""

SPLITS = ("train", "val", "test")
"""The parts of a task."""

S = TypeVar("S")
_log = logging.getLogger("flashgraph")


def split(
    rows: Iterable[S],
    shares: Mapping[str, float] | Sequence[float],
    *,
    seed: int = 0,
    by: str | Callable[[S], Any] | None = None,
) -> dict[str, tuple[S, ...]]:
    """Divide one data set into parts in proportion: ``split(rows, {"train": 3, "val": 1, "test": 1})``.

    Bare numbers are the shares of ``train``, ``val`` and ``test``. The same rows, shares and seed give the same parts.
    A part stays shuffled, so that its beginning is a fair sample too. With ``by``, a column or a function of a row,
    each part has about the same share of each of its values. Rows that are equal and in several parts are logged.

    Raises `DataError` if a share is not positive, a part would be empty, or a row has no column ``by``.
    """
    named = _named_shares(shares)
    every = list(rows)
    shuffled = random.Random(seed).sample(every, len(every))
    if by is not None:
        shuffled = _spread(shuffled, by)
    parts: dict[str, tuple[S, ...]]
    if by is None:
        ends = [round(len(every) * share / sum(named.values())) for share in accumulate(named.values())]
        parts = {n: tuple(shuffled[start:end]) for n, start, end in zip(named, [0, *ends], ends, strict=False)}
    else:
        dealt = _dealt(len(every), named)
        parts = {name: tuple([row for row, to in zip(shuffled, dealt, strict=True) if to == name]) for name in named}
        parts = {name: tuple(random.Random(seed).sample(part, len(part))) for name, part in parts.items()}
    if empty := [name for name, part in parts.items() if not part]:
        raise DataError(
            f"split: {len(every)} rows in shares {named} leave none for {', '.join(empty)}.\n"
            "Fix: give more rows, or larger shares to these parts."
        )
    _say_duplicates(parts)
    return parts


def _named_shares(shares: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if not isinstance(shares, Mapping) and len(shares) > len(SPLITS):
        raise DataError(f"split: {len(shares)} shares; expected at most {len(SPLITS)}.\nFix: (0.5, 0.3, 0.2).")
    named = dict(shares if isinstance(shares, Mapping) else zip(SPLITS, shares, strict=False))
    if not named or not all(0 < share < math.inf for share in named.values()):
        raise DataError(f"split: shares {named}; expected numbers over 0.\nFix: {{'train': 3, 'val': 1}}.")
    return named


def _spread(rows: Sequence[S], by: str | Callable[[S], Any]) -> list[S]:
    """Return the rows with those of equal value next to each other, so that `_dealt` deals each value out evenly."""
    strata: dict[str, list[S]] = {}
    for row in rows:
        strata.setdefault(repr(_value(row, by)), []).append(row)
    return [row for value in sorted(strata) for row in strata[value]]


def _value(row: Any, by: str | Callable[[Any], Any]) -> Any:
    if callable(by):
        return by(row)
    if isinstance(row, Mapping):
        found = row.get(by, ...)
        names = list(map(str, row))
    else:
        found, names = getattr(row, by, ...), []
    if found is ...:
        raise DataError(f"split: by={by!r}, and a row has no such column: {row!r:.80}.\nFix: {did_you_mean(by, names)}")
    return found


def _dealt(count: int, shares: Mapping[str, float]) -> list[str]:
    """Return the part for each of ``count`` places: any stretch of places has about the shares of the whole.

    The next place goes to the part that lacks most of its share so far.
    """
    whole, given, dealt = sum(shares.values()), dict.fromkeys(shares, 0), []
    for place in range(1, count + 1):
        name = max(shares, key=lambda part: place * shares[part] / whole - given[part])
        given[name] += 1
        dealt.append(name)
    return dealt


def _say_duplicates(parts: Mapping[str, Sequence[Any]]) -> None:
    """Log how many rows are in several parts: a score on one part then says less about the other."""
    places: dict[str, set[str]] = {}
    for name, part in parts.items():
        for row in part:
            places.setdefault(repr(dict(row) if isinstance(row, Mapping) else row), set()).add(name)
    if several := [names for names in places.values() if len(names) > 1]:
        among = ", ".join(name for name in parts if any(name in names for names in several))
        _log.warning(
            "split: %d rows are in more than one of %s.  Fix: split(%s, ...).", len(several), among, DISTINCT
        )  # fmt: skip
