"""A graph as tables, in the languages of Mermaid and Graphviz, and as pages of Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import attrs

from flashgraph.observe.description import Description, Node
from flashgraph.observe.geometry import node_lines
from flashgraph.observe.palette import POOL, SOURCE, role_colours
from flashgraph.observe.svg import svg
from flashgraph.text.terminal import clean

__all__ = ["Table", "dot", "html", "markdown", "mermaid", "tables"]


@attrs.frozen
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(graph: Description) -> tuple[Table, ...]:
    """Return the tables of a graph's nodes and edges."""
    nodes = tuple(
        (n.name, n.kind, n.role or "", n.takes, n.gives,
         ", ".join([*n.notes, *(f"reads {pool}" for pool, reader in graph.reads if reader == n.name)]))
        for n in graph.nodes
    )  # fmt: skip
    edges = tuple(
        (k.name, k.flows, ", ".join(k.policies) if any(p.startswith("capacity") for p in k.policies) else
         ", ".join([*k.policies, f"capacity {graph.capacity}"]))
        for k in graph.links
    )  # fmt: skip
    return (
        Table("Nodes", ("name", "kind", "model", "takes", "gives", "options"), nodes),
        Table("Edges", ("edge", "what arrives", "policies"), edges),
    )


def mermaid(graph: Description) -> str:
    """Return the graph in Mermaid's language: pools as cylinders, sources as stadiums, repair stages dashed."""
    lines = ["flowchart LR"]
    for node in graph.nodes:
        lines.append(f"    {_id(node.name)}{_shape(node)}")
    for link in graph.links:
        label = "<br/>".join(_quoted(text) for text in (link.flows, *link.policies) if text)
        lines.append(f'    {_id(link.src)} -->|"{label}"| {_id(link.dst)}')
    for pool, reader in graph.reads:
        lines.append(f"    {_id(pool)} -.->|reads| {_id(reader)}")
    for link in graph.links:
        for repair in link.repairs:
            lines.append(f'    {_id(repair)} -.->|"repairs {_quoted(link.name)}"| {_id(link.dst)}')
    classes: dict[str, list[str]] = {}
    for node in graph.nodes:
        classes.setdefault(_class(graph, node), []).append(_id(node.name))
    for style, ids in classes.items():
        lines.append(f"    class {','.join(ids)} {style}")
    for style, (fill, border) in (("pool", POOL), ("source", SOURCE)):
        lines.append(f"    classDef {style} fill:{fill},stroke:{border},color:#1f2933")
    for k, (fill, border) in enumerate(role_colours(graph).values()):
        lines.append(f"    classDef model{k} fill:{fill},stroke:{border},color:#1f2933")
        lines.append(f"    classDef repair{k} fill:{fill},stroke:{border},color:#1f2933,stroke-dasharray:5 3")
    used = set(classes)
    return "\n".join(line for line in lines if "classDef" not in line or line.split()[1] in used)


def _class(graph: Description, node: Node) -> str:
    if node.kind in ("pool", "source"):
        return node.kind
    return f"{'repair' if node.kind == 'repair' else 'model'}{list(role_colours(graph)).index(node.role)}"


def _shape(node: Node) -> str:
    text = "<br/>".join(_quoted(t) for t in (node.name, node.gives if node.kind == "pool" else "", *_small(node)) if t)
    opening, closing = {"pool": ("[(", ")]"), "source": ("([", "])")}.get(node.kind, ("[", "]"))
    return f'{opening}"{text}"{closing}'


def _small(node: Node) -> tuple[str, ...]:
    return (*((f"model: {node.role}",) if node.role else ()), *node.notes)


def _id(name: str) -> str:
    """Return an identifier that no other name has: ``a.b`` and ``a_b`` are two nodes."""
    # The prefix keeps names such as "end" apart from Mermaid's keywords.
    return "n_" + re.sub(r"[^0-9A-Za-z_]", lambda sign: f"_{ord(sign[0]):x}_", name.replace("_", "__"))


