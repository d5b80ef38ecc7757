"""One small graph for each mistake in the whole graph: reach, groups, cycles, composition."""


# The graphs are wrong on purpose; tests/typing says which mistakes mypy finds.
# mypy: disable-error-code="arg-type, call-overload, misc, name-defined, no-untyped-def, type-arg, untyped-decorator"
# mypy: disable-error-code="valid-type, var-annotated"

from __future__ import annotations

from typing import Any

import flashgraph as fg
from tests.graph.parameters import params_like

from .kit import Batch, Boxes, Part, Scores, Seed, Value, grouped, mistake, plain


def value(seed: Seed) -> Value:
    return Value()


def again(seed: Seed) -> Seed:
    return seed


def same(part: Part) -> Part:
    return part


def final(part: Part) -> Value:
    return Value()


# ---- reach -----------------------------------------------------------------------------------------------


@mistake(
    """
FILE: graph 'empty' [no-source]
    found:    no source
    expected: a source, which starts rounds
    fix:      @graph.source(reads=POOL) on a function
FILE: graph 'empty' [no-pool]
    found:    no pool
    expected: a pool, which holds what evolves
    fix:      graph.pool('frontier', ParetoFrontier)
"""
)
def empty() -> fg.Graph:
    return fg.Graph("empty")  # <- no-source no-pool


@mistake(
    """
FILE: graph 'g' [no-pool]
    found:    no pool
    expected: a pool, which holds what evolves
    fix:      graph.pool('frontier', ParetoFrontier)
FILE: stage 'value' [dead-end]
    found:    no edge starts at it: its results are lost
    expected: an edge to a stage or a pool
    fix:      graph.edge(value, ...)
"""
)
def no_pool() -> fg.Graph:
    graph = fg.Graph("g")  # <- no-pool

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    stage = graph.stage(value)  # <- dead-end
    graph.edge(draw, stage)
    return graph


@mistake(
    """
FILE: stage 'other' [unreachable]
    found:    no edge ends at it
    expected: a path from a source to it
    fix:      graph.edge(..., other)
"""
)
def stage_that_nothing_reaches() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    other = graph.stage(value, name="other")  # <- unreachable
    behind = graph.stage(keep)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.edge(other, behind)
    graph.edge(behind, pool)
    return graph


def keep(value: Value) -> Value:
    return value


@mistake(
    """
FILE: source 'draw' [dead-end]
    found:    no edge starts at it: its results are lost
    expected: an edge to a stage or a pool
    fix:      graph.edge(draw, ...)
FILE: stage 'score' [unreachable]
    found:    no edge ends at it
    expected: a path from a source to it
    fix:      graph.edge(..., score)
"""
)
def gathering_stage_whose_scatter_was_forgotten() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- dead-end
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    @graph.stage  # <- unreachable
    def score(part: Part) -> Value:
        return Value()

    @graph.stage
    def total(batch: fg.Group[Seed, Value]) -> Value:
        return Value()

    graph.edge(score, total, gather=True)
    graph.edge(total, pool)
    return graph


@mistake(
    """
FILE: stage 'one' [unreachable]
    found:    only its own cycle leads to it: one, two
    expected: a path from a source to it
    fix:      graph.edge(SOURCE, one)
"""
)
def cycle_that_nothing_reaches() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    one = graph.stage(again, name="one")  # <- unreachable
    two = graph.stage(again, name="two")
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.edge(one, two)
    graph.edge(two, one, loop=2)
    graph.edge(two, stage, otherwise=True)
    return graph


@mistake(
    """
FILE: stage 'log' [dead-end]
    found:    no edge starts at it: its results are lost
    expected: an edge to a stage or a pool
    fix:      graph.edge(log, ...)
"""
)
def stage_that_leads_nowhere() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    log = graph.stage(value, name="log")  # <- dead-end
    graph.edge(draw, stage)
    graph.edge(draw, log)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: pool 'archive' [pool-without-edge]
    found:    no edge ends at it: it never changes
    expected: an edge that admits to it
    fix:      graph.edge(..., archive)
"""
)
def pool_that_nothing_enters() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.pool("archive", Scores)  # <- pool-without-edge
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage 'patch' [repair-unused]
    found:    it takes fg.Stale, and no edge repairs with it
    expected: a staleness rule that names it
    fix:      stale=fg.repair(patch) on an edge, or drop the stage
"""
)
def repair_stage_that_nothing_uses() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage  # <- repair-unused
    def patch(stale: fg.Stale[Seed]) -> fg.Verdict[Seed]:
        return fg.Verdict.accept()

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


# ---- groups ----------------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge first->score [mixed-depth]
    found:    its items are inside no group; those of other edges to 'score', 1 group level
    expected: edges into one stage that agree on scatter and gather
    fix:      gather before the stage, or use a second stage with the same function
