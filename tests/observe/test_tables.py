"""Markdown and HTML pages."""

from __future__ import annotations

import re

from flashgraph.graph.loading import load_graph
from flashgraph.observe.description import describe
from flashgraph.observe.tables import html, markdown, mermaid, tables

from .graphs import mapped, playbook


def test_mermaid_has_every_node_edge_read_and_repair() -> None:
    """Mermaid's shapes distinguish pools, sources and stages."""
    said = mermaid(describe(load_graph("gepa")))
    for line in (
        'n_frontier[("frontier<br/>ParetoFrontier")]',
        'n_select(["select"])',
        'n_gate["gate"]',
        'n_rollout -->|"Group[Minibatch, Attempt]<br/>gather<br/>release fraction(0.67)<br/>late cancel"| n_propose',
        "n_frontier -.->|reads| n_select",
        'n_rebase -.->|"repairs gate-#gt;validate"| n_validate',
        "class n_rebase repair2",
    ):
        assert f"    {line}" in said.splitlines()
    styles = set(re.findall(r"class [\w,]+ (\w+)", said))
    assert styles == set(re.findall(r"classDef (\w+)", said))


def test_the_tables_state_every_policy_and_capacity() -> None:
    """The tables state every policy, and the default capacity."""
    nodes, edges = tables(describe(playbook()))
    assert ("rebase", "repair", "curator", "Stale[Trace]", "Verdict[Trace]", "reads playbook") in nodes.rows
    by_name = {row[0]: row[2] for row in edges.rows}
    assert by_name["reflect->reflect"] == "when unclear, loop 3 at most, capacity 64"
    assert by_name["reflect->curate"] == "otherwise, capacity 8"
    stale = "stale discard(above=9) | repair(rebase, above=0)"
    assert by_name["curate->verify"] == f"scatter Trace.parts, fanout 4 at most, {stale}, capacity 64"


def test_markdown_escapes_what_would_break_a_table() -> None:
    """A ``|`` in a rule does not split a table cell."""
    page = markdown(describe(playbook()))
    rows = [line for line in page.splitlines() if line.startswith("| `curate->verify`")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4


def test_an_html_page_stands_alone() -> None:
    """An HTML page loads nothing: the drawing is inside, and tags in texts are escaped."""
    page = html(describe(mapped()))
    assert "<svg" in page
    assert "draw-&gt;short" in page
    for loaded in ("<script", "<link", 'src="http', "@import"):
        assert loaded not in page
