"""Every shipped graph file is short, uses only public names, passes `check`, and matches the drawing on its page."""

from __future__ import annotations

import ast
import importlib
from html import escape
from importlib.util import find_spec
from pathlib import Path

import pytest

from flashgraph.graph.loading import load_graph
from flashgraph.observe.description import describe

ROOT = Path(__file__).parents[2]
FILES = pytest.mark.parametrize("file", sorted((ROOT / "algorithms").glob("*.py")), ids=lambda path: path.stem)
DRAWN = {
    "ace": "ace.md",
    "capo": "capo.md",
    "coevolution": "coevolution.md",
    "combee": "combee.md",
    "combee:ace_graph": "combee.md",
    "evoprompt": "evoprompt.md",
    "gepa": "gepa.md",
    "islands": "islands.md",
    "meta_harness": "meta-harness.md",
    "opro": "opro.md",
    "promptbreeder": "promptbreeder.md",
    "protegi": "protegi.md",
    "self_refine": "self-refine.md",
    "simba": "simba.md",
}
GRAPHS = pytest.mark.parametrize("name", DRAWN)


@FILES
def test_it_is_short(file: Path) -> None:
    """A file has under 300 lines, with docstrings; an import has a line for each name."""
    text = file.read_text(encoding="utf-8")
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(text.splitlines()) - sum((node.end_lineno or 0) - node.lineno for node in imports) < 300


@FILES
def test_it_imports_public_names_only(file: Path) -> None:
    """A file imports only what a user's file may: modules, and names in their ``__all__``."""
    private = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flashgraph"):
            source = node.module or ""
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fg":
            source, names = "flashgraph", [node.attr]
        else:
            continue
        listed = getattr(importlib.import_module(source), "__all__", ())
        private += [
            f"{file.name}:{node.lineno}: {source}.{name}"
            for name in names
            if name not in listed and (f"{source}.{name}".find("._") >= 0 or not find_spec(f"{source}.{name}"))
        ]
        private += [f"{file.name}:{node.lineno}: {source}"] * ("._" in source)
    assert not private


@GRAPHS
def test_check_accepts_it(name: str) -> None:
    """`check` finds no problem."""
    load_graph(name).checked()


@GRAPHS
def test_its_page_shows_it_as_it_is(name: str) -> None:
    """The drawing names every node of the graph, and the policies of its edges.

    To update it: ``flashgraph draw NAME -o docs/algorithms/NAME.svg``.
    """
    picture = f"{name.replace(':', '-').replace('_', '-')}.svg"
    assert f"({picture})" in (ROOT / "docs" / "algorithms" / DRAWN[name]).read_text(encoding="utf-8")
    drawn = (ROOT / "docs" / "algorithms" / picture).read_text(encoding="utf-8")
    described = describe(load_graph(name))
    shown = {node.name for node in described.nodes} | {line for link in described.links for line in link.policies}
    missing = {text for text in shown if f">{escape(text, quote=False)}<" not in drawn}
    assert not missing
