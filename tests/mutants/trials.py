"""Trials of mutants, each in a fork of one warm process, so that only flashgraph itself is imported again.

`tests.mutants.sample` runs ``python -m tests.mutants.trials CHOSEN RESULTS WORKERS SUITE`` in a copy of the project.
CHOSEN has a mutant per line, as JSON with a ``key``, a ``module`` (dotted) and its mutated ``source``.  RESULTS gets a
line for each mutant tried; those that it already has are skipped.  SUITE is one of `tests.mutants.suite.SUITES`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

__all__ = ["Trial", "attempt", "main"]

WARM = (
    "anyio", "anyio._backends._asyncio", "anyio._backends._trio", "attrs", "cattrs", "hypothesis",
    "hypothesis.stateful", "inspect", "logging", "pytest", "sqlite3", "tenacity", "trio.testing", "typing",
)  # fmt: skip
"""The imports of the suite besides flashgraph."""
SECONDS = 900.0
"""Wall-clock seconds for one mutant: one that waits uses no processor time, which `tests.mutants.suite` bounds."""

Trial = Mapping[str, Any]


class Planted(MetaPathFinder, Loader):
    """An import hook that gives one module another source."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source
        self._path = ""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        found = PathFinder.find_spec(name, path)
        assert found is not None
        assert found.origin is not None
        self._path = found.origin
        found.loader = self
        return found

    def exec_module(self, module: ModuleType) -> None:
        code: CodeType = compile(self._source, self._path, "exec")
        exec(code, module.__dict__)


def attempt(trial: Trial, suite: Callable[[str], int], said: Path) -> int:
    """Fork a process that imports flashgraph with the mutant and runs the suite; return its process id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()  # its children end with it
        with said.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.meta_path.insert(0, Planted(trial["module"], trial["source"]))
        status = suite(trial["module"])
    except BaseException as error:
        print(f"import: {type(error).__name__}: {error}", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _ended(status: int, said: Path) -> tuple[bool, str]:
    """Return whether a mutant was noticed, and the part that noticed it."""
    lines = said.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "?"
    if os.WIFSIGNALED(status):
        return True, f"{last} ({signal.Signals(os.WTERMSIG(status)).name})"
    return os.WEXITSTATUS(status) != 0, last


def try_all(trials: Sequence[Trial], results: Path, workers: int, suite: Callable[[str], int]) -> None:
    """Try every mutant without a result, ``workers`` at once."""
    done = {json.loads(line)["key"] for line in results.read_text().splitlines()} if results.exists() else set()
    left = [trial for trial in trials if trial["key"] not in done]
    running: dict[int, tuple[Trial, Path, float]] = {}
    with tempfile.TemporaryDirectory() as folder, results.open("a") as file:
        while left or running:
            while left and len(running) < workers:
                trial = left.pop(0)
                said = Path(folder, str(len(left)))
                running[attempt(trial, suite, said)] = (trial, said, time.monotonic())
            process, status, used = os.wait4(-1, os.WNOHANG)
            if not process:
                for late in [p for p, (_, _, began) in running.items() if time.monotonic() - began > SECONDS]:
                    os.killpg(late, signal.SIGKILL)
                time.sleep(0.05)
                continue
            trial, said, _ = running.pop(process)
            killed, by = _ended(status, said)
            seconds = round(used.ru_utime + used.ru_stime, 1)
            file.write(json.dumps({"key": trial["key"], "killed": killed, "by": by, "seconds": seconds}) + "\n")
            file.flush()
            print(f"{'killed  ' if killed else 'SURVIVED'} {seconds:6.1f} s  {trial['key']}  {by[:150]}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run the trials of the arguments; return the exit status."""
    chosen, results, workers, suite = arguments
    for name in WARM:
        importlib.import_module(name)
    from tests.mutants.suite import SUITES

    trials = [json.loads(line) for line in Path(chosen).read_text().splitlines()]
    try_all(trials, Path(results), int(workers), SUITES[suite])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
