"""The public surface is a decision: whoever changes it must also change the committed list.

`python -m tests.test_surface` writes the list.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import flashgraph

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("surface.txt")
PUBLIC = (
    "flashgraph",
    "flashgraph.errors",
    "flashgraph.gepa",
    "flashgraph.llm",
    "flashgraph.parts",
    "flashgraph.parts.ace",
    "flashgraph.parts.gepa",
    "flashgraph.parts.islands",
    "flashgraph.parts.meta_harness",
    "flashgraph.policies",
    "flashgraph.sandbox",
    "flashgraph.sim",
    "flashgraph.tasks",
    "flashgraph.testing",
    "flashgraph.text",
)
"""The modules that users import from; all others are internal."""

ABSENT = ("flashgraph.dspy",)
"""Public modules whose library is not in the lock; `tests/launch/test_dspy.py` imports their names."""


def surface() -> list[str]:
    """Return each public name, with the parameters of callables and the public methods and fields of classes."""
    lines = []
    for module in PUBLIC:
        found = importlib.import_module(module)
        for name in sorted(found.__all__):
            lines.append(f"{module}.{name}{_parameters(getattr(found, name))}")
    return lines


def _parameters(value: Any) -> str:
    """Return ``(a, b=, *, c)``; empty for exceptions, protocols and values that are not callable."""
    if inspect.isclass(value):
        if issubclass(value, BaseException) or getattr(value, "_is_protocol", False):
            return ""
    elif not inspect.isroutine(value):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:  # of a built-in class
        return ""
    words: list[str] = []
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        star = "**" if one.kind is one.VAR_KEYWORD else "*" if one.kind is one.VAR_POSITIONAL else ""
        words.append(star + one.name + ("=" if one.default is not one.empty else ""))
    return f"({', '.join(words)})"


def test_the_surface_is_as_listed() -> None:
    """A name or parameter that is added or removed must be listed: `python -m tests.test_surface`."""
    assert surface() == LIST.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("module", PUBLIC)
def test_every_listed_name_is_there(module: str) -> None:
    found = importlib.import_module(module)
    assert len(set(found.__all__)) == len(found.__all__)
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


def test_no_two_public_classes_share_a_name() -> None:
    """No two public classes share a name, except in sandboxed programs, and the `Params` of each graph file."""
    homes = defaultdict(list)
    for path in Path(flashgraph.__file__).parent.rglob("*.py"):
        if "guest" not in path.parts:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Params":
                    homes[node.name].append(path.name)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


IMPORT = re.compile(r"^ *(?:>>> )?from (flashgraph[\w.]*) import (\([^)]*\)|[^\n#]+)", re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    [
        *(ROOT / "flashgraph/algorithms").glob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_users_code_imports_public_names_alone(path: Path) -> None:
    """Algorithms, examples and docs import only public names."""
    private = []
    for module, names in IMPORT.findall(path.read_text(encoding="utf-8")):
        # Graph files may build on each other.
        if module.startswith("flashgraph.algorithms") or module in ABSENT:
            continue
        for name in re.findall(r"\w+(?: as \w+)?", names):
            word = name.split()[0]
            if module not in PUBLIC or word not in importlib.import_module(module).__all__:
                private.append(f"{module}.{word}")
    assert private == []


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n", encoding="utf-8")
