"""One small graph for each mistake in a parameter, pool, source or stage, with the message that it must give."""

# ruff: noqa: E501 - messages stand as they are printed
# The graphs are wrong on purpose; tests/typing says which mistakes mypy finds.
# mypy: disable-error-code="arg-type, call-overload, misc, name-defined, no-untyped-def, type-arg, untyped-decorator"
# mypy: disable-error-code="valid-type, var-annotated, type-var"

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt, Work, attempt
from tests.graph.parameters import params_like

from .kit import Boxes, Scores, Seed, Value, mistake, plain

if TYPE_CHECKING:
    from decimal import Decimal


def value(seed: Seed) -> Value:
    return Value()


@attrs.frozen
class Locked:
    lock: threading.Event


@attrs.frozen
class Needy:
    """A pool that cannot be made without an argument."""

    size: int
    artifacts: dict[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Value]) -> Needy:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Needy:
        return self


@attrs.frozen
class Untyped:
    """A pool whose event is not annotated."""

    artifacts: dict[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event):
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Untyped:
        return self


# ---- parameters ------------------------------------------------------------------------------------------


class Shelf:
    """A resource without anything to hold."""


@mistake(
    """
FILE: resource 'shelf' [duplicate-resource]
    found:    a second resource of that name with another factory (the first is at FILE:LINE)
    expected: one resource of each name
    fix:      rename one, e.g. 'shelf_2'
"""
)
def resource_twice() -> fg.Graph:
    graph, draw, pool = plain()
    graph.resource("shelf", Shelf)
    graph.resource("shelf", dict)  # <- duplicate-resource
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: resource 'shelf' [resource-not-a-factory]
    found:    3
    expected: a class or function that makes the resource, because every run makes its own
    fix:      graph.resource('shelf', lambda: ...)
"""
)
def resource_that_exists() -> fg.Graph:
    graph, draw, pool = plain()
    graph.resource("shelf", 3)  # <- resource-not-a-factory
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: costs of graph 'plain' [costs-not-a-function]
    found:    3
    expected: a function that takes a fg.Draw and returns a fg.Costs
    fix:      @graph.costs above such a function
"""
)
def costs_that_are_a_number() -> fg.Graph:
    graph, draw, pool = plain()
    graph.costs(3)  # <- costs-not-a-function
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: graph 'plain' [bad-tests-with]
    found:    tests_with('value', which is Seed -> Value)
    expected: a stage that reads no pool and takes a Work to an Attempt (flashgraph.parts.evaluation)
    fix:      name such a stage, or leave tests_with out: the task's own attempt is used then
"""
)
def tests_with_another_stage() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)  # <- bad-tests-with
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.tests_with(stage)
    return graph


@mistake(
    """
FILE: stage 'value' [bad-runs]
    found:    runs='threads'
    expected: one of loop, thread, process
    fix:      did you mean 'thread'?
"""
)
def a_stage_that_runs_nowhere() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value, runs="threads")  # <- bad-runs
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage 'later' [runs-of-async]
    found:    runs='thread' on an async function
    expected: a plain function: an async one runs on the event loop
    fix:      def later(...), or leave runs out
"""
)
def an_async_stage_in_a_thread() -> fg.Graph:
    graph, draw, pool = plain()

    async def later(seed: Seed) -> Value:
        return value(seed)

    stage = graph.stage(later, runs="thread")  # <- runs-of-async
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage 'sees' [process-with-context]
    found:    runs='process' on a function of an item and a fg.Context
    expected: a function of its item alone: the task, the view and the model stay in this process
    fix:      runs='thread', or leave the fg.Context out
"""
)
def a_stage_with_a_context_in_a_process() -> fg.Graph:
    graph, draw, pool = plain()

    def sees(seed: Seed, ctx: fg.Context) -> Value:
        return value(seed)

    stage = graph.stage(sees, runs="process")  # <- process-with-context
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: result of graph 'plain' [result-not-a-pool]
    found:    'value', a stage
    expected: a pool of this graph
    fix:      graph.result(POOL), where POOL = graph.pool(...)
"""
)
def a_stage_as_the_result() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.result(stage)  # <- result-not-a-pool
    return graph


