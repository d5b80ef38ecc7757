"""A graph as an SVG of text and shapes, written without a library: readable by search, by scripts and in the dark."""

from __future__ import annotations

from hashlib import sha256
from html import escape

from flashgraph.observe.description import Description, Node
from flashgraph.observe.geometry import LINE, SMALL, Box, Label, Point, Route, cells, node_lines, towards
from flashgraph.observe.layout import lay_out
from flashgraph.observe.palette import FAINT, INK, LINES, POOL, SOURCE, dark, role_colours
from flashgraph.text.terminal import clean

__all__ = ["svg"]

SCALE = 96
"""The pixels of an inch."""

MARGIN = 0.3
RADIUS = 0.08
"""The radius of a line's corners, in inches."""

FONT = "DejaVu Sans, Verdana, Noto Sans, sans-serif"
"""Fonts of one width, which the layout reckons with."""


def svg(graph: Description, flow: str = "down") -> str:
    """Return the drawing of a graph; the same graph gives the same text."""
    layout = lay_out(graph, "right" if flow == "right" else "down")
    left, top, right, bottom = layout.bounds
    head = 0.75 if graph.doc else 0.45
    legend, wide, tall = _legend(graph, max(right - left, 6.0))
    width = max(right - left, wide, cells(graph.name) * 0.17, cells(graph.doc) * 0.08) + 2 * MARGIN
    height = head + bottom - top + tall + 3 * MARGIN
    shift = MARGIN - left + (width - 2 * MARGIN - (right - left)) / 2
    name = f"fg-{sha256(clean(graph.name).encode('utf-8', 'replace')).hexdigest()[:8]}"
    body = [_route(route, name) for route in layout.routes]
    body += [_box(box, graph) for box in layout.boxes.values()]
    body += [_label(label) for route in layout.routes for label in route.labels]
    about = f"{len(graph.nodes)} nodes: {', '.join(n.name for n in graph.nodes)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" role="img" '
            f'viewBox="0 0 {_px(width)} {_px(height)}" width="{_px(width)}" height="{_px(height)}" '
            f'aria-labelledby="{name}-t {name}-d">',
            f'<title id="{name}-t">{_text(graph.name)}</title><desc id="{name}-d">{_text(about)}</desc>',
            f"<style>{_style(graph, name)}</style>",
            f'<defs><marker id="{name}-head" viewBox="0 0 10 8" refX="10" refY="4" markerWidth="9" markerHeight="7.2" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0 10 4 0 8z"/></marker></defs>',
            f'<rect class="page" width="{_px(width)}" height="{_px(height)}"/>',
            _words(MARGIN, MARGIN + 0.12, graph.name, "title"),
            _words(MARGIN, MARGIN + 0.42, graph.doc, "faint") if graph.doc else "",
            f'<g transform="translate({_px(shift)} {_px(head + MARGIN - top)})">',
            *body,
            "</g>",
            f'<g transform="translate({_px(MARGIN)} {_px(head + bottom - top + 2 * MARGIN)})">{legend}</g>',
            "</svg>\n",
        ]
    )


def _px(inches: float) -> str:
    return f"{inches * SCALE:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    return escape(" ".join(clean(text).split()))


def _words(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}" dir="auto">{_text(text)}</text>'


def _style(graph: Description, name: str) -> str:
    """Return CSS that touches this drawing alone, for light and dark pages."""
    colours = {"pool": POOL, "source": SOURCE} | {f"m{k}": v for k, v in enumerate(role_colours(graph).values())}
    at = f".{name}"
    light = "".join(f"{at} .{kind}{{fill:{fill};stroke:{border}}}" for kind, (fill, border) in colours.items())
    night = "".join(f"{at} .{kind}{{fill:{dark(border)}}}" for kind, (_, border) in colours.items())
    return (
        f"{at} text{{font:10.5px {FONT};fill:{INK};dominant-baseline:central}}"
        f"{at} .name{{font-size:14px;font-weight:700}}{at} .title{{font-size:22px;font-weight:700}}"
        f"{at} .bold{{font-weight:700}}{at} text.faint{{fill:{FAINT}}}"
        f"{at} .page{{fill:#fff}}{at} .line{{fill:none;stroke:{LINES};stroke-width:1.3}}{at} .tip{{fill:{LINES}}}"
        f"{at} .reads{{stroke-dasharray:5 3.5;stroke:{POOL[1]}}}{at} .repairs{{stroke-dasharray:1.5 3}}"
        f"{at} .box{{stroke-width:1.6}}{at} .repair{{stroke-dasharray:5 3}}{light}"
        f"@media(prefers-color-scheme:dark){{{at} text{{fill:#eceff3}}{at} text.faint{{fill:#b8c2cd}}"
        f"{at} .page{{fill:#14191f}}{at} .line{{stroke:#aab4bf}}{at} .tip{{fill:#aab4bf}}"
        f"{at} .reads{{stroke:#4fc3a1}}{night}}}"
    )


