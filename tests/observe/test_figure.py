"""Figures by matplotlib: their formats, and that the same graph gives the same file."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from flashgraph.graph.loading import load_graph
from flashgraph.observe.description import describe
from flashgraph.observe.figure import figure, role_colours

from .graphs import playbook


def test_an_svg_is_well_formed_and_the_same_each_time() -> None:
    """An SVG holds no date and no random id, so that it can be kept under version control."""
    found = describe(load_graph("gepa"))
    svg = figure(found, "svg")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert figure(found, "svg") == svg


def test_an_svg_names_every_node() -> None:
    """An SVG names every node in a comment, because text is drawn as paths."""
    svg = figure(describe(playbook()), "svg").decode()
    for name in ("playbook", "sample", "generate", "reflect", "curate", "verify", "rebase", "Group[Trace, Part]"):
        assert f"<!-- {name} -->" in svg


def test_the_role_task_has_the_same_colour_everywhere() -> None:
    """The role "task" has the same colour in every graph."""
    assert list(role_colours(describe(load_graph("gepa")))) == [None, "task", "reflection"]