@mistake(
    """
FILE: graph 'plain' [bad-tests-with]
    found:    tests_with('attempt', which reads pool 'scores')
    expected: a stage that reads no pool and takes a Work to an Attempt (flashgraph.parts.evaluation)
    fix:      name such a stage, or leave tests_with out: the task's own attempt is used then
"""
)
def tests_with_a_reader() -> fg.Graph:
    graph, draw, pool = plain()
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)

    def works(seed: Seed) -> list[Work]:
        return []

    tried = graph.stage(attempt, model="task", reads=pool)  # <- bad-tests-with
    keep = graph.stage(valued)
    graph.edge(draw, tried, scatter=works)
    graph.edge(tried, keep)
    graph.edge(keep, pool)
    graph.tests_with(tried)
    return graph


def valued(found: Attempt) -> Value:
    return Value()


@mistake(
    """
FILE: parameter 'lock' [param-not-plain]
    found:    its default is a lock
    expected: a number, string, bool, None, or a list, tuple or dict of them: it is stored with the run
    fix:      a plain default, from which the stage makes the object
"""
)
def param_of_an_object() -> fg.Graph:
    graph = fg.Graph("plain", params=params_like({"lock": threading.Lock()}))  # <- param-not-plain
    graph, draw, pool = plain(graph)
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


class Unwritten:
    """A class of parameters that is no attrs class."""

    size: int = 3


@mistake(
    """
FILE: parameters of graph 'plain' [bad-params]
    found:    params=Unwritten: it is not an attrs class
    expected: an attrs class whose fields all have a type and a default
    fix:      @attrs.frozen above class Params, and NAME: TYPE = DEFAULT in it
"""
)
def params_of_a_plain_class() -> fg.Graph:
    graph = fg.Graph("plain", params=Unwritten)  # <- bad-params
    graph, draw, pool = plain(graph)
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage 'sized' [wrong-params]
    found:    Unwritten as the parameters of its fg.Context; its graph has no params=
    expected: the class of parameters of its graph
    fix:      params=Unwritten
"""
)
def stage_with_another_graphs_parameters() -> fg.Graph:
    graph, draw, pool = plain()

    @graph.stage  # <- wrong-params
    def sized(seed: Seed, ctx: fg.Context[None, Unwritten]) -> Value:
        return Value()

    graph.edge(draw, sized)
    graph.edge(sized, pool)
    return graph


@mistake(
    """
FILE: parameter 'window' [reserved-param]
    found:    'window' is a setting of the schedule
    expected: another name: --set could not tell the two apart
    fix:      e.g. 'window_size'
"""
)
def param_named_like_a_setting() -> fg.Graph:
    graph = fg.Graph("plain", params=params_like({"window": 3}))  # <- reserved-param
    graph, draw, pool = plain(graph)
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


# ---- pools -----------------------------------------------------------------------------------------------


def around(factory: Any) -> fg.Graph:
    """Return a graph whose only mistake can be its pool."""
    graph = fg.Graph("g")
    pool = graph.pool("scores", factory)  # <- not-a-pool pool-not-a-factory pool-factory-raises

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: pool 'scores' [not-a-pool]
    found:    Seed: it has no method apply(event)
    expected: a class with apply(event: fg.PoolEvent[T]), artifacts and best()
    fix:      use a pool of flashgraph.parts, or write these three (docs/reference/graph-files.md, Pools)
"""
)
def pool_of_a_plain_class() -> fg.Graph:
    return around(Seed)


@mistake(
    """
FILE: pool 'scores' [not-a-pool]
    found:    Untyped: apply(event) must take a fg.PoolEvent[...]; its event is not annotated
    expected: a class with apply(event: fg.PoolEvent[T]), artifacts and best()
    fix:      use a pool of flashgraph.parts, or write these three (docs/reference/graph-files.md, Pools)
"""
)
def pool_without_types() -> fg.Graph:
    return around(Untyped)


