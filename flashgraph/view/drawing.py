"""The drawing of a stored run's graph, made from its journal alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from flashgraph.observe.description import Description, Link, Node
from flashgraph.observe.layout import lay_out
from flashgraph.run.journal.header import Header
from flashgraph.run.plan import DEFAULT_CAPACITY

__all__ = ["described", "drawing"]

SCALE = 96
"""The pixels of an inch."""

COUNT = (0.36, 0.2)
"""The size of a count on an edge, in inches."""

MARGIN = 0.25
"""The free space around a drawing, in inches."""


def described(header: Header) -> Description:
    """Return what a journal's header says about its graph: names, kinds and policies, but no functions."""
    found = {name: kind for name, kind in header.topology.items() if not name.startswith("type ")}
    links = [_link(name, kind, header.policies) for name, kind in found.items() if kind.startswith("edge")]
    repairers = {name for link in links for name in link.repairs}
    nodes, reads = [], []
    for name, kind in found.items():
        word = kind.split(maxsplit=1)[0]
        if word not in ("pool", "source", "stage"):
            continue
        nodes.append(Node(name, _kind(word, name in repairers), None, "", "", ("",)))  # a line for its numbers
        pool = kind.rpartition("reads ")[2] if "reads " in kind else "None"
        if pool != "None":
            reads.append((pool, name))
    return Description(header.graph, "", (), tuple(nodes), tuple(links), tuple(reads), DEFAULT_CAPACITY)


def drawing(header: Header) -> dict[str, Any]:
    """Return boxes and lines in pixels, with a spot on each edge for the number of items that wait there."""
    graph = described(header)
    layout = lay_out(graph, "right", COUNT)
    left, top, right, bottom = layout.bounds

    def place(x: float, y: float) -> list[float]:
        return [round((x - left + MARGIN) * SCALE, 1), round((y - top + MARGIN) * SCALE, 1)]

    nodes = []
    for name, box in layout.boxes.items():
        x, y = place(box.left, box.top)
        size = {"width": round(box.width * SCALE, 1), "height": round(box.height * SCALE, 1)}
        nodes.append({"name": name, "kind": box.node.kind, "x": x, "y": y, **size})
    lines = [
        {
            "kind": route.kind,
            "edge": route.edge if route.kind == "edge" else "",
            "points": [place(*point) for point in route.points],
            "spot": None if route.spot is None else place(*route.spot),
        }
        for route in layout.routes
    ]
    return {
        "width": round((right - left + 2 * MARGIN) * SCALE),
        "height": round((bottom - top + 2 * MARGIN) * SCALE),
        "nodes": nodes,
        "lines": lines,
        "edges": [link.name for link in graph.links],
        "names": [node.name for node in graph.nodes],
    }


def _kind(word: str, repairs: bool) -> Literal["pool", "source", "stage", "repair"]:
    if word == "stage":
        return "repair" if repairs else "stage"
    return "pool" if word == "pool" else "source"


def _link(name: str, kind: str, policies: Mapping[str, str]) -> Link:
    src, _, dst = name.partition("->")
    stale = policies.get(f"{name}.stale", "")
    repairs = tuple(re.findall(r"repair\((\w[\w.]*)", stale))
    loop = re.search(r"loop=(\d+)", kind)
    return Link(src, dst, "", (), repairs, int(loop[1]) if loop else None)
