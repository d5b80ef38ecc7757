"""Layouts: properties of every shipped graph and of generated ones, drawn downwards and to the right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgraph.graph.loading import load_graph, shipped
from flashgraph.observe.description import Description, Link, Node, describe
from flashgraph.observe.geometry import Layout, Point, Route
from flashgraph.observe.layout import lay_out

from .graphs import mapped, playbook

Area = tuple[float, float, float, float]
Flow = Literal["down", "right"]

GRAPHS = {name: describe(load_graph(name)) for name in shipped()}
GRAPHS |= {"playbook": describe(playbook()), "mapped": describe(mapped())}
SLACK = 0.01


def meet(one: Area, other: Area) -> bool:
    """Return whether two areas have more than a border in common."""
    return all(
        one[k] + SLACK < other[k + 2] and other[k] + SLACK < one[k + 2] for k in (0, 1)
    )  # fmt: skip


def segments(route: Route) -> Iterator[Area]:
    for (x0, y0), (x1, y1) in pairwise(route.points):
        yield min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def strikes(line: Area, area: Area) -> bool:
    """Return whether a segment passes through the inside of an area."""
    return all(line[k] < area[k + 2] - SLACK and area[k] + SLACK < line[k + 2] for k in (0, 1))


def shared(one: Area, other: Area) -> float:
    """Return how much of their length two segments have in common."""
    for k in (0, 1):
        both_run = one[k] < one[k + 2] - SLACK and other[k] < other[k + 2] - SLACK
        if both_run and abs(one[1 - k] - other[1 - k]) < SLACK:
            return min(one[k + 2], other[k + 2]) - max(one[k], other[k])
    return 0.0


def faults(layout: Layout) -> list[str]:
    """Return what is wrong with a layout that people would see."""
    boxes = {name: box.area for name, box in layout.boxes.items()}
    labels = [(label.lines, label.area) for route in layout.routes for label in route.labels]
    lines = [(route, line) for route in layout.routes for line in segments(route)]
    found = [f"boxes {a} and {b}" for a, b in combinations(boxes, 2) if meet(boxes[a], boxes[b])]
    for k, (text, area) in enumerate(labels):
        # The second label of an edge starts with an empty line, which is the line of its first.
        shown = area if text[0] else (area[0], area[1] + 0.155, *area[2:])
        found += [f"label {text} on box {name}" for name, box in boxes.items() if meet(shown, box)]
        found += [f"label {text} on {t}" for t, other in labels[k + 1 :] if t[0] and meet(shown, other)]
        found += [f"{route.kind} {route.edge} strikes {text}" for route, line in lines if strikes(line, shown)]
    found += [
        f"{route.kind} {route.edge} through {name}"
        for route, line in lines
        for name, box in boxes.items()
        if strikes(line, box)
    ]
    for (route, line), (other, against) in combinations(lines, 2):
        # A repair's line starts on the line of its edge.
        if route is not other and shared(line, against) > SLACK:
            found.append(f"{route.kind} {route.edge} and {other.kind} {other.edge} share a segment")
    return found


def touches(point: Point, area: Area) -> bool:
    return all(area[k] - 0.001 <= point[k] <= area[k + 2] + 0.001 for k in (0, 1))


def check(graph: Description, layout: Layout) -> None:
    """Fail unless a layout is without faults, draws everything, and has right angles between the boxes it joins."""
    assert faults(layout) == []
    assert set(layout.boxes) == {node.name for node in graph.nodes}
    edges = {route.edge: route for route in layout.routes if route.kind == "edge"}
    assert set(edges) == {link.name for link in graph.links}
    for link in graph.links:
        points = edges[link.name].points
        assert touches(points[0], layout.boxes[link.src].area), link.name
        assert touches(points[-1], layout.boxes[link.dst].area), link.name
    kinds = [route.kind for route in layout.routes]
    assert kinds.count("reads") == len(graph.reads)
    assert kinds.count("repairs") == sum(len(link.repairs) for link in graph.links)
    for route in layout.routes:
        for one, other in pairwise(route.points):
            assert min(abs(one[0] - other[0]), abs(one[1] - other[1])) < 1e-6


@pytest.mark.parametrize("flow", ["down", "right"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_shipped_graph_is_drawn_without_faults(name: str, flow: Flow) -> None:
    """Nothing overlaps, no line passes through a box or a label, no two lines share a segment."""
    check(GRAPHS[name], lay_out(GRAPHS[name], flow))


def generated(seed: int, stages: int, pools: int, extra: float) -> Description:
    """Return a graph of a random shape: branches, joins, loops, repairs, pools that are read late or never."""
    rng = random.Random(seed)
    names = [f"{'stage' * rng.randint(1, 2)}{k}" for k in range(stages)]
    kept = [f"pool{k}" for k in range(pools)]
    nodes = [Node(name, "pool", None, "Thing", "Archive", ()) for name in kept]
    nodes += [Node(f"source{k}", "source", None, "", "Item", ()) for k in range(rng.randint(1, 3))]
    sources = [n.name for n in nodes if n.kind == "source"]
    policies = ("gather", "release sampled(24, 0.67)", "late amend", "stale discard(above=24)", "")
    pairs: dict[tuple[str, str], int | None] = {}
    for k, name in enumerate(names):
        for src in rng.sample([*sources, *names[:k]], min(1 + (rng.random() < extra), k + len(sources))):
            pairs[src, name] = None
        if rng.random() < extra / 2:
            pairs[name, rng.choice(names[: k + 1])] = 3
        if rng.random() < 0.3 or k == stages - 1:
            pairs[name, rng.choice(kept)] = None
    links: list[Link] = []
    fixers: list[str] = []
    for (src, dst), loop in pairs.items():
        repairs: tuple[str, ...] = ()
        if rng.random() < extra / 3:
            repairs = (f"repair{len(fixers)}",) if not fixers or rng.random() < 0.6 else (fixers[-1],)
            fixers += [name for name in repairs if name not in fixers]
        said = tuple(rng.sample(policies, rng.randint(0, 3)))
        links.append(Link(src, dst, rng.choice(["Work", "Group[Proposal, Attempt]"]), said, repairs, loop))
    nodes += [Node(name, "stage", rng.choice(["task", None]), "Item", "Item", ()) for name in names]
    nodes += [Node(name, "repair", "task", "Stale", "Verdict", ()) for name in fixers]
    readers = [*sources, *fixers, *rng.sample(names, len(names) // 4)]
    reads = tuple((rng.choice(kept), name) for name in readers if rng.random() < 0.8)
    rng.shuffle(nodes)
    return Description("generated", "", (), tuple(nodes), tuple(links), reads, 64)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6), stages=st.integers(1, 16), pools=st.integers(1, 3),
    extra=st.sampled_from([0.0, 0.3, 0.7]), flow=st.sampled_from(["down", "right"]),
)  # fmt: skip
def test_a_generated_graph_is_drawn_without_faults(
    seed: int, stages: int, pools: int, extra: float, flow: Flow
) -> None:
    """The same holds for graphs that nobody drew before."""
    graph = generated(seed, stages, pools, extra)
    check(graph, lay_out(graph, flow))


@pytest.mark.parametrize("flow", ["down", "right"])
def test_a_graph_of_forty_nodes(flow: Flow) -> None:
    """A graph of 40 nodes is drawn without faults too."""
    graph = generated(7, 36, 2, 0.5)
    assert len(graph.nodes) >= 40
    check(graph, lay_out(graph, flow))


def test_counts_stand_where_labels_do() -> None:
    """With counts instead of types, each edge has a spot for its count, and the drawing is smaller."""
    graph = GRAPHS["gepa"]
    full, small = lay_out(graph, "right"), lay_out(graph, "right", (0.4, 0.2))
    check(graph, small)
    assert all(route.spot is not None for route in small.routes if route.kind == "edge")
    assert small.bounds[2] - small.bounds[0] < full.bounds[2] - full.bounds[0]
