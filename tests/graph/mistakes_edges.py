"""One small graph for each mistake in an edge, with the message that it must give."""

# ruff: noqa: E501 - messages stand as they are printed
# The graphs are wrong on purpose; tests/typing says which mistakes mypy finds.
# mypy: disable-error-code="arg-type, call-overload, misc, name-defined, no-untyped-def, type-arg, untyped-decorator"
# mypy: disable-error-code="valid-type, var-annotated"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

import flashgraph as fg

from .kit import Batch, Boxes, Part, Scores, Seed, Value, grouped, mistake, plain


def value(seed: Seed) -> Value:
    return Value()


def edges(
    first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, body: Callable[..., Any] = value
) -> fg.Graph:
    """``draw -> value -> scores`` with options on its edges."""
    graph, draw, pool = plain()
    stage = graph.stage(body)
    graph.edge(draw, stage, **first or {})  # <- * on the first edge
    graph.edge(stage, pool, **second or {})  # <- * on the second edge
    return graph


def gathers(**options: Any) -> fg.Graph:
    """Return a grouped graph with options on its gathering edge."""
    graph, _, score, pool = grouped()
    graph.edge(score, pool, gather=True, **options)  # <- * on the gathering edge
    return graph


def scatters(scatter: Any, **options: Any) -> fg.Graph:
    """Return a graph that scatters seeds with another function."""
    graph = fg.Graph("g")
    pool = graph.pool("boxes", Boxes)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    @graph.stage
    def score(part: Part) -> Value:
        return Value()

    graph.edge(draw, score, scatter=scatter, **options)  # <- * on the scattering edge
    graph.edge(score, pool, gather=True)
    return graph


# ---- ends ------------------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge scores->draw [edge-from-pool]
    found:    it starts at pool 'scores'
    expected: an edge that starts at a source or a stage: pools are read, they do not emit
    fix:      drop the edge: 'draw' reads the pool already
"""
)
def edge_from_the_pool_to_its_source() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(pool, draw)  # <- edge-from-pool
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge scores->value [edge-from-pool]
    found:    it starts at pool 'scores'
    expected: an edge that starts at a source or a stage: pools are read, they do not emit
    fix:      reads=scores on 'value'
"""
)
def edge_from_a_pool_to_a_stage() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(pool, stage)  # <- edge-from-pool
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge value->draw [edge-into-source]
    found:    it ends at source 'draw'
    expected: an edge that ends at a stage or a pool: sources take no items
    fix:      end the edge at 'scores', the pool that the source reads
"""
)
def edge_back_to_the_source() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, draw)  # <- edge-into-source
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [foreign-node]
    found:    the function value
    expected: a pool, source or stage of graph 'plain'
    fix:      pass the node that graph.stage returned for 'value'
"""
)
def edge_to_a_function() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, value)  # <- foreign-node
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [foreign-node]
    found:    'draw'
    expected: a pool, source or stage of graph 'plain'
    fix:      pass the node that graph.source returned for 'draw'
"""
)
def edge_from_a_name() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge("draw", stage)  # <- foreign-node
    graph.edge(stage, pool)
    assert draw.name == "draw"
    return graph


@mistake(
    """
FILE: edge draw->? [foreign-node]
    found:    graph.stage(...), which has no function yet
    expected: a pool, source or stage of graph 'plain'
    fix:      graph.stage(FUNCTION, ...)
"""
)
def edge_to_a_stage_without_its_function() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(name="value", workers=2)
    graph.edge(draw, stage)  # <- foreign-node
    other = graph.stage(value)
    graph.edge(draw, other)
    graph.edge(other, pool)
    return graph


@mistake(
    """
FILE: edge value->scores [foreign-node]
    found:    'scores', a node of graph 'plain'
    expected: a pool, source or stage of graph 'g'
    fix:      graph.include(plain, 'prefix')['scores'], or a node of this graph
"""
)
def edge_into_another_graph() -> fg.Graph:
    other, _, foreign = plain()
    graph = fg.Graph("g")
    pool = graph.pool("kept", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, foreign)  # <- foreign-node
    assert other.name == "plain"
    return graph


@mistake(
    """
