"""Copies of samples: a function of a task can change its own copy only."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

__all__ = ["own_copy"]

S = TypeVar("S")

CHANGEABLE = (dict, list, set)


def own_copy(sample: S) -> S:
    """Return a copy of a sample that is a dict, a list or a set; any other sample itself.

    Every candidate is tried on the same samples. An attempt that takes an item out of its sample would change the
    scores of all later candidates. A sample that cannot be copied is returned as it is.
    """
    if type(sample) not in CHANGEABLE:
        return sample
    try:
        made: Any = copy.deepcopy(sample)
    except Exception:  # copying may raise anything, for a lock or an open file
        return sample
    return made  # type: ignore[no-any-return]  # a copy has the type of its original