@mistake(
    """
FILE: pool 'scores' [not-a-pool]
    found:    a lambda makes a dict: it has no method apply(event)
    expected: a class with apply(event: fg.PoolEvent[T]), artifacts and best()
    fix:      use a pool of flashgraph.parts, or write these three (docs/reference/graph-files.md, Pools)
"""
)
def pool_factory_of_something_else() -> fg.Graph:
    return around(lambda: {})


@mistake(
    """
FILE: pool 'scores' [pool-not-a-factory]
    found:    a Scores that exists already
    expected: a class or function that makes the pool, because every run starts with a new one
    fix:      graph.pool('scores', Scores), or lambda: Scores(...)
"""
)
def pool_made_already() -> fg.Graph:
    return around(Scores())


@mistake(
    """
FILE: pool 'scores' [pool-factory-raises]
    found:    Needy() raised TypeError: Needy.__init__() missing 1 required positional argument: 'size'
    expected: a factory that makes the pool's value at version 0 without arguments
    fix:      lambda: Needy(...) with its arguments
"""
)
def pool_that_needs_an_argument() -> fg.Graph:
    return around(Needy)


@mistake(
    """
FILE: pool 'scores' [pool-factory-raises]
    found:    broken() raised FileNotFoundError: seeds.json
    expected: a factory that makes the pool's value at version 0 without arguments
    fix:      make it return the empty pool
"""
)
def pool_factory_raises() -> fg.Graph:
    def broken() -> Scores:
        raise FileNotFoundError("seeds.json")

    return around(broken)


@mistake(
    """
FILE: pool 'scores' [duplicate-node]
    found:    a second node of that name (the first is at FILE:LINE)
    expected: one node of each name
    fix:      graph.pool('scores_2', ...)
"""
)
def pool_twice() -> fg.Graph:
    graph, draw, pool = plain()
    graph.pool("scores", Scores)  # <- duplicate-node
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: pool 'other' [bad-name]
    found:    graph.pool(Scores, 'other')
    expected: its name first, then its factory
    fix:      graph.pool('other', Scores)
"""
)
def pool_arguments_swapped() -> fg.Graph:
    graph, draw, pool = plain()
    other = graph.pool(Scores, "other")  # <- bad-name
    stage = graph.stage(value)
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    graph.edge(stage, other)
    return graph


# ---- sources ---------------------------------------------------------------------------------------------


def finish(graph: fg.Graph, source: Any, pool: Any) -> fg.Graph:
    """Lead a source of seeds to the pool."""
    stage = graph.stage(value)
    graph.edge(source, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: source 'draw' [async-source]
    found:    an async function
    expected: a plain function, because draws happen in the order of emission; call models in stages
    fix:      def draw(...), and a stage after it for the work that waits
"""
)
def source_is_async() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- async-source
    async def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [source-takes-draw]
    found:    (ctx: Context[Scores])
    expected: one parameter, a fg.Draw
    fix:      def draw(ctx: fg.Draw[Scores]) -> ...
"""
)
def source_takes_a_context() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- source-takes-draw
    def draw(ctx: fg.Context[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [source-takes-draw]
    found:    ()
    expected: one parameter, a fg.Draw
    fix:      def draw(ctx: fg.Draw) -> ...
"""
)
def source_takes_nothing() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(rounds=1)  # <- source-takes-draw
    def draw() -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [several-from-source]
    found:    it returns Several[Seed]
    expected: one item: a source starts one round at a time
    fix:      return a list and scatter= it on the edge, or return Several from a stage after it
