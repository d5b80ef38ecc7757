"""Each layer imports only those above it, and only the testing layer imports hypothesis."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import networkx as nx

import flashgraph

ROOT = Path(flashgraph.__file__).parent
LAYERS = [
    ["version"],
    ["errors"],
    ["extras", "text"],
    ["evidence"],
    ["llm"],
    ["tasks"],
    ["graph"],
    ["policies"],
    ["sandbox"],
    ["parts"],
    ["run"],
    ["sim"],
    ["launch"],
    ["api"],
    ["gepa"],
    ["dspy"],
    ["observe"],
    ["view"],
    ["cli"],
    ["testing"],
]


def layer_of(module: str) -> int:
    """Return the number of the layer of a module in ``flashgraph``."""
    names = [(i, name) for i, layer in enumerate(LAYERS) for name in layer]
    fitting = [(len(name), i) for i, name in names if module == name or module.startswith(f"{name}.")]
    assert fitting, f"flashgraph.{module} belongs to no layer: add it to LAYERS and to flashgraph's docstring"
    return max(fitting)[1]


def modules() -> list[tuple[str, Path]]:
    """Return the names in ``flashgraph`` and the files of all modules but the package's own ``__init__`` and
    ``__main__``."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "__main__") and not name.startswith("algorithms"):
            found.append((name, path))
    return found


def imports(path: Path) -> list[tuple[int, str]]:
    """Return (line, module) of everything that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_layers_import_only_those_above() -> None:
    """A module may import its own layer and those before it in LAYERS."""
    known = {name for name, _ in modules()}
    wrong = []
    for name, path in modules():
        for line, imported in imports(path):
            target = imported.removeprefix("flashgraph.")
            below = imported.startswith("flashgraph.") and target in known
            if below and layer_of(target) > layer_of(name):
                wrong.append(f"{path}:{line}: {name} imports {target}, which is a lower layer")
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_in_a_circle() -> None:
    """No modules import each other in a circle, also inside functions."""
    known = {f"flashgraph.{name}": path for name, path in modules()} | {"flashgraph": ROOT / "__init__.py"}
    net: Any = nx.DiGraph()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                # `from package import module` counts only as an import of the module.
                parts = [f"{node.module}.{part}" for part in found]
                found = [part if part in known else str(node.module) for part in parts]
            net.add_edges_from((name, imported) for imported in found if imported in known and imported != name)
    assert [sorted(circle) for circle in nx.strongly_connected_components(net) if len(circle) > 1] == []


def test_hypothesis_is_the_testing_layers() -> None:
    """Running an algorithm never needs hypothesis."""
    users = {name for name, path in modules() for _, imported in imports(path) if imported.startswith("hypothesis")}
    assert all(name.startswith("testing") for name in users)


def test_the_core_takes_time_from_anyio_only() -> None:
    """The scheduler uses neither `time` nor `asyncio`: its clock is injected."""
    core = ("graph", "policies", "parts", "run", "sim")
    wrong = [
        f"{name}:{line} {imported}"
        for name, path in modules()
        # The excepted modules decide nothing with these imports. A journal records the day of its sessions. `run.floor`
        # measures how long a function blocks the event loop. asyncio lets a SystemExit out of the loop, which
        # `run.contained` prevents. `run.loop` guards its loop, and `run.threads` replaces its executor. The virtual
        # clock is an event loop of asyncio.
        if name.split(".")[0] in core
        and not name.startswith("run.journal")
        and name not in ("run.floor", "run.contained", "run.loop", "run.threads", "sim.clock")
        for line, imported in imports(path)
        if imported.split(".")[0] in ("time", "asyncio", "datetime")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_scheduler_names_no_algorithm() -> None:
    """Nothing under run or policies knows GEPA or any other algorithm."""
    algorithms = [p.stem for p in (ROOT / "algorithms").glob("*.py")] + ["ace", "combee", "meta_harness"]
    for name, path in modules():
        if name.split(".")[0] in ("run", "policies"):
            words = {w.lower() for w in path.read_text().replace("_", " ").replace(".", " ").split()}
            assert not words & set(algorithms), f"{path} names an algorithm"