FILE: edge draw->value [duplicate-edge]
    found:    a second edge from the same node to the same node
    expected: one edge between the same two nodes
    fix:      join the two conditions in one when=, or put a stage between
"""
)
def edge_twice() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, when=lambda seed: seed.n > 3)
    graph.edge(draw, stage, otherwise=True)  # <- duplicate-edge
    graph.edge(stage, pool)
    return graph


# ---- option values ---------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge draw->value [not-positive]
    found:    capacity='64'
    expected: a whole number from 1
    fix:      capacity=64, or leave it out
"""
)
def capacity_in_quotes() -> fg.Graph:
    return edges({"capacity": "64"})


@mistake(
    """
FILE: edge draw->value [not-positive]
    found:    capacity=0
    expected: a whole number from 1
    fix:      capacity=1, or leave it out
"""
)
def capacity_zero() -> fg.Graph:
    return edges({"capacity": 0})


@mistake(
    """
FILE: edge option 'capcity' [unknown-option]
    found:    capcity=3
    expected: one of capacity, distinct, fanout, gather, late, loop, on_failure, only, order, orphans, otherwise, release, scatter, stale, when
    fix:      did you mean 'capacity'?
"""
)
def unknown_option() -> fg.Graph:
    return edges({"capcity": 3})


@mistake(
    """
FILE: edge value->scores [not-a-bool]
    found:    otherwise=0
    expected: True or False
    fix:      otherwise=False
"""
)
def otherwise_is_a_number() -> fg.Graph:
    return edges(second={"otherwise": 0})


@mistake(
    """
FILE: edge draw->value [not-callable]
    found:    when=property Seed.ready
    expected: a function of the item
    fix:      when=lambda item: item.ready
"""
)
def when_is_a_property() -> fg.Graph:
    return edges({"when": Seed.ready})


@mistake(
    """
FILE: edge draw->value [async-function]
    found:    when=ready, an async function
    expected: a plain function, because it is called while items are routed
    fix:      do the waiting in a stage before the edge, and use when= on its result
"""
)
def when_is_async() -> fg.Graph:
    async def ready(seed: Seed) -> bool:
        return True

    return edges({"when": ready})


@mistake(
    """
FILE: edge draw->value [function-arity]
    found:    when=ready, which cannot be called with one argument
    expected: a function of the item
    fix:      def ready(item): ...
"""
)
def when_takes_two() -> fg.Graph:
    def ready(seed: Seed, limit: int) -> bool:
        return True

    return edges({"when": ready})


@mistake(
    """
FILE: edge draw->value [when-of-another-type]
    found:    when=ready takes Value; Seed arrives
    expected: a function of Seed
    fix:      a function that takes Seed
"""
)
def when_takes_another_type() -> fg.Graph:
    def ready(value: Value) -> bool:
        return True

    return edges({"when": ready})


@mistake(
    """
FILE: edge draw->value [when-of-another-type]
    found:    when=Batch.big takes Batch; Seed arrives
    expected: a function of Seed
    fix:      when=Seed.big
"""
)
def when_is_another_types_method() -> fg.Graph:
    return edges({"when": Batch.big})


@mistake(
    """
FILE: edge draw->value [when-not-a-bool]
    found:    when=ready returns str
    expected: True or False: whether the edge takes the item
    fix:      -> bool
"""
)
def when_says_no_bool() -> fg.Graph:
    def ready(seed: Seed) -> str:
        return "yes"

    return edges({"when": ready})


@mistake(
    """
FILE: edge draw->value [bad-stale]
    found:    stale='discard(4)'
    expected: a staleness rule
    fix:      stale=fg.discard(above=4)
"""
)
def stale_in_quotes() -> fg.Graph:
    return edges({"stale": "discard(4)"})


@mistake(
    """
FILE: edge draw->value [bad-stale]
    found:    stale=refresh, which was not called
    expected: a staleness rule
    fix:      stale=fg.refresh(...)
"""
)
def stale_not_called() -> fg.Graph:
    return edges({"stale": fg.refresh})


