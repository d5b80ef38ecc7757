"""The layout of a drawing, independent of the library that draws it.

Pools are tall columns on the left.  Stages are in two rows, which lead away from the pools and back.  A repair stage is
outside the row of the edge that it repairs.
"""

from __future__ import annotations

from collections.abc import Sequence

from flashgraph.observe.description import Description, Link
from flashgraph.observe.geometry import LINE, Box, Label, Layout, Point, Route, label_size, node_size
from flashgraph.observe.grid import Grid

__all__ = ["lay_out"]

LANE = 0.24
"""The space between parallel lines."""


def lay_out(graph: Description) -> Layout:
    """Return the positions of the nodes and the routes of the edges of a graph that passes `check`."""
    return _Router(graph, Grid(graph)).layout()


def _lines(link: Link) -> tuple[str, ...]:
    return (link.flows, *link.policies)


class _Router:
    """Draws lines on a grid.  ``lanes`` holds the y of the outermost line above the first row and below the second."""

    def __init__(self, graph: Description, grid: Grid) -> None:
        self.graph, self.grid = graph, grid
        self.boxes = dict(grid.boxes)
        self.row = dict(grid.row)
        self.routes: list[Route] = []
        self.lanes = [max(b.top for b in self.boxes.values()), min(b.bottom for b in self.boxes.values())]
        falls = [k for k in graph.links if grid.straight_fold(k)]
        ends = [self.boxes[k.src].x + 0.1 + label_size(k)[0] for k in falls]
        self.right = max([b.right for b in self.boxes.values()] + ends) + LANE
        self.steps = 0
        self.crossings = 0

    def layout(self) -> Layout:
        self._place_repairs()
        inner = [k for k in self.graph.links if k.dst not in self.grid.pools]
        for link in inner:
            self._route(link)
        straight = self._straight_entries()
        entries = [
            (k, self._lane(self.row[k.src], label_size(k)[1] + LANE))
            for k in self.graph.links
            if k.dst in self.grid.pools and k not in straight
        ]
        near = [(p, r) for p, r in self.graph.reads if self._beside_pool(r)]
        reads = [(p, r, self._lane(self.row[r], LANE)) for p, r in self.graph.reads if (p, r) not in near]
        self._place_pools()
        for link in straight:
            self._enter(link)
        for link, lane in entries:
            self._enter_by(link, lane)
        for pool, reader in near:
            box = self.boxes[reader]
            self._read([(box.left, box.y)], pool)
        for pool, reader, lane in reads:
            box = self.boxes[reader]
            x = box.x + LANE
            self._read([(x, box.top if self.row[reader] == 0 else box.bottom), (x, lane)], pool)
        return Layout(self.boxes, tuple(self.routes))

    # ---- what stands outside of the grid -----------------------------------------------------------------

    def _place_repairs(self) -> None:
        placed: list[Box] = []
        straight = self._straight_entries()
        for node in self.graph.nodes:
            if node.kind != "repair":
                continue
            width, height = node_size(node)
            repaired = [k for k in self.graph.links if node.name in k.repairs]
            row = self.row[node.name] = self.row[repaired[0].src]
            rising = [self.boxes[k.src].x - 0.2 for k in repaired if k.dst in self.grid.pools and k not in straight]
            spots = [self._spot(k) for k in repaired if k.dst not in self.grid.pools or k in straight]
            xs = [s[0] for s in spots] + [riser - LANE - width / 2 for riser in rising]
            x = sum(xs) / len(xs)
            out = 1 if row == 0 else -1
            edge = self.lanes[row] + out * 0.35
            for box in placed:
                if self.row[box.node.name] == row and abs(box.x - x) < (box.width + width) / 2 + 0.2:
                    edge = box.top + 0.3 if row == 0 else box.bottom - 0.3
            box = Box(node, x, edge + out * height / 2, width, height)
            placed.append(box)
            self.boxes[node.name] = box
            self.routes += [Route("repairs", (spot, (x, edge))) for spot in spots]
            # An edge that reaches a pool by a lane first rises beside its repair stage.
            self.routes += [Route("repairs", ((riser, box.y), (box.right, box.y))) for riser in rising]
        for box in placed:
            row = self.row[box.node.name]
            self.lanes[row] = max(self.lanes[0], box.top) if row == 0 else min(self.lanes[1], box.bottom)

    def _spot(self, link: Link) -> Point:
        """Return where a repair stage is attached to its edge."""
        src = self.boxes[link.src]
        if link.dst in self.grid.pools:
            return src.left - 0.5, src.y
        dst = self.boxes[link.dst]
        if src.y != dst.y:
            return dst.x, (src.y + dst.y) / 2
        low, high = sorted((src, dst), key=lambda b: b.x)
        return (low.right + high.left) / 2, src.y

    def _place_pools(self) -> None:
        pools = self.grid.pools
        top, bottom = self.lanes[0] + 0.1, self.lanes[1] - 0.1
        height = (top - bottom) / max(len(pools), 1)
        width = max((self.grid.sizes[p][0] for p in pools), default=0.0)
        for k, name in enumerate(pools):
            self.boxes[name] = Box(self.graph.node(name), 0.0, top - height * (k + 0.5), width, height - 0.2)

    def _beside_pool(self, name: str) -> bool:
        """Return whether nothing is between a node and the pools."""
        box = self.boxes[name]
        return not any(b.x < box.x and b.bottom - 0.1 < box.y < b.top + 0.1 for b in self.boxes.values())

    def _straight_entries(self) -> list[Link]:
        """Return the edges to pools that can go straight: the first one of each node that faces the pools."""
        found: dict[str, Link] = {}
        for link in self.graph.links:
            if link.dst in self.grid.pools and self._beside_pool(link.src):
                found.setdefault(link.src, link)
        return list(found.values())

    def _lane(self, row: int, height: float) -> float:
        """Return the y of a new lane outside a row, with room for ``height`` on its inner side."""
        self.lanes[row] += height if row == 0 else -height
        return self.lanes[row]

    # ---- between stages ----------------------------------------------------------------------------------

    def _add(self, link: Link, points: Sequence[Point], *labels: Label) -> None:
        self.routes.append(Route("edge", tuple(points), labels))

    def _route(self, link: Link) -> None:
        src, dst, grid = self.boxes[link.src], self.boxes[link.dst], self.grid
        if grid.neighbours(link):
            self._along(link, src, dst)
        elif grid.row[link.src] == grid.row[link.dst]:
            self._outside(link, src, dst)
        elif grid.straight_fold(link):
            self._down(link, src, dst)
        elif grid.folds(link):
            self._around(link, src, dst)
        else:
            self._across(link, src, dst)

    def _along(self, link: Link, src: Box, dst: Box) -> None:
        """Route an edge to the next column of the same row: straight, or with one corner."""
        forward = dst.x > src.x
        out, into = (src.right, dst.left) if forward else (src.left, dst.right)
        middle = (out + into) / 2
        if src.y == dst.y:
            self._add(link, [(out, src.y), (into, src.y)], *self._beside(link, middle, src.y))
        elif self.grid.place[link.src] > self.grid.place[link.dst]:
            end = dst.bottom if src.y < dst.y else dst.top
            self._add(link, [(out, src.y), (dst.x, src.y), (dst.x, end)], *self._beside(link, middle, src.y))
        else:
            low, high = sorted((src.y, dst.y))
            above = [b for b in self.boxes.values() if b.x == src.x and low < b.y < high]
            start = src.top if dst.y > src.y else src.bottom
            points = [(src.x, start), (src.x, dst.y), (into, dst.y)]
            if above:  # passes the boxes between on their side
                side = max(b.right for b in (src, *above)) if forward else min(b.left for b in (src, *above))
                side += LANE / 2 if forward else -LANE / 2
                points = [(out, src.y), (side, src.y), (side, dst.y), (into, dst.y)]
            self._add(link, points, *self._beside(link, middle, dst.y))

    def _beside(self, link: Link, x: float, y: float) -> list[Label]:
        """Return the labels of a horizontal line: the type above and the policies below.

        For an edge with a repair all are on its inner side.
        """
        if link.repairs:
            inner = -1 if self.row[link.src] == 0 else 1
            return [self._label(link, x, y, inner)]
        labels = [Label((link.flows,), x, y + LINE / 2 + 0.05)]
        if link.policies:
            labels.append(Label(("", *link.policies), x, y - (len(link.policies) - 1) * LINE / 2 - 0.04))
        return labels

    def _label(self, link: Link, x: float, y: float, side: int) -> Label:
        """Return one label with the type and the policies, above (1) or below (-1) a line at ``y``."""
        lines = _lines(link)
        return Label(lines, x, y + side * (len(lines) * LINE / 2 + 0.06))

    def _down(self, link: Link, src: Box, dst: Box) -> None:
        """Route an edge from the end of the first row straight to the second."""
        if src.x == dst.x:
            points = [(src.x, src.bottom), (src.x, dst.top)]
        else:
            points = [(src.x, src.bottom), (src.x, dst.y), (dst.right, dst.y)]
        self._add(link, points, Label(_lines(link), src.x + 0.1, self.grid.middle, "left"))

    def _around(self, link: Link, src: Box, dst: Box) -> None:
        """Route an edge from the end of the first row around the boxes below it."""
        x, lines = self.right, _lines(link)
        self.right += label_size(link)[0] + 0.1 + LANE
        label = Label(lines, x + 0.1, (src.y + dst.y) / 2, "left")
        self._add(link, [(src.right, src.y), (x, src.y), (x, dst.y), (dst.right, dst.y)], label)

    def _across(self, link: Link, src: Box, dst: Box) -> None:
        """Route an edge between the rows through the space in the middle."""
        self.crossings += 1
        down = src.y > dst.y
        shift = (0.14 if down else -0.14) * self.crossings
        start, end = (src.bottom, dst.top) if down else (src.top, dst.bottom)
        y = self.grid.middle + shift
        out = [(src.x + shift, start), (src.x + shift, y)]
        if inner := self._outer(src, int(down)):  # passes the boxes between on their side
            side = max(b.right for b in (src, *inner)) + LANE / 2
            out = [(src.right, src.y), (side, src.y), (side, y)]
        self._add(
            link, [*out, (dst.x + shift, y), (dst.x + shift, end)],
            self._label(link, (out[-1][0] + dst.x + shift) / 2, y, 1),
        )  # fmt: skip

    def _outside(self, link: Link, src: Box, dst: Box) -> None:
        """Route an edge back, onto itself, or across other columns of its row, by a lane outside the row."""
        row, height = self.row[link.src], label_size(link)[1]
        out = 1 if row == 0 else -1
        # Below a short line the label would cover it, so the label is on the lane's outer side.
        lane = self._lane(row, LANE + 0.06)
        self.lanes[row] += out * (height + 0.1)
        shift = 0.2 if src.x >= dst.x else -0.2
        start, end = (src.top, dst.top) if row == 0 else (src.bottom, dst.bottom)
        points = [(src.x - shift, start), (src.x - shift, lane), (dst.x + shift, lane), (dst.x + shift, end)]
        self._add(link, points, self._label(link, (src.x + dst.x) / 2, lane, out))

    # ---- pools -------------------------------------------------------------------------------------------

    def _to_pool(self, pool: str, x: float, y: float) -> list[Point]:
        """Return points from (x, y) straight left to a pool, with a step if the pool does not extend to that height."""
        box = self.boxes[pool]
        reached = min(max(y, box.bottom + 0.3), box.top - 0.3)
        if abs(reached - y) < 0.25 and box.bottom + 0.1 < y < box.top - 0.1:
            return [(x, y), (box.right, y)]
        self.steps += 1
        step = box.right + 0.12 + 0.13 * self.steps
        # Each line ends at its own height.
        reached += (0.12 if reached > y else -0.12) * (self.steps - 1)
        return [(x, y), (step, y), (step, reached), (box.right, reached)]

    def _enter(self, link: Link) -> None:
        src = self.boxes[link.src]
        y = src.y - 0.2 if link.src in self.grid.readers else src.y
        middle = self._free(link, self.boxes[link.dst].right + 0.5 * (len(self.grid.pools) > 1), src.left, y)
        self._add(link, self._to_pool(link.dst, src.left, y), *self._beside(link, middle, y))

    def _free(self, link: Link, left: float, right: float, y: float) -> float:
        """Return the x for a label on a horizontal line.

        It is the middle of the line's first gap between boxes that is wide enough, or the middle of the line.
        """
        low, high = y - (len(link.policies) + 0.5) * LINE - 0.1, y + 1.5 * LINE + 0.1
        near = [b for b in self.boxes.values() if left < b.x < right and b.bottom < high and b.top > low]
        start, width = left, label_size(link)[0]
        for end, after in [*sorted((b.left, b.right) for b in near), (right, right)]:
            if end - start > width:
                return (start + end) / 2
            start = max(start, after)
        return (left + right) / 2

    def _enter_by(self, link: Link, lane: float) -> None:
        src = self.boxes[link.src]
        row, x = self.row[link.src], src.x - 0.2
        start = [(x, src.top if row == 0 else src.bottom)]
        if outer := self._outer(src, row):  # passes the boxes outside on their side
            x = min(b.left for b in (src, *outer)) - LANE / 2
            start = [(src.left, src.y - 0.15), (x, src.y - 0.15)]
        points = [*start, *self._to_pool(link.dst, x, lane)]
        self._add(link, points, self._label(link, (x + self.boxes[link.dst].right) / 2, lane, -1 if row == 0 else 1))

    def _outer(self, box: Box, row: int) -> list[Box]:
        """Return the boxes of the same column above (``row`` 0) or below (1) a box."""
        out = 1 if row == 0 else -1
        return [b for b in self.boxes.values() if abs(b.x - box.x) < 0.3 and out * (b.y - box.y) > 0.1]

    def _read(self, start: list[Point], pool: str) -> None:
        """Route a reader's line from the pool to ``start``."""
        points = [*start[:-1], *self._to_pool(pool, *start[-1])]
        self.routes.append(Route("reads", tuple(reversed(points))))
