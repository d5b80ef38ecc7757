"""The parts of a layout: boxes, routes and labels, in inches, with y growing upwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from flashgraph.observe.description import Link, Node

__all__ = ["LINE", "Box", "Label", "Layout", "Point", "Route", "label_size", "node_lines", "node_size"]

LINE = 0.155
"""The height of a line of small text."""
SMALL, NAME = 0.066, 0.098
"""The width of a character of small text and of a node's name, measured on DejaVu Sans at 8 and 10.5 points."""
Point = tuple[float, float]


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
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2


@attrs.frozen
class Label:
    """Lines of text; the first is a type.

    ``x, y`` is their centre, or for ``align="left"`` the middle of their left side.
    """

    lines: tuple[str, ...]
    x: float
    y: float
    align: Literal["left", "center"] = "center"

    @property
    def width(self) -> float:
        return max(map(len, self.lines), default=0) * SMALL

    @property
    def height(self) -> float:
        return len(self.lines) * LINE


@attrs.frozen
class Route:
    """A line through ``points``, with an arrowhead at its end unless it belongs to a repair."""

    kind: Literal["edge", "reads", "repairs"]
    points: tuple[Point, ...]
    labels: tuple[Label, ...] = ()


@attrs.frozen
class Layout:
    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The left, bottom, right and top of the whole layout."""
        xs, ys = [], []
        for box in self.boxes.values():
            xs += [box.left, box.right]
            ys += [box.bottom, box.top]
        for route in self.routes:
            xs += [x for x, _ in route.points]
            ys += [y for _, y in route.points]
            for label in route.labels:
                start = label.x if label.align == "left" else label.x - label.width / 2
                xs += [start, start + label.width]
                ys += [label.y - label.height / 2, label.y + label.height / 2]
        return min(xs), min(ys), max(xs), max(ys)


def node_lines(node: Node) -> tuple[str, ...]:
    """Return the small lines under a node's name."""
    if node.kind == "pool":
        return (node.gives, f"takes {node.takes}") if len(node.takes) < 14 else (node.gives,)
    types = [f"{node.takes} \N{RIGHTWARDS ARROW} {node.gives}" if node.takes else f"\N{RIGHTWARDS ARROW} {node.gives}"]
    if len(types[0]) > 24 and node.takes:
        types = [node.takes, f"\N{RIGHTWARDS ARROW} {node.gives}"]
    return (*types, *([f"model: {node.role}"] if node.role else []), *node.notes)


def node_size(node: Node) -> tuple[float, float]:
    lines = node_lines(node)
    width = max(len(node.name) * NAME, *(len(line) * SMALL for line in lines)) + 0.36
    return max(width, 1.2), 0.42 + LINE * len(lines)


def label_size(link: Link) -> tuple[float, float]:
    lines = (link.flows, *link.policies)
    return max(map(len, lines)) * SMALL, len(lines) * LINE
