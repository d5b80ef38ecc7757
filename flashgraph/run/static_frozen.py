"""A cheap kind of frozen class, for values that the scheduler makes by the dozen for every job."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

import attrs

__all__ = ["statically_frozen"]

C = TypeVar("C", bound=type)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def statically_frozen(cls: C) -> C:
    """Make a hashable `attrs` class that is frozen for type checkers only.

    At run time its attributes can be set.  An object of a really frozen class takes three times as long to make,
    because a call sets each of its attributes.  With nine attributes that is 1.1 microseconds instead of 0.3.
    """
    return attrs.define(cls, unsafe_hash=True)
