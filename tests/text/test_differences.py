"""Diffs of texts of any size: difflib's if that is quick, and one change if it could take minutes."""

from __future__ import annotations

import difflib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.parts.islands.programs import change
from flashgraph.text import differences
from flashgraph.text.differences import unified

LINES = st.lists(st.sampled_from(["a", "b", "c", "", "d d"]), max_size=12).map("\n".join)


def patched(before: str, diff: list[str]) -> list[str]:
    """Return the lines of ``before`` after a unified diff, checking its kept and removed lines."""
    lines, made, at = before.splitlines(), list[str](), 0
    for line in diff[2:]:
        if line.startswith("@@"):
            start, count = map(int, (line.split()[1][1:] + ",1").split(",")[:2])
            start = start - 1 if count else start
            made += lines[at:start]
            at = start
        elif line[0] == "+":
            made.append(line[1:])
        else:
            assert lines[at] == line[1:]
            made += [line[1:]] * (line[0] == " ")
            at += 1
    return [*made, *lines[at:]]


@pytest.mark.parametrize("most", [0, differences.MOST_STEPS])
@given(before=LINES, after=LINES, context=st.integers(0, 3))
def test_a_diff_leads_from_one_text_to_the_other(most: int, before: str, after: str, context: int) -> None:
    """A diff of either kind leads from one text to the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differences, "MOST_STEPS", most)
        diff = unified(before, after, context=context)
    assert patched(before, diff) == after.splitlines()
    assert bool(diff) == (before.splitlines() != after.splitlines())


def test_usual_texts_have_difflibs_diff() -> None:
    """Ordinary texts have difflib's diff, with context around each change."""
    lines = [f"line {i}" for i in range(60)]
    before, after = "\n".join(lines), "\n".join(["first", *lines[1:-1], "last"])
    expected = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "x", "y", n=2, lineterm=""))
    assert unified(before, after, ("x", "y")) == expected
    assert len(expected) == 2 + 2 * (1 + 2 + 2)


@pytest.mark.parametrize("distinct", [1, 3, 120, 250])
@pytest.mark.parametrize("length", [190, 2000, 60_000])
def test_lines_that_both_texts_repeat(distinct: int, length: int) -> None:
    """20,000 lines of 150 kinds took difflib over a minute of processor time, and islands diffs within a run."""
    before = "\n".join(f"x{i % distinct}" for i in range(length))
    after = "\n".join(f"x{i * 7 % distinct}" for i in range(length)) + "\nend"
    began = time.process_time()
    diff = unified(before, after)
    assert change(before, after)
    assert time.process_time() - began < 8
    assert patched(before, diff) == after.splitlines()
