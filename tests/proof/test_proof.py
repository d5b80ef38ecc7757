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
    """The table has a line for each of I1 to I16, with its examples and findings."""
    monkeypatch.setattr(proof, "prove", lambda name, examples: Tally(examples, 7, graphs={name}))
    monkeypatch.setattr(proof, "played", lambda examples, steps: Tally(examples, 7, graphs={"machine"}))
    monkeypatch.setattr(proof, "TINY", {"one loop": proof.TINY["one loop"]})
    monkeypatch.setattr(proof, "rings", lambda most: iter(()))
    assert proof.main(["--scale", "0.01", "--workers", "1"]) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| I")]
    assert [line[0] for line in table] == [f"| I{n}" for n in range(1, 17)]
    assert all(int(line[1].replace(",", "")) + int(line[2].replace(",", "")) > 0 for line in table)


def test_the_table_counts_runs_and_single_parts_apart() -> None:
    """The table counts whole runs and examples of single parts in separate columns."""
    chosen = {
        "on both event loops": prove("on both event loops", 2),
        "model of limits": prove("model of limits", 3),
    }
    lines = proof.table({name: (("I14",), tally) for name, tally in chosen.items()}).splitlines()
    runs, parts = chosen["on both event loops"].examples, chosen["model of limits"].examples
    assert lines[0].startswith("| invariant | whole runs | examples of single parts |")
    assert lines[2].startswith(f"| I14 | {runs} | {parts} | ")
    assert min(runs, parts) > 0


def test_the_concepts_say_each_invariant() -> None:
    """The table of docs/explanation/concepts.md has I1 to I16 in order."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "concepts.md").read_text()
    assert re.findall(r"^\| (I\d+) \|", page, re.MULTILINE) == [f"I{n}" for n in range(1, 17)]


def test_a_failure_is_its_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is printed, and the exit status is 1."""

    def fails(name: str, examples: int) -> Tally:
        raise InvariantViolation("I3: generated")

    monkeypatch.setattr(proof, "prove", fails)
    first = next(iter(PROPERTIES))
    assert proof.main(["--only", first, "--workers", "1"]) == 1
    assert f"{first}: FAILED" in capsys.readouterr().out


def test_parts_run_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts that run in two processes add up their tallies, with separate counts for both event loops."""
    assert proof.main(["--scale", "0.01", "--only", "on both event loops", "--workers", "2"]) == 0
    said = capsys.readouterr().out
    assert "on both event loops: 5 examples, 5 on asyncio, 5 on trio; " in said
    assert "| I14 | 5 | 0 | " in said


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown part of ``--only`` is refused with the list of parts."""
    with pytest.raises(SystemExit):
        proof.main(["--only", "nothing"])
    assert "'full and refused rings'" in capsys.readouterr().err


@pytest.fixture
def unexplained() -> Iterator[None]:
    """Keep Hypothesis from varying a failing example to explain it, which takes most of the time."""
    phases = [phase for phase in Phase if phase is not Phase.explain]
    settings.register_profile("unexplained", settings.get_profile("untimed"), phases=phases)
    settings.load_profile("unexplained")
    yield
    settings.load_profile("untimed")


@pytest.mark.usefixtures("unexplained")
def test_a_failing_example_is_reported_with_its_graph_and_a_line_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a failing example has the smallest graph as text, and a line that repeats it."""

    def never_two(shape: Shape, schedule: fg.Schedule, backend: str, budget: fg.Budget) -> list[Finished]:
        if shape.rounds > 1:
            raise InvariantViolation("I4: two rounds")
        return []

    broken = attrs.evolve(PROPERTIES["under a budget"], check=never_two, known=())  # no size is too small to fail
    monkeypatch.setattr(properties, "PROPERTIES", {"under a budget": broken})
    with pytest.raises(InvariantViolation, match="I4") as caught:
        prove("under a budget", 50)
    report = "\n".join(caught.value.__notes__)
    assert "The graph:\nsource (" in report
    line = next(line for line in report.splitlines() if line.startswith("never_two("))
    assert "rounds=2" in line
    with pytest.raises(InvariantViolation, match="I4"):
        eval(line, {**vars(flashgraph.testing), "never_two": never_two, "fg": fg})  # the line that a user would paste
