"""Mypy accepts right graph files and rejects wrong ones.

Python's types cover which type an edge carries, what a scatter takes and makes, and that a gather ends at a consumer of
groups. They also cover a stage's and a source's parameters, the class of a source's view, and the name and type of
every option.

Only `check` covers the rest:

- whether a group's origin is the expected one (the scatter is another edge), and whether anything was scattered;
- the purpose of a repair stage, and the view of a stage with `reads=`;
- whether a value can be stored, and whether two nodes have one name;
- everything about the shape: reach, depth of groups, cycles, capacity, versions.
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
    """Return (file, line, code) of everything that one run of mypy finds in both files."""
    folder = tmp_path_factory.mktemp("graphs")
    shutil.copy(HERE / "accepted_graphs.py", folder)
    # It has no suffix .py here, so that a check of the whole project does not fail.
    shutil.copy(HERE / "rejected_graphs.py.txt", folder / "rejected_graphs.py")
    files = [str(folder / f"{name}_graphs.py") for name in ("accepted", "rejected")]
    root = HERE.parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), "--no-error-summary"]
    done = subprocess.run([*command, "--no-pretty", *files], cwd=root, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found = re.findall(r"^.*?(\w+_graphs)\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    return {(name, int(line), code) for name, line, code in found}


def test_mypy_accepts_right_graphs(report: set[tuple[str, int, str]]) -> None:
    """Every form of declaration is accepted, and `assert_type` sees the expected types of handles."""
    assert {entry for entry in report if entry[0] == "accepted_graphs"} == set()


def test_mypy_rejects_wrong_graphs(report: set[tuple[str, int, str]]) -> None:
    """Each marked line is an error with its code, and no other line is."""
    lines = (HERE / "rejected_graphs.py.txt").read_text().splitlines()
    marks = ((i, MARK.search(line)) for i, line in enumerate(lines, 1))
    expected = {("rejected_graphs", i, code) for i, mark in marks if mark for code in mark[1].split(", ")}
    assert len({line for _, line, _ in expected}) >= 25
    assert {entry for entry in report if entry[0] == "rejected_graphs"} == expected