@mistake(
    """
FILE: edge draw->value [bad-stale]
    found:    stale: above=-1
    expected: a lag: a whole number from 0
    fix:      above=0 acts on every stale item
"""
)
def stale_below_zero() -> fg.Graph:
    return edges({"stale": fg.discard(above=-1)})


@mistake(
    """
FILE: edge score->boxes [bad-release]
    found:    release=everyone, which was not called
    expected: a release rule
    fix:      release=fg.everyone(...)
"""
)
def release_not_called() -> fg.Graph:
    return gathers(release=fg.everyone)


@attrs.frozen
class Hasty:
    """A release rule that does not say how many it needs."""

    def ready(self, group: Any, arrived: int, elapsed: float) -> bool:
        return True

    def deadline(self) -> float | None:
        return None

    def flaw(self) -> None:
        return None


@mistake(
    """
FILE: edge score->boxes [bad-release]
    found:    release=Hasty()
    expected: a release rule
    fix:      release=fg.fraction(0.5)
"""
)
def release_that_needs_nobody_knows_how_many() -> fg.Graph:
    return gathers(release=Hasty())


@mistake(
    """
FILE: edge score->boxes [bad-release]
    found:    release: fraction(67)
    expected: a share over 0 and at most 1
    fix:      fraction(0.5) waits for half
"""
)
def release_over_one() -> fg.Graph:
    return gathers(release=fg.fraction(67))


@mistake(
    """
FILE: edge score->boxes [bad-release]
    found:    release=Fraction(share='0.5', least=1): '<' not supported between instances of 'int' and 'str'
    expected: a release rule with numbers of the right kind
    fix:      release=fg.fraction(0.5)
"""
)
def release_in_quotes_inside() -> fg.Graph:
    return gathers(release=fg.fraction("0.5"))


@mistake(
    """
FILE: edge draw->value [bad-order]
    found:    order=fraction(0.5)
    expected: an order
    fix:      order=fg.freshest()
"""
)
def order_of_another_kind() -> fg.Graph:
    return edges({"order": fg.fraction(0.5)})


@mistake(
    """
FILE: edge draw->value [bad-order]
    found:    order: priority('n')
    expected: a function from the item to a sortable key
    fix:      pass such a function
"""
)
def order_by_nothing() -> fg.Graph:
    return edges({"order": fg.priority("n")})


@mistake(
    """
FILE: edge score->boxes [bad-on-failure]
    found:    on_failure=0.2
    expected: a failure rule
    fix:      on_failure=fg.fail_above(0.2)
"""
)
def on_failure_is_a_number() -> fg.Graph:
    return gathers(on_failure=0.2)


@mistake(
    """
FILE: edge score->boxes [bad-on-failure]
    found:    on_failure: fail_above(20)
    expected: a share from 0 to 1
    fix:      fail_above(0.2) tolerates a fifth of failures
"""
)
def on_failure_over_one() -> fg.Graph:
    return gathers(on_failure=fg.fail_above(20))


@mistake(
    """
FILE: edge score->boxes [bad-late]
    found:    late='ammend'
    expected: one of cancel, drop, amend
    fix:      did you mean 'amend'?
"""
)
def late_misspelt() -> fg.Graph:
    return gathers(release=fg.fraction(0.5), late="ammend")


@mistake(
    """
FILE: edge draw->value [bad-orphans]
    found:    orphans='retain'
    expected: one of discard, keep
    fix:      choose from discard, keep
"""
)
def orphans_misspelt() -> fg.Graph:
    return edges({"orphans": "retain"})


# ---- options together ------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge draw->value [release-without-gather]
    found:    release=fraction(0.5) on an edge that gathers nothing
    expected: gather=True on the same edge
    fix:      gather=True, or drop release
"""
)
def release_without_gather() -> fg.Graph:
    return edges({"release": fg.fraction(0.5)})


@mistake(
    """
FILE: edge draw->value [late-without-gather]
    found:    late='cancel' on an edge that gathers nothing
    expected: gather=True on the same edge
    fix:      gather=True, or drop late
"""
)
def late_without_gather() -> fg.Graph:
    return edges({"late": "cancel"})


@mistake(
    """
