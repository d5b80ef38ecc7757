"""A plain ``pip install flashgraph`` does everything that needs no extra, and otherwise names the extra."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import flashgraph
from flashgraph.cli import COMMANDS
from flashgraph.extras import EXTRAS
from tests.plain import LINES

ROOT = Path(flashgraph.__file__).parent.parent

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """Return the distributions of requirements and of all that they need, by normalised name."""
    packaging = pytest.importorskip("packaging.requirements")
    found: dict[str, metadata.Distribution] = {}
    waiting = list(requirements)
    while waiting:
        requirement = packaging.Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = metadata.distribution(name)
        waiting += found[name].requires or []
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of links to flashgraph and its base dependencies, and to nothing else."""
    folder = tmp_path_factory.mktemp("plain") / "site"
    folder.mkdir()
    (folder / "flashgraph").symlink_to(ROOT / "flashgraph")
    for distribution in needed(PROJECT["dependencies"]).values():
        for top in {file.parts[0] for file in distribution.files or ()}:
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


@pytest.fixture(scope="module")
def plain(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the output of `tests/plain.py` in an interpreter that sees only that folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLASHGRAPH"))}
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "tests" / "plain.py"],
        cwd=tmp_path_factory.mktemp("work"),
        env={**environment, "PYTHONPATH": str(site), "COVERAGE_PROCESS_START": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def test_only_base_dependencies_are_there(plain: dict[str, Any]) -> None:
    assert plain["there"] == []


def test_every_extra_has_its_modules() -> None:
    """Every extra is named when it is missing, also a new one."""
    optional = PROJECT["optional-dependencies"]
    names = {re.split(r"[>=<]", text)[0].replace("-", "_") for of in optional.values() for text in of}
    assert {name.removesuffix("_skinny") for name in names} == set(EXTRAS)
    assert set(EXTRAS.values()) == set(optional)


def test_every_module_but_the_testing_layers_can_be_imported(plain: dict[str, Any]) -> None:
    named = ("flashgraph.dspy", "flashgraph.gepa", "flashgraph.testing")
    wrong = [text for text in plain["modules"] if not text.startswith(named)]
    assert wrong == []
    assert all(
        "DataError: flashgraph.gepa: gepa is not installed." in t for t in plain["modules"] if "flashgraph.gepa" in t
    )
    assert next(text for text in plain["modules"] if text.startswith("flashgraph.testing")) == (
        "flashgraph.testing: DataError: flashgraph.testing: hypothesis is not installed.\n"
        "Fix: pip install 'flashgraph[testing]'"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, plain: dict[str, Any]) -> None:
    code, output = plain["help"][command]
    assert code == 0
    assert output.startswith(f"Usage: flashgraph {command}")


EXTRA = {
    "draw png": "draw",
    "plot": "draw",
    "run on trio": "trio",
    "run local": "local",
    "run litellm": "litellm",
    "export parquet": "data",
    "export mlflow": "mlflow",
}
"""Command lines that need an extra."""


@pytest.mark.parametrize("name", LINES)
def test_a_command(name: str, plain: dict[str, Any]) -> None:
    """A command works, or names the extra that it needs."""
    code, output = plain["lines"][name]
    assert "defect" not in output, output
    assert "Traceback" not in output, output
    if name in EXTRA:
        assert f"pip install 'flashgraph[{EXTRA[name]}]'" in output, output
        assert code in (1, 3)
    else:
        assert code == 0, output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("function model", "value: budget"),
        ("trio", "DataError: backend='trio': trio is not installed.\nFix: pip install 'flashgraph[trio]'"),
        ("parquet", "pip install 'flashgraph[data]'"),
        ("hub", "pip install 'flashgraph[data]'"),
        ("vllm", "pip install 'flashgraph[vllm]'"),
    ],
)
def test_from_python(name: str, expected: str, plain: dict[str, Any]) -> None:
    assert expected in plain[name]
    assert "Traceback" not in plain[name]
