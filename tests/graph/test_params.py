"""Parameters as a class: types, bounds and choices, checked before a model opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest
from attrs.validators import ge, le
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.params import objects
from flashgraph.policies.schedule import pipelined
from flashgraph.policies.settings import apply_settings


@attrs.frozen
class Params:
    size: int = attrs.field(default=3, validator=ge(1))
    share: float = attrs.field(default=0.5, validator=[ge(0), le(1)])
    mode: Literal["fast", "slow"] = "fast"
    score: float | None = None
    note: str | None = None
    names: tuple[str, ...] | list[str] = ("a", "b")
    deep: bool = False
    table: Mapping[str, int] = attrs.field(factory=dict)


TASK = fg.Task("params", [0], [0], seed={"text": "-"}, score=lambda sample, output: fg.Score(0.5))
GRAPH = fg.Graph("graph", params=Params)


@attrs.frozen
class Log:
    """A pool of all that was admitted."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Log:
        return Log({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Log:
        return self


def applied(**settings: str) -> dict[str, Any]:
    return apply_settings(GRAPH.spec, pipelined(), {}, settings)[1]


def refusal(params: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    with pytest.raises(fg.DataError) as caught:
        apply_settings(GRAPH.spec, pipelined(), params, settings)
    return str(caught.value)


def test_the_defaults_are_those_of_the_class() -> None:
    assert applied() == attrs.asdict(Params(), recurse=False)
    assert objects(GRAPH.spec.classes, applied()) == {"": Params()}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("note", "7", "7"), ("size", "7", 7), ("share", "1", 1), ("mode", "slow", "slow"),
        ("score", "None", None), ("score", "2", 2),
        ("deep", "true", True), ("names", "('x',)", ("x",)), ("names", "['x']", ["x"]), ("table", "{'a': 1}", {"a": 1}),
    ],
)  # fmt: skip
def test_text_is_read_by_the_type(name: str, text: str, value: object) -> None:
    assert applied(**{name: text})[name] == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("size", "0", "parameter size=0: must be >= 1.\nFix: e.g. size=3."),
        ("size", "2.5", "parameter size=2.5 is a float; expected int.\nFix: e.g. size=3."),
        ("size", "True", "parameter size=True is a bool; expected int.\nFix: e.g. size=3."),
        ("share", "1.5", "parameter share=1.5: must be <= 1.\nFix: e.g. share=0.5."),
        ("mode", "slwo", "parameter mode='slwo'; expected one of fast, slow.\nFix: did you mean 'slow'?"),
        ("score", "high", "parameter score='high' is a str; expected float or None.\nFix: e.g. score=None."),
        ("names", "('a', 1)", "parameter names=('a', 1) is a tuple; expected tuple[str, ...] or list[str].\n"
                              "Fix: e.g. names=('a', 'b')."),
        ("table", "{'a': 'b'}", "parameter table={'a': 'b'} is a dict; expected Mapping[str, int].\n"
                                "Fix: e.g. table={}."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_the_fix(name: str, text: str, message: str) -> None:
    assert refusal({}, {name: text}) == message
    assert refusal({"sise": 3}, {}).endswith("Fix: did you mean 'size'?")


@given(st.dictionaries(st.sampled_from([f.name for f in attrs.fields(Params)]), st.one_of(
    st.none(), st.booleans(), st.integers(-2, 4), st.floats(-1, 2), st.text(max_size=4), st.lists(st.integers()),
)))  # fmt: skip
def test_a_value_is_refused_or_the_functions_see_it(values: dict[str, Any]) -> None:
    """A run starts with exactly the values that were given, in an object of the class, or not at all."""
    try:
        chosen = apply_settings(GRAPH.spec, pipelined(), values, {})[1]
    except fg.DataError:
        return
    made = objects(GRAPH.spec.classes, chosen)[""]
    assert {name: getattr(made, name) for name in values} == values
    attrs.validate(made)


def test_a_wrong_value_is_found_before_a_model_opens() -> None:
    """No model is opened, and no journal made, for parameters that the graph refuses."""
    opened: list[str] = []

    def model(messages: Any) -> str:
        opened.append("opened")
        return ""

    with pytest.raises(fg.DataError, match="minibatch"):
        fg.run("gepa", TASK, models=model, params={"minibatch": 0})
    assert opened == []


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_functions_see_their_own_graphs_parameters(schedule: str) -> None:
    """A stage of an included graph sees its graph's class; the outer graph reads that of the part by name."""
    seen: dict[str, Any] = {}
    part = fg.Graph("part", params=Params)

    @part.stage
    def inner(value: str, ctx: fg.Context[None, Params]) -> str:
        seen["inner"] = ctx.params.size
        return value

    @attrs.frozen
    class Outer:
        size: int = 8

    graph = fg.Graph("outer", params=Outer)
    held = graph.include(part, "part", params={"size": 5})

    @graph.source(rounds=1)
    def start(ctx: fg.Draw[None, Outer]) -> str:
        params: Params = ctx.params_of(held)
        seen["outer"], seen["part"] = ctx.params.size, params.size
        return "value"

    graph.edge(start, held["inner"])
    graph.edge(held["inner"], graph.pool("pool", Log))
    fg.run(graph, TASK, models={}, schedule=schedule, params={"size": 9})
    assert seen == {"inner": 5, "outer": 9, "part": 5}


def test_another_class_is_a_mistake() -> None:
    """A function that declares another class than its graph's is named; so are classes that cannot hold parameters."""

    class Plain:
        size: int = 3

    @attrs.frozen
    class Needing:
        size: int

    graph = fg.Graph("graph", params=Params)

    @graph.source(rounds=1)
    def start(ctx: fg.Draw[None, Plain]) -> str:
        return "value"

    graph.edge(start, graph.pool("pool", Log))
    assert [(p.code, p.fix) for p in graph.check()] == [("wrong-params", "ctx: fg.Draw[None, Params]")]
    assert [p.code for p in fg.Graph("plain", params=Plain).noted] == ["bad-params"]
    assert "field 'size' has no default" in fg.Graph("needing", params=Needing).noted[0].found
