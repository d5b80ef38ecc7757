"""``flashgraph explain GRAPH``: the plan in words."""

from __future__ import annotations

import click

from flashgraph.cli.options import pairs, schedule_option, set_option

__all__ = ["command"]


@click.command("explain")
@click.argument("graph")
@schedule_option
@set_option
def command(graph: str, schedule: str, settings: tuple[str, ...]) -> None:
    """Say what GRAPH does under a schedule: what flows where, what waits for what, what becomes of what is late.

    This executes the graph file as Python: explain only files that you would run.
    """
    overrides = pairs(settings)
    from flashgraph.loading import load_graph
    from flashgraph.observe.explanation import explain

    click.echo(explain(load_graph(graph), schedule, overrides))
