"""``flashgraph check GRAPH``: report every mistake of a graph."""

from __future__ import annotations

import click

from flashgraph.text.terminal import say, style

__all__ = ["command"]


@click.command("check", short_help="Check GRAPH and report every mistake.")
@click.argument("graph")
def command(graph: str) -> None:
    """Check GRAPH: print "ok" and the number of its nodes and edges, or every mistake with its line and its fix.

    This executes the graph file: check only files that you trust.
    """
    from flashgraph.graph.loading import load_graph
    from flashgraph.observe.words import counted

    found = load_graph(graph)
    found.checked()
    spec = found.spec
    parts = [
        counted(len(spec.sources), "source"),
        counted(len(spec.stages), "stage"),
        counted(len(spec.edges), "edge"),
        counted(len(spec.pools), "pool"),
    ]
    say(style("ok:", fg="green", bold=True), f"{found.name} ({', '.join(parts)})")
