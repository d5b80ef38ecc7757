"""The invariant suite as hunts: named searches for one broken invariant, each the same on every run.

``python -m tests.mutants.hunts NAME ...`` runs some of them in order against the flashgraph on the path.  It ends with
status 1 at the first violation, and prints it.  Hypothesis is derandomized, so that a hunt that has caught a bug
catches it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hypothesis import Phase, settings

from flashgraph.testing.log import InvariantViolation
from tests.proof.deadlock import rings
from tests.proof.oracles import ORACLES
from tests.proof.proof import TINY, Share, played
from tests.proof.properties import PROPERTIES, prove

__all__ = ["HUNTS", "main"]

settings.register_profile(
    "hunts", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate), print_blob=False
)


def _explore(name: str, states: int) -> None:
    found = TINY[name].explore(states)
    if found.stall is not None:
        raise InvariantViolation(f"I9: {name} stalls after {list(found.stall)!r}")


def hunts(examples: int = 60, states: int = 400) -> Mapping[str, Callable[[], object]]:
    """Return all hunts by name: reference models, tiny runs, the state machine, properties on whole runs, smallest
    rings."""
    proofs = {name: partial(prove, name, max(5, round(examples * p.share))) for name, p in PROPERTIES.items()}
    return {
        **{name: proofs[name] for name in ORACLES},
        **{f"tiny: {name}": partial(_explore, name, states) for name in TINY},
        "the scheduler as a state machine": partial(played, 3 * examples, 30),
        **proofs,
        "rings": lambda: Share.of(rings(1)),
    }


HUNTS = hunts()


def main(names: Sequence[str]) -> int:
    """Run hunts; return the exit status, 1 if one has found a violation."""
    settings.load_profile("hunts")
    for name in names or HUNTS:
        try:
            HUNTS[name]()
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
