"""Layers of a drawing: a layer for each node, edge label and bend of a line, and the order within each layer.

Boxes are in even layers and labels in odd ones.  A line visits every layer between its ends, and has a cell there.  So
nothing can lie on anything else.  The steps are Sugiyama's (1981):
layers by longest paths, cells for lines that span layers, and few crossings by barycentres.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

import attrs
import networkx as nx

from flashgraph.observe.description import Description, Link

__all__ = ["AFTER", "BEFORE", "Cell", "Layers", "Port", "Strand", "Wire"]

Side = Literal[-1, 1]
BEFORE: Side = -1
AFTER: Side = 1
"""The sides of a layer: towards the previous layer, or towards the next one."""

SWEEPS = 24
"""Sweeps over the layers that reorder cells; the best order of all is kept."""


@attrs.define(eq=False)
class Cell:
    """A place in a layer.  ``name`` is a node's; ``link`` is the edge whose label stands here; a bend has neither.

    ``at`` is its position across the flow, ``low`` and ``high`` are its extents from there, and ``depth`` is its extent
    along the flow.
    """

    layer: int
    name: str = ""
    link: Link | None = None
    low: float = 0.0
    high: float = 0.0
    depth: float = 0.0
    at: float = 0.0


@attrs.define(eq=False)
class Port:
    """An end of a piece at one side of a cell, ``offset`` from the cell's position."""

    cell: Cell
    side: Side
    offset: float = 0.0

    @property
    def at(self) -> float:
        return self.cell.at + self.offset


@attrs.define(eq=False)
class Strand:
    """The part of a line between two cells.  It lies in the channel after the layer ``channel``."""

    start: Port
    end: Port

    @property
    def channel(self) -> int:
        return self.start.cell.layer - (self.start.side == BEFORE)

    @property
    def ends(self) -> tuple[Port, Port]:
        return self.start, self.end


@attrs.frozen(eq=False)
class Wire:
    """A line to draw: its strands from its start to its end."""

    kind: Literal["edge", "reads", "repairs"]
    edge: str
    pieces: tuple[Strand, ...]


