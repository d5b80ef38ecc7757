"""Makes the pictures of docs/: graphs as SVG, and the pages of a run as screenshots.

``python -m tests.docs.pictures`` draws the graphs; with ``--pages`` it also takes the screenshots, which need chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from flashgraph.graph.loading import load_graph, shipped
from flashgraph.observe.description import describe
from flashgraph.observe.svg import svg
from tests.view.browser import browsing, serving
from tests.view.stored import stored_run

__all__ = ["drawings"]

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("Run", "Pipeline", "Timeline", "Candidates", "Calls", "Losses", "Compare")


def drawings() -> dict[Path, str]:
    """Return the drawings of the shipped graphs by file."""
    graphs = {name.replace("_", "-"): name for name in shipped()} | {"combee-ace-graph": "combee:ace_graph"}
    return {DOCS / "algorithms" / f"{file}.svg": svg(describe(load_graph(graph))) for file, graph in graphs.items()}


def pages() -> None:
    """Take a screenshot of each view of a simulated run."""
    with tempfile.TemporaryDirectory() as folder:
        for name, seed, seconds in (("one", 0, 120), ("two", 1, 60)):
            stored_run(Path(folder) / "runs" / name, seed=seed, seconds=seconds)
        with serving(Path(folder) / "runs") as address, browsing() as opened:
            opened.page.goto(address)
            opened.until("window.flashgraph !== undefined")
            for view in PAGES:
                opened.go(view, "one")
                opened.page.wait_for_timeout(500)
                opened.page.screenshot(path=str(DOCS / "how-to" / f"view-{view.lower()}.png"))


if __name__ == "__main__":
    for path, drawn in drawings().items():
        path.write_text(drawn, encoding="utf-8")
    if "--pages" in sys.argv[1:]:
        pages()