"""
)
def source_gives_several() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- several-from-source
    def draw(ctx: fg.Draw[Scores]) -> fg.Several[Seed]:
        return fg.Several([])

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [endless-source]
    found:    it reads no pool, has no rounds= and never returns None: it would never stop
    expected: an end: a number of rounds, None when there is nothing left, or a pool whose versions it waits for
    fix:      rounds=1, reads=POOL, or -> Seed | None
"""
)
def source_never_ends() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source  # <- endless-source
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [bad-stream]
    found:    stream='sequentiel'
    expected: one of keyed, sequential
    fix:      did you mean 'sequential'?
"""
)
def source_with_a_bad_stream() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, stream="sequentiel")  # <- bad-stream
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [not-positive]
    found:    rounds='5'
    expected: a whole number from 1
    fix:      rounds=5, or leave it out
"""
)
def source_with_rounds_in_quotes() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, rounds="5")  # <- not-positive
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source option 'read' [unknown-option]
    found:    read=PoolNode(name='scores')
    expected: one of evidence, focus, name, reads, rounds, state, stream, window
    fix:      did you mean 'reads'?
"""
)
def source_with_an_unknown_option() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(read=pool, rounds=1)  # <- unknown-option
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [reads-twice]
    found:    reads scores, scores
    expected: each pool once
    fix:      name each pool once in reads=
"""
)
def source_reads_a_pool_twice() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=(pool, pool), rounds=1)  # <- reads-twice
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [wrong-view]
    found:    fg.Draw[Scores]; pools 'scores', 'log' are a tuple[Scores, Scores]
    expected: a tuple of the classes of the pools that it reads, in the order of reads=
    fix:      ctx: fg.Draw[tuple[Scores, Scores]]
"""
)
def source_reads_two_pools_and_declares_one() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)
    log = graph.pool("log", Scores)

    @graph.source(reads=(pool, log), rounds=1)  # <- wrong-view
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    finish(graph, draw, pool)
    graph.edge(graph.handle("value"), log)
    return graph


@mistake(
    """
FILE: source 'draw' [reads-not-a-pool]
    found:    reads='scores'
    expected: reads=POOL, the value that graph.pool(...) of this graph returned
    fix:      reads=scores, without quotes, if that is the pool's variable
"""
)
def source_reads_a_name() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads="scores", rounds=1)  # <- reads-not-a-pool
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [reads-not-a-pool]
    found:    reads='scores', a pool of graph 'plain'
    expected: reads=POOL, the value that graph.pool(...) of this graph returned
    fix:      choose from kept
"""
)
def source_reads_another_graphs_pool() -> fg.Graph:
    _, _, foreign = plain()
    graph = fg.Graph("g")
    pool = graph.pool("kept", Scores)

    @graph.source(reads=foreign, rounds=1)  # <- reads-not-a-pool
    def draw(ctx: fg.Draw) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [view-without-reads]
    found:    fg.Draw[Scores] on a source that reads no pool: ctx.view would be None
    expected: reads=POOL on the same node
    fix:      reads=POOL, or ctx: fg.Draw
"""
)
def source_with_a_view_it_does_not_read() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(rounds=1)  # <- view-without-reads
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [wrong-view]
    found:    fg.Draw[Boxes]; pool 'scores' is a Scores
    expected: the class of the pool that it reads
    fix:      ctx: fg.Draw[Scores]
"""
)
def source_with_another_pools_view() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- wrong-view
    def draw(ctx: fg.Draw[Boxes]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [wrong-state]
    found:    no state=, which makes its first value None
    expected: a first value of type Epochs, as its fg.Draw declares
    fix:      state=Epochs(...)
"""
)
def source_without_its_state() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool)  # <- wrong-state
    def draw(ctx: fg.Draw[Scores, None, fg.Epochs]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [wrong-state]
    found:    state=Epochs(epoch=-1, ids=()); its Draw declares no state
    expected: the state's type as the third argument of fg.Draw
    fix:      ctx: fg.Draw[Scores, object, Epochs]
"""
)
def source_with_an_undeclared_state() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, state=fg.Epochs())  # <- wrong-state
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


