"""A graph as a figure, SVG or PNG, drawn by matplotlib."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from typing import Any, Literal

from flashgraph.errors import DataError
from flashgraph.observe.description import Description, Node
from flashgraph.observe.geometry import LINE, Box, Label, Layout, Point, Route, node_lines
from flashgraph.observe.layout import lay_out
from flashgraph.text.terminal import clean

__all__ = ["LITERAL", "figure", "role_colours"]

LITERAL = {"text.parse_math": False, "text.usetex": False}
"""Settings of matplotlib that print a dollar sign as it is, whatever the user's configuration."""

INK, FAINT, LINES = "#1f2933", "#616e7c", "#52606d"
POOL, SOURCE, PLAIN = ("#e3f4e6", "#3a8a4d"), ("#fff6d1", "#b18a06"), ("#eef0f3", "#7b8794")
ROLES = (
    ("#dce9fb", "#3267b0"),
    ("#fde4d0", "#c2631a"),
    ("#eadffa", "#7448b8"),
    ("#d5f1f0", "#1b8583"),
    ("#fbdde8", "#b83a6e"),
)
MARGIN = 0.35
RADIUS = 0.14
DPI = 160


def role_colours(graph: Description) -> dict[str | None, tuple[str, str]]:
    """Return fill and border colours by model role; None is a stage without a model."""
    # "task" comes first, so that it has the same colour in every graph.
    ordered = sorted(graph.roles, key=lambda role: (role != "task", role))
    return {None: PLAIN, **{role: ROLES[k % len(ROLES)] for k, role in enumerate(ordered)}}


