"""Load a graph from a file or a shipped algorithm, and a task or model from a Python file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from flashgraph.errors import DataError, described, did_you_mean
from flashgraph.graph.dsl import Graph
from flashgraph.tasks.task import Task

__all__ = ["load_graph", "load_task", "shipped"]


K = TypeVar("K")


def shipped() -> dict[str, Path]:
    """Return the files of the algorithms that come with flashgraph, by name."""
    return {p.stem: p for p in sorted((Path(__file__).parents[1] / "algorithms").glob("[!_]*.py"))}


def load_graph(graph: Graph | str | Path) -> Graph:
    """Return the graph in a file (``path.py`` or ``path.py:NAME``), or a shipped algorithm (``name`` or ``name:NAME``).

    Raises `DataError` if the file does not exist or holds no `Graph`.
    """
    if isinstance(graph, Graph):
        return graph
    _require_path(graph, "graph", "fg.Graph(...)")
    text = str(graph)
    path, name = _split(text, "graph")
    if str(path) in shipped():
        # Imported as a module, because other shipped files import it too and must share its classes.
        return _object(importlib.import_module(f"flashgraph.algorithms.{path}"), path, name, Graph, "graph")
    if not path.exists():
        hint = did_you_mean(text, sorted(shipped()))
        raise DataError(
            f"graph {text!r}: no such file; expected a Python file with a fg.Graph, or a shipped algorithm.\n"
            f"Fix: give the path of a file, or a shipped algorithm: {hint}"
        )
    return _object(_module(path), path, name, Graph, "graph")


def load_task(task: Task | str | Path) -> Task:
    """Return the task in a file: ``path.py`` (its only `Task`, or the one named ``task``) or ``path.py:NAME``.

    Raises `DataError` if the file does not exist or holds no `Task`.
    """
    if isinstance(task, Task):
        return task
    _require_path(task, "task", "fg.Task(...)")
    path, name = _split(str(task), "task")
    if not path.exists():
        raise DataError(
            f"task {str(task)!r}: no such file.\nFix: --task FILE[:NAME], a Python file with a fg.Task in it."
        )
    return _object(_module(path), path, name, Task, "task")


def load_model(text: str) -> Any:
    """Return the function or model object that ``path.py:NAME`` names; NAME is ``model`` by default.

    Raises `DataError` if the file does not exist, or holds no function and no model of that name.
    """
    path, name = _split(text, "model")
    if not path.exists():
        raise DataError(f"model {text!r}: no such file.\nFix: --model FILE.py:NAME, a function of the messages.")
    module, name = _module(path), name or "model"
    found = vars(module).get(name)
    if found is None or not (callable(found) or hasattr(found, "complete")):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise DataError(
            f"model {text!r}: found no function {name!r} in {path}, expected a function that takes messages.\n"
            f"Fix: {did_you_mean(name, known) if known else 'define it, as in def model(messages): ...'}"
        )
    return found


def _require_path(given: object, what: str, made: str) -> None:
    if not isinstance(given, str | Path):
        raise DataError(
            f"{what}: found {type(given).__name__} {given!r:.80}, expected {made} or the path of a file with one.\n"
            f"Fix: give {made}."
        )


def _split(text: str, what: str) -> tuple[Path, str | None]:
    """Return the file and the name in it. Raises `DataError` for options after them (``?max_tokens=100``)."""
    bare, mark, options = text.partition("?")
    if mark and not Path(text).exists() and bare.partition(":")[0].endswith(".py"):
        raise DataError(
            f"{what} {text!r}: found the options {'?' + options!r}, but a Python file takes none; expected "
            f"FILE.py or FILE.py:NAME.\nFix: {bare}, and set {options.partition('=')[0] or 'them'} in the file."
        )
    head, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and not Path(text).exists():
        return Path(head), name
    return Path(text), None


def _module(path: Path) -> ModuleType:
    """Run the file as a module; while it runs, its folder is importable, as for a script."""
    path = path.resolve()
    name = f"flashgraph_file_{path.stem}_{abs(hash(str(path))):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path}: not a Python file.\nFix: give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except DataError:
        del sys.modules[name]
        raise
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", 0)
        raise DataError(
            f"{path}:{line}: the file could not be loaded: {described(error)}.\nFix: {_fix(error)}"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _fix(error: BaseException) -> str:
    """Return the fix for an error in a user's file; for a name that a module lacks, the fix is its nearest name."""
    module = getattr(error, "obj", None)
    if isinstance(error, AttributeError) and error.name and isinstance(module, ModuleType):
        return did_you_mean(error.name, [name for name in dir(module) if not name.startswith("_")])
    return "make it run under plain `python` first."


def _object(module: ModuleType, path: Path, name: str | None, kind: type[K], what: str) -> K:
    """Return the module's object of a kind: the one called ``name``, or else ``what``, or else the only one."""
    found = {n: v for n, v in vars(module).items() if isinstance(v, kind)}
    name = name or (what if what in found else next(iter(found)) if len(found) == 1 else None)
    if name is not None and name in found:
        return found[name]
    have = ", ".join(sorted(found)) or f"no fg.{kind.__name__}"
    wanted = f"a {what} {name!r}" if name else f"one fg.{kind.__name__}, or one that is named {what!r}"
    raise DataError(f"{path}: found {have}, expected {wanted}.\nFix: name it {what!r}, or give {path.name}:NAME.")
