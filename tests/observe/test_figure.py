"""Drawings as SVG and PNG: text, contrast, and that the same graph gives the same file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from flashgraph.graph.loading import load_graph
from flashgraph.observe.description import Description, Node, describe
from flashgraph.observe.figure import figure
from flashgraph.observe.geometry import node_size
from flashgraph.observe.palette import FAINT, INK, PLAIN, POOL, ROLES, SOURCE, dark, role_colours
from flashgraph.observe.svg import svg
from flashgraph.text.terminal import width_of

from .graphs import playbook

SVG = "{http://www.w3.org/2000/svg}"


def test_an_svg_is_well_formed_and_the_same_each_time() -> None:
    """An SVG holds no date and no random id, so that it can be kept under version control."""
    found = describe(load_graph("gepa"))
    assert ElementTree.fromstring(svg(found)).tag == f"{SVG}svg"
    assert svg(found) == svg(found)


def test_an_svg_holds_text() -> None:
    """Names, types and policies are text, and the drawing has a title and a description for screen readers."""
    root = ElementTree.fromstring(svg(describe(playbook())))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for name in ("playbook", "sample", "generate", "reflect", "curate", "verify", "rebase", "Group[Trace, Part]"):
        assert name in texts
    assert [root.findtext(f"{SVG}title"), root.get("role")] == ["playbook", "img"]


def test_colours_of_two_drawings_on_a_page_stay_apart() -> None:
    """Each drawing's style touches that drawing alone, because a page may hold several."""
    for graph in (playbook(), load_graph("gepa")):
        root = ElementTree.fromstring(svg(describe(graph)))
        style = root.findtext(f"{SVG}style") or ""
        rules = re.findall(r"([^{}]+)\{[^{}]+\}", style.replace("@media(prefers-color-scheme:dark){", ""))
        assert rules
        assert all(rule.strip().startswith(f".{root.get('class')} ") for rule in rules)


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_texts_and_borders_have_contrast() -> None:
    """Text has 4.5:1 on every fill (WCAG 2.1, 1.4.3), light and dark; borders have 3:1 on the page (1.4.11)."""
    for fill, border in (*ROLES, POOL, SOURCE, PLAIN):
        assert contrast(INK, fill) >= 4.5
        assert contrast("#eceff3", dark(border)) >= 4.5
        assert min(contrast(border, "#ffffff"), contrast(border, "#14191f")) >= 3
    assert contrast(FAINT, "#ffffff") >= 4.5
    assert contrast("#b8c2cd", "#14191f") >= 4.5


@pytest.mark.parametrize("text", ["\u5c4f\u98ce" * 12, "\u05e9\u05dc\u05d5\u05dd" * 6, "\U0001f600" * 12])
def test_wide_and_right_to_left_texts_have_room(text: str) -> None:
    """A box is as wide as its text: CJK and emoji count as two characters; the other direction is set."""
    node = Node(text, "stage", None, text, text, ())
    drawn = svg(Description("wide", "", (), (node,), (), (), 64))
    assert node_size(node)[0] >= width_of(text) * 0.1
    assert 'dir="auto"' in drawn


def test_the_role_task_has_the_same_colour_everywhere() -> None:
    """The role "task" has the same colour in every graph."""
    assert list(role_colours(describe(load_graph("gepa")))) == [None, "task", "reflection"]


def test_a_png_is_the_same_drawing() -> None:
    """A PNG has the proportions of the SVG: both draw one layout."""
    pytest.importorskip("matplotlib")
    png = figure(describe(load_graph("opro")))
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    assert png.startswith(b"\x89PNG")
    assert height > width / 3