FILE: edge draw->value [on-failure-without-gather]
    found:    on_failure=fail_above(0.2) on an edge that gathers nothing
    expected: gather=True on the same edge
    fix:      gather=True, or drop on_failure
"""
)
def on_failure_without_gather() -> fg.Graph:
    return edges({"on_failure": fg.fail_above(0.2)})


@mistake(
    """
FILE: edge score->boxes [late-without-release]
    found:    late='amend' on a group that waits for every member
    expected: a release rule on the same edge
    fix:      release=fg.fraction(0.5), or drop late
"""
)
def late_without_release() -> fg.Graph:
    return gathers(late="amend")


@mistake(
    """
FILE: edge draw->value [fanout-without-scatter]
    found:    fanout=3 on an edge that scatters nothing
    expected: scatter= on the same edge: fanout bounds the members of a group
    fix:      drop fanout, or add scatter
"""
)
def fanout_without_scatter() -> fg.Graph:
    return edges({"fanout": 3})


@mistake(
    """
FILE: edge draw->value [order-needs-scatter]
    found:    order=discriminative(3) on an edge that scatters nothing
    expected: scatter= on the same edge: the rule orders the members of a group
    fix:      put it on the scattering edge, or use fg.freshest()
"""
)
def scatter_order_without_scatter() -> fg.Graph:
    return edges({"order": fg.discriminative()})


@mistake(
    """
FILE: edge score->boxes [scatter-and-gather]
    found:    scatter= and gather=True on one edge
    expected: one of them: a group is gathered after the stage that works on its members
    fix:      put a stage between the two
"""
)
def scatter_and_gather() -> fg.Graph:
    graph, _, score, pool = grouped()

    def again(value: Value) -> list[Value]:
        return [value]

    graph.edge(score, pool, gather=True, scatter=again)  # <- scatter-and-gather
    return graph


@mistake(
    """
FILE: edge draw->two [when-and-otherwise]
    found:    when= and otherwise=True on one edge
    expected: one of them
    fix:      otherwise=True alone takes what no sibling edge takes
"""
)
def when_and_otherwise() -> fg.Graph:
    graph, draw, pool = plain()
    one, two = graph.stage(value, name="one"), graph.stage(value, name="two")
    graph.edge(draw, one, when=Seed.big)
    graph.edge(draw, two, when=Seed.big, otherwise=True)  # <- when-and-otherwise
    graph.edge(one, pool)
    graph.edge(two, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [otherwise-alone]
    found:    no other edge starts at 'draw'
    expected: a sibling edge with when=, only= or loop=
    fix:      drop otherwise
"""
)
def otherwise_alone() -> fg.Graph:
    return edges({"otherwise": True})


