"""Positions of a drawing's stages: one row leads away from the pools, and one leads back to them."""

from __future__ import annotations

import math
from itertools import pairwise

import networkx as nx

from flashgraph.observe.description import Description, Link
from flashgraph.observe.geometry import Box, label_size, node_size

__all__ = ["Grid"]

STACK = 0.5
"""The space between the boxes of a column."""


class Grid:
    """Rows and columns of sources and stages, without repair stages and pools.

    ``row`` is 0 for the row that leads away and 1 for the one that leads back.  ``column`` counts from the pools.
    ``place`` is a node's position in the stack of its column; 0 is in line with the row.
    """

    def __init__(self, graph: Description) -> None:
        self.graph = graph
        self.sizes = {n.name: node_size(n) for n in graph.nodes}
        self.pools = [n.name for n in graph.nodes if n.kind == "pool"]
        self.readers = {reader for _, reader in graph.reads}
        self.row: dict[str, int] = {}
        self.column: dict[str, int] = {}
        self.place: dict[str, int] = {}
        self._assign()
        self.last = max(self.column.values(), default=0)
        self.boxes: dict[str, Box] = {}
        self.middle = 0.0
        """The y halfway between the rows."""
        self._place()

    def neighbours(self, link: Link) -> bool:
        """Return whether an edge leads to the next column of its row."""
        if link.dst not in self.column or self.row[link.src] != self.row[link.dst]:
            return False
        return self.column[link.dst] - self.column[link.src] == (1 if self.row[link.src] == 0 else -1)

    def folds(self, link: Link) -> bool:
        """Return whether an edge leads from the end of the first row to the second one."""
        return (self.row[link.src], self.row.get(link.dst)) == (0, 1) and self.column[link.src] == self.last

    def innermost(self, name: str) -> bool:
        """Return whether a node faces the other row with nothing between."""
        return self._members(self.row[name], self.column[name])[-1] == name

    def straight_fold(self, link: Link) -> bool:
        """Return whether an edge that folds can go straight down, or down and then left."""
        if not (self.folds(link) and self.innermost(link.src)):
            return False
        below = self._members(1, self.column[link.src])
        return self.innermost(link.dst) if below else True

    # ---- rows and columns --------------------------------------------------------------------------------

    def _assign(self) -> None:
        net = nx.DiGraph()
        net.add_nodes_from(n.name for n in self.graph.nodes if n.kind in ("source", "stage"))
        net.add_edges_from((k.src, k.dst) for k in self.graph.links if k.loop is None and k.dst not in self.pools)
        layer = {name: depth for depth, names in enumerate(nx.topological_generations(net)) for name in names}
        for name in [n for n in layer if not net.in_degree(n) and n not in self.readers]:
            # A source that reads no pool is placed just before its consumer, not at the far end.
            layer[name] = max(0, min((layer[d] for d in net.successors(name)), default=1) - 1)
        depth = max(layer.values(), default=0) + 1
        turn = math.ceil(depth / 2)
        for name, at in layer.items():
            self.row[name] = int(at >= turn)
            self.column[name] = at if at < turn else depth - 1 - at
        for at in range(depth):
            names = [n for n in layer if layer[n] == at]
            before = {n: [self.place.get(p, 0) for p in net.predecessors(n)] for n in names}
            # Nodes with predecessors come first and near them, so that the main line is straight.
            names.sort(key=lambda n: (not before[n] and n not in self.readers, _mean(before[n])))
            self.place.update({n: i for i, n in enumerate(names)})

    def _members(self, row: int, column: int) -> list[str]:
        names = [n for n in self.column if self.row[n] == row and self.column[n] == column]
        return sorted(names, key=self.place.__getitem__)

    # ---- boxes -------------------------------------------------------------------------------------------

    def _place(self) -> None:
        columns = range(self.last + 1)
        inward = [[self._inward(row, k) for k in columns] for row in (0, 1)]
        falls = [label_size(k)[1] for k in self.graph.links if self.folds(k)]
        across = [
            label_size(k)[1] + 0.5
            for k in self.graph.links
            if self.row[k.src] != self.row.get(k.dst, self.row[k.src]) and not self.folds(k)
        ]
        between = max(0.7, *falls, *across, 0) + 0.3
        self.middle = -max(inward[0]) - between / 2
        lines = (0.0, -max(inward[0]) - between - max(inward[1]))
        centres = self._centres()
        for name, column in self.column.items():
            offset = self._offset(name)
            y = lines[self.row[name]] + (offset if self.row[name] else -offset)
            self.boxes[name] = Box(self.graph.node(name), centres[column], y, *self.sizes[name])

    def _centres(self) -> list[float]:
        """Return the x of each column, with room for the labels between; the pools are at 0."""
        gaps = [0.9] * (self.last + 1)
        entry = 1.1
        for link in self.graph.links:
            need = label_size(link)[0] + 0.5
            if link.dst in self.pools:
                entry = max(entry, need if self.column[link.src] == 0 else 0)
            elif self.neighbours(link):
                at = min(self.column[link.src], self.column[link.dst])
                gaps[at] = max(gaps[at], need)
        # With several pools, lines climb between the pools and the first column.
        x = max((self.sizes[p][0] for p in self.pools), default=0.0) / 2 + entry + 0.5 * (len(self.pools) > 1)
        centres = []
        for k, gap in enumerate(gaps):
            width = max(self.sizes[n][0] for n, c in self.column.items() if c == k)
            centres.append(x + width / 2)
            x += width + gap
        return centres

    def _offset(self, name: str) -> float:
        """Return the distance of a node's centre from its row's line."""
        stack = self._members(self.row[name], self.column[name])
        above = stack[: stack.index(name) + 1]
        return sum((self.sizes[a][1] + self.sizes[b][1]) / 2 + STACK for a, b in pairwise(above))

    def _inward(self, row: int, column: int) -> float:
        """Return how far a column reaches from its row's line towards the other row."""
        stack = self._members(row, column)
        return self._offset(stack[-1]) + self.sizes[stack[-1]][1] / 2 if stack else 0.0


def _mean(places: list[int]) -> float:
    return sum(places) / len(places) if places else 0.0
