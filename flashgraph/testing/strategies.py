"""Hypothesis strategies for shapes, schedules and faults."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flashgraph.policies.control import balanced, drain_first, shortest_first
from flashgraph.policies.schedule import Schedule, lockstep, pipelined
from flashgraph.testing.shape import Choice, Ending, Fan, Loop, Rule, Segment, Shape, Split, Step

__all__ = ["moving_limits", "schedules", "segments", "shapes", "steps"]


RULES: tuple[Rule, ...] = ("fraction", "fraction", "count", "deadline", "decided", "sampled")


def steps(in_group: bool = False) -> st.SearchStrategy[Step]:
    """Return a strategy for single stages; inside a group none returns `Several`."""
    return st.builds(
        Step,
        fail=st.sampled_from([0.0, 0.0, 0.3]),
        drop=st.sampled_from([0.0, 0.0, 0.3]),
        calls=st.sampled_from([0, 0, 1, 2]),
        role=st.sampled_from(["model", "model", "judge"]),
        reads=st.booleans(),
        side=st.booleans(),
        names=st.sampled_from(["", "oldest", "newest"]),
        workers=st.sampled_from([None, 1, 2, 5]),
        several=st.just(1) if in_group else st.sampled_from([1, 1, 1, 3]),
        stale=st.sampled_from(["", "", "discard", "strict", "repair", "refresh", "touched", "either", "side"]),
        capacity=st.sampled_from([None, 1, 2, 3]),
        order=st.sampled_from(["", "", "freshest", "priority"]),
        counts=st.booleans(),
        keeps=st.sampled_from([False, False, False, True]),
        plain=st.sampled_from([False, False, True]),
        caught=st.sampled_from([False, False, True]),
    )


def single_steps() -> st.SearchStrategy[Step]:
    return steps(in_group=True)


def fans(depth: int, in_group: bool = False) -> st.SearchStrategy[Fan]:
    inner = st.lists(segments(depth - 1, in_group=True), max_size=2).map(tuple)
    return st.builds(
        Fan,
        width=st.integers(0, 5),
        member=single_steps(),
        inner=inner,
        after=single_steps(),
        release=st.sampled_from([0.2, 0.5, 0.8]),
        rule=st.sampled_from(RULES),
        late=st.sampled_from([None, "cancel", "drop", "amend"]),
        fail_above=st.sampled_from([None, 0.0, 0.5]),
        discriminative=st.booleans(),
        other=st.none() if in_group else st.one_of(st.none(), st.none(), st.tuples(single_steps(), single_steps())),
        apart=st.booleans(),
    )


def segments(depth: int = 2, in_group: bool = False) -> st.SearchStrategy[Segment]:
    """Return a strategy for parts of a graph, with groups nested down to ``depth``."""
    simple = single_steps()
    options: list[st.SearchStrategy[Any]] = [steps(in_group), st.builds(Choice, simple, simple, simple)]
    if not in_group:
        options.append(st.builds(Split, simple, simple, simple))
        options.append(st.builds(Loop, st.integers(1, 3), simple, simple))
    if depth > 0:
        options.append(fans(depth, in_group))
    return st.one_of(options)


def endings() -> st.SearchStrategy[Ending]:
    return st.builds(
        Ending,
        width=st.sampled_from([0, 2, 6]),
        member=single_steps(),
        release=st.sampled_from([0.2, 0.5]),
        rule=st.sampled_from(RULES),
        late=st.sampled_from([None, "cancel", "drop", "amend", "amend"]),
        discard_above=st.sampled_from([None, 0, 2]),
        threshold=st.sampled_from([0.0, 0.4]),
        discriminative=st.booleans(),
    )


def shapes() -> st.SearchStrategy[Shape]:
    """Return a strategy for whole graphs."""
    return st.builds(
        Shape,
        segments=st.lists(segments(), max_size=3).map(tuple),
        ending=endings(),
        rounds=st.integers(1, 6),
        second_source=st.booleans(),
        second_pool=st.booleans(),
        both=st.booleans(),
        latency=st.sampled_from(["zero", "constant", "long-tail", "bimodal"]),
        salt=st.integers(0, 1000),
        refused=st.sampled_from([0.0, 0.0, 0.2]),
        shy=st.sampled_from([0.0, 0.0, 0.0, 0.4]),
        contends=st.sampled_from([0, 0, 2, 3]),
    )


def schedules() -> st.SearchStrategy[Schedule]:
    """Return a strategy for lockstep, and for pipelined schedules with narrow and wide windows and both control
    policies."""
    return st.one_of(
        st.just(lockstep()),
        st.builds(
            pipelined,
            window=st.sampled_from([1, 2, 3, 8]),
            control=st.sampled_from([drain_first(), shortest_first(), balanced(5.0)]),
            focus=st.sampled_from([0.0, 0.5]),
        ),
    )


def moving_limits() -> st.SearchStrategy[tuple[str, ...]]:
    """Return a strategy for the limits of one or two endpoints, as texts of `parse_limits`; those of the first move."""
    moving = st.sampled_from(["adaptive(2..7)", "adaptive(1..3)", "steered(1..6)", "steered(4..9), rpm=600"])
    any_ = st.one_of(moving, st.sampled_from(["fixed(1)", "fixed(2), rpm=120, tpm=9000"]))
    return st.one_of(moving.map(lambda one: (one,)), st.tuples(moving, any_))
