"""The parts of a layout: boxes, routes and labels, in inches, with y growing downwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from flashgraph.observe.description import Link, Node
from flashgraph.text.terminal import width_of as cells

__all__ = [
    "BOLD",
    "LINE",
    "NAME",
    "SMALL",
    "Box",
    "Label",
    "Layout",
    "Point",
    "Route",
    "cells",
    "label_size",
    "node_lines",
    "node_size",
    "text_width",
    "towards",
]

LINE = 0.155
"""The height of a line of small text."""
SMALL, BOLD, NAME = 0.068, 0.078, 0.102
"""The width of a character of small text, of small bold text and of a node's name, in DejaVu Sans or Verdana."""
Point = tuple[float, float]
Area = tuple[float, float, float, float]


@attrs.frozen
class Box:
    """The position of a node: its centre and size."""

    node: Node
    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    @property
    def area(self) -> Area:
        """The left, top, right and bottom."""
        return self.left, self.top, self.right, self.bottom


@attrs.frozen
class Label:
    """Lines of text, the first in bold type; ``x`` is the middle or the left of the first line, ``y`` its middle."""

    lines: tuple[str, ...]
    x: float
    y: float
    align: Literal["left", "center"] = "center"

    @property
    def area(self) -> Area:
        """The left, top, right and bottom."""
        width = text_width(self.lines)
        left = self.x if self.align == "left" else self.x - width / 2
        return left, self.y - LINE / 2, left + width, self.y + (len(self.lines) - 0.5) * LINE


@attrs.frozen
class Route:
    """A line through ``points``, with an arrowhead at its end unless it belongs to a repair.

    ``edge`` is the name of the edge that it draws, or that it repairs; it is empty for a reader's line.  ``spot`` is
    the place in the middle of an edge's label, where a count can stand.
    """

    kind: Literal["edge", "reads", "repairs"]
    points: tuple[Point, ...]
    labels: tuple[Label, ...] = ()
    edge: str = ""
    spot: Point | None = None


@attrs.frozen
class Layout:
    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]

    @property
    def bounds(self) -> Area:
        """The left, top, right and bottom of the whole layout."""
        areas = [box.area for box in self.boxes.values()]
        areas += [label.area for route in self.routes for label in route.labels]
        areas += [(x, y, x, y) for route in self.routes for x, y in route.points]
        lefts, tops, rights, bottoms = zip(*areas, strict=True) if areas else ((0.0,),) * 4
        return min(lefts), min(tops), max(rights), max(bottoms)


def text_width(lines: tuple[str, ...]) -> float:
    """Return the width of small lines of text, the first in bold type."""
    return max((cells(line) * (SMALL if k else BOLD) for k, line in enumerate(lines)), default=0.0)


def node_lines(node: Node) -> tuple[str, ...]:
    """Return the small lines under a node's name."""
    if node.kind == "pool":
        lines = (node.gives, f"takes {node.takes}") if len(node.takes) < 14 and node.takes else (node.gives,)
        return tuple(line for line in lines if line)
    types = [f"{node.takes} \N{RIGHTWARDS ARROW} {node.gives}" if node.takes else f"\N{RIGHTWARDS ARROW} {node.gives}"]
    if not node.gives:
        types = [node.takes] if node.takes else []
    elif len(types[0]) > 24 and node.takes:
        types = [node.takes, f"\N{RIGHTWARDS ARROW} {node.gives}"]
    return (*types, *([f"model: {node.role}"] if node.role else []), *node.notes)


def node_size(node: Node) -> tuple[float, float]:
    lines = node_lines(node)
    width = max([cells(node.name) * NAME, *(cells(line) * SMALL for line in lines)]) + 0.36
    return max(width, 1.2), 0.42 + LINE * len(lines)


def label_size(link: Link) -> tuple[float, float]:
    lines = tuple(line for line in (link.flows, *link.policies) if line)
    return text_width(lines), len(lines) * LINE


def towards(corner: Point, other: Point, radius: float) -> Point:
    """Return the point on the way from ``corner`` to ``other`` where the rounding begins."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1.0
    step = min(radius, length / 2) / length
    return corner[0] + dx * step, corner[1] + dy * step
