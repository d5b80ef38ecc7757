"""Combee's reflection as a plain sequential program, to hold the graphs against.

n records, duplicated and shuffled, floor(sqrt n) shares, a call for each that proposes a full text, a call that joins
the proposals; fewer than four records: one call.  Which record lies in which share is taken from the run, whose
streams are its own, and looked over; all else is told from the description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from flashgraph.algorithms.combee import Shuffled
from tests.algorithms.combee_world import check_dealt


def combee(
    records: Sequence[str],
    dealt: Iterator[Shuffled],
    duplication: int,
    propose: Callable[[str], str],
    join: Callable[[str], str],
) -> str:
    """What comes of the records: ``propose`` is asked with each share, ``join`` with all proposals."""
    shares = next(dealt).shares
    check_dealt(records, shares, duplication)
    proposals = [propose("\n\n".join(share)) for share in shares]
    if len(records) < 4:
        return proposals[0]
    return join("\n\n".join(f"Draft {number}:\n{text}" for number, text in enumerate(proposals, 1)))
