"""Mutation testing of the scheduler and the policies: `cosmic-ray` makes the mutants, on a copy of the project.

``python -m tests.mutants.sample [--sample 200] [--seed 0]`` (``make mutants``) writes its results to
``build/mutants/results.jsonl`` and continues from them.  Without ``--sample`` it tries all mutants, which takes a day.
It ends with the figures and the survivors of docs/benchmarks/mutants.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = ["excluded", "main", "wilson"]

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "mutants"
PACKAGES = ("flashgraph/run", "flashgraph/policies")
"""Packages whose modules are mutated, without the packages inside them."""

Span = tuple[tuple[int, int], tuple[int, int]]

SAME = {
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
}
"""Operators whose mutants are the same program here: values without own equality, None, and interned names."""

ORDERS = ("_Lt", "_LtE", "_Gt", "_GtE")
"""The ends of operators' names that replace an equality by an order."""


def wilson(killed: int, tried: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    share, square = killed / tried, z * z / tried
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / tried + square / (4 * tried))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def _is_union(node: ast.expr) -> bool:
    """Return whether the expression is a union of types: ``Done | Failed``."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and all(
            isinstance(side, ast.Name) or _is_union(side) for side in (node.left, node.right)
        )
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _span(node: Any) -> Span:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _stars(arguments: ast.arguments) -> list[Span]:
    """Return the places of a bare ``*`` in signatures, which operators on products take for a product."""
    before = [*arguments.posonlyargs, *arguments.args, *arguments.defaults]
    if not before or not arguments.kwonlyargs:
        return []
    return [(max(_span(node)[1] for node in before), _span(arguments.kwonlyargs[0])[0])]


@cache
def _silent(path: Path) -> tuple[Span, ...]:
    """Return the places of text for people or the type checker: annotations, `__str__` and raised errors."""
    spans: list[Span] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign):
            spans.append(_span(node.annotation))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            spans += [_span(found) for found in (*(a.annotation for a in every if a), node.returns) if found]
            spans += _stars(node.args)
            if node.name in ("__str__", "__repr__"):
                spans.append(_span(node))
        elif (
            isinstance(node, ast.Raise | ast.JoinedStr)
            or (isinstance(node, ast.keyword) and node.arg == "repr")
            or (isinstance(node, ast.Assign) and _is_union(node.value))
        ):
            spans.append(_span(node))
    return tuple(spans)


@cache
def _named(path: Path) -> tuple[Span, ...]:
    """Return the places that compare with a name: ``how == "done"``."""
    compared = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)]
    return tuple(_span(node) for node in compared if any(map(_is_text, (node.left, *node.comparators))))


def _within(place: tuple[tuple[int, int], tuple[int, int]], spans: tuple[Span, ...]) -> bool:
    return any(first <= place[0] and place[1] <= last for first, last in spans)


def excluded(path: Path, operator: str, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Return whether a rule excludes a mutant.

    It is excluded if it changes only text, a type, or nothing.  So is an order of names: the alphabet makes it the same
    program, or equal to the mutants ``==`` and ``!=``, which are tried.
    """
    ordered = operator.endswith(ORDERS) and _within((start, end), _named(path))
    return operator in SAME or ordered or _within((start, end), _silent(path))


def _copy(into: Path) -> None:
    shutil.rmtree(into, ignore_errors=True)
    for name in ("flashgraph", "algorithms", "tests", "examples"):
        shutil.copytree(ROOT / name, into / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", into)


def _mutants() -> Iterator[dict[str, Any]]:
    """Yield every mutant that no rule excludes, without its source."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    operators = {name: get_operator(name) for name in operator_names()}
    for path in sorted(path for package in PACKAGES for path in (BUILD / "tree" / package).glob("*.py")):
        nodes = list(ast_nodes(get_ast(path.read_text())))
        for name, operator in operators.items():
            if operator.arguments():
                continue
            places = (place for node in nodes for place in operator().mutation_positions(node))
            for number, (start, end) in enumerate(places):
                if not excluded(path, name, start, end):
                    module = path.relative_to(BUILD / "tree")
                    key = f"{module}:{start[0]} {name.removeprefix('core/')} {number}"
                    yield {"key": key, "path": str(module), "operator": name, "number": number}


def _planted(mutant: dict[str, Any]) -> dict[str, Any]:
    """Return a mutant with its source and what it has changed."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    before = (BUILD / "tree" / mutant["path"]).read_text()
    source = mutate_code(before, get_operator(mutant["operator"])(), mutant["number"])
    module = mutant["path"].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    pairs = zip(before.splitlines(), source.splitlines(), strict=False)
    changed = next(([f"-{old}", f"+{new}"] for old, new in pairs if old != new), [])
    return {**mutant, "module": module, "source": source, "changed": changed}


def _compiles(mutant: dict[str, Any]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an ``is`` with a literal, which is the mutant
            compile(mutant["source"], mutant["path"], "exec")
    except SyntaxError:
        return False
    return True


def _prepare(sample: int | None, seed: int) -> None:
    """Copy the project, and choose among its mutants those that compile."""
    BUILD.mkdir(parents=True, exist_ok=True)
    _copy(BUILD / "tree")
    every = list(_mutants())
    # In random order, so that a run that stops early has a smaller sample, not a different one.
    random.Random(seed).shuffle(every)
    chosen = list(islice((planted for mutant in every if _compiles(planted := _planted(mutant))), sample))
    print(f"{len(every)} mutants; {len(chosen)} are tried", flush=True)
    lines = [json.dumps(mutant) + "\n" for mutant in chosen]
    (BUILD / "chosen.jsonl").write_text("".join(lines))


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (BUILD / name).read_text().splitlines()]


def report(results: str) -> None:
    """Print the figures and the survivors."""
    found = _lines(results)
    killed = [result for result in found if result["killed"]]
    by = Counter(result["by"].split(":")[0] for result in killed)
    low, high = wilson(len(killed), len(found))
    share = f"{len(killed) / len(found):.1%}, 95 % interval {low:.1%} to {high:.1%}"
    print(f"{len(killed)} of {len(found)} killed: {share}; noticed by {dict(by)}")
    survived = {result["key"] for result in found if not result["killed"]}
    for mutant in sorted(_lines("chosen.jsonl"), key=lambda m: str(m["key"])):
        if mutant["key"] in survived:
            print("\n    ".join([mutant["key"], *mutant["changed"]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make mutants, try them and report; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.sample", description=__doc__)
    parser.add_argument("--sample", type=int, help="how many mutants, chosen at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants tried at once")
    parser.add_argument(
        "--suite", default="every", choices=["every", "invariants"],
        help="the tests that mutants must pass: all tests of the scheduler, or its invariants alone",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", help="only report on what was tried")
    given = parser.parse_args(arguments)
    results = "results.jsonl" if given.suite == "every" else f"results-{given.suite}.jsonl"
    if not given.report:
        if not (BUILD / "chosen.jsonl").exists():
            _prepare(given.sample, given.seed)
        command = [sys.executable, "-m", "tests.mutants.trials", str(BUILD / "chosen.jsonl")]
        environment = {**os.environ, "PYTHONPATH": str(BUILD / "tree")}
        subprocess.run(
            [*command, str(BUILD / results), str(given.workers), given.suite],
            cwd=BUILD / "tree", env=environment, check=True,
        )  # fmt: skip
    report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
