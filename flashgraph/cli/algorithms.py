"""``flashgraph algorithms``: a list of the shipped algorithms."""

from __future__ import annotations

import click

from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("algorithms", short_help="List the shipped algorithms.")
def command() -> None:
    """List the shipped algorithms. Give a name from this list wherever a command takes GRAPH."""
    import ast

    from flashgraph.graph.loading import shipped

    found = shipped()
    width = max(map(len, found), default=0)
    for name, path in sorted(found.items()):
        # Parsed, not imported: listing must not run code.
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        say(f"{name:<{width}}  {doc.partition(chr(10))[0]}")