def _box(box: Box, graph: Description) -> str:
    lines = node_lines(box.node)
    y = box.y - LINE * len(lines) / 2
    words = [_words(box.x, y, box.node.name, "name", "middle")]
    words += [_words(box.x, y + LINE * (k + 1) + 0.04, line, "small", "middle") for k, line in enumerate(lines)]
    title = f"<title>{_text(box.node.kind)} {_text(box.node.name)}</title>"
    style = _class(box.node, graph)
    return f"<g>{title}{_shape(box.node.kind, box.left, box.top, box.width, box.height, style)}{''.join(words)}</g>"


def _class(node: Node, graph: Description) -> str:
    if node.kind in ("pool", "source"):
        return f"box {node.kind}"
    style = f"box m{list(role_colours(graph)).index(node.role)}"
    return f"{style} repair" if node.kind == "repair" else style


def _shape(kind: str, x: float, y: float, width: float, height: float, style: str) -> str:
    """Return a cylinder, upright or on its side, for a pool; a stadium for a source; a rectangle for a stage."""
    if kind != "pool":
        radius = min(width, height) / 2 if kind == "source" else 0.06
        return (
            f'<rect class="{style}" x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" '
            f'rx="{_px(radius)}"/>'
        )
    left, top, right, bottom = (_px(v) for v in (x, y, x + width, y + height))
    if width >= height:
        a, b = _px(min(0.12, width / 6)), _px(height / 2)
        ends = f"A{a} {b} 0 0 1 {right} {bottom}H{left}A{a} {b} 0 0 1 {left} {top}z"
        lid = f"M{right} {top}A{a} {b} 0 0 0 {right} {bottom}"
        path = f"M{left} {top}H{right}{ends}"
    else:
        a, b = _px(width / 2), _px(min(0.12, height / 6))
        path = f"M{left} {top}A{a} {b} 0 0 1 {right} {top}V{bottom}A{a} {b} 0 0 1 {left} {bottom}z"
        lid = f"M{left} {top}A{a} {b} 0 0 0 {right} {top}"
    return f'<path class="{style}" d="{path}"/><path class="{style}" style="fill:none" d="{lid}"/>'


def _route(route: Route, name: str) -> str:
    head = "" if route.kind == "repairs" else f' marker-end="url(#{name}-head)"'
    title = f"<title>{_text(route.edge)}</title>" if route.edge else ""
    return f'<path class="line {route.kind}" d="{_rounded(route.points)}"{head}>{title}</path>'


def _rounded(points: tuple[Point, ...]) -> str:
    """Return the path through points with rounded corners."""
    path = [f"M{_px(points[0][0])} {_px(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = towards(corner, before, RADIUS), towards(corner, after, RADIUS)
        path.append(f"L{_px(ax)} {_px(ay)}Q{_px(corner[0])} {_px(corner[1])} {_px(bx)} {_px(by)}")
    return "".join(path) + f"L{_px(points[-1][0])} {_px(points[-1][1])}"


def _label(label: Label) -> str:
    anchor = "start" if label.align == "left" else "middle"
    return "".join(
        _words(label.x, label.y + k * LINE, line, "faint" if k else "bold", anchor)
        for k, line in enumerate(label.lines)
        if line
    )


def _legend(graph: Description, most: float) -> tuple[str, float, float]:
    """Return the legend, at most about ``most`` wide, with its width and height."""
    entries = [("source", "source", "box source"), ("pool", "pool", "box pool")]
    used = {n.role for n in graph.nodes if n.kind in ("stage", "repair")}
    entries += [
        ("stage", f"model: {role}" if role else "no model", f"box m{k}")
        for k, role in enumerate(role_colours(graph))
        if role in used
    ]
    if any(n.kind == "repair" for n in graph.nodes):
        entries.append(("stage", "repair stage", "box m0 repair"))
    entries.append(("line", "reads the pool", "line reads"))
    parts, x, y, wide = [], 0.0, 0.0, 0.0
    for kind, text, style in entries:
        width = 0.42 + cells(text) * SMALL
        if x and x + width > most:
            x, y = 0.0, y + 0.26
        swatch = _shape(kind, x, y - 0.08, 0.3, 0.16, style)
        if kind == "line":
            swatch = f'<path class="{style}" d="M{_px(x)} {_px(y)}h{_px(0.3)}"/>'
        parts += [swatch, _words(x + 0.4, y, text, "faint")]
        wide, x = max(wide, x + width), x + width + 0.25
    note = f"an edge holds {graph.capacity} items unless it sets a capacity"
    parts.append(_words(0.0, y + 0.26, note, "faint"))
    return "".join(parts), max(wide, cells(note) * SMALL), y + 0.4