class Layers:
    """The cells of a graph by layer, in order, and the lines between them."""

    def __init__(self, graph: Description) -> None:
        self.graph = graph
        self.rows: dict[int, list[Cell]] = defaultdict(list)
        self.lines: list[Wire] = []
        self.labels: dict[str, Cell] = {}
        self.loops: dict[str, Link] = {k.src: k for k in graph.links if k.src == k.dst}
        """The edges from a node to itself, which are a part of the node's cell."""
        layer = _layered(graph)
        self.boxes = {node.name: Cell(layer[node.name], node.name) for node in graph.nodes if node.kind != "repair"}
        self._crowd: dict[int, int] = defaultdict(int)
        for link in graph.links:
            if link.src != link.dst and "repair" not in (graph.node(link.src).kind, graph.node(link.dst).kind):
                self._edge(link)
        self._repairs()
        for pool, reader in graph.reads:
            self._line("reads", "", self.boxes[pool], self.boxes[reader])
        for cell in self.boxes.values():
            self.rows[cell.layer].append(cell)
        self._near: dict[tuple[Cell, int], list[Cell]] = defaultdict(list)
        for line in self.lines:
            for piece in line.pieces:
                one, other = piece.start.cell, piece.end.cell
                self._near[one, other.layer].append(other)
                self._near[other, one.layer].append(one)
        turns = [piece for piece in self.pieces() if piece.start.cell.layer == piece.end.cell.layer]
        _Order(self.rows, self._near, turns).improve()

    # ---- lines -------------------------------------------------------------------------------------------

    def _repairs(self) -> None:
        """Place repair stages after the labels of their edges, with the edges from and to them, if there are any."""
        for node in self.graph.nodes:
            if node.kind == "repair":
                labels = [
                    self.labels[k.name] for k in self.graph.links if node.name in k.repairs and k.name in self.labels
                ]
                self.boxes[node.name] = Cell(2 * max((cell.layer // 2 + 1 for cell in labels), default=1), node.name)
        for link in self.graph.links:
            if link.src != link.dst and link.name not in self.labels:
                self._edge(link)
        for link in self.graph.links:
            for name in link.repairs:
                start = self.labels.get(link.name) or self.boxes[link.src]
                if start is not self.boxes[name]:
                    self._line("repairs", link.name, start, self.boxes[name])

    def _edge(self, link: Link) -> None:
        start, end = self.boxes[link.src], self.boxes[link.dst]
        low, high = sorted((start.layer, end.layer))
        layer = min(range(low + 1, high, 2), key=lambda k: (self._crowd[k], k), default=low)
        self._crowd[layer] += 1
        self.labels[link.name] = Cell(layer, link=link)
        self._line("edge", link.name, start, end, self.labels[link.name])

    def _line(
        self, kind: Literal["edge", "reads", "repairs"], edge: str, start: Cell, end: Cell, label: Cell | None = None
    ) -> None:
        """Add a line through every layer between its ends.

        A line against the flow leaves and enters a stage as every line does: it turns around the box.  At a pool it
        does not turn, because a pool is entered and left on one side.
        """
        pools = {n.name for n in self.graph.nodes if n.kind == "pool"}
        forward = end.layer > start.layer
        turns = not forward and kind != "repairs"
        first, last = start.layer, end.layer
        step = 1 if forward else -1
        leaves: Side = AFTER if forward or (turns and start.name not in pools) else BEFORE
        enters: Side = BEFORE if forward or (turns and end.name not in pools) else AFTER
        if not forward and start.layer == end.layer:
            leaves, enters = AFTER, BEFORE
        first += step if forward or leaves == BEFORE else 0
        last += step if not forward and enters == BEFORE else 0
        cells = []
        for layer in range(first, last, step):
            cell = label if label is not None and label.layer == layer else Cell(layer)
            self.rows[layer].append(cell)
            cells.append(cell)
        pieces, out = [], Port(start, leaves)
        for cell in cells:
            pieces.append(Strand(out, Port(cell, BEFORE if forward else AFTER)))
            out = Port(cell, AFTER if forward else BEFORE)
        pieces.append(Strand(out, Port(end, enters)))
        self.lines.append(Wire(kind, edge, tuple(pieces)))

    def pieces(self) -> Iterator[Strand]:
        for line in self.lines:
            yield from line.pieces


def _layered(graph: Description) -> dict[str, int]:
    """Return each node's even layer.

    Pools that have readers are first.  Other nodes are as far from there as the longest path to them.
    """
    read, readers = {pool for pool, _ in graph.reads}, {reader for _, reader in graph.reads}
    back = {k.name for k in graph.links if k.loop is not None or k.dst in read or k.src == k.dst}
    net = nx.DiGraph()
    net.add_nodes_from(n.name for n in graph.nodes)
    net.add_edges_from(graph.reads)
    net.add_edges_from((k.src, k.dst) for k in graph.links if k.name not in back)
    net.add_edges_from(
        (pool, n.name) for pool in read for n in graph.nodes if n.name not in read and n.kind != "repair"
    )
    while not nx.is_directed_acyclic_graph(net):  # a graph that a journal describes may have cycles
        src, dst = nx.find_cycle(net)[-1][:2]
        net.remove_edge(src, dst)
    layer = {name: 2 * k for k, names in enumerate(nx.topological_generations(net)) for name in names}
    for name in layer:
        if name not in read and read.issuperset(net.predecessors(name)) and name not in readers:
            # A source that reads no pool is placed just before its consumer, not at the far end.
            layer[name] = max(layer[name], min((layer[d] for d in net.successors(name)), default=0) - 2)
    return layer


class _Order:
    """Reorders the cells of each layer in place, so that few lines cross."""

    def __init__(
        self, rows: dict[int, list[Cell]], near: dict[tuple[Cell, int], list[Cell]], turns: list[Strand]
    ) -> None:
        self.rows, self.near = rows, near
        self.turns: dict[Cell, list[tuple[Cell, int]]] = defaultdict(list)
        """By cell: the cells of its own layer that its lines turn to, and the layer beside which they turn."""
        for turn in turns:
            one, other, beside = turn.start.cell, turn.end.cell, turn.start.cell.layer + turn.start.side
            self.turns[one].append((other, beside))
            self.turns[other].append((one, beside))
        self.spot: dict[Cell, int] = {}
        for row in rows.values():
            self._number(row)

    def improve(self) -> None:
        best, fewest = self._copy(), self._crossings()
        for sweep in range(SWEEPS):
            layers = sorted(self.rows, reverse=bool(sweep % 2))
            step = 1 if sweep % 2 else -1
            for layer in layers:
                self._sort(layer, layer + step)
            self._swap()
            if (crossings := self._crossings()) < fewest:
                best, fewest = self._copy(), crossings
            if not fewest:
                break
        for layer, row in best.items():
            self.rows[layer][:] = row

    def _number(self, row: list[Cell]) -> None:
        for k, cell in enumerate(row):
            self.spot[cell] = k

    def _copy(self) -> dict[int, list[Cell]]:
        return {layer: list(row) for layer, row in self.rows.items()}

    def _sort(self, layer: int, other: int) -> None:
        row = self.rows[layer]
        keys = {cell: self._barycentre(cell, other) for cell in row}
        row.sort(key=lambda cell: keys[cell])
        self._number(row)

    def _barycentre(self, cell: Cell, other: int) -> float:
        near = self.near.get((cell, other))
        if near:
            return sum(self.spot[c] for c in near) / len(near)
        if not cell.name and cell in self.turns:
            return self._barycentre(self.turns[cell][0][0], other) + 0.1
        return float(self.spot[cell])

    def _swap(self) -> None:
        """Swap neighbours of a layer while that removes crossings."""
        for _ in range(4):
            changed = False
            for layer, row in self.rows.items():
                for k in range(len(row) - 1):
                    one, two = row[k], row[k + 1]
                    gain = sum(
                        self._between(one, two, side) - self._between(two, one, side) for side in (layer - 1, layer + 1)
                    )
                    gain += self._turned(one, two) - self._turned(two, one)
                    if gain > 0:
                        row[k], row[k + 1] = two, one
                        self.spot[one], self.spot[two] = k + 1, k
                        changed = True
            if not changed:
                return

    def _between(self, one: Cell, two: Cell, other: int) -> int:
        """Return the crossings of two cells' lines to another layer if ``one`` is before ``two``."""
        first, second = self.near.get((one, other), ()), self.near.get((two, other), ())
        return sum(self.spot[a] > self.spot[b] for a in first for b in second)

    def _turned(self, one: Cell, two: Cell) -> int:
        """Return how often lines of two cells side by side cross each other's turns more than if they were swapped."""
        after = max(self.spot[one], self.spot[two])
        count = 0
        for cell, other, towards in ((one, two, True), (two, one, False)):
            for partner, beside in self.turns.get(cell, ()):
                if partner not in (one, two) and (self.spot[partner] > after) == towards:
                    count += len(self.near.get((other, beside), ()))
        return count

    def _crossings(self) -> int:
        count = 0
        for layer, row in self.rows.items():
            ends = [at for cell in row for at in sorted(self.spot[c] for c in self.near.get((cell, layer + 1), ()))]
            count += sum(a > b for k, a in enumerate(ends) for b in ends[k + 1 :])
            for cell in row:
                for partner, beside in self.turns.get(cell, ()):
                    passed = row[self.spot[cell] + 1 : self.spot[partner]]
                    count += sum(len(self.near.get((c, beside), ())) for c in passed)
        return count