@mistake(
    """
FILE: edge draw->two [otherwise-never]
    found:    edge draw->one has no condition: it takes everything, and nothing is left for this one
    expected: siblings that all have when=, only= or loop=
    fix:      when= on edge draw->one, or drop otherwise
"""
)
def otherwise_beside_an_open_edge() -> fg.Graph:
    graph, draw, pool = plain()
    one, two = graph.stage(value, name="one"), graph.stage(value, name="two")
    graph.edge(draw, one)
    graph.edge(draw, two, otherwise=True)  # <- otherwise-never
    graph.edge(one, pool)
    graph.edge(two, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [bad-only]
    found:    only='Seed'
    expected: a class: the edge takes its instances
    fix:      only=TYPE, without arguments
"""
)
def only_in_quotes() -> fg.Graph:  # bad-only
    return edges({"only": "Seed"})


@mistake(
    """
FILE: edge draw->value [only-never]
    found:    only=Part; 'draw' gives Seed, which is never a Part
    expected: Seed, or no only= at all
    fix:      drop only
"""
)
def only_what_never_comes() -> fg.Graph:
    return edges({"only": Part})


def forked(only: type, other: type) -> fg.Graph:
    """A source of seeds and batches, and an edge for each of two classes."""
    graph = fg.Graph("forked")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Seed | Batch | Part:
        return Seed()

    @graph.stage
    def seeds(seed: Seed) -> Value:
        return Value()

    @graph.stage
    def batches(batch: Batch) -> Value:
        return Value()

    graph.edge(draw, seeds, only=only)  # <- only-never type-mismatch
    graph.edge(draw, batches, only=other)  # <- only-leaves-out
    graph.edge(seeds, pool)
    graph.edge(batches, pool)
    return graph


@mistake(
    """
FILE: source 'draw' [only-leaves-out]
    found:    no edge takes Part: each has only= for something else
    expected: an edge for every result
    fix:      graph.edge(draw, ..., only=Part), or return None to end the item here
"""
)
def only_for_some() -> fg.Graph:
    return forked(Seed, Batch)


@mistake(
    """
FILE: edge draw->seeds [only-never]
    found:    only=Value; 'draw' gives Seed | Batch | Part, which is never a Value
    expected: one of Seed, Batch, Part
    fix:      choose from Batch, Part, Seed
"""
)
def only_for_another() -> fg.Graph:
    return forked(Value, Batch)


@mistake(
    """
FILE: edge draw->three [second-otherwise]
    found:    edge draw->two has otherwise=True already: it takes all that is left
    expected: one edge with otherwise=True out of a stage
    fix:      when= on one of the two
"""
)
def otherwise_twice() -> fg.Graph:
    graph, draw, pool = plain()
    one, two = graph.stage(value, name="one"), graph.stage(value, name="two")
    three = graph.stage(value, name="three")
    graph.edge(draw, one, when=Seed.big)
    graph.edge(draw, two, otherwise=True)
    graph.edge(draw, three, otherwise=True)  # <- second-otherwise
    graph.edge(one, pool)
    graph.edge(two, pool)
    graph.edge(three, pool)
    return graph


# ---- types -----------------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge draw->value [type-mismatch]
    found:    'draw' delivers Seed
    expected: Batch, which stage 'value' takes
    fix:      a stage between that turns Seed into Batch
"""
)
def edge_of_another_type() -> fg.Graph:
    def value(batch: Batch) -> Value:
        return Value()

    return edges(body=value)


@mistake(
    """
FILE: edge draw->scores [type-mismatch]
    found:    'draw' delivers Seed
    expected: Value, which pool 'scores' takes
    fix:      end the edge at 'value', which takes it
"""
)
def edge_past_its_stage() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(draw, pool)  # <- type-mismatch
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge value->scores [type-mismatch]
    found:    'value' delivers Value | Part; Part does not fit
    expected: Value, which pool 'scores' takes
    fix:      a stage between that turns Value | Part into Value
"""
)
def union_of_which_one_does_not_fit() -> fg.Graph:
    def value(seed: Seed) -> Value | Part:
        return Value()

    return edges(body=value)


@mistake(
    """
FILE: edge draw->value [type-mismatch]
    found:    'draw' delivers kit.Seed
    expected: elsewhere.Seed, which stage 'value' takes
    fix:      a stage between that turns kit.Seed into elsewhere.Seed
"""
)
def two_types_of_one_name() -> fg.Graph:
    def value(seed: other.Seed) -> Value:
        return Value()

    import types

    class Twin:
        pass

    Twin.__name__, Twin.__module__ = "Seed", "elsewhere"
    other = types.SimpleNamespace(Seed=Twin)
    value.__annotations__["seed"] = Twin
    assert other
    return edges(body=value)


@mistake(
    """
FILE: edge draw->score [type-mismatch]
    found:    scatter=split makes Batch
    expected: Part, which stage 'score' takes
    fix:      a scatter function that makes Part
"""
)
def scatter_into_another_type() -> fg.Graph:
    def split(seed: Seed) -> list[Batch]:
        return []

    return scatters(split)


@mistake(
    """
FILE: edge draw->value [type-mismatch]
    found:    scatter=Seed.parts makes Part
    expected: Seed, which stage 'value' takes
    fix:      a scatter function that makes Seed
"""
)
def scatter_method_into_another_type() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, scatter=Seed.parts)  # <- type-mismatch
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->score [scatter-of-another-type]
    found:    scatter=Batch.parts takes Batch; Seed arrives
    expected: a function of Seed
    fix:      scatter=Seed.parts
"""
)
def scatter_of_another_types_method() -> fg.Graph:
    return scatters(Batch.parts)