@mistake(
    """
FILE: source 'draw' [state-not-storable]
    found:    its state is a list_iterator, which cannot be stored and read back
    expected: an immutable plain value or attrs class: a resumed run reads it back
    fix:      e.g. state=0, or state=fg.Epochs()
"""
)
def source_with_a_state_of_an_object() -> fg.Graph:
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, state=iter([1, 2]))  # <- state-not-storable
    def draw(ctx: fg.Draw[Scores, None, Iterator[int]]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


# ---- stages: their functions -----------------------------------------------------------------------------


def through(body: Any, **options: Any) -> fg.Graph:
    """Return a graph whose only stage is ``body``."""
    graph, draw, pool = plain()
    stage = graph.stage(body, **options)  # <- * the stage
    graph.edge(draw, stage)
    graph.edge(stage, pool)
    return graph


@mistake(
    """
FILE: stage '<lambda>' [unannotated]
    found:    a lambda, which cannot be annotated
    expected: annotations on every parameter and on the result: they are the types of the ports
    fix:      write it as an annotated def
"""
)
def stage_is_a_lambda() -> fg.Graph:
    return through(lambda seed: Value())


@mistake(
    """
FILE: stage 'scaled' [not-a-function]
    found:    partial(scaled)
    expected: a function with annotations, or a method
    fix:      a def that calls scaled; make the varying part a parameter of the graph: ctx.params.NAME
"""
)
def stage_is_a_partial() -> fg.Graph:
    def scaled(factor: float, seed: Seed) -> Value:
        return Value(factor)

    return through(functools.partial(scaled, 2.0), name="scaled")


@mistake(
    """
FILE: stage 'value' [not-a-function]
    found:    class Value
    expected: a function with annotations, or a method
    fix:      a def that returns Value(...)
"""
)
def stage_is_a_class() -> fg.Graph:
    return through(Value, name="value")


@mistake(
    """
FILE: stage 'value' [not-a-function]
    found:    the object Scorer()
    expected: a function with annotations, or a method
    fix:      pass its method, or a def that calls it
"""
)
def stage_is_an_object() -> fg.Graph:
    class Scorer:
        def __call__(self, seed: Seed) -> Value:
            return Value()

        def __repr__(self) -> str:
            return "Scorer()"

    return through(Scorer(), name="value")


@mistake(
    """
FILE: stage 'str' [not-a-function]
    found:    the object 'value'
    expected: a function with annotations, or a method
    fix:      decorate a def, or pass one
"""
)
def stage_is_nothing_callable() -> fg.Graph:
    return through("value")


@mistake(
    """
FILE: stage 'values' [generator]
    found:    a generator: it yields
    expected: a function that returns its result once
    fix:      return fg.Several([...]) for several items, or a list and scatter= on the edge after it
"""
)
def stage_is_a_generator() -> fg.Graph:
    def values(seed: Seed) -> Iterator[Value]:
        yield Value()

    return through(values)


@mistake(
    """
FILE: stage 'value' [unannotated]
    found:    parameter 'seed' has no annotation
    expected: annotations on every parameter and on the result: they are the types of the ports
    fix:      def value(seed: TYPE) -> TYPE
"""
)
def stage_without_annotation() -> fg.Graph:
    def value(seed) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unannotated]
    found:    no return annotation
    expected: annotations on every parameter and on the result: they are the types of the ports
    fix:      def value(...) -> TYPE
"""
)
def stage_without_return_annotation() -> fg.Graph:
    def value(seed: Seed):
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unresolved-annotation]
    found:    an annotation names 'Decimal', which is not defined
    expected: annotations that resolve when the file has been loaded
    fix:      define or import 'Decimal' at the top of the file (not under TYPE_CHECKING)
"""
)
def stage_with_a_type_for_type_checkers_only() -> fg.Graph:
    def value(seed: Seed) -> Decimal:
        raise NotImplementedError

    return through(value)


