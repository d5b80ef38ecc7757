"""Positions across the flow: ports of boxes, and cells of a layer side by side, so that many lines are straight."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import networkx as nx

from flashgraph.observe.description import Description, Link
from flashgraph.observe.geometry import LINE, label_size, node_size
from flashgraph.observe.layers import AFTER, BEFORE, Cell, Layers, Port

__all__ = ["Placement"]

PORT = 0.26
"""The space between the lines at one side of a box."""

GAP = {"line": 0.09, "box": 0.2, "label": 0.07}
"""Half of the least space beside a cell, by its content."""

UNITS = 1000
"""The parts of an inch to which positions are computed, because flows are whole numbers."""

CLOSE = 1
"""How much it matters that the cells of a layer are close, beside the weights of straight lines."""

LOOP = 0.24
"""The distance of an edge from a node to itself from its box."""


class Placement:
    """Sets the size and the position of every cell.  ``groups`` holds the cells of each box: a pool has one a port.

    With ``down`` the layers follow each other downwards, otherwise to the right.
    """

    def __init__(self, layers: Layers, graph: Description, down: bool, counts: tuple[float, float] | None) -> None:
        self.layers, self.graph, self.down = layers, graph, down
        self.spots = {cell: k for row in layers.rows.values() for k, cell in enumerate(row)}
        self.groups = {name: [cell] for name, cell in layers.boxes.items()}
        self._ends: dict[Cell, list[tuple[Port, Port]]] = defaultdict(list)
        for piece in layers.pieces():
            self._ends[piece.start.cell].append((piece.start, piece.end))
            self._ends[piece.end.cell].append((piece.end, piece.start))
        for cell in [cell for row in layers.rows.values() for cell in row]:
            if cell.link is not None:
                self._label(cell, cell.link, counts)
        for node in graph.nodes:
            self._box(layers.boxes[node.name], counts)
        for name in (n.name for n in graph.nodes if n.kind == "pool"):
            self._spread(layers.boxes[name])
        self._straighten()

    # ---- sizes -------------------------------------------------------------------------------------------

    def _label(self, cell: Cell, link: Link, counts: tuple[float, float] | None) -> None:
        width, height = label_size(link) if counts is None else counts
        if counts is not None:
            across = width if self.down else height
            cell.low = cell.high = across / 2 + 0.04
            cell.depth = (height if self.down else width) + 0.1
        elif self.down:
            cell.low, cell.high, cell.depth = 0.05, width + 0.16, height + 0.16
        else:  # the type is above the line, and the policies are below it
            cell.low, cell.high, cell.depth = LINE + 0.06, height - LINE + 0.08, width + 0.3
        for line in self.layers.lines:
            if line.kind == "repairs" and line.pieces[0].start.cell is cell:
                cell.high += 0.12
                line.pieces[0].start.offset = cell.high

    def _box(self, cell: Cell, counts: tuple[float, float] | None) -> None:
        """Size a node's cell, with room for its ports and its edge to itself, and place the ports."""
        width, height = node_size(self.graph.node(cell.name))
        across, cell.depth = (width, height) if self.down else (height, width)
        for side in (BEFORE, AFTER):
            ends = [(end, other) for end, other in self._ends[cell] if end.side == side]
            ends.sort(key=lambda pair: self._rank(*pair))
            across = max(across, PORT * (len(ends) + 0.5))
            for k, (end, _) in enumerate(ends):
                end.offset = (k - (len(ends) - 1) / 2) * PORT
        cell.low = cell.high = across / 2
        if loop := self.layers.loops.get(cell.name):
            wide, tall = label_size(loop) if counts is None else counts
            cell.high += LOOP + (wide if self.down else tall) + 0.15
            cell.depth = max(cell.depth, (tall if self.down else wide) + 0.1)

    def _rank(self, end: Port, other: Port) -> tuple[int, float]:
        """Return the place of an end among those at its side: a line that turns around its box is outermost."""
        if end.cell.layer == other.cell.layer:
            before = self.spots[other.cell] < self.spots[end.cell]
            return (-1 if before else 1), -self.spots[other.cell]
        return 0, self.spots[other.cell] + other.offset / 100

    def _spread(self, cell: Cell) -> None:
        """Replace the cell of a pool by one for each port, so that the pool extends to its lines."""
        ends = sorted(self._ends[cell], key=lambda pair: self._rank(*pair))
        if len(ends) < 2:
            return
        row = self.layers.rows[cell.layer]
        edge = max(0.3, cell.low - (len(ends) - 1) * PORT / 2)
        ports = [Cell(cell.layer, cell.name, None, 0.0, 0.0, cell.depth) for _ in ends]
        ports[0].low = ports[-1].high = edge
        for port, (end, other) in zip(ports, ends, strict=True):
            end.cell, end.offset = port, 0.0
            self._ends[port] = [(end, other)]
        at = row.index(cell)
        row[at : at + 1] = ports
        self.groups[cell.name] = ports

    # ---- positions ---------------------------------------------------------------------------------------

    def _space(self, one: Cell, other: Cell) -> float:
        """Return the least distance between the positions of two cells that are side by side."""
        if one.name and one.name == other.name:
            return PORT
        kinds = ["box" if cell.name else "label" if cell.link else "line" for cell in (one, other)]
        return one.high + other.low + sum(GAP[kind] for kind in kinds)

    def _straighten(self) -> None:
        """Give each cell the position at which all lines together are straightest, in order and with room between.

        This is a linear program: the least sum of weighted distances, under least spaces.  Its dual is a flow of least
        cost, and the positions are the potentials of that flow.
        """
        net = nx.MultiDiGraph()
        for row in self.layers.rows.values():
            net.add_nodes_from(row)
            for one, other in pairwise(row):
                space = _units(self._space(one, other))
                net.add_edge(one, other, weight=-space)
                net.add_edge(other, one, weight=space, capacity=CLOSE)
        for piece in self.layers.pieces():
            start, end = piece.ends
            if start.cell.layer != end.cell.layer:
                apart, weight = _units(end.offset - start.offset), _weight(start.cell, end.cell)
                net.add_edge(start.cell, end.cell, weight=apart, capacity=weight)
                net.add_edge(end.cell, start.cell, weight=-apart, capacity=weight)
        _, flow = nx.network_simplex(net)
        for cell, at in _potentials(net, flow).items():
            cell.at = at / UNITS


def _potentials(net: nx.MultiDiGraph, flow: dict[Cell, dict[Cell, dict[int, int]]]) -> dict[Cell, int]:
    """Return the positions that a flow of least cost prices: no arc that can take more flow would lower the cost."""
    rest = nx.DiGraph()
    rest.add_nodes_from(net)
    for one, other, key, data in net.edges(keys=True, data=True):
        used = flow[one][other][key]
        arcs = [(other, one, data["weight"])] if used < data.get("capacity", used + 1) else []
        for src, dst, cost in [*arcs, *([(one, other, -data["weight"])] if used else [])]:
            if not rest.has_edge(src, dst) or rest[src][dst]["weight"] > cost:
                rest.add_edge(src, dst, weight=cost)
    root = object()
    rest.add_weighted_edges_from((root, cell, 0) for cell in net)
    found = nx.single_source_bellman_ford_path_length(rest, root)
    return {cell: int(at) for cell, at in found.items() if cell is not root}


def _units(inches: float) -> int:
    return round(inches * UNITS)


def _weight(one: Cell, other: Cell) -> int:
    """Return how much it matters that a piece is straight: most for the middle of a long line."""
    return (20, 40, 160)[(not one.name) + (not other.name)]
