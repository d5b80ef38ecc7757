"""Combee's reflection as a plain sequential program, to compare the graphs with.

It deals n records, duplicated and shuffled, into floor(sqrt n) shares. One call for each share proposes a full text,
and another call joins the proposals. Fewer than four records take one call. The dealt shares come from the run, whose
random streams are its own, and are checked. Everything else was written from the description.
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
    """Return the text that the records give; ``propose`` gets each share, and ``join`` all proposals."""
    shares = next(dealt).shares
    check_dealt(records, shares, duplication)
    proposals = [propose("\n\n".join(share)) for share in shares]
    if len(records) < 4:
        return proposals[0]
    return join("\n\n".join(f"Draft {number}:\n{text}" for number, text in enumerate(proposals, 1)))
