"""`check`: the whole message of every mistake, several at once, and graphs that are right."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import GraphError, Problem
from flashgraph.graph.check import CheckedGraph, check
from flashgraph.graph.check import options as check_options
from flashgraph.graph.loading import load_graph, shipped
from flashgraph.graph.types import assignable
from flashgraph.parts import Archive
from flashgraph.policies.settings import SCHEDULE_SETTINGS
from tests.graph.parameters import params_like

from . import mistakes_edges, mistakes_nodes, mistakes_shape
from .kit import MISTAKES, Boxes, Mistake, Part, Scores, Seed, Value, grouped, plain

GRAPH = Path(fg.__file__).parent / "graph"


def shown(problem: Problem) -> str:
    """Return the message with FILE for its place and FILE:LINE for other places."""
    text = str(problem).replace(str(problem.place), "FILE", 1)
    return re.sub(r"/[^ ]*\.py:\d+", "FILE:LINE", text).replace(Seed.__module__, "kit")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.build.__name__)
def test_the_whole_message(mistake: Mistake) -> None:
    """A small graph with a mistake gives exactly this message, at the line that is marked with its code."""
    problems = mistake.build().check()
    assert "\n".join(map(shown, problems)) == mistake.expected.strip("\n")
    for problem in problems:
        line = Path(problem.place.file).read_text().splitlines()[problem.place.line - 1]
        mark = line.partition("# <- ")[2]
        assert mark.startswith("*") or problem.code in mark.split()


def test_every_code_has_a_graph() -> None:
    """One of the graphs has each code that the sources note; docs/reference/messages.md is made from them."""
    source = "\n".join(p.read_text() for p in GRAPH.rglob("*.py"))
    written = set(re.findall(r'(?:note|Unreadable)\(\s*"([a-z-]+)"', source))
    written |= set(re.findall(r'notes\.add\(\s*"([a-z-]+)"', source))
    written |= {f"bad-{option.replace('_', '-')}" for option, *_ in check_options.RULES}
    written |= {"bad-stream", "bad-runs", "bad-late", "bad-orphans"}
    written |= {"scatter-of-another-type", "when-of-another-type"}
    written |= {f"{option}-without-gather" for option in ("release", "late", "on-failure")}
    met = {problem.code for mistake in MISTAKES for problem in mistake.build().check()}
    assert met == written
    assert len(met) >= 40


def test_all_problems_are_raised_together_by_line() -> None:
    """Three mistakes are one `GraphError`, in the order of their lines."""
    graph = mistakes_shape.three_mistakes()
    with pytest.raises(GraphError) as caught:
        graph.checked()
    assert [p.code for p in caught.value.problems] == ["not-positive", "type-mismatch", "late-without-gather"]
    lines = [p.place.line for p in caught.value.problems]
    assert lines == sorted(lines)
    assert str(caught.value).startswith("graph 'plain' has 3 problems\n")


def test_reserved_names_are_the_schedules_settings() -> None:
    """A parameter cannot have the name of a setting of a schedule."""
    assert set(check_options.RESERVED) == set(SCHEDULE_SETTINGS)


# ---- graphs that are right -------------------------------------------------------------------------------


def value(seed: Seed) -> Value:
    return Value()


def again(seed: Seed) -> Seed:
    return seed


def keep(value: Value) -> Value:
    return value


def diamond() -> fg.Graph:
    """Two conditional paths that meet again."""
    graph, draw, pool = plain()
    left, right = graph.stage(value, name="left"), graph.stage(value, name="right")
    both = graph.stage(keep)
    graph.edge(draw, left, when=Seed.big)
    graph.edge(draw, right, otherwise=True)
    graph.edge(left, both)
    graph.edge(right, both, stale=fg.discard(above=3))
    graph.edge(both, pool)
    return graph


def bounded_loop() -> fg.Graph:
    """A loop after a bounded scatter, with the capacity that it needs."""
    graph, draw, pool = plain()
    refine = graph.stage(again, name="refine")
    stage = graph.stage(value)

    def halves(seed: Seed) -> tuple[Seed, Seed]:
        return seed, seed

    graph.edge(draw, refine, scatter=halves, fanout=2)
    graph.edge(refine, refine, when=lambda seed: seed.n < 3, loop=3, capacity=16)
    graph.edge(refine, stage, otherwise=True)
    graph.edge(stage, pool)
    return graph


def two_pools() -> fg.Graph:
    """A source for each of two pools; one stage reads the second."""
    graph, draw, pool = plain()
    log = graph.pool("log", lambda: Archive(threshold=0.5))

    @graph.source(rounds=3, state=0)
    def first(ctx: fg.Draw[Any, None, int]) -> Seed | None:
        return None

    @graph.stage(reads=log, model="task", counts="evaluations", workers=4)
    async def score(seed: Seed, ctx: fg.Context[Archive]) -> Value | None:
        return None

    @graph.stage
    def parted(part: Part) -> Value:
        return Value()

    graph.edge(draw, score, stale=fg.discard(above=4) | fg.refresh())
    graph.edge(first, score)
    graph.edge(score, pool)
    graph.edge(first, parted, scatter=Seed.parts)
    graph.edge(parted, log, gather=True, release=fg.count(1), late="amend", on_failure=fg.fail_above(0.5))
    return graph


def nested_groups() -> fg.Graph:
    """A group inside a group; the inner one is gathered first."""
    graph = fg.Graph("nested")
    pool = graph.pool("boxes", Boxes)

    def seeds(seed: Seed) -> list[Seed]:
        return [seed]

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    outer = graph.stage(again, name="outer")

    @graph.stage
    def score(part: Part) -> Value:
        return Value()

    @graph.stage
    def mean(batch: fg.Group[Seed, Value]) -> Value:
        return Value()

    graph.edge(draw, outer, scatter=seeds, order=fg.discriminative())
    graph.edge(outer, score, scatter=Seed.parts)
    graph.edge(score, mean, gather=True)
    graph.edge(mean, pool, gather=True)
    return graph


def included() -> fg.Graph:
    """A part that is included twice: with its own pool, and with the outer graph's."""
    whole, draw, pool = plain()
    one = whole.include(mistakes_shape.part(), "one", params={"size": 5})
    two = whole.include(mistakes_shape.part(), "two", pools={"scores": pool})
    whole.edge(draw, one["value"])
    whole.edge(draw, two["value"])

    @whole.source(reads=one["scores"], rounds=2)
    def more(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    whole.edge(more, one["value"])
    return whole


def repaired() -> fg.Graph:
    """Repair of whole items before a scatter, of single items, and of groups."""
    graph, draw, score, pool = grouped()
    spec_edge = graph.stage(keep)

    @graph.stage(reads=pool)
    def patch(stale: fg.Stale[Value], ctx: fg.Context[Boxes]) -> fg.Verdict[Value]:
        return fg.Verdict.accept()

    @graph.stage(reads=pool, model="task")
    async def patch_group(
        stale: fg.Stale[fg.Group[Seed, Value]], ctx: fg.Context[Boxes]
    ) -> fg.Verdict[fg.Group[Seed, Value]]:
        return fg.Verdict.accept()

    graph.edge(score, spec_edge, stale=fg.repair(patch, above=1, times=2))
    graph.edge(spec_edge, pool, gather=True, stale=fg.discard(above=8) | fg.repair("patch_group"))
    assert draw
    return graph


def expect_all_known(checked: CheckedGraph) -> None:
    """Without problems all types are known, so that compiling, storing and drawing derive none."""
    spec, ports = checked.sound().spec, checked.ports
    assert ports.gives.keys() == {node.name for node in spec.nodes.values() if node.kind != "pool"}
    assert ports.takes.keys() == {node.name for node in spec.nodes.values() if node.kind != "source"}
    assert ports.views.keys() == {pool.name for pool in spec.pools}
    assert checked.flows.keys() == {edge.name for edge in spec.edges}
    assert all(assignable(flow.arrives, ports.takes[name.split("->")[1]]) for name, flow in checked.flows.items())
    assert checked.scopes.keys() >= {end for edge in spec.edges for end in (edge.src, edge.dst)}


@pytest.mark.parametrize("build", [diamond, bounded_loop, two_pools, nested_groups, included, repaired])
def test_a_right_graph_has_no_problem(build: Any) -> None:
    """`check` accepts these shapes, and knows all their types."""
    assert build().check() == ()
    expect_all_known(build().checked())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_algorithms_have_no_problem(name: str) -> None:
    """`check` accepts every algorithm that comes with the library."""
    assert load_graph(name).check() == ()
    expect_all_known(load_graph(name).checked())


def test_checking_twice_gives_the_same() -> None:
    """`check` changes nothing in the graph."""
    graph = mistakes_shape.three_mistakes()
    assert graph.check() == graph.check()


# ---- no crash --------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, 0, -1, 3, True, 2.5, float("nan"), "", "3", "cancel", b"x", [], {}, object(), Seed, Seed(), Seed.parts,
    Seed.big, Seed.ready, len, print, int, fg.accept(), fg.accept, fg.discard(above=2), fg.discard("x"),  # type: ignore[arg-type]
    fg.refresh(), fg.fraction(0.5), fg.fraction("x"), fg.count(2.5), fg.deadline("x"), fg.everyone,  # type: ignore[arg-type]
    fg.freshest(), fg.discriminative(0), fg.priority(len), fg.fail_above("x"), fg.repair("one"), fg.repair(3),  # type: ignore[arg-type]
    lambda: 1, lambda item: item, lambda a, b: a, Any, fg.Group, fg.Group[Seed, Value], Scores, Scores(),
]  # fmt: skip
"""Values that a user may give to any option."""