@mistake(
    """
FILE: stage 'value' [unresolved-annotation]
    found:    an annotation names 'Sed', which is not defined
    expected: annotations that resolve when the file has been loaded
    fix:      did you mean 'Seed'?
"""
)
def stage_with_a_misspelt_type() -> fg.Graph:
    def value(seed: Sed) -> Value:  # noqa: F821
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unresolved-annotation]
    found:    an annotation cannot be read: module 'flashgraph' has no attribute 'Grop'
    expected: annotations that resolve when the file has been loaded
    fix:      did you mean 'Group'?
"""
)
def stage_with_a_misspelt_attribute() -> fg.Graph:
    def value(seed: fg.Grop[Seed, Value]) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unresolved-annotation]
    found:    an annotation cannot be read: TypeError: Too many arguments for <class 'flashgraph.graph.ports.Group'>; actual 3, expected 2
    expected: annotations that resolve when the file has been loaded
    fix:      correct the annotation
"""
)
def stage_with_a_broken_annotation() -> fg.Graph:
    def value(seed: fg.Group[Seed, Value, int]) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unresolved-annotation]
    found:    the annotation of 'seed' is 3, which is not a type
    expected: types as annotations
    fix:      seed: int, or the class that is meant
"""
)
def stage_with_a_value_as_annotation() -> fg.Graph:
    def value(seed: 3) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [stage-arity]
    found:    3 parameters (seed, ctx, factor)
    expected: its item, and optionally a fg.Context; nothing else can be filled in
    fix:      def value(item: TYPE, ctx: fg.Context) -> ...; constants are parameters of the graph: ctx.params.NAME
"""
)
def stage_with_too_many_parameters() -> fg.Graph:
    def value(seed: Seed, ctx: fg.Context, factor: float = 2.0) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [stage-arity]
    found:    2 parameters (seed, factor)
    expected: its item, and optionally a fg.Context; nothing else can be filled in
    fix:      def value(item: TYPE, ctx: fg.Context) -> ...; constants are parameters of the graph: ctx.params.NAME
"""
)
def stage_with_a_keyword_parameter() -> fg.Graph:
    def value(seed: Seed, *, factor: float = 2.0) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [stage-arity]
    found:    no parameter
    expected: its item, and optionally a fg.Context; nothing else can be filled in
    fix:      def value(item: TYPE, ctx: fg.Context) -> ...
"""
)
def stage_without_parameters() -> fg.Graph:
    def value() -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [second-is-context]
    found:    its second parameter 'other' is a Seed
    expected: a fg.Context
    fix:      ctx: fg.Context; put other inputs in the item or in the parameters of the graph
"""
)
def stage_with_a_second_item() -> fg.Graph:
    def value(seed: Seed, other: Seed) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [item-comes-first]
    found:    its first parameter 'ctx' is a fg.Context
    expected: its item, and then the fg.Context
    fix:      def value(item: TYPE, ctx: fg.Context) -> ...
"""
)
def stage_with_its_context_first() -> fg.Graph:
    def value(ctx: fg.Context, seed: Seed) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [stage-takes-draw]
    found:    its first parameter 'ctx' is a fg.Draw
    expected: an item: only sources draw
    fix:      @graph.source on it, or def value(item: TYPE, ctx: fg.Context) -> ...
"""
)
def stage_that_draws() -> fg.Graph:
    def value(ctx: fg.Draw[Scores]) -> Value:
        return Value()

    return through(value)


# ---- stages: results -------------------------------------------------------------------------------------


@mistake(
    """
FILE: stage 'value' [returns-nothing]
    found:    it returns None only
    expected: a type of item, with | None if some items are filtered out
    fix:      annotate what it returns, e.g. -> Proposal | None
"""
)
def stage_returns_none() -> fg.Graph:
    def value(seed: Seed) -> None:
        return None

    return through(value)


@mistake(
    """
FILE: stage 'value' [returns-awaitable]
    found:    a plain function that returns Awaitable[Value]
    expected: an async function where something is awaited
    fix:      async def value(...)
"""
)
def stage_returns_an_awaitable() -> fg.Graph:
    def value(seed: Seed) -> Awaitable[Value]:
        raise NotImplementedError

    return through(value)


@mistake(
    """
