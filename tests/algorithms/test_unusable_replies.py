"""Every algorithm whose model gives no usable reply ends with that reason, long before its budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import flashgraph as fg
from tests.algorithms.islands_world import StandIn
from tests.algorithms.islands_world import World as Islands
from tests.parts.meta_harness.stand_in import StandInSandbox
from tests.parts.meta_harness.worlds import World as Harness

UNUSABLE = {
    "cut off": fg.Reply('{"key_insight": "half', finish="length"),
    "empty": fg.Reply(" "),
    "refused": fg.Reply("I'm sorry, but I can't help with that."),
    "thoughts": fg.Reply('<think>{"operations": []} ```\nx\n```</think>'),
}
REASONS = {
    "cut off": "truncated at its token limit (finish=length)",
    "empty": "the reply is empty",
    "refused": "the model refused",
    "thoughts": "the reply holds thoughts and no answer",
}
RIGHT = fg.Reply(json.dumps({"final_answer": "x", "key_insight": "k", "bullet_tags": []}))


async def attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm("question")).text


def plain() -> fg.Task[int, str]:
    return fg.Task("plain", range(40), range(3), attempt=attempt, score=lambda *_: fg.Score(0.0, "wrong"))


def run(graph: str, role: str, reply: fg.Reply, schedule: str) -> fg.Result:
    """Run with a model that answers ``reply`` in that role, and usable replies in others."""

    def bad(_: Sequence[fg.Message]) -> fg.Reply:
        return reply

    def good(_: Sequence[fg.Message]) -> fg.Reply:
        return RIGHT

    options: dict[str, Any] = {"models": {"task": good, role: bad}, "budget": fg.Budget(proposals=500, calls=20_000)}
    if graph == "islands":
        world = Islands.make(3)
        options |= {"models": {role: bad}, "resources": {"sandbox": StandIn(world)}, "params": world.params}
        return fg.run(graph, world.task(), schedule=schedule, **options)
    if graph == "meta_harness":
        options["resources"] = {"sandbox": StandInSandbox()}
        return fg.run(graph, Harness(28).task(), schedule=schedule, **options)
    if "ace" in graph:
        options["models"] = {**dict.fromkeys(("generator", "reflector", "curator"), good), role: bad}
        within = "ace." if "combee" in graph else ""
        options["params"] = {f"{within}answer_after": False, f"{within}epochs": 3, f"{within}batch": 2}
    return fg.run(graph, plain(), schedule=schedule, **options)


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize(
    ("graph", "role", "stage"),
    [
        ("gepa", "reflection", "propose"),
        ("combee", "reflection", "reflection.think"),
        ("combee:ace_graph", "curator", "curation.think"),
        ("ace", "reflector", "reflect"),
        ("ace", "curator", "curate"),
        ("islands", "proposer", "propose"),
        ("meta_harness", "proposer", "propose"),
    ],
)
def test_the_run_ends_with_the_reason(graph: str, role: str, stage: str, kind: str) -> None:
    """The run ends after twenty unusable replies in a row, long before its budget, and names the stage."""
    result = run(graph, role, UNUSABLE[kind], ("lockstep", "pipelined")[len(graph + kind) % 2])
    assert result.status == "failed"
    assert f"stage {stage!r} failed 20 times in a row, the last time with: UnusableReply: " in result.reason
    assert REASONS[kind] in result.reason
    assert result.spent.proposals < 100
