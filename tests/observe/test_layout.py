"""Layouts: tests check that nothing overlaps; people judge the rest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph, shipped
from flashgraph.observe.description import describe
from flashgraph.observe.geometry import Box, Label, Layout
from flashgraph.observe.layout import lay_out

from .graphs import mapped, playbook

Area = tuple[float, float, float, float]

GRAPHS = {**{name: load_graph(name) for name in shipped()}, "playbook": playbook(), "mapped": mapped()}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> fg.Graph:
    return GRAPHS[request.param]


@pytest.fixture
def layout(graph: fg.Graph) -> Layout:
    return lay_out(describe(graph))


def box_area(box: Box) -> Area:
    return box.left, box.bottom, box.right, box.top


def label_areas(label: Label) -> Iterator[Area]:
    left = label.x if label.align == "left" else label.x - label.width / 2
    blank = next((k for k, line in enumerate(label.lines) if line), 0)
    top = label.y + label.height / 2 - blank * label.height / len(label.lines)
    yield left, label.y - label.height / 2, left + label.width, top


def overlap(one: Area, other: Area) -> bool:
    slack = 0.03
    return (
        one[0] + slack < other[2]
        and other[0] + slack < one[2]
        and one[1] + slack < other[3]
        and other[1] + slack < one[3]
    )


def test_boxes_do_not_overlap(layout: Layout) -> None:
    """Boxes of stages and pools do not overlap."""
    for one, other in combinations(layout.boxes.values(), 2):
        assert not overlap(box_area(one), box_area(other)), (one.node.name, other.node.name)


def test_labels_overlap_neither_boxes_nor_each_other(layout: Layout) -> None:
    """Labels overlap neither boxes nor each other."""
    labels = [(label, area) for route in layout.routes for label in route.labels for area in label_areas(label)]
    for label, area in labels:
        for box in layout.boxes.values():
            assert not overlap(area, box_area(box)), (label.lines, box.node.name)
    for (one, here), (other, there) in combinations(labels, 2):
        assert not overlap(here, there), (one.lines, other.lines)


def test_lines_go_through_no_box(layout: Layout) -> None:
    """A line touches boxes only at its ends."""
    for route in layout.routes:
        for (x0, y0), (x1, y1) in pairwise(route.points):
            line = (min(x0, x1) - 0.001, min(y0, y1) - 0.001, max(x0, x1) + 0.001, max(y0, y1) + 0.001)
            for box in layout.boxes.values():
                inner = (box.left + 0.04, box.bottom + 0.04, box.right - 0.04, box.top - 0.04)
                hit = line[0] < inner[2] and inner[0] < line[2] and line[1] < inner[3] and inner[1] < line[3]
                assert not hit, (route, box.node.name)


def test_everything_is_drawn(graph: fg.Graph, layout: Layout) -> None:
    """Each node has a box, each edge and read has a line, and each repair has a line to its edge."""
    found = describe(graph)
    assert set(layout.boxes) == {n.name for n in found.nodes}
    kinds = [r.kind for r in layout.routes]
    assert kinds.count("edge") == len(found.links)
    assert kinds.count("reads") == len(found.reads)
    assert kinds.count("repairs") == sum(len(k.repairs) for k in found.links)