BODIES: list[Any] = [
    value, again, keep, len, lambda seed: seed, Value, "x", 3, Seed.parts, Seed.big, mistakes_nodes.through,
    mistakes_edges.edges,
]  # fmt: skip

STAGE_OPTIONS = ["name", "model", "reads", "counts", "workers", "fanout", "wrong"]
SOURCE_OPTIONS = ["name", "reads", "rounds", "stream", "state", "wrong"]
EDGE_OPTIONS = [
    "capacity", "scatter", "gather", "fanout", "release", "late", "order", "when", "otherwise", "loop", "stale",
    "on_failure", "orphans", "only", "wrong",
]  # fmt: skip


def scrambled(seed: int) -> fg.Graph:
    """Return a graph of random nodes, options and edges."""
    rng = random.Random(seed)

    def options(names: list[str], pools: list[Any]) -> dict[str, Any]:
        values = [*ODD, *pools]
        return {n: rng.choice(values) for n in names if rng.random() < 0.15}

    graph = fg.Graph("scrambled", params=rng.choice([None, params_like({"x": rng.choice(ODD)}), *ODD]))
    pools = [graph.pool(f"pool{i}", rng.choice([Scores, Boxes, *ODD])) for i in range(rng.randint(0, 2))]
    nodes: list[Any] = list(pools)
    for i in range(rng.randint(0, 2)):

        def draw(ctx: fg.Draw) -> Seed | None:
            return None

        nodes.append(graph.source(rng.choice([draw, *BODIES]), **{"name": f"s{i}", **options(SOURCE_OPTIONS, pools)}))
    names = ["one", "two", "three", "four"]
    nodes += [
        graph.stage(rng.choice(BODIES[:3]) if rng.random() < 0.8 else rng.choice(BODIES),
                    **{"name": name, **options(STAGE_OPTIONS, pools)})
        for name in names[: rng.randint(0, 4)]
    ]  # fmt: skip
    for _ in range(rng.randint(0, 12)):
        ends = [rng.choice(nodes) if nodes and rng.random() < 0.95 else rng.choice(ODD) for _ in range(2)]
        graph.edge(*ends, **options(EDGE_OPTIONS, pools))
    if rng.random() < 0.2:
        graph.include(rng.choice([mistakes_shape.part(), graph, *ODD]), rng.choice(["part", "one", *ODD]))
    return graph


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.integers(0, 2**32))
def test_check_never_raises(seed: int) -> None:
    """Whatever is declared, `check` returns printable problems, ordered by line; without any, all types are known."""
    checked = check(scrambled(seed))
    problems = checked.problems
    assert [p.place for p in problems] == sorted(p.place for p in problems)
    assert all(str(p) for p in problems)
    if not problems:
        expect_all_known(checked)


def test_many_cycles_are_checked_quickly() -> None:
    """A graph whose stages all lead to each other, with too many cycles to list, is checked."""
    graph, draw, pool = plain()
    stages = [graph.stage(again, name=f"s{i}") for i in range(14)]
    last = graph.stage(value)
    graph.edge(draw, stages[0])
    for one in stages:
        for other in stages:
            graph.edge(one, other, when=Seed.big)
        graph.edge(one, last, otherwise=True)
    graph.edge(last, pool)
    codes = {p.code for p in graph.check()}
    assert codes == {"cycle-without-loop"}
