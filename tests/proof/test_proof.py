"""The command of the proof, on a hundredth of its examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import Phase, settings

import flashgraph as fg
import flashgraph.testing
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.runs import Finished
from flashgraph.testing.shape import Shape
from tests.proof import proof, properties
from tests.proof.properties import PROPERTIES, Tally, prove


def test_it_prints_a_line_for_each_invariant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1 to I16 are all tried, and what they have found is told."""
    monkeypatch.setattr(proof, "prove", lambda name, examples: Tally(examples, 7, graphs={name}))
    monkeypatch.setattr(proof, "played", lambda examples, steps: Tally(examples, 7, graphs={"machine"}))
    monkeypatch.setattr(proof, "TINY", {"one loop": proof.TINY["one loop"]})
    monkeypatch.setattr(proof, "rings", lambda most: iter(()))
    assert proof.main(["--scale", "0.01", "--workers", "1"]) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| I")]
    assert [line[0] for line in table] == [f"| I{n}" for n in range(1, 17)]
    assert all(int(line[1].replace(",", "")) + int(line[2].replace(",", "")) > 0 for line in table)


def test_the_table_counts_runs_and_single_parts_apart() -> None:
    """A whole run and an example of one part, for the same invariant, stand in two columns."""
    chosen = {
        "on both event loops": prove("on both event loops", 2),
        "limits, restated": prove("limits, restated", 3),
    }
    lines = proof.table({name: (("I14",), tally) for name, tally in chosen.items()}).splitlines()
    runs, parts = chosen["on both event loops"].examples, chosen["limits, restated"].examples
    assert lines[0].startswith("| invariant | whole runs | examples of single parts |")
    assert lines[2].startswith(f"| I14 | {runs} | {parts} | ")
    assert min(runs, parts) > 0


def test_the_concepts_say_each_invariant() -> None:
    """I1 to I16, in order, stand in the table of docs/explanation/concepts.md."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "concepts.md").read_text()
    assert re.findall(r"^\| (I\d+) \|", page, re.MULTILINE) == [f"I{n}" for n in range(1, 17)]


def test_a_failure_is_its_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold is said, and the status is 1."""

    def fails(name: str, examples: int) -> Tally:
        raise InvariantViolation("I3: generated")

    monkeypatch.setattr(proof, "prove", fails)
    first = next(iter(PROPERTIES))
    assert proof.main(["--only", first, "--workers", "1"]) == 1
    assert f"{first}: FAILED" in capsys.readouterr().out


def test_parts_run_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """In two processes: what they have counted comes together, and both event loops are told apart."""
    assert proof.main(["--scale", "0.01", "--only", "on both event loops", "--workers", "2"]) == 0
    said = capsys.readouterr().out
    assert "on both event loops: 5 examples, 5 on asyncio, 5 on trio; " in said
    assert "| I14 | 5 | 0 | " in said


def test_a_part_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """``--only`` says which parts there are."""
    with pytest.raises(SystemExit):
        proof.main(["--only", "nothing"])
    assert "'full and refused rings'" in capsys.readouterr().err


@pytest.fixture
def unexplained() -> Iterator[None]:
    """Hypothesis does not vary a failing example to comment on it: that would be most of the time."""
    phases = [phase for phase in Phase if phase is not Phase.explain]
    settings.register_profile("unexplained", settings.get_profile("untimed"), phases=phases)
    settings.load_profile("unexplained")
    yield
    settings.load_profile("untimed")


@pytest.mark.usefixtures("unexplained")
def test_a_failing_example_is_told_with_its_graph_and_a_line_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has the smallest graph as text, and a line that does it again."""

    def never_two(shape: Shape, schedule: fg.Schedule, backend: str, budget: fg.Budget) -> list[Finished]:
        if shape.rounds > 1:
            raise InvariantViolation("I4: two rounds")
        return []

    broken = attrs.evolve(PROPERTIES["under a budget"], check=never_two, known=())  # which is never made smaller
    monkeypatch.setattr(properties, "PROPERTIES", {"under a budget": broken})
    with pytest.raises(InvariantViolation, match="I4") as caught:
        prove("under a budget", 50)
    report = "\n".join(caught.value.__notes__)
    assert "The graph:\nsource (" in report
    line = next(line for line in report.splitlines() if line.startswith("never_two("))
    assert "rounds=2" in line
    with pytest.raises(InvariantViolation, match="I4"):
        eval(line, {**vars(flashgraph.testing), "never_two": never_two, "fg": fg})  # what a user would paste
