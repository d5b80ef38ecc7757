"""``flashgraph explain GRAPH``: a graph's plan in words."""

from __future__ import annotations

from typing import Any

import click

from flashgraph.cli.options import budget_of, budget_options, pairs, schedule_option, set_option
from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("explain", short_help="Describe in words what GRAPH does under a schedule.")
@click.argument("graph")
@schedule_option
@set_option
@click.option("--task", metavar="FILE[:NAME]", help="Also say what a budget buys on this task.")
@budget_options
def command(graph: str, schedule: str, settings: tuple[str, ...], task: str | None, **limits: Any) -> None:
    """Describe what GRAPH does under a schedule: its stages, its edges, and the policies for early, late and stale
    items.

    With --task it also says how many evaluations a run takes, and how many rounds a budget buys.

    \b
    flashgraph explain gepa --task task.py --evaluations 200

    This executes the graph file and the task file: explain only files that you trust.
    """
    overrides, budget = pairs(settings), budget_of(limits)
    if task is None and (budget.limits or budget.seconds is not None):
        raise click.UsageError("the work that a budget buys depends on the task: give --task FILE")
    from flashgraph.graph.loading import load_graph, load_task
    from flashgraph.observe.explanation import explain
    from flashgraph.observe.outlook import budget_lines

    found = load_graph(graph)
    say(explain(found, schedule, overrides))
    if task is not None:
        say("\n" + "\n".join(budget_lines(found.spec, load_task(task), budget, overrides, schedule)))