"""
)
def members_and_single_items_in_one_stage() -> fg.Graph:
    graph, _, score, pool = grouped()

    @graph.source(rounds=1)
    def first(ctx: fg.Draw) -> Part:
        return Part()

    graph.edge(first, score)  # <- mixed-depth
    graph.edge(score, pool, gather=True)
    return graph


@mistake(
    """
FILE: stage 'copies' [several-in-group]
    found:    it returns Several inside a group: a member would arrive more than once
    expected: one result per member
    fix:      return one value that holds them, scatter= it after the stage and gather that inner group first
"""
)
def several_inside_a_group() -> fg.Graph:
    graph, _, score, pool = grouped()

    @graph.stage  # <- several-in-group
    def copies(value: Value) -> fg.Several[Value]:
        return fg.Several([value, value])

    graph.edge(score, copies)
    graph.edge(copies, pool, gather=True)
    return graph


@mistake(
    """
FILE: edge score->two [fork-in-group]
    found:    it and edge score->one both lead each member to edge both->boxes, which gathers it once
    expected: one path for each member
    fix:      when= on one and otherwise=True on the other, or one stage after the other
"""
)
def fork_inside_a_group() -> fg.Graph:
    graph, _, score, pool = grouped()
    one, two = graph.stage(keep, name="one"), graph.stage(keep, name="two")
    both = graph.stage(keep, name="both")
    graph.edge(score, one)
    graph.edge(score, two)  # <- fork-in-group
    graph.edge(one, both)
    graph.edge(two, both)
    graph.edge(both, pool, gather=True)
    return graph


@mistake(
    """
FILE: edge score->boxes [late-in-cycle]
    found:    late='amend' on a group whose members go through the cycle of polish
    expected: late='cancel': late members do not count in the window, so they could fill up the cycle
    fix:      late='cancel', or drop release
"""
)
def late_members_in_a_cycle() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("boxes", Boxes)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    polish, score = graph.stage(same, name="polish"), graph.stage(final, name="score")
    graph.edge(draw, polish, scatter=Seed.parts, fanout=4)
    graph.edge(polish, polish, when=lambda part: part.n < 1, loop=3)
    graph.edge(polish, score, otherwise=True)
    graph.edge(score, pool, gather=True, release=fg.fraction(0.5), late="amend")  # <- late-in-cycle
    return graph


@mistake(
    """
FILE: edge other->others [late-differs]
    found:    late='cancel', the default; edge score->boxes, which gathers the same groups, has late='amend'
    expected: the same late= on all edges that gather a group: the last one released decides about its late members
    fix:      late='amend', or late='cancel' on edge score->boxes
FILE: edge third->thirds [late-differs]
    found:    late='drop'; edge score->boxes, which gathers the same groups, has late='amend'
    expected: the same late= on all edges that gather a group: the last one released decides about its late members
    fix:      late='amend', or late='drop' on edge score->boxes
"""
)
def gathers_of_one_scatter_that_disagree() -> fg.Graph:
    graph, _, score, pool = grouped()
    other, third, fourth, fifth = (graph.stage(keep, name=name) for name in ("other", "third", "fourth", "fifth"))
    half: dict[str, Any] = {"gather": True, "release": fg.fraction(0.5)}

    @graph.source(reads=pool)
    def second(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    graph.edge(second, score, scatter=Seed.parts)
    graph.edge(score, pool, late="amend", **half)
    graph.edge(score, other)
    graph.edge(other, graph.pool("others", Boxes), **half)  # <- late-differs
    graph.edge(score, third)
    graph.edge(third, graph.pool("thirds", Boxes), late="drop", **half)  # <- late-differs
    graph.edge(score, fourth)
    graph.edge(fourth, graph.pool("fourths", Boxes), gather=True)
    graph.edge(score, fifth)
    graph.edge(fifth, graph.pool("fifths", Boxes), late="amend", **half)
    return graph


@mistake(
    """
FILE: edge other->others [bad-late]
    found:    late='ammend'
    expected: one of cancel, drop, amend
    fix:      did you mean 'amend'?
"""
)
def misspelt_beside_a_gather_of_the_same_scatter() -> fg.Graph:
    graph, _, score, pool = grouped()
    other = graph.stage(keep, name="other")
    half: dict[str, Any] = {"gather": True, "release": fg.fraction(0.5)}
    graph.edge(score, pool, late="amend", **half)
    graph.edge(score, other)
    graph.edge(other, graph.pool("others", Boxes), late="ammend", **half)  # <- bad-late
    return graph


# ---- cycles ----------------------------------------------------------------------------------------------


def looped(**options: Any) -> fg.Graph:
    """Return ``draw -> one <-> two -> value -> scores``; the options are on the edge that leads back."""
    graph, draw, pool = plain()
    one, two = graph.stage(again, name="one"), graph.stage(again, name="two")
    stage = graph.stage(value)
    graph.edge(draw, one)
    graph.edge(one, two)
    graph.edge(two, one, when=Seed.big, **options)  # <- * on the edge back
    graph.edge(two, stage, otherwise=True)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge two->one [cycle-without-loop]
    found:    it closes the cycle one -> two -> one, which passes no pool
    expected: loop=N on one edge of a cycle: each item passes it at most N times
    fix:      loop=3 here, or end the cycle at a pool
"""
)
def cycle_without_loop() -> fg.Graph:
    return looped()