def figure(graph: Description, kind: Literal["svg", "png"]) -> bytes:
    """Draw the graph.  Raises `DataError` without matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise DataError(
            "drawing needs matplotlib, which is not installed.\n"
            "Fix: pip install 'flashgraph[draw]', or draw to a .md file, which needs nothing."
        ) from error
    look = {"svg.fonttype": "path", "svg.hashsalt": clean(graph.name), "font.family": "DejaVu Sans"}
    with matplotlib.rc_context({**look, **LITERAL}):
        page = _Page(graph, lay_out(graph))
        out = BytesIO()
        # Without a date, the same graph gives the same file.
        page.figure.savefig(out, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


class _Page:
    """One figure, whose data units are inches."""

    def __init__(self, graph: Description, layout: Layout) -> None:
        self.colours = role_colours(graph)
        left, bottom, right, top = layout.bounds
        head, foot = 0.75 if graph.doc else 0.5, 0.75
        right = max(right, left + 9.2)
        width, height = right - left + 2 * MARGIN, top - bottom + 2 * MARGIN + head + foot
        self.patches = import_module("matplotlib.patches")
        self.path = import_module("matplotlib.path").Path
        # A figure without pyplot leaves the caller's backend alone.
        self.figure: Any = import_module("matplotlib.figure").Figure(figsize=(width, height), facecolor="white")
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(left - MARGIN, right + MARGIN)
        self.axes.set_ylim(bottom - MARGIN - foot, top + MARGIN + head)
        self.axes.axis("off")
        self._text(left, top + MARGIN + head - 0.33, graph.name, 17, weight="bold", ha="left")
        self._text(left, top + MARGIN + 0.12, graph.doc, 9.5, FAINT, ha="left")
        for route in layout.routes:
            self._route(route)
        for box in layout.boxes.values():
            self._box(box)
        self._legend(graph, left, bottom - MARGIN - 0.2, right)

    def _text(self, x: float, y: float, text: str, size: float, color: str = INK, **options: Any) -> None:
        options = {"ha": "center", "va": "center", **options}
        self.axes.text(x, y, clean(text), fontsize=size, color=color, **options)

    # ---- nodes -------------------------------------------------------------------------------------------

    def _box(self, box: Box) -> None:
        self._shape(box.node, box.left, box.bottom, box.width, box.height)
        lines = node_lines(box.node)
        y = box.y + LINE * len(lines) / 2
        self._text(box.x, y, box.node.name, 10.5, weight="bold")
        for k, line in enumerate(lines):
            role = box.node.role is not None and line == f"model: {box.node.role}"
            color = self.colours[box.node.role][1] if role else FAINT if k else INK
            self._text(box.x, y - LINE * (k + 1) - 0.04, line, 8, color)

    def _shape(self, node: Node, x: float, y: float, width: float, height: float) -> None:
        if node.kind == "pool":
            self._cylinder(x, y, width, height)
            return
        fill, border = SOURCE if node.kind == "source" else self.colours[node.role]
        round_ = height / 2 if node.kind == "source" else min(RADIUS, height / 3)
        self.axes.add_patch(
            self.patches.FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={round_}",
                facecolor=fill,
                edgecolor=border,
                linewidth=1.4,
                linestyle=(0, (4, 2.5)) if node.kind == "repair" else "-",
                zorder=3,
            )
        )

    def _cylinder(self, x: float, y: float, width: float, height: float) -> None:
        lid = min(0.3, height * 0.4)
        fill, border = POOL
        style = {"facecolor": fill, "edgecolor": border, "linewidth": 1.6, "zorder": 3}
        middle = x + width / 2
        ellipse = self.patches.Ellipse
        self.axes.add_patch(ellipse((middle, y + lid / 2), width, lid, **style))
        self.axes.add_patch(
            self.patches.Rectangle((x, y + lid / 2), width, height - lid, facecolor=fill, edgecolor="none", zorder=3)
        )
        for side in (x, x + width):
            self.axes.plot([side, side], [y + lid / 2, y + height - lid / 2], color=border, linewidth=1.6, zorder=3)
        self.axes.add_patch(ellipse((middle, y + height - lid / 2), width, lid, **{**style, "facecolor": "#f3fbf4"}))

    # ---- edges -------------------------------------------------------------------------------------------

    def _route(self, route: Route) -> None:
        style: dict[str, Any] = {"color": LINES, "linewidth": 1.3, "arrowstyle": "-|>", "mutation_scale": 11}
        if route.kind == "reads":
            style |= {"color": POOL[1], "linewidth": 1.1, "linestyle": (0, (4, 3))}
        elif route.kind == "repairs":
            style |= {"arrowstyle": "-", "linestyle": (0, (1, 2)), "linewidth": 1.4}
        self.axes.add_patch(
            self.patches.FancyArrowPatch(path=self._rounded(route.points), shrinkA=0, shrinkB=0, zorder=2, **style)
        )
        for label in route.labels:
            self._label(label)

    def _rounded(self, points: tuple[Point, ...]) -> Any:
        """Return a path through ``points`` with rounded corners."""
        path = self.path
        vertices, codes = [points[0]], [path.MOVETO]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            vertices += [_towards(corner, before), corner, _towards(corner, after)]
            codes += [path.LINETO, path.CURVE3, path.CURVE3]
        return path([*vertices, points[-1]], [*codes, path.LINETO])

    def _label(self, label: Label) -> None:
        y = label.y + LINE * (len(label.lines) - 1) / 2
        back = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
        for k, line in enumerate(label.lines):
            if line:
                options = {"weight": "bold", "color": INK} if k == 0 else {"color": FAINT}
                self._text(label.x, y - LINE * k, line, 8, ha=label.align, bbox=back, zorder=4, **options)

    # ---- legend ------------------------------------------------------------------------------------------

    def _legend(self, graph: Description, x: float, y: float, right: float) -> None:
        self.axes.plot([x, right], [y + 0.22, y + 0.22], color="#e4e7eb", linewidth=1)
        entries: list[tuple[str, Any]] = [("source", SOURCE), ("pool", POOL)]
        entries += [(f"model: {role}" if role else "no model", colour) for role, colour in self._used(graph)]
        if any(n.kind == "repair" for n in graph.nodes):
            entries.append(("repair stage", "repair"))
        entries.append(("reads the pool", "reads"))
        for text, look in entries:
            self._swatch(x, y, text, look)
            self._text(x + 0.42, y, text, 8, FAINT, ha="left")
            x += 0.42 + 0.068 * len(text) + 0.3
        note = f"an edge holds {graph.capacity} items unless it sets a capacity"
        self._text(right, y if x + 3.4 < right else y - 0.25, note, 8, FAINT, ha="right")

    def _used(self, graph: Description) -> list[tuple[str | None, tuple[str, str]]]:
        used = {n.role for n in graph.nodes if n.kind in ("stage", "repair")}
        return [(role, colour) for role, colour in self.colours.items() if role in used]

    def _swatch(self, x: float, y: float, text: str, look: Any) -> None:
        if look == "reads":
            self._route(Route("reads", ((x, y), (x + 0.34, y))))
            return
        fill, border = ("white", LINES) if look == "repair" else look
        round_ = 0.09 if text == "source" else 0.04
        self.axes.add_patch(
            self.patches.FancyBboxPatch(
                (x, y - 0.09), 0.32, 0.18, boxstyle=f"round,pad=0,rounding_size={round_}",
                facecolor=fill, edgecolor=border, linewidth=1.2, linestyle="--" if look == "repair" else "-",
            )
        )  # fmt: skip


def _towards(corner: Point, other: Point) -> Point:
    """Return the point on the way from ``corner`` to ``other`` where the rounding begins."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1.0
    step = min(RADIUS, length / 2) / length
    return corner[0] + dx * step, corner[1] + dy * step
