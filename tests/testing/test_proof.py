"""The command of the proof, on a hundredth of its examples."""

from __future__ import annotations

import pytest

from flashgraph.testing import proof
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.properties import PROPERTIES, Tally


def test_it_prints_a_line_for_each_invariant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1 to I15 are all tried, and what they have found is told."""
    monkeypatch.setattr(proof, "prove", lambda name, examples: Tally(examples, 7, {name}))
    monkeypatch.setattr(proof, "played", lambda examples, steps: Tally(examples, 7, {"machine"}))
    monkeypatch.setattr(proof, "TINY", {"one loop": proof.TINY["one loop"]})
    monkeypatch.setattr(proof, "rings", lambda most: iter(()))
    assert proof.main(["--scale", "0.01"]) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| I")]
    assert [line[0] for line in table] == [f"| I{n}" for n in range(1, 16)]
    assert all(int(line[1].replace(",", "")) > 0 for line in table)


def test_a_failure_is_its_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold is said, and the status is 1."""

    def fails(name: str, examples: int) -> Tally:
        raise InvariantViolation("I3: generated")

    monkeypatch.setattr(proof, "prove", fails)
    assert proof.main([]) == 1
    assert f"{next(iter(PROPERTIES))}: FAILED" in capsys.readouterr().out
