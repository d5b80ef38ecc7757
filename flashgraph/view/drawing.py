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
        nodes.append(Node(name, _kind(word, name in repairers), None, "", "", ()))
        pool = kind.rpartition("reads ")[2] if "reads " in kind else "None"
        if pool != "None":
            reads.append((pool, name))
    return Description(header.graph, "", (), tuple(nodes), tuple(links), tuple(reads), DEFAULT_CAPACITY)


def drawing(header: Header) -> dict[str, Any]:
    """Return boxes and lines in pixels, y downwards; without boxes if the graph cannot be laid out."""
    graph = described(header)
    try:
        layout = lay_out(graph)
        left, bottom, right, top = layout.bounds
    except Exception:  # a journal of another version: the page lists the nodes instead
        return {"width": 0, "height": 0, "nodes": [], "lines": [], "edges": _edges(graph), "names": _names(graph)}

    def x(inches: float) -> float:
        return round((inches - left + MARGIN) * SCALE, 1)

    def y(inches: float) -> float:
        return round((top - inches + MARGIN) * SCALE, 1)

    nodes = [
        {
            "name": name, "kind": box.node.kind, "x": x(box.left), "y": y(box.top),
            "width": round(box.width * SCALE, 1), "height": round(box.height * SCALE, 1),
        }
        for name, box in layout.boxes.items()
    ]  # fmt: skip
    lines = [{"kind": route.kind, "points": [[x(a), y(b)] for a, b in route.points]} for route in layout.routes]
    _name(lines, nodes, graph)
    return {
        "width": round((right - left + 2 * MARGIN) * SCALE),
        "height": round((top - bottom + 2 * MARGIN) * SCALE),
        "nodes": nodes,
        "lines": lines,
        "edges": _edges(graph),
        "names": _names(graph),
    }


def _name(lines: list[dict[str, Any]], nodes: list[dict[str, Any]], graph: Description) -> None:
    """Give each line of an edge its edge's name: the one between the boxes that its ends touch."""
    names = {link.name for link in graph.links}
    for line in lines:
        name = "->".join(_nearest(nodes, point) for point in (line["points"][0], line["points"][-1]))
        line["edge"] = name if line["kind"] == "edge" and name in names else ""


def _nearest(nodes: list[dict[str, Any]], point: list[float]) -> str:
    """Return the name of the node that is nearest to a point."""
    return str(min(nodes, key=lambda node: _distance(node, point))["name"])


def _distance(node: Mapping[str, Any], point: list[float]) -> float:
    dx = max(node["x"] - point[0], 0, point[0] - node["x"] - node["width"])
    dy = max(node["y"] - point[1], 0, point[1] - node["y"] - node["height"])
    return float(dx * dx + dy * dy)


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


def _edges(graph: Description) -> list[str]:
    return [link.name for link in graph.links]


def _names(graph: Description) -> list[str]:
    return [node.name for node in graph.nodes]
