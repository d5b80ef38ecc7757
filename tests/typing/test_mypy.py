"""What mypy says of graph files.

Python's types can say: which type an edge carries, what a scatter makes and takes, that a gather ends at a consumer of
groups, a stage's and a source's parameters, the class of a source's view, and every option's name and kind.

Only `check` can say: whether a group's origin is what the consumer expects (the scatter is another edge), whether
something was scattered at all, what a repair stage is for, whether a value can be stored, what a `reads=` stage's view
is, that two nodes have one name, and everything about the shape: reach, depth of groups, cycles, capacity, versions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = re.compile(r"# E: ([a-z-]+(?:, [a-z-]+)*)$")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int, str]]:
    """(file, line, code) of everything that mypy finds in both files, from one run of it."""
    folder = tmp_path_factory.mktemp("graphs")
    shutil.copy(HERE / "accepted_graphs.py", folder)
    # It is no .py where it lies, so that a check of the whole project does not fail by it.
    shutil.copy(HERE / "rejected_graphs.py.txt", folder / "rejected_graphs.py")
    files = [str(folder / f"{name}_graphs.py") for name in ("accepted", "rejected")]
    root = HERE.parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), "--no-error-summary"]
    done = subprocess.run([*command, "--no-pretty", *files], cwd=root, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found = re.findall(r"^.*?(\w+_graphs)\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    return {(name, int(line), code) for name, line, code in found}


def test_mypy_accepts_right_graphs(report: set[tuple[str, int, str]]) -> None:
    """Every form of declaration is accepted, and `assert_type` sees the types that the handles should have."""
    assert {entry for entry in report if entry[0] == "accepted_graphs"} == set()


def test_mypy_rejects_wrong_graphs(report: set[tuple[str, int, str]]) -> None:
    """Each marked line is an error with its code, and no other line is."""
    lines = (HERE / "rejected_graphs.py.txt").read_text().splitlines()
    marks = ((i, MARK.search(line)) for i, line in enumerate(lines, 1))
    expected = {("rejected_graphs", i, code) for i, mark in marks if mark for code in mark[1].split(", ")}
    assert len({line for _, line, _ in expected}) >= 25
    assert {entry for entry in report if entry[0] == "rejected_graphs"} == expected
