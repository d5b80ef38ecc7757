"""``flashgraph check GRAPH``: is the graph well formed?"""

from __future__ import annotations

import click

from flashgraph.text.terminal import say, style

__all__ = ["command"]


@click.command("check")
@click.argument("graph")
def command(graph: str) -> None:
    """Check GRAPH: print "ok" and what it holds, or every mistake with its line and its fix.

    This executes the graph file as Python: check only files that you would run.
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