@mistake(
    """
FILE: edge draw->score [scatter-of-another-type]
    found:    scatter=split takes Value; Seed arrives
    expected: a function of Seed
    fix:      a function that takes Seed
"""
)
def scatter_of_another_type() -> fg.Graph:
    def split(value: Value) -> list[Part]:
        return []

    return scatters(split)


@mistake(
    """
FILE: edge draw->score [scatter-unannotated]
    found:    scatter=a lambda, which cannot be annotated
    expected: a function (item) -> Sequence[MEMBER], annotated: its members' type must be known
    fix:      write it as a def with annotations, or as a method of the item
"""
)
def scatter_by_a_lambda() -> fg.Graph:
    return scatters(lambda seed: [Part(1)])


@mistake(
    """
FILE: edge draw->score [scatter-unannotated]
    found:    scatter=split: no return annotation
    expected: a function (item) -> Sequence[MEMBER], annotated: its members' type must be known
    fix:      def split(...) -> list[MEMBER]
"""
)
def scatter_without_annotation() -> fg.Graph:
    def split(seed: Seed):
        return []

    return scatters(split)


@mistake(
    """
FILE: edge draw->score [scatter-not-a-sequence]
    found:    scatter=split returns set[Part]
    expected: a list or tuple of members: their number and order must be known
    fix:      -> list[MEMBER]
"""
)
def scatter_into_a_set() -> fg.Graph:
    def split(seed: Seed) -> set[Part]:
        return set()

    return scatters(split)


@mistake(
    """
FILE: edge draw->score [scatter-not-a-sequence]
    found:    scatter=split returns str
    expected: a list or tuple of members: their number and order must be known
    fix:      -> list[MEMBER]
"""
)
def scatter_into_a_string() -> fg.Graph:
    def split(seed: Seed) -> str:
        return ""

    return scatters(split)


@mistake(
    """
FILE: edge draw->score [scatter-not-a-sequence]
    found:    scatter=split returns Sequence[Part] | None
    expected: a list or tuple of members: their number and order must be known
    fix:      an empty list where there are none
"""
)
def scatter_into_nothing_at_times() -> fg.Graph:
    def split(seed: Seed) -> Sequence[Part] | None:
        return None

    return scatters(split)


@mistake(
    """
FILE: edge draw->value [not-callable]
    found:    scatter='parts'
    expected: a function of the item
    fix:      scatter=TYPE.work
"""
)
def scatter_is_no_function() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, scatter="parts")  # <- not-callable
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge score->total [gather-needs-group]
    found:    gather=True delivers Group[Seed, Value]; stage 'total' takes Value
    expected: a consumer of Group[Seed, Value]
    fix:      annotate its item as fg.Group[Seed, Value], or drop gather
"""
)
def gather_into_a_stage_of_single_items() -> fg.Graph:
    graph, _, score, pool = grouped()

    @graph.stage
    def total(value: Value) -> fg.Group[Seed, Value]:
        raise NotImplementedError

    graph.edge(score, total, gather=True)  # <- gather-needs-group
    graph.edge(total, pool)
    return graph


@mistake(
    """
FILE: edge score->boxes [group-needs-gather]
    found:    single items of Value; pool 'boxes' takes Group[Seed, Value]
    expected: Group[Seed, Value]
    fix:      gather=True on this edge
"""
)
def group_without_gather() -> fg.Graph:
    graph, _, score, pool = grouped()
    graph.edge(score, pool)  # <- group-needs-gather
    return graph


@mistake(
    """
FILE: edge draw->value [group-needs-gather]
    found:    single items of Seed; stage 'value' takes Group[Seed, Seed]
    expected: Group[Seed, Seed]
    fix:      scatter= upstream and gather=True here
"""
)
def group_without_scatter() -> fg.Graph:
    def value(batch: fg.Group[Seed, Seed]) -> Value:
        return Value()

    return edges(body=value)


@mistake(
    """
FILE: edge draw->value [gather-without-scatter]
    found:    items of 'draw' were never scattered
    expected: an edge with scatter= somewhere before it
    fix:      scatter= upstream, or drop gather
