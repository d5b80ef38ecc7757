"""Modules and functions of the scheduler stay small enough to read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import flashgraph

ROOT = Path(flashgraph.__file__).parent
FOLDERS = ("graph", "policies", "run")
MODULE = 400
FUNCTION = 60


@pytest.mark.parametrize("path", sorted(p for f in FOLDERS for p in (ROOT / f).rglob("*.py")), ids=lambda p: p.stem)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    lines = text.count("\n")
    assert lines <= MODULE, f"{name} has {lines} lines: split it by concept"
    for node in ast.walk(ast.parse(text)):
        owners = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for function in owners:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                long = (function.end_lineno or 0) - function.lineno + 1
                assert long <= FUNCTION, f"{name}: {prefix}{function.name} has {long} lines: split it by concept"