@mistake(
    """
FILE: edge one->one [cycle-without-loop]
    found:    it closes the cycle one -> one, which passes no pool
    expected: loop=N on one edge of a cycle: each item passes it at most N times
    fix:      loop=3 here, or end the cycle at a pool
FILE: edge two->one [cycle-without-loop]
    found:    it closes the cycle one -> two -> one, which passes no pool
    expected: loop=N on one edge of a cycle: each item passes it at most N times
    fix:      loop=3 here, or end the cycle at a pool
"""
)
def two_cycles_without_loop() -> fg.Graph:
    graph, draw, pool = plain()
    one, two = graph.stage(again, name="one"), graph.stage(again, name="two")
    stage = graph.stage(value)
    graph.edge(draw, one)
    graph.edge(one, one, when=Seed.big)  # <- cycle-without-loop
    graph.edge(one, two, otherwise=True)
    graph.edge(two, one, when=Seed.big)  # <- cycle-without-loop
    graph.edge(two, stage, otherwise=True)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [loop-without-cycle]
    found:    loop=3 on an edge that closes no cycle
    expected: loop on an edge that leads back
    fix:      drop loop
"""
)
def loop_without_cycle() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, loop=3)  # <- loop-without-cycle
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge two->one [loop-without-exit]
    found:    no edge leaves its cycle of one, two
    expected: an edge out of the cycle, because an item would be lost after its last pass
    fix:      graph.edge(two, ..., otherwise=True)
"""
)
def loop_without_exit() -> fg.Graph:
    graph, draw, pool = plain()
    one, two = graph.stage(again, name="one"), graph.stage(again, name="two")
    stage = graph.stage(value)
    graph.edge(draw, one)
    graph.edge(draw, stage)
    graph.edge(one, two)
    graph.edge(two, one, loop=3)  # <- loop-without-exit
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge two->one [cycle-capacity]
    found:    capacity=4
    expected: at least 8, because 8 open rounds can put that many items into its cycle
    fix:      capacity=8, or leave it out, so that the schedule sets it
"""
)
def loop_too_small() -> fg.Graph:
    return looped(loop=3, capacity=4)


@mistake(
    """
FILE: edge draw->polish [unbounded-fanout]
    found:    it scatters without a bound, before or in the cycle of polish
    expected: a bound, because only a cycle that holds a bounded number of items cannot deadlock
    fix:      fanout=N on the edge
"""
)
def scatter_without_a_bound_before_a_loop() -> fg.Graph:
    graph, draw, pool = plain()

    polish = graph.stage(same, name="polish")
    score = graph.stage(final, name="score")
    graph.edge(draw, polish, scatter=Seed.parts)  # <- unbounded-fanout
    graph.edge(polish, polish, when=lambda part: part.n < 1, loop=3)
    graph.edge(polish, score, otherwise=True)
    graph.edge(score, pool)
    return graph


@mistake(
    """
FILE: edge copies->one [unbounded-fanout]
    found:    it comes from a stage that returns Several without a bound, before or in the cycle of one
    expected: a bound, because only a cycle that holds a bounded number of items cannot deadlock
    fix:      fanout=N on stage 'copies'
"""
)
def several_without_a_bound_before_a_loop() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage
    def copies(seed: Seed) -> fg.Several[Seed]:
        return fg.Several([seed])

    one, stage = graph.stage(again, name="one"), graph.stage(value)
    graph.edge(draw, copies)
    graph.edge(copies, one)  # <- unbounded-fanout
    graph.edge(one, one, when=Seed.big, loop=3)
    graph.edge(one, stage, otherwise=True)
    graph.edge(stage, pool)
    return graph


# ---- composition -----------------------------------------------------------------------------------------


def part() -> fg.Graph:
    """A part with a pool, a parameter and one stage; another graph feeds it."""
    graph = fg.Graph("part", params=params_like({"size": 3}))
    pool = graph.pool("scores", Scores)
    stage = graph.stage(value)
    graph.edge(stage, pool)
    return graph


def whole(prefix: Any = "part", graph: Any = None, **options: Any) -> fg.Graph:
    """A graph that includes the part and feeds it."""
    whole = fg.Graph("whole")
    kept = whole.pool("kept", Scores)

    @whole.source(reads=kept)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    if options.get("pools") == "misspelt":
        options["pools"] = {"scroes": kept}
    included = whole.include(graph or part(), prefix, **options)  # <- * on include
    stage = whole.stage(value)
    whole.edge(draw, stage)
    whole.edge(stage, kept)
    if graph is None and prefix == "part":
        whole.edge(draw, included["value"])
    return whole


@mistake(
    """
