"""Bugs that schedulers of this kind have had, planted one at a time in a copy of the package.

The real tree is never changed.  A bug replaces a text that occurs once in one module of `flashgraph.run` or
`flashgraph.policies`.  Another process runs part of the invariant suite (`tests.mutants.hunts`) with the copy first on
its path.  ``python -m tests.mutants.historical`` prints the table of docs/benchmarks/bugs.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

import flashgraph

__all__ = ["Bug", "Caught", "DoesNotApply", "main", "plant", "table"]

PACKAGE = Path(flashgraph.__file__).parent
ROOT = Path(__file__).parents[2]
MUTATED = ("run", "policies")
SECONDS = 300
"""Wall-clock seconds for one hunt, because a planted bug may make the scheduler loop."""


class DoesNotApply(Exception):
    """A bug's text does not occur exactly once: the module has changed, and the bug must be planted elsewhere."""


@attrs.frozen
class Bug:
    """A bug: ``plant`` replaces ``find``, which occurs once in ``module`` (below the package).

    ``hunt`` names the part of the invariant suite that catches it, and ``invariant`` the one that it breaks.
    """

    name: str
    module: str
    find: str
    plant: str
    hunt: str
    invariant: str

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Caught:
    """The end of a hunt: the violation's text, or the rest of its output."""

    invariant: str
    said: str


def plant(bug: Bug, folder: Path) -> None:
    """Make a copy of the package with the bug in ``folder``.

    Modules that can be mutated are copied, all others linked.  Raises `DoesNotApply`.
    """
    source = (PACKAGE / bug.module).read_text()
    times = source.count(bug.find)
    if times != 1:
        raise DoesNotApply(f"{bug.name}: this stands {times} times in {bug.module}, expected once:\n{bug.find}")
    package = folder / PACKAGE.name
    package.mkdir()
    for entry in PACKAGE.iterdir():
        if entry.name in MUTATED:
            shutil.copytree(entry, package / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry.resolve())
    (package / bug.module).write_text(source.replace(bug.find, bug.plant))


def hunt(bug: Bug, names: Iterable[str] = ()) -> Caught:
    """Plant a bug and run its hunt, or those named."""
    with tempfile.TemporaryDirectory() as folder:
        plant(bug, Path(folder))
        path = os.pathsep.join([folder, str(ROOT)])  # the planted package, and the hunts that try it
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.mutants.hunts", *(names or [bug.hunt])],
                capture_output=True, text=True, env=environment, timeout=SECONDS, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Caught("", f"nothing in {SECONDS} seconds")
    said = (done.stdout + done.stderr).strip()
    found = re.search(r": (?:InvariantViolation|Stalled): (I\d+): ", said)
    return Caught(found[1] if found else "", said)


def table(bugs: Iterable[Bug]) -> str:
    """Return the table of bugs and the hunts that caught them."""
    lines = ["| bug | planted in | caught by | invariant |", "| --- | --- | --- | --- |"]
    lines += [f"| {bug.name} | {bug.module} | {bug.hunt} | {bug.invariant} |" for bug in bugs]
    return "\n".join(lines)


def main() -> int:
    """Hunt every bug, print the table, and return the exit status."""
    from tests.mutants.bugs import BUGS

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(hunt, BUGS))
    print(table(BUGS))
    missed = [(bug, caught) for bug, caught in zip(BUGS, found, strict=True) if caught.invariant != bug.invariant]
    for bug, caught in missed:
        print(f"\n{bug}: expected {bug.invariant}, found {caught.invariant or 'nothing'}\n{caught.said}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
