"""Replies that are read as values of a type, and repaired once."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError, UnusableReply
from flashgraph.llm.parsing import asked, schema_of
from flashgraph.llm.protocol import Reply, ToolCall
from flashgraph.testing.runs import TASK
from tests.run.kit import Virtually
from tests.run.test_sources import Log

pytestmark = pytest.mark.anyio


@attrs.frozen
class Verdict:
    right: bool
    reason: str
    points: int = 0
    notes: list[str] = attrs.field(factory=list)


@dataclasses.dataclass
class Place:
    name: str
    height: float | None = None


class Pair(TypedDict):
    left: int
    right: Literal["a", "b"]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Script:
    """A model that gives these replies in turn, and keeps its requests."""

    def __init__(self, *replies: str | Reply) -> None:
        self.replies = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
        self.requests: list[tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]] = []

    async def __call__(self, messages: Any, **params: Any) -> Reply:
        self.requests.append((messages, params))
        return self.replies[len(self.requests) - 1]


READ: dict[str, tuple[Any, str, Any]] = {
    "attrs": (Verdict, 'So: {"right": true, "reason": "it fits"}', Verdict(True, "it fits")),
    "a fence": (Verdict, "```json\n{'right': False, 'reason': 'no', 'points': '3',}\n```", Verdict(False, "no", 3)),
    "the last object": (Place, '{"name": "an example"} and {"name": "K2", "height": 8611}', Place("K2", 8611.0)),
    "null": (Place, '{"name": "sea", "height": null}', Place("sea", None)),
    "a TypedDict": (Pair, '{"left": 1, "right": "b"}', {"left": 1, "right": "b"}),
    "a bare Literal": (Literal["yes", "no"], "**yes**.", "yes"),
    "a wrapped Literal": (Literal["yes", "no"], 'Well: {"answer": "no"}', "no"),
    "an Enum": (Colour, "blue", Colour.BLUE),
    "a number": (int, '{"answer": 7}', 7),
    "a bare number": (float, "0.25", 0.25),
    "a list": (list[Place], '{"answer": [{"name": "a"}, {"name": "b"}]}', [Place("a"), Place("b")]),
    "a mapping": (dict[str, int], '{"a": 1}', {"a": 1}),
    "a function": (str.upper, "text", "TEXT"),
    "json.loads": (json.loads, "[1, 2]", [1, 2]),
}


@pytest.mark.parametrize("case", READ)
async def test_reads(case: str) -> None:
    """A reply that fits is read without another request."""
    kind, text, value = READ[case]
    model = Script(text)
    reply = await asked(model, "Q", parse=kind)
    assert (reply.parsed, reply.text, len(model.requests)) == (value, text, 1)


WRONG: dict[str, tuple[Any, str, str]] = {
    "no object": (Verdict, "It is right.", "it has no JSON object"),
    "a missing member": (Verdict, '{"right": true}', "the member 'reason' is missing"),
    "a text for a list": (
        Verdict,
        '{"right": true, "reason": "x", "notes": "abc"}',
        "found 'abc', expected a list @ Verdict.notes",
    ),
    "a word for a truth": (Verdict, '{"right": "maybe", "reason": "x"}', "found 'maybe', expected true or false"),
    "a part of a number": (Verdict, '{"right": true, "reason": "x", "points": 1.5}', "expected a whole number"),
    "an object for a text": (Verdict, '{"right": true, "reason": {"a": 1}}', "expected a text"),
    "another label": (Literal["yes", "no"], "perhaps", "it has no JSON object"),
    "another member": (int, '{"value": 3}', "the JSON object has no member 'answer'"),
    "a function": (json.loads, "no json", "Expecting value"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_one_repair_turn(case: str) -> None:
    """An unreadable reply is shown to the model with the reason, once; a second one fails with the reason."""
    kind, text, reason = WRONG[case]
    model = Script(text, text)
    with pytest.raises(UnusableReply, match="nor can its repair") as caught:
        await asked(model, "Q", parse=kind)
    assert reason in str(caught.value)
    repair = model.requests[1][0]
    assert repair[-2] == {"role": "assistant", "content": text}
    assert reason in repair[-1]["content"]


async def test_a_repair_that_fits() -> None:
    """The repaired reply is returned with its value, and parameters are those of the first request."""
    model = Script("hm", '{"right": "yes", "reason": "r"}')
    reply = await asked(model, "Q", parse=Verdict, temperature=0)
    assert reply.parsed == Verdict(True, "r")
    assert [params for _, params in model.requests] == [{"temperature": 0}] * 2


async def test_a_truncated_reply_is_not_repaired() -> None:
    """Another turn would be truncated too."""
    model = Script(Reply('{"right": true', finish="length"))
    with pytest.raises(UnusableReply, match="max_tokens"):
        await asked(model, "Q", parse=Verdict)
    assert len(model.requests) == 1


async def test_a_reply_that_calls_tools_is_returned_unread() -> None:
    """In a loop over tools, only the last reply has the answer."""
    reply = Reply("", finish="tool_calls", tool_calls=[ToolCall("1", "look", "{}")])
    assert await asked(Script(reply), "Q", parse=Verdict, tools=[]) is reply


async def test_pydantic() -> None:
    """A pydantic class gives its own schema, and its own reasons."""
    pydantic = pytest.importorskip("pydantic")
    kind = pydantic.create_model("Answer", points=(int, ...))
    reply = await asked(Script('{"points": "x"}', '{"points": 3}'), "Q", parse=kind)
    assert reply.parsed.points == 3
    assert schema_of(kind)["properties"]["points"]["type"] == "integer"


def test_schemas() -> None:
    """The schema names each member, its type and those that are required."""
    text, whole = {"type": "string"}, {"type": "integer"}
    assert schema_of(Verdict) == {
        "type": "object",
        "properties": {
            "right": {"type": "boolean"},
            "reason": text,
            "points": whole,
            "notes": {"type": "array", "items": text},
        },
        "required": ["right", "reason"],
        "additionalProperties": False,
    }
    assert schema_of(Place)["properties"]["height"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert schema_of(Pair)["required"] == ["left", "right"]
    assert schema_of(Literal["yes", 2])["properties"] == {"answer": {"enum": ["yes", 2]}}


async def test_response_format() -> None:
    """A type and a bare schema become the API's form; the API's own form is sent as it is."""
    schema = schema_of(Place)
    wanted = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    for given_format, sent in ((Place, wanted), (schema, wanted), (wanted, wanted), ({"type": "json_object"},) * 2):
        model = Script("{}")
        await asked(model, "Q", response_format=given_format)
        assert model.requests[0][1] == {"response_format": sent}


@pytest.mark.parametrize(("part", "value"), [("parse", 3), ("parse", "Verdict"), ("response_format", len)])
async def test_what_is_no_type(part: str, value: Any) -> None:
    """A wrong value is refused before a request is sent."""
    model = Script()
    with pytest.raises(DataError, match=f"{part}="):
        await asked(model, "Q", **{part: value})
    assert not model.requests


@given(st.builds(Verdict, st.booleans(), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
                 st.integers(-(10**9), 10**9), st.lists(st.text("abc '\"{}", max_size=5))))  # fmt: skip
async def test_json_of_a_value_is_read_as_that_value(value: Verdict) -> None:
    """Whatever a value holds, its JSON within prose is read as it."""
    reply = await asked(Script(f"Here: {json.dumps(attrs.asdict(value))} Done."), "Q", parse=Verdict)
    assert reply.parsed == value


def test_in_a_stage(virtually: Virtually) -> None:
    """A stage gets the value; a repair is a call of its own in the counts."""
    graph = fg.Graph("asks")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> int:
        return ctx.emission

    @graph.stage(model="task")
    async def ask(n: int, ctx: fg.Context) -> str:
        reply = await ctx.llm(f"Q{n}", parse=Verdict)
        return str(reply.parsed.reason)

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    sent: list[str] = []

    def model(messages: Sequence[fg.Message]) -> str:
        sent.append(messages[0]["content"])
        return '{"right": 1, "reason": "x"}' if messages[0]["content"] == "Q0" else '{"right": "no", "reason": "y"}'

    result = virtually(lambda: fg.arun(graph, TASK, models={"task": model}))
    assert sorted(sent) == ["Q0", "Q0", "Q1"]
    assert (result.spent.calls, [a.value for a in result.artifacts]) == (3, ["y"])