FILE: parameter 'sise' of included graph 'part' [unknown-in-part]
    found:    'sise'
    expected: a parameter that 'part' declares
    fix:      did you mean 'size'?
"""
)
def include_with_a_misspelt_parameter() -> fg.Graph:
    return whole(params={"sise": 4})


@mistake(
    """
FILE: pool 'scroes' of included graph 'part' [unknown-in-part]
    found:    'scroes'
    expected: a pool that 'part' declares
    fix:      did you mean 'scores'?
"""
)
def include_with_a_misspelt_pool() -> fg.Graph:
    return whole(pools="misspelt")


@mistake(
    """
FILE: pool 'scores' of included graph 'part' [part-pool-not-a-pool]
    found:    'scores' instead of a pool
    expected: a pool of graph 'whole', as graph.pool(...) returned it
    fix:      pools={'scores': POOL}
"""
)
def include_with_another_graphs_pool() -> fg.Graph:
    _, _, foreign = plain()
    return whole(pools={"scores": foreign})


@mistake(
    """
FILE: include of 'gepa.py' [bad-include]
    found:    a str
    expected: a fg.Graph
    fix:      graph.include(PART, 'prefix')
"""
)
def include_of_a_file_name() -> fg.Graph:
    return whole(graph="gepa.py")


@mistake(
    """
FILE: include of 'part' [bad-include]
    found:    prefix 'my part'
    expected: a name of letters, digits and underscores
    fix:      e.g. 'part'
"""
)
def include_with_a_bad_prefix() -> fg.Graph:
    return whole(prefix="my part")


@mistake(
    """
FILE: include of 'plain' [bad-include]
    found:    the graph itself
    expected: another graph
    fix:      declare the part as a fg.Graph of its own
"""
)
def include_of_itself() -> fg.Graph:
    graph, draw, pool = plain()
    graph.include(graph, "again")  # <- bad-include
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: include of 'part' [bad-include]
    found:    prefix 'part', which another included graph has
    expected: one prefix for each included graph
    fix:      e.g. 'part_2'
"""
)
def include_twice_under_one_prefix() -> fg.Graph:
    graph, draw, pool = plain()
    included = graph.include(part(), "part")
    graph.include(part(), "part")  # <- bad-include
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(draw, included["value"])
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->part.valeu [foreign-node]
    found:    'part.valeu', which is not a node of graph 'plain'
    expected: a pool, source or stage of graph 'plain'
    fix:      did you mean 'part.value'?
"""
)
def edge_to_a_misspelt_node_of_a_part() -> fg.Graph:
    graph, draw, pool = plain()
    included = graph.include(part(), "part")
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(draw, included["valeu"])  # <- foreign-node
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage option 'worker' [unknown-option]
    found:    worker=3
    expected: one of counts, fanout, model, name, reads, retries, runs, timeout, workers
    fix:      did you mean 'workers'?
FILE: edge inner.value->kept [not-positive]
    found:    capacity=0
    expected: a whole number from 1
    fix:      capacity=1, or leave it out
"""
)
def mistakes_of_a_part() -> fg.Graph:
    inner = fg.Graph("inner")
    pool = inner.pool("scores", Scores)
    stage = inner.stage(value, worker=3)  # <- unknown-option
    inner.edge(stage, pool, capacity=0)  # <- not-positive

    outer = fg.Graph("outer")
    kept = outer.pool("kept", Scores)

    @outer.source(reads=kept)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    included = outer.include(inner, "inner", pools={"scores": kept})
    outer.edge(draw, included["value"])
    return outer


# ---- several at once -------------------------------------------------------------------------------------


@mistake(
    """
FILE: stage 'first' [not-positive]
    found:    workers=0
    expected: a whole number from 1
    fix:      workers=1, or leave it out
FILE: edge first->second [type-mismatch]
    found:    'first' delivers Batch
    expected: Seed, which stage 'second' takes
    fix:      a stage between that turns Batch into Seed
FILE: edge second->scores [late-without-gather]
    found:    late='cancel' on an edge that gathers nothing
    expected: gather=True on the same edge
    fix:      gather=True, or drop late
"""
)
def three_mistakes() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage(workers=0)  # <- not-positive
    def first(seed: Seed) -> Batch:
        return Batch()

    second = graph.stage(value, name="second")
    graph.edge(draw, first)
    graph.edge(first, second)  # <- type-mismatch
    graph.edge(second, pool, late="cancel")  # <- late-without-gather
    return graph