"""
)
def gather_without_scatter() -> fg.Graph:
    def value(batch: fg.Group[Seed, Seed]) -> Value:
        return Value()

    return edges({"gather": True}, body=value)


@mistake(
    """
FILE: edge score->total [type-mismatch]
    found:    'score' delivers Group[Seed, Value]
    expected: Group[Batch, Value], which stage 'total' takes
    fix:      annotate the item of 'total' as fg.Group[Seed, Value], or gather what was scattered from it
"""
)
def gather_of_another_origin() -> fg.Graph:
    graph, _, score, pool = grouped()

    @graph.stage
    def total(batch: fg.Group[Batch, Value]) -> fg.Group[Seed, Value]:
        raise NotImplementedError

    graph.edge(score, total, gather=True)  # <- type-mismatch
    graph.edge(total, pool)
    return graph


@mistake(
    """
FILE: edge draw->note [failures-of-a-source]
    found:    only=fg.Failed on an edge out of source 'draw'
    expected: an edge out of a stage: a source that raises ends the run
    fix:      let the source return None, or move what may fail into a stage
"""
)
def failures_of_a_source() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, rounds=3)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    @graph.stage
    def note(failed: fg.Failed[Seed]) -> Value:
        return Value(0.0)

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(draw, note, only=fg.Failed)  # <- failures-of-a-source
    graph.edge(stage, pool)
    graph.edge(note, pool)
    return graph


@mistake(
    """
FILE: edge value->note [type-mismatch]
    found:    'value' delivers Failed[Seed]
    expected: Failed[int], which stage 'note' takes
    fix:      a stage between that turns Failed[Seed] into Failed[int]
"""
)
def failures_of_another_type() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, rounds=3)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    @graph.stage
    def note(failed: fg.Failed[int]) -> Value:
        return Value(0.0)

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, note, only=fg.Failed)  # <- type-mismatch
    graph.edge(stage, pool)
    graph.edge(note, pool)
    return graph


# ---- staleness -------------------------------------------------------------------------------------------


@mistake(
    """
FILE: edge draw->value [refresh-needs-reads]
    found:    a refresh rule before stage 'value', which reads no pool
    expected: a stage with reads=POOL: refresh hands it the newest view
    fix:      reads=POOL on the stage
"""
)
def refresh_before_a_stage_that_reads_nothing() -> fg.Graph:
    return edges({"stale": fg.refresh()})


@mistake(
    """
FILE: edge value->scores [refresh-needs-reads]
    found:    a refresh rule before pool 'scores': a pool needs no view
    expected: a stage with reads=POOL: refresh hands it the newest view
    fix:      fg.discard(above=4) or fg.repair(STAGE)
"""
)
def refresh_before_a_pool() -> fg.Graph:
    return edges(second={"stale": fg.discard(above=4) | fg.refresh()})


@mistake(
    """
FILE: edge value->scores [stale-without-version]
    found:    stale=discard(above=4) on items that carry no version: nothing before it reads a pool
    expected: a source or stage with reads=POOL upstream
    fix:      reads=POOL, or drop stale
"""
)
def stale_without_a_version() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool, stale=fg.discard(above=4))  # <- stale-without-version
    return graph


@mistake(
    """
FILE: edge value->scores [stale-of-unread]
    found:    stale=discard(above=4, of=log) counts the lag behind 'log', which nothing before the edge reads
    expected: a pool of this graph that a source or stage upstream reads
    fix:      choose from scores
"""
)
def stale_of_a_pool_that_nothing_reads() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)
    log = graph.pool("log", Scores)

    @graph.source(reads=pool, rounds=3)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, log)
    graph.edge(stage, pool, stale=fg.discard(above=4, of=log))  # <- stale-of-unread
    return graph


@mistake(
    """
FILE: edge draw->value [repair-not-a-stage]
    found:    repair(vale)
    expected: a stage of this graph that takes fg.Stale[T] and returns fg.Verdict[T]
    fix:      did you mean 'value'?
"""
)
def repair_by_a_misspelt_name() -> fg.Graph:
    return edges({"stale": fg.repair("vale")})


@mistake(
    """
