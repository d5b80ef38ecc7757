"""Mutation testing of the scheduler and the policies: `cosmic-ray` makes the mutants, on a copy of the project.

``python -m tests.mutants.sample [--sample 200] [--seed 0]`` (``make mutants``) leaves its session in
``build/mutants/session.sqlite`` and goes on with it when it is run again; without ``--sample`` it tries all mutants,
which takes hours.  It ends with the table of docs/mutants.md.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

__all__ = ["excluded", "main", "wilson"]

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "mutants"
MODULES = ("flashgraph/run", "flashgraph/policies")
EXCLUDED_MODULES = "flashgraph/run/journal/**/*.py"
SECONDS = 1200
"""Of wall-clock for one mutant; `tests.mutants.suite` bounds processor time more tightly."""

SAME = {
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
}
"""Operators whose mutants are the same program here: values without equality of their own, None, and interned names."""

CONFIG = """\
[cosmic-ray]
module-path = [{modules}]
timeout = {seconds}.0
excluded-modules = ["{excluded}"]
test-command = "{python} tests/mutants/suite.py"

[cosmic-ray.distributor]
name = "local"
"""


def wilson(killed: int, tried: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, square = killed / tried, z * z / tried
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / tried + square / (4 * tried))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


@cache
def _silent(path: Path) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Where a module says something to people or to the type checker only: annotations, `__str__`, what is raised."""
    spans: list[ast.AST] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign):
            spans.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            spans += [found for found in (*(a.annotation for a in every if a), node.returns) if found]
            if node.name in ("__str__", "__repr__"):
                spans.append(node)
        elif isinstance(node, ast.Raise | ast.JoinedStr):
            spans.append(node)
    return tuple(
        ((s.lineno, s.col_offset), (s.end_lineno or 0, s.end_col_offset or 0))  # type: ignore[attr-defined]  # all have places
        for s in spans
    )


def excluded(path: Path, operator: str, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Whether a mutant is left out by rule: it changes only text, a type, or nothing."""
    return operator in SAME or any(first <= start and end <= last for first, last in _silent(path))


def _copy(into: Path) -> None:
    shutil.rmtree(into, ignore_errors=True)
    for name in ("flashgraph", "algorithms", "tests", "examples"):
        shutil.copytree(ROOT / name, into / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", into)


def _prepare(session: Path, sample: int | None, seed: int) -> None:
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    config = BUILD / "cosmic-ray.toml"
    modules = ", ".join(f'"{m}"' for m in MODULES)
    config.write_text(CONFIG.format(modules=modules, seconds=SECONDS, excluded=EXCLUDED_MODULES, python=sys.executable))
    _cosmic_ray("init", str(config), str(session))
    with use_db(str(session), WorkDB.Mode.open) as db:
        tried: list[str] = []
        left_out: list[str] = []
        for item in sorted(db.work_items, key=lambda i: repr(i.mutations)):
            (mutation,) = item.mutations
            found = excluded(
                BUILD / "tree" / mutation.module_path, mutation.operator_name, mutation.start_pos, mutation.end_pos
            )
            (left_out if found else tried).append(item.job_id)
        chosen = set(random.Random(seed).sample(tried, min(sample or len(tried), len(tried))))
        skipped = [job for job in [*tried, *left_out] if job not in chosen]
        db.set_multiple_results(skipped, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    print(f"{len(tried)} mutants, and {len(left_out)} that are left out by rule; {len(chosen)} are tried", flush=True)


def _cosmic_ray(*arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(BUILD / "tree")}
    subprocess.run(
        [sys.executable, "-m", "cosmic_ray.cli", *arguments], cwd=BUILD / "tree", env=environment, check=True
    )


def _results(session: Path) -> Iterator[tuple[str, bool, str, str]]:
    """(place, killed, by what, diff) of what has been tried."""
    from cosmic_ray.work_db import WorkDB, use_db

    with use_db(str(session), WorkDB.Mode.open) as db:
        for item, result in db.completed_work_items:
            if result.worker_outcome != "skipped":
                (mutation,) = item.mutations
                said = (result.output or "").strip().splitlines()
                place = f"{mutation.module_path}:{mutation.start_pos[0]}"
                changed = [
                    line
                    for line in (result.diff or "").splitlines()
                    if line[:1] in "+-" and line[:3] not in ("+++", "---")
                ]
                yield place, result.is_killed, said[-1] if said else "?", "\n    ".join(changed)


def report(session: Path) -> None:
    """Print the figures and the survivors."""
    found = sorted(_results(session))
    killed = sum(k for _, k, _, _ in found)
    by = Counter(said.split(":")[0] for _, k, said, _ in found if k)
    low, high = wilson(killed, len(found))
    share = f"{killed / len(found):.1%}, 95 % interval {low:.1%} to {high:.1%}"
    print(f"{killed} of {len(found)} killed: {share}; noticed by {dict(by)}")
    for place, was_killed, _, diff in found:
        if not was_killed:
            print(f"{place}\n    {diff}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make mutants, try them, report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.sample", description=__doc__)
    parser.add_argument("--sample", type=int, help="how many mutants, chosen at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--report", action="store_true", help="only report on what was tried")
    chosen = parser.parse_args(arguments)
    session = BUILD / "session.sqlite"
    if chosen.report:
        report(session)
        return 0
    if not session.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        _copy(BUILD / "tree")
        _prepare(session, chosen.sample, chosen.seed)
    _cosmic_ray("exec", str(BUILD / "cosmic-ray.toml"), str(session))
    report(session)
    return 0


if __name__ == "__main__":
    sys.exit(main())
