"""``flashgraph draw GRAPH -o FILE``: draw a graph as a picture or a page."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.text.terminal import say

__all__ = ["command"]

KINDS = (".svg", ".png", ".md", ".html", ".dot")


@click.command("draw", short_help="Draw GRAPH as .svg, .png, .md, .html or .dot.")
@click.argument("graph")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; its suffix sets the format: .svg, .png, .md (Mermaid), .html or .dot (Graphviz).",
)
def command(graph: str, output: Path) -> None:
    """Draw GRAPH: stages with their types, edges with their policies, and pools with their readers.

    This executes the graph file: draw only files that you trust. Only .png needs an extra: pip install
    'flashgraph[draw]'.
    """
    if output.suffix not in KINDS:
        raise click.BadParameter(
            f"found {output.name!r}, expected a name that ends in one of {', '.join(KINDS)}", param_hint="'-o'"
        )
    target = output.absolute()  # before the user's code runs, because it may change the working directory
    from flashgraph.graph.loading import load_graph
    from flashgraph.observe.description import describe
    from flashgraph.observe.figure import figure
    from flashgraph.observe.svg import svg
    from flashgraph.observe.tables import dot, html, markdown
    from flashgraph.observe.words import unwritable

    found = describe(load_graph(graph))
    match output.suffix:
        case ".svg":
            content = svg(found).encode()
        case ".png":
            content = figure(found)
        case ".md":
            content = markdown(found).encode()
        case ".dot":
            content = dot(found).encode()
        case _:
            content = html(found).encode()
    try:
        target.write_bytes(content)
    except OSError as error:
        raise unwritable(output, error) from error
    say(f"drawn: {output}")