def dot(graph: Description) -> str:
    """Return the graph in the language of Graphviz, to lay it out or to change it with other programs."""
    shapes = {"pool": "cylinder", "source": "oval", "stage": "box", "repair": "box"}
    lines = [
        f"digraph {_dotted(graph.name)} {{",
        "  rankdir=TB; node [style=filled, fontname=sans]; edge [fontname=sans];",
    ]
    colours = role_colours(graph)
    for node in graph.nodes:
        fill, border = {"pool": POOL, "source": SOURCE}.get(node.kind) or colours[node.role]
        style = ', style="filled,dashed"' if node.kind == "repair" else ""
        label = _dotted(*(node.name, *node_lines(node)))
        look = f'shape={shapes[node.kind]}, fillcolor="{fill}", color="{border}"{style}'
        lines.append(f"  {_dotted(node.name)} [label={label}, {look}];")
    for link in graph.links:
        label = _dotted(*(text for text in (link.flows, *link.policies) if text))
        lines.append(f"  {_dotted(link.src)} -> {_dotted(link.dst)} [label={label}];")
    lines += [f"  {_dotted(pool)} -> {_dotted(reader)} [style=dashed];" for pool, reader in graph.reads]
    for link in graph.links:
        for repair in link.repairs:
            label = _dotted(f"repairs {link.name}")
            lines.append(f"  {_dotted(repair)} -> {_dotted(link.dst)} [style=dotted, arrowhead=none, label={label}];")
    return "\n".join([*lines, "}\n"])


def _dotted(*lines: str) -> str:
    """Return lines as one quoted text of Graphviz's language."""
    plain = (" ".join(clean(line).split()).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(plain) + '"'


MERMAID = str.maketrans(
    {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "`": "#96;", "%": "#37;", "\n": " ", "\t": " "}
)
"""Characters that end a quoted text in Mermaid or start a tag, formatting or a directive (``%%{init: ...}%%``)."""

MARKDOWN = re.compile(r"[\\`*_{}\[\]|~$]")
"""Characters with a meaning within a line of Markdown, including formulas."""


def _quoted(text: str) -> str:
    return clean(text).translate(MERMAID)


def _line(text: str) -> str:
    """Return a text as one line of Markdown that renders unchanged."""
    # Escaped brackets make no tag, and a backslash disables a Markdown character.
    plain = escape(MARKDOWN.sub(r"\\\g<0>", " ".join(clean(text).split())), quote=False)
    return re.sub(r"^(?=[-+=#])|^(\d+)(?=[.)])", r"\1\\", plain)


def _code(text: str) -> str:
    """Return a text as a code span; its fence is longer than any run of backticks in the text."""
    plain = " ".join(clean(text).split())
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else ""


def markdown(graph: Description) -> str:
    """Return a page with a Mermaid drawing and the tables; it needs no extra."""
    parts = [f"# {_line(graph.name)}", _line(graph.doc), f"```mermaid\n{mermaid(graph)}\n```"]
    if graph.params:
        parts.append("Parameters: " + ", ".join(map(_code, graph.params)))
    for table in tables(graph):
        rows = [table.columns, tuple("---" for _ in table.columns), *(_cells(row) for row in table.rows)]
        parts.append(f"## {table.title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(row: Sequence[str]) -> tuple[str, ...]:
    # In a table a bar ends a cell even within a code span.
    return tuple(_code(cell).replace("|", "\\|") if k == 0 else _line(cell) for k, cell in enumerate(row))


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 2rem auto; max-width: 1500px; padding: 0 1.5rem }
svg { width: 100%; height: auto }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; font-size: 14px }
th, td { text-align: left; padding: 0.35rem 1rem 0.35rem 0; border-bottom: 1px solid #e4e7eb; vertical-align: top }
th { color: #616e7c; font-weight: 600 }
td:first-child { font-weight: 600 }
"""


def html(graph: Description) -> str:
    """Return a standalone HTML page with the drawing and the tables."""
    parts = []
    for table in tables(graph):
        head = "".join(f"<th>{_shown(c)}</th>" for c in table.columns)
        body = "".join("<tr>" + "".join(f"<td>{_shown(c)}</td>" for c in row) + "</tr>\n" for row in table.rows)
        parts.append(f"<h2>{table.title}</h2>\n<table>\n<tr>{head}</tr>\n{body}</table>")
    params = f"<p>Parameters: {_shown(', '.join(graph.params))}</p>" if graph.params else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_shown(graph.name)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n{svg(graph)}\n{params}\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _shown(text: str) -> str:
    return escape(clean(text))