FILE: stage 'value' [several-in-union]
    found:    it returns Value | Several[Value]
    expected: fg.Several[T], or fg.Several[T] | None, alone
    fix:      -> fg.Several[A | B], with one item in it where there is only one
"""
)
def stage_returns_one_or_several() -> fg.Graph:
    def value(seed: Seed) -> Value | fg.Several[Value]:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [not-storable]
    found:    it gives Locked, in which Event cannot be stored and read back
    expected: plain values, enums, attrs or data classes, and containers of them: a run must be resumable
    fix:      copy the data of Event into an attrs class of plain values
"""
)
def stage_returns_a_lock_inside() -> fg.Graph:
    def value(seed: Seed) -> Locked:
        raise NotImplementedError

    return through(value)


@mistake(
    """
FILE: stage 'value' [not-storable]
    found:    it gives object, which cannot be stored and read back
    expected: plain values, enums, attrs or data classes, and containers of them: a run must be resumable
    fix:      copy the data of object into an attrs class of plain values
"""
)
def stage_returns_an_object() -> fg.Graph:
    def value(seed: Seed) -> object:
        return Value()

    return through(value)


# ---- stages: options -------------------------------------------------------------------------------------


@mistake(
    """
FILE: stage 'value' [model-needs-async]
    found:    model='task' on a plain function
    expected: an async function: a model call is awaited
    fix:      async def value(...), or runs='thread', or leave model out
"""
)
def stage_with_llm_but_not_async() -> fg.Graph:
    def value(seed: Seed, ctx: fg.Context) -> Value:
        return Value()

    return through(value, model="task")


@mistake(
    """
FILE: stage 'value' [needs-context]
    found:    model='task' on a stage that takes only its item
    expected: a second parameter ctx: fg.Context, which has ctx.llm
    fix:      def value(item: TYPE, ctx: fg.Context) -> ..., or leave it out
"""
)
def stage_with_llm_but_no_context() -> fg.Graph:
    async def value(seed: Seed) -> Value:
        return Value()

    return through(value, model="task")


@mistake(
    """
FILE: stage 'value' [bad-model]
    found:    model=answer
    expected: the name of a role, for which the run chooses a model
    fix:      model='task', and models={'task': ...} of the run
"""
)
def stage_with_a_model_as_llm() -> fg.Graph:
    async def value(seed: Seed, ctx: fg.Context) -> Value:
        return Value()

    def answer(messages: Any) -> str:
        return ""

    return through(value, model=answer)


@mistake(
    """
FILE: stage 'value' [view-without-reads]
    found:    fg.Context[Scores] on a stage that reads no pool: ctx.view would be None
    expected: reads=POOL on the same node
    fix:      reads=POOL, or ctx: fg.Context
"""
)
def stage_with_a_view_it_does_not_read() -> fg.Graph:
    def value(seed: Seed, ctx: fg.Context[Scores]) -> Value:
        return Value()

    return through(value)


@mistake(
    """
FILE: stage 'value' [unknown-budget]
    found:    counts='evaluation'
    expected: one of proposals, evaluations (calls, tokens and money are counted by themselves)
    fix:      did you mean 'evaluations'?
"""
)
def stage_spends_what_nobody_counts() -> fg.Graph:
    return through(value, counts=["evaluation"])


@mistake(
    """
FILE: stage 'value' [not-positive]
    found:    workers='8'
    expected: a whole number from 1
    fix:      workers=8, or leave it out
"""
)
def stage_with_workers_in_quotes() -> fg.Graph:
    return through(value, workers="8")


@mistake(
    """
FILE: stage 'value' [fanout-without-several]
    found:    fanout=3 on a stage that returns Value
    expected: fg.Several[...] as its result: fanout bounds how many items that may hold
    fix:      drop fanout, or return fg.Several
"""
)
def stage_with_a_fanout_of_one_item() -> fg.Graph:
    return through(value, fanout=3)


