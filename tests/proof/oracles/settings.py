"""Reference model of settings: a table of texts with their meanings, and of wrong texts with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.spec import GraphSpec
from flashgraph.policies.control import shortest_first
from flashgraph.policies.order import freshest
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, parse_policy, schedule_of
from flashgraph.testing.tokens import Ledgered
from tests.graph.parameters import params_like
from tests.proof.tried import Property, expect, refusal

__all__ = ["SETTINGS"]


@cache
def _graph() -> GraphSpec:
    """Return a graph with an edge of each kind, and a parameter of each."""
    graph = fg.Graph("settings", params=params_like(PARAMS))
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool)
    def source(ctx: fg.Draw[Any]) -> Any:
        return 1

    @graph.stage
    def split(value: Any) -> Any:
        return value

    @graph.stage(model="model")
    async def ask(value: Any, ctx: fg.Context[Any]) -> Any:
        return value

    @graph.stage(reads=pool)
    def join(group: fg.Group[Any, Any], ctx: fg.Context[Any]) -> Any:
        return group

    @graph.stage(reads=pool, model="model")
    async def patch(stale: fg.Stale[Any], ctx: fg.Context[Any]) -> fg.Verdict[Any]:
        return fg.Verdict.accept()

    graph.edge(source, split)
    graph.edge(split, ask, scatter=list, fanout=4)
    graph.edge(ask, join, gather=True, release=fg.fraction(0.5))
    graph.edge(join, pool, stale=fg.repair(patch))
    return graph.spec


PARAMS: Mapping[str, Any] = {"batch": 3, "rate": 0.5, "flag": True, "name": "slow", "free": None}


@attrs.frozen
class Meant:
    """The meaning of one setting: a value of the schedule, of its workers or of one of its edges, or a parameter."""

    name: str
    given: Any
    value: Any

    def put_in(self, schedule: Schedule, params: dict[str, Any]) -> Schedule:
        owner, _, option = self.name.rpartition(".")
        if self.name in PARAMS:
            params[self.name] = self.value
            return schedule
        if not owner:
            return attrs.evolve(schedule, **{self.name: self.value})
        if option == "workers":
            return attrs.evolve(schedule, workers={**schedule.workers, owner: self.value})
        edge = {**schedule.edges.get(owner, {}), option: self.value}
        return attrs.evolve(schedule, edges={**schedule.edges, owner: edge})


GOOD: Sequence[Meant] = (
    Meant("window", "16", 16), Meant("window", 1, 1), Meant("focus", "0.25", 0.25), Meant("focus", "1", 1.0),
    Meant("focus", 0, 0.0), Meant("control", "drain_first", fg.drain_first()),
    Meant("control", "balanced(2.5)", fg.balanced(2.5)), Meant("control", "fg.balanced", fg.balanced()),
    Meant("control", "shortest_first()", shortest_first()), Meant("ask.workers", "3", 3),
    Meant("ask.workers", " 1..5 ", 5), Meant("split.workers", 2, 2), Meant("source->split.capacity", "7", 7),
    Meant("ask->join.late", "drop", "drop"), Meant("ask->join.late", "'cancel'", "cancel"),
    Meant("ask->join.on_failure", "fail_above(0.25)", fg.fail_above(0.25)),
    Meant("ask->join.on_failure", "missing", fg.missing()), Meant("source->split.order", "freshest", freshest()),
    Meant("ask->join.release", "fg.fraction(0.5, least=2)", fg.fraction(0.5, least=2)),
    Meant("ask->join.release", "count(2)", fg.count(2)),
    Meant("ask->join.stale", "discard(4) | refresh", fg.discard(4) | fg.refresh()),
    Meant("join->pool.stale", "discard(above=2)", fg.discard(2)),
    Meant("join->pool.stale", "repair(patch, above=1, times=2)", fg.repair("patch", 1, times=2)),
    Meant("batch", "5", 5), Meant("batch", 6, 6), Meant("rate", "1", 1), Meant("rate", "-0.5", -0.5),
    Meant("flag", "False", False), Meant("flag", " true", True), Meant("name", "fast", "fast"),
    Meant("name", "7", "7"), Meant("name", "'7'", "7"), Meant("free", "[1, 2]", [1, 2]), Meant("free", "x y", "x y"),
)  # fmt: skip
"""Settings as users type them or pass them from Python."""

WRONG: Sequence[tuple[str, Any, str]] = (
    ("windw", "4", "window"), ("window", "0", "a whole number from 1"), ("window", "1.5", "a whole number from 1"),
    ("window", "True", "a whole number from 1"), ("focus", "1.5", "a share from 0 to 1"),
    ("focus", -0.1, "a share from 0 to 1"), ("focus", "'a'", "a share from 0 to 1"),
    ("control", "fifo", "a control policy"), ("control", "balanced(0)", "seconds from 0.001"),
    ("ask.workers", "0", "a whole number from 1"), ("asc.workers", "2", "ask.workers"),
    ("ask.window", "2", "it has workers"), ("ask.reads", "2", "change it in the graph's file"),
    ("source->split.capacity", "0", "a whole number from 1"), ("ask->join.late", "drp", "cancel, drop or amend"),
    ("ask->join.release", "fraction(2)", "a share over 0 and at most 1"),
    ("ask->join.release", "fraction('a')", "a release rule"), ("ask->join.release", "decided", "takes a function"),
    ("ask->join.release", "fg.decided(f)", "takes a function"), ("ask->join.order", "priority(f)", "takes a function"),
    ("join->pool.stale", "discard", "discard(4)"), ("join->pool.stale", "discrd(4)", "discard(4)"),
    ("join->pool.stale", "discard(-1)", "a whole number from 0"), ("join->pool.stale", "1 +", "it cannot be read"),
    ("join->pool.stale", "f(x)[0]", "is not one"), ("join->pool.stale", "fifo", "a staleness rule"),
    ("join->pool.stale", "repair(ask)", "do not fit"), ("join->pool.stal", "accept", "stale"),
    ("join->pol.stale", "accept", "join->pool.stale"), ("source->split.release", "count(1)", "do not fit"),
    ("source->split.gather", "1", "change it in the graph's file"), ("batch", "1.5", "expected int"),
    ("batch", "x", "expected int"), ("batch", True, "expected int"),
    ("flag", "1", "expected bool"), ("rate", "x", "expected float"),
    ("rate", "True", "expected float"), ("name", 7, "expected str"),
)  # fmt: skip
"""Wrong settings, each with a text that its error must have beside the name."""


def means(chosen: Sequence[int], from_python: Sequence[int]) -> None:
    """I14: settings change what they name in schedule and parameters, and nothing else; later ones win."""
    settings = {GOOD[n].name: GOOD[n] for n in chosen}
    params = {m.name: m for n in from_python if (m := GOOD[n]).name in PARAMS and m.given == m.value}
    schedule, values = fg.pipelined(), dict(PARAMS)
    for meant in [*params.values(), *settings.values()]:
        schedule = meant.put_in(schedule, values)
    given = {name: meant.given for name, meant in settings.items()}
    said = apply_settings(_graph(), fg.pipelined(), {name: m.given for name, m in params.items()}, given)
    expect(said[0] == schedule, f"I14: {given} make {said[0]!r}, expected {schedule!r}")
    expect(said[1] == values, f"I14: {given} make the parameters {said[1]}, expected {values}")


def refused(place: int, beside: int) -> None:
    """I14: a wrong setting is refused by name, with the expectation and the fix."""
    name, given, fragment = WRONG[place % len(WRONG)]
    other = GOOD[beside % len(GOOD)]
    settings = {name: given} if other.name == name else {other.name: other.given, name: given}
    text = refusal(lambda: apply_settings(_graph(), fg.pipelined(), {}, settings)) or "nothing"
    named = name in text or (name.rpartition(".")[0] or name) in text
    expect(named and fragment in text and "Fix: " in text, f"I14: {name}={given!r} is refused with: {text}")


LITERALS: Sequence[tuple[str, Any]] = (
    ("4", 4), ("-4", -4), ("-0.5", -0.5), ("0.5", 0.5), ("cancel", "cancel"), ("'a b'", "a b"), ("None", None),
    ("True", True), (" 7 ", 7), ("given", fg.fifo()), ("everyone", fg.everyone()), ("shortest_first", shortest_first()),
)  # fmt: skip


def literal(place: int) -> None:
    """I14: a literal is itself, an unknown name is its text, and a schedule has a name."""
    text, value = LITERALS[place % len(LITERALS)]
    read = parse_policy(text)
    expect(read == value and type(read) is type(value), f"I14: {text} is read as {read!r}")
    names = {"lockstep": fg.lockstep(), "pipelined": fg.pipelined(), "throughput": fg.throughput()}
    for name, schedule in names.items():
        expect(schedule_of(name) == schedule and str(schedule) == name, f"I14: {name} is {schedule_of(name)!r}")
        expect(schedule_of(schedule) is schedule, f"I14: a schedule is taken for another: {schedule!r}")
    said = refusal(lambda: schedule_of("piplined"))
    expect(said is not None and "'pipelined'" in said, f"I14: an unknown schedule is refused with: {said}")


SETTINGS: Mapping[str, Property] = {
    "model of settings": Property(
        ("I14",),
        means,
        {
            "chosen": st.lists(st.integers(0, len(GOOD) - 1), max_size=4, unique=True),
            "from_python": st.lists(st.integers(0, len(GOOD) - 1), max_size=4, unique=True),
        },
        12,
    ),
    "invalid settings": Property(
        ("I14",),
        refused,
        {"place": st.integers(0, len(WRONG) - 1), "beside": st.integers(0, len(GOOD) - 1)},
        15,
    ),
    "settings of one value": Property(("I14",), literal, {"place": st.integers(0, len(LITERALS) - 1)}, 6),
}
