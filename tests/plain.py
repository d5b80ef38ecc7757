"""Run in an interpreter with only the base dependencies (`tests/test_plain.py`), and print the results as JSON.

The entry of a command line holds its exit code and output; every other entry holds the result of an act as text.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.cli import COMMANDS, _exit_code
from flashgraph.extras import EXTRAS
from flashgraph.sim.world import World
from flashgraph.tasks.data import read

WORLD = World(seed=1, train=12, val=8)

TASK = "from flashgraph.sim.world import World\ntask = World(seed=1, train=12, val=8).task()\n"
LINES = {
    "algorithms": ["algorithms"],
    "check": ["check", "gepa"],
    "explain": ["explain", "gepa", "--schedule", "throughput"],
    "draw": ["draw", "gepa", "-o", "gepa.md"],
    **{f"draw {kind}": ["draw", "gepa", "-o", f"gepa.{kind}"] for kind in ("svg", "png", "html")},
    "simulate": ["simulate", "gepa", "--minutes", "0.5"],
    "sweep": ["simulate", "gepa", "--minutes", "0.2", "--sweep", "window=1,2"],
    "plot": ["simulate", "gepa", "--minutes", "0.2", "--sweep", "window=1,2", "-o", "plot.svg"],
    "tune": ["tune", "gepa", "--minutes", "0.2", "--seeds", "1", "--set", "window=2", "--set", "focus=0.5"],
    "run on trio": ["run", "gepa", "--task", "task.py", "--model", "sim:vllm", "--backend", "trio"],
    "run local": ["run", "gepa", "--task", "task.py", "--model", "local", "--proposals", "1", "--out", "local"],
    "run litellm": ["run", "gepa", "--task", "task.py", "--model", "litellm:openai/x", "--proposals", "1"],
    "run": ["run", "gepa", "--task", "task.py", "--model", "replay:run", "--proposals", "2", "--out", "again"],
    "resume": ["resume", "again", "--proposals", "3"],
    "runs": ["runs", "."],
    "show": ["show", "run"],
    "diff": ["diff", "run", "again"],
    "export": ["export", "run", "--to", "jsonl", "-o", "run.jsonl"],
    **{f"export {kind}": ["export", "run", "--to", kind, "-o", f"out-{kind}"] for kind in ("parquet", "mlflow")},
    "prune": ["prune", ".", "--keep", "1", "--yes"],
}
"""Command lines by name."""


def line(words: list[str]) -> list[object]:
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            code: object = _exit_code(words)
        except SystemExit as error:
            code = error.code
    return [code, output.getvalue()]


def outcome(act: Callable[[], object]) -> str:
    """Return how an act ends: with a value, a user's error, or a traceback."""
    try:
        return f"value: {act()}"
    except fg.FlashgraphError as error:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return traceback.format_exc()


def run(model: Any = WORLD.answer, **options: Any) -> str:
    models = dict.fromkeys(("task", "reflection"), model)
    return fg.run("gepa", WORLD.task(), models=models, budget=fg.Budget(proposals=2), **options).status


def modules() -> list[str]:
    """Return the modules that cannot be imported."""
    wrong = []
    for found in pkgutil.walk_packages(fg.__path__, "flashgraph.", onerror=lambda name: None):
        if found.name.startswith("flashgraph.sandbox.guest") or found.name == "flashgraph.__main__":
            continue  # they run elsewhere
        try:
            importlib.import_module(found.name)
        except Exception as error:
            wrong.append(f"{found.name}: {type(error).__name__}: {error}")
    return wrong


def all_of_it() -> Mapping[str, object]:
    Path("task.py").write_text(TASK)
    Path("d.parquet").write_bytes(b"PAR1")
    acts: dict[str, Callable[[], object]] = {
        "function model": lambda: run(folder=Path("run"), schedule="lockstep"),
        "trio": lambda: run(backend="trio"),
        "parquet": lambda: read("d.parquet"),
        "hub": lambda: read("hf:some/data@train"),
        "vllm": lambda: run("vllm-engine:x"),
    }
    return {
        "there": [name for name in (*EXTRAS, "pytest", "numpy") if importlib.util.find_spec(name) is not None],
        "help": {name: line([name, "--help"]) for name in ("--help", *COMMANDS)},
        **{name: outcome(act) for name, act in acts.items()},
        "lines": {name: line(words) for name, words in LINES.items()},
        "modules": modules(),
    }


if __name__ == "__main__":
    json.dump(all_of_it(), sys.stdout)
