"""``flashgraph algorithms``: the shipped ones."""

from __future__ import annotations

import click

from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("algorithms")
def command() -> None:
    """List the shipped algorithms: names that stand wherever a GRAPH is asked for."""
    import ast

    from flashgraph.graph.loading import shipped

    found = shipped()
    width = max(map(len, found), default=0)
    for name, path in sorted(found.items()):
        # Parsed, not imported: a list of names must not run anybody's code.
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        say(f"{name:<{width}}  {doc.partition(chr(10))[0]}")
