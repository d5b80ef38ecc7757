"""The arguments and results of a graph's functions: groups, contexts, verdicts."""

from __future__ import annotations

import random

import pytest

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.testing.runs import TASK


def test_a_group_has_what_arrived() -> None:
    """A group has its values in the order of the scatter, its failures with reasons, and whether any member is open."""
    members: tuple[fg.Member[str], ...] = (
        fg.Member(0, "arrived", "a"), fg.Member(1, "failed", None, "why"), fg.Member(2, "arrived", "c"),
        fg.Member(3, "missing"),
    )  # fmt: skip
    group = fg.Group("origin", members)
    assert (group.size, group.values, group.partial) == (4, ("a", "c"), False)
    assert [f.reason for f in group.failures] == ["why"]
    assert fg.Group("origin", (*members, fg.Member(4, "open"))).partial


def test_a_context_draws_from_its_stream_and_keeps_what_is_named() -> None:
    """The stream is made on first use; artifacts are named by themselves or by id, each once."""
    ctx: fg.Context[None] = fg.Context(TASK, None, "7/stage/3", resources={"disk": "/tmp"})
    assert ctx.random.random() == random.Random("7/stage/3").random()
    assert ctx.random is ctx.random
    given: fg.Draw[None] = fg.Draw(TASK, None, random.Random(1))
    assert given.random.random() == random.Random(1).random()
    assert ctx.used is None
    ctx.parents(2, fg.Artifact(1, "x"))
    ctx.parents(2)
    assert ctx.used == (2, 1)


def test_a_call_without_a_model_names_the_fix() -> None:
    """The message gives the decorator's option."""
    with pytest.raises(FlashgraphError, match=r"Fix: @graph.stage\(model='ROLE'\)"):
        fg.Context(TASK, None, "0", {}).llm("hello").close()


def test_verdicts() -> None:
    """A verdict accepts, patches or discards."""
    assert fg.Verdict.accept() == fg.Verdict("accept")
    assert fg.Verdict.patch(3) == fg.Verdict("patch", 3)
    assert fg.Verdict.discard("why") == fg.Verdict("discard", None, "why")
    assert fg.Verdict.discard().reason == ""


def test_a_member_of_no_known_state() -> None:
    """An unknown state raises, with the known states: `values` would silently leave the member out."""
    with pytest.raises(FlashgraphError, match=r"fg\.Member\(0, 'done'\): no such state; expected one of arrived, "):
        fg.Member(0, "done", 1)  # type: ignore[arg-type]
