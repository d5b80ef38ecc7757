"""Each historical bug, planted in a copy of the package, breaks the invariant that its entry names.

A few, which need a second of processor time each, run in the default suite; all run with the slow tests.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.mutants.bugs import BUGS
from tests.mutants.historical import PACKAGE, Bug, Caught, DoesNotApply, hunt, plant

QUICK = ("double release", "late member counted twice", "queue capacity", "budget settled twice", "held item lost")


def caught(bug: Bug) -> None:
    """Check that the hunt ends with a violation of the bug's invariant."""
    found = hunt(bug)
    said = found.said or "nothing"
    assert found.invariant == bug.invariant, f"expected {bug.invariant}, the hunt said: {said}"


@pytest.mark.parametrize("bug", [b for b in BUGS if b.name.startswith(QUICK)], ids=str)
def test_a_bug_is_caught(bug: Bug) -> None:
    """I2, I8, I10, I1: one tiny run shows each of these bugs."""
    caught(bug)


@pytest.mark.slow
@pytest.mark.parametrize("bug", [b for b in BUGS if not b.name.startswith(QUICK)], ids=str)
def test_every_bug_is_caught(bug: Bug) -> None:
    """I1 to I12 and I14: every other bug is caught."""
    caught(bug)


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_bug_applies(bug: Bug, tmp_path: Path) -> None:
    """A bug's text occurs once in its module, and planting leaves the real package unchanged."""
    before = (PACKAGE / bug.module).read_text()
    plant(bug, tmp_path)
    copy = (tmp_path / PACKAGE.name / bug.module).read_text()
    compile(copy, bug.module, "exec")
    assert copy != before == (PACKAGE / bug.module).read_text()


def test_a_bug_that_does_not_apply_is_named(tmp_path: Path) -> None:
    """The error has the bug's name, the module and the missing text."""
    gone = attrs.evolve(BUGS[0], find="this line was never here")
    with pytest.raises(DoesNotApply, match="(?s)" + BUGS[0].name + ".*0 times.*never here"):
        plant(gone, tmp_path)


def test_enough_bugs_that_differ() -> None:
    """There are at least 25 bugs, with different names and different changes."""
    assert (
        len({bug.name for bug in BUGS}) == len({(bug.module, bug.find, bug.plant) for bug in BUGS}) == len(BUGS) >= 25
    )


def test_nothing_is_found_where_nothing_is_planted(tmp_path: Path) -> None:
    """The hunts of the quick bugs find nothing in the unchanged package."""
    sound = attrs.evolve(BUGS[0], find="from __future__", plant="from __future__", hunt="tiny: amended groups")
    assert hunt(sound) == Caught("", "")
