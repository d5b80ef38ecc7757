"""The invariants on generated graphs, schedules, latencies and faults, under virtual time: few examples of each
property.

`make proof` tries many; CI tries a tenth of them.
"""

from __future__ import annotations

import pytest

from tests.proof.oracles import ORACLES
from tests.proof.properties import PROPERTIES, prove


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds_on_generated_graphs(name: str) -> None:
    """Each property's own docstring says what it shows."""
    tally = prove(name, round(10 * PROPERTIES[name].share) + 6)
    assert name in ORACLES or len(tally.graphs) > 5