@mistake(
    """
FILE: stage option 'worker' [unknown-option]
    found:    worker=3
    expected: one of counts, fanout, model, name, reads, retries, runs, timeout, workers
    fix:      did you mean 'workers'?
"""
)
def stage_with_an_unknown_option() -> fg.Graph:
    return through(value, worker=3)


@mistake(
    """
FILE: stage 'best value' [bad-name]
    found:    'best value'
    expected: a name of letters, digits and underscores
    fix:      name='best_value'
"""
)
def stage_with_a_bad_name() -> fg.Graph:
    return through(value, name="best value")


@mistake(
    """
FILE: stage 'value' [duplicate-node]
    found:    a second node of that name (the first is at FILE:LINE)
    expected: one node of each name
    fix:      name='value_2'
"""
)
def stage_twice() -> fg.Graph:
    graph, draw, pool = plain()
    first = graph.stage(value)
    second = graph.stage(value)  # <- duplicate-node
    graph.edge(draw, first)
    graph.edge(draw, second)
    graph.edge(first, pool)
    graph.edge(second, pool)
    return graph


def staged(**options: Any) -> fg.Graph:
    """Return a graph whose plain stage has these options."""
    graph = fg.Graph("g")
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, rounds=3)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    @graph.stage(**options)  # <- timeout-of-plain bad-timeout bad-retries
    def measure(seed: Seed) -> Value:
        return Value(0.0)

    graph.edge(draw, measure)
    graph.edge(measure, pool)
    return graph


@mistake(
    """
FILE: stage 'measure' [timeout-of-plain]
    found:    timeout=60 on a plain function, which cannot be stopped on the event loop
    expected: an async function, or runs='thread' or 'process'
    fix:      runs='thread', or async def measure(...)
"""
)
def timeout_of_a_plain_function() -> fg.Graph:
    return staged(timeout=60)


@mistake(
    """
FILE: stage 'measure' [bad-timeout]
    found:    timeout=0
    expected: seconds above 0
    fix:      timeout=60, or leave it out
FILE: stage 'measure' [bad-retries]
    found:    retries=-1
    expected: a whole number from 0
    fix:      retries=2, or leave it out
"""
)
def wrong_timeout_and_retries() -> fg.Graph:
    return staged(timeout=0, retries=-1)


# ---- functions of the parameters -------------------------------------------------------------------------


@attrs.frozen
class Numbers:
    """The parameters of the graphs below."""

    generations: int = attrs.field(default=3, validator=attrs.validators.ge(1))


def many(params: Numbers) -> int:
    return params.generations // 0


@mistake(
    """
FILE: source 'draw' [option-raises]
    found:    rounds=many, which raised ZeroDivisionError: integer division or modulo by zero
    expected: a function of the parameters of its graph that returns a whole number
    fix:      rounds=lambda params: params.NAME, or a number
"""
)
def source_whose_number_raises() -> fg.Graph:
    graph = fg.Graph("g", params=Numbers)
    pool = graph.pool("scores", Scores)

    @graph.source(reads=pool, rounds=many)  # <- option-raises
    def draw(ctx: fg.Draw[Scores, Numbers]) -> Seed:
        return Seed()

    return finish(graph, draw, pool)


def generations(params: Numbers) -> int:
    return params.generations


@mistake(
    """
FILE: parameters of graph 'g' [bad-default]
    found:    parameter part.generations=0: must be >= 1
    expected: values that its classes take
    fix:      e.g. part.generations=3
"""
)
def included_default_that_its_class_refuses() -> fg.Graph:
    part = fg.Graph("part", params=Numbers)
    scores = part.pool("scores", Scores)

    @part.source(reads=scores, rounds=generations)
    def draw(ctx: fg.Draw[Scores, Numbers]) -> Seed:
        return Seed()

    finish(part, draw, scores)
    graph = fg.Graph("g")  # <- bad-default
    graph.include(part, "part", params={"generations": 0})
    return graph