FILE: edge draw->value [repair-not-a-stage]
    found:    repair(draw), which is a source
    expected: a stage of this graph that takes fg.Stale[T] and returns fg.Verdict[T]
    fix:      fg.repair(STAGE), or fg.discard(above=4)
"""
)
def repair_by_a_source() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, stale=fg.repair(draw))  # <- repair-not-a-stage
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [repair-signature]
    found:    repair stage 'value' is Seed -> Value
    expected: Stale[Seed] -> Verdict[Seed]
    fix:      a stage (stale: fg.Stale[Seed], ctx: fg.Context) -> fg.Verdict[Seed]
"""
)
def repair_by_a_stage_of_the_flow() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, stale=fg.repair(stage))  # <- repair-signature
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [repair-type]
    found:    repair stage 'patch' is Stale[Batch] -> Verdict[Batch]
    expected: Stale[Seed] -> Verdict[Seed], for the items that wait on this edge
    fix:      a repair stage for Seed
"""
)
def repair_of_another_type() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage(reads=pool)
    def patch(stale: fg.Stale[Batch], ctx: fg.Context[Scores]) -> fg.Verdict[Batch]:
        return fg.Verdict.accept()

    stage = graph.stage(value)
    graph.edge(draw, stage, stale=fg.repair(patch))  # <- repair-type
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge score->boxes [repair-of-amended]
    found:    a repair rule on a group that is amended: the amendment would deliver the unrepaired members again
    expected: repair before the group is scattered
    fix:      move the repair rule to the edge that scatters it, or late='cancel' on score->boxes
"""
)
def repair_of_what_is_amended() -> fg.Graph:
    graph, _, score, pool = grouped()

    @graph.stage(reads=pool)
    def patch(stale: fg.Stale[fg.Group[Seed, Value]], ctx: fg.Context[Boxes]) -> fg.Verdict[fg.Group[Seed, Value]]:
        return fg.Verdict.accept()

    options: dict[str, Any] = {"release": fg.fraction(0.5), "late": "amend", "stale": fg.repair(patch)}
    graph.edge(score, pool, gather=True, **options)  # <- repair-of-amended
    return graph


@mistake(
    """
FILE: edge draw->score [repair-type]
    found:    repair stage 'patch' is Stale[Part] -> Verdict[Part]
    expected: Stale[Seed] -> Verdict[Seed], for the items that wait on this edge
    fix:      a repair stage for Seed
"""
)
def repair_of_the_members_of_a_scatter() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("boxes", Boxes)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    @graph.stage
    def score(part: Part) -> Value:
        return Value()

    @graph.stage
    def patch(stale: fg.Stale[Part]) -> fg.Verdict[Part]:
        return fg.Verdict.accept()

    graph.edge(draw, score, scatter=Seed.parts, stale=fg.repair(patch))  # <- repair-type
    graph.edge(score, pool, gather=True)
    return graph


@mistake(
    """
FILE: edge patch->value [edge-at-repair]
    found:    'patch' is a repair stage
    expected: no edges at a repair stage: items go through it and back to the edge they wait on
    fix:      drop the edge, or use a second stage with the same function
"""
)
def repair_stage_with_an_edge() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage
    def patch(stale: fg.Stale[Seed]) -> fg.Verdict[Seed]:
        return fg.Verdict.accept()

    stage = graph.stage(value)
    graph.edge(draw, stage, stale=fg.repair(patch))
    graph.edge(patch, stage)  # <- edge-at-repair
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: edge draw->value [repair-not-a-stage]
    found:    repair(patch)
    expected: a stage of this graph that takes fg.Stale[T] and returns fg.Verdict[T]
    fix:      fg.repair(STAGE), or fg.discard(above=4)
"""
)
def repair_by_another_graphs_stage() -> fg.Graph:
    other, _, _ = plain()

    @other.stage
    def patch(stale: fg.Stale[Seed]) -> fg.Verdict[Seed]:
        return fg.Verdict.accept()

    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage, stale=fg.repair(patch))  # <- repair-not-a-stage
    graph.edge(stage, pool)
    return graph
