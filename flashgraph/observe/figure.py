"""A graph as a PNG, drawn by matplotlib: the same drawing as `flashgraph.observe.svg`."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from typing import Any

from flashgraph.errors import DataError
from flashgraph.observe.description import Description
from flashgraph.observe.geometry import LINE, SMALL, Box, Layout, Point, Route, cells, node_lines, towards
from flashgraph.observe.layout import lay_out
from flashgraph.observe.palette import FAINT, INK, LINES, POOL, SOURCE, role_colours
from flashgraph.text.terminal import clean

__all__ = ["LITERAL", "figure"]

LITERAL = {"text.parse_math": False, "text.usetex": False}
"""Settings of matplotlib that print a dollar sign as it is, whatever the user's configuration."""

MARGIN = 0.35
RADIUS = 0.08
DPI = 160


def figure(graph: Description) -> bytes:
    """Return the drawing of a graph as a PNG.  Raises `DataError` without matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise DataError(
            "a PNG needs matplotlib, which is not installed.\n"
            "Fix: pip install 'flashgraph[draw]', or draw to a .svg file, which needs nothing."
        ) from error
    with matplotlib.rc_context({"font.family": "DejaVu Sans", **LITERAL}):
        out = BytesIO()
        _Page(graph, lay_out(graph)).figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


class _Page:
    """One figure, whose data units are inches, with y growing downwards."""

    def __init__(self, graph: Description, layout: Layout) -> None:
        self.colours = role_colours(graph)
        left, top, right, bottom = layout.bounds
        head = 0.75 if graph.doc else 0.45
        right = max(right, left + 7.5, left + cells(graph.doc) * 0.08)
        self.patches = import_module("matplotlib.patches")
        self.path = import_module("matplotlib.path").Path
        size = (right - left + 2 * MARGIN, bottom - top + 3 * MARGIN + head + 0.5)
        # A figure without pyplot leaves the caller's backend alone.
        self.figure: Any = import_module("matplotlib.figure").Figure(figsize=size, facecolor="white")
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(left - MARGIN, right + MARGIN)
        self.axes.set_ylim(bottom + 2 * MARGIN + 0.5, top - MARGIN - head)
        self.axes.axis("off")
        self._text(left, top - head - MARGIN + 0.4, graph.name, 17, weight="bold", ha="left")
        self._text(left, top - MARGIN + 0.02, graph.doc, 9.5, FAINT, ha="left")
        for route in layout.routes:
            self._route(route)
        for box in layout.boxes.values():
            self._box(box)
        self._legend(graph, left, bottom + MARGIN + 0.2)

    def _text(self, x: float, y: float, text: str, size: float, color: str = INK, **options: Any) -> None:
        options = {"ha": "center", "va": "center", "zorder": 5, **options}
        self.axes.text(x, y, clean(text), fontsize=size, color=color, **options)

    def _box(self, box: Box) -> None:
        fill, border = {"pool": POOL, "source": SOURCE}.get(box.node.kind) or self.colours[box.node.role]
        self._shape(box.node.kind, box.left, box.top, box.width, box.height, fill, border)
        lines = node_lines(box.node)
        y = box.y - LINE * len(lines) / 2
        self._text(box.x, y, box.node.name, 10.5, weight="bold")
        for k, line in enumerate(lines):
            self._text(box.x, y + LINE * (k + 1) + 0.04, line, 8)

    def _shape(self, kind: str, x: float, y: float, width: float, height: float, fill: str, border: str) -> None:
        """Draw a cylinder on its side for a pool, a stadium for a source, or a rectangle for a stage."""
        round_ = min(width, height) / 2 if kind == "source" else 0.06
        style = {"facecolor": fill, "edgecolor": border, "linewidth": 1.3, "zorder": 3}
        if kind == "pool":
            lid = min(0.24, width / 3)
            for middle in (x, x + width):
                self.axes.add_patch(self.patches.Ellipse((middle, y + height / 2), lid, height, **style))
            self.axes.add_patch(self.patches.Rectangle((x, y), width, height, **{**style, "linewidth": 0}))
            for level in (y, y + height):
                self.axes.plot([x, x + width], [level, level], color=border, linewidth=1.3, zorder=3)
            end = self.patches.Arc((x + width, y + height / 2), lid, height, theta1=90, theta2=270, **style)
            self.axes.add_patch(end)
            return
        dashes = {"linestyle": (0, (4, 2.5))} if kind == "repair" else {}
        corners = f"round,pad=0,rounding_size={round_}"
        self.axes.add_patch(self.patches.FancyBboxPatch((x, y), width, height, corners, **style, **dashes))

    def _route(self, route: Route) -> None:
        style: dict[str, Any] = {"color": LINES, "linewidth": 1.1, "arrowstyle": "-|>", "mutation_scale": 10}
        if route.kind == "reads":
            style |= {"color": POOL[1], "linestyle": (0, (4, 3))}
        elif route.kind == "repairs":
            style |= {"arrowstyle": "-", "linestyle": (0, (1, 2))}
        line = self.patches.FancyArrowPatch(path=self._rounded(route.points), shrinkA=0, shrinkB=0, zorder=2, **style)
        self.axes.add_patch(line)
        for label in route.labels:
            for k, text in enumerate(label.lines):
                options = {"weight": "bold"} if k == 0 else {"color": FAINT}
                self._text(label.x, label.y + k * LINE, text, 8, ha=label.align, **options)

    def _rounded(self, points: tuple[Point, ...]) -> Any:
        """Return a path through ``points`` with rounded corners."""
        path = self.path
        vertices, codes = [points[0]], [path.MOVETO]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            vertices += [towards(corner, before, RADIUS), corner, towards(corner, after, RADIUS)]
            codes += [path.LINETO, path.CURVE3, path.CURVE3]
        return path([*vertices, points[-1]], [*codes, path.LINETO])

    def _legend(self, graph: Description, x: float, y: float) -> None:
        used = {n.role for n in graph.nodes if n.kind in ("stage", "repair")}
        entries = [("source", "source", SOURCE), ("pool", "pool", POOL)]
        entries += [
            ("stage", f"model: {role}" if role else "no model", colour)
            for role, colour in self.colours.items()
            if role in used
        ]
        if any(n.kind == "repair" for n in graph.nodes):
            entries.append(("repair", "repair stage", ("white", LINES)))
        for kind, text, (fill, border) in entries:
            self._shape(kind, x, y - 0.08, 0.3, 0.16, fill, border)
            self._text(x + 0.42, y, text, 8, FAINT, ha="left")
            x += 0.7 + cells(text) * SMALL
        self._route(Route("reads", ((x, y), (x + 0.34, y))))
        self._text(x + 0.42, y, "reads the pool", 8, FAINT, ha="left")
