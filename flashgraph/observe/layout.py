"""The layout of a drawing, independent of its format: boxes, lines with right angles, and labels.

A layered layout after Sugiyama: `layers` places and orders, `places` aligns, `channels` routes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from flashgraph.observe.channels import TRACK, channel
from flashgraph.observe.description import Description, Link
from flashgraph.observe.geometry import LINE, Box, Label, Layout, Point, Route, node_size
from flashgraph.observe.layers import AFTER, Cell, Layers, Port, Strand, Wire
from flashgraph.observe.places import LOOP, Placement

__all__ = ["lay_out"]

EDGE = 0.2
"""The space between a layer and the first line of the channel beside it: room for an arrowhead."""


def lay_out(
    graph: Description, flow: Literal["down", "right"] = "down", counts: tuple[float, float] | None = None
) -> Layout:
    """Return the positions of the nodes and the routes of the edges.

    ``flow`` is where the layers follow each other.  ``counts`` is the size of a number that each edge shows
    instead of its type and policies.
    """
    return _Drawing(graph, flow == "down", counts).layout()


class _Drawing:
    """Turns cells and tracks into points.  Positions are (along the flow, across it) until the end."""

    def __init__(self, graph: Description, down: bool, counts: tuple[float, float] | None) -> None:
        self.graph, self.down, self.counts = graph, down, counts
        self.layers = Layers(graph)
        self.places = Placement(self.layers, graph, down, counts)
        by_channel: dict[int, list[Strand]] = defaultdict(list)
        for piece in self.layers.pieces():
            by_channel[piece.channel].append(piece)
        self.corners: dict[Strand, list[tuple[int, float]]] = {}
        self.first: dict[int, float] = {}
        """Where the first track of each channel is."""
        self.start: dict[int, float] = {}
        self.end: dict[int, float] = {}
        at = 0.0
        rows = self.layers.rows
        for layer in range(-1, max(rows, default=-1) + 1):
            if layer >= 0:
                self.start[layer] = at
                at += max((cell.depth for cell in rows.get(layer, ())), default=0.0)
                self.end[layer] = at
            tracks, corners = channel(by_channel[layer])
            self.corners |= corners
            self.first[layer] = at + EDGE
            at += 2 * EDGE + max(0, tracks - 1) * TRACK if tracks else EDGE

    def layout(self) -> Layout:
        boxes = {name: self._box(name) for name in (node.name for node in self.graph.nodes)}
        routes = [self._route(line, boxes) for line in self.layers.lines]
        routes += [self._loop(link, boxes[name]) for name, link in self.layers.loops.items()]
        return Layout(boxes, tuple(routes))

    def _point(self, along: float, across: float) -> Point:
        return (across, along) if self.down else (along, across)

    def _box(self, name: str) -> Box:
        cells = self.places.groups[name]
        cell, last = cells[0], cells[-1]
        width, height = node_size(self.graph.node(name))
        depth = height if self.down else width
        low = cell.at - cell.low
        # Without the room beside a box for its edge to itself.
        high = last.at + (last.high if len(cells) > 1 else cell.low)
        along = (self.start[cell.layer] + self.end[cell.layer]) / 2
        x, y = self._point(along, (low + high) / 2)
        across = high - low
        return Box(self.graph.node(name), x, y, *((across, depth) if self.down else (depth, across)))

    # ---- lines -------------------------------------------------------------------------------------------

    def _route(self, line: Wire, boxes: dict[str, Box]) -> Route:
        points: list[Point] = []
        first, last = line.pieces[0].start, line.pieces[-1].end
        if first.cell.link is not None:  # a repair's line begins at the line of the edge
            points.append((self._border(first, boxes), first.cell.at))
        points.append((self._border(first, boxes), first.at))
        for piece in line.pieces:
            for track, at in self.corners.get(piece, ()):
                points.append((self.first[piece.channel] + track * TRACK, at))
        points.append((self._border(last, boxes), last.at))
        labels: tuple[Label, ...] = ()
        spot = None
        if line.kind == "edge":
            cell = self.layers.labels[line.edge]
            assert cell.link is not None
            middle = (self.start[cell.layer] + self.end[cell.layer]) / 2
            labels = self._labels(cell, cell.link, middle)
            spot = self._point(middle, cell.at)
        return Route(line.kind, tuple(self._point(*p) for p in _straight(points)), labels, line.edge, spot)

    def _border(self, end: Port, boxes: dict[str, Box]) -> float:
        """Return where a line meets its node's box, or the border of the layer of a label."""
        after = end.side == AFTER
        if not end.cell.name:
            return self.end[end.cell.layer] if after else self.start[end.cell.layer]
        box = boxes[end.cell.name]
        if self.down:
            return box.bottom if after else box.top
        return box.right if after else box.left

    def _labels(self, cell: Cell, link: Link, middle: float) -> tuple[Label, ...]:
        lines = tuple(line for line in (link.flows, *link.policies) if line)
        if self.counts is not None or not lines:
            return ()
        if self.down:
            return (Label(lines, cell.at + 0.09, middle - (len(lines) - 1) * LINE / 2, "left"),)
        above = Label(lines[:1], middle, cell.at - LINE / 2 - 0.03)
        below = Label(("", *lines[1:]), middle, cell.at - LINE / 2 + 0.03)
        return (above, below) if lines[1:] else (above,)

    def _loop(self, link: Link, box: Box) -> Route:
        """Return the line of an edge from a node to itself, beside its box."""
        lines = tuple(line for line in (link.flows, *link.policies) if line)
        if self.down:
            out, step = box.right + LOOP, box.height / 4
            points = ((box.right, box.y - step), (out, box.y - step), (out, box.y + step), (box.right, box.y + step))
            label = Label(lines, out + 0.07, box.y - (len(lines) - 1) * LINE / 2, "left")
            spot = (out, box.y)
        else:
            out, step = box.bottom + LOOP, box.width / 4
            points = ((box.x + step, box.bottom), (box.x + step, out), (box.x - step, out), (box.x - step, box.bottom))
            label = Label(lines, box.x, out + LINE / 2 + 0.05)
            spot = (box.x, out)
        return Route("edge", points, (label,) if lines and self.counts is None else (), link.name, spot)


def _straight(points: list[Point]) -> list[Point]:
    """Return the corners of a line: points without those on the way straight from one to the next."""
    found: list[Point] = []
    for point in points:
        if found and abs(found[-1][0] - point[0]) < 1e-6 and abs(found[-1][1] - point[1]) < 1e-6:
            continue
        while len(found) > 1 and any(
            abs(found[-2][k] - found[-1][k]) < 1e-6 and abs(found[-1][k] - point[k]) < 1e-6 for k in (0, 1)
        ):
            found.pop()
        found.append(point)
    return found
