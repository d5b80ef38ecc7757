"""An edge with ``distinct=`` takes equal values once: while one is in work, and forever once one is admitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt, Candidate, Work, same_text
from flashgraph.parts.islands.programs import same_program
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.claims import Claim, Claims
from flashgraph.testing import check_algorithm

EQUAL = "has taken an equal one before"


@attrs.frozen
class Number:
    """The number of a proposal, from 0."""

    number: int


def graph_of(texts: list[str], distinct: Callable[[Any], Any] | None = same_text, *, passes: bool = True) -> fg.Graph:
    """Return a graph whose proposal n is text n; without ``passes`` no candidate comes to the pool."""
    graph = fg.Graph("repeats")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=1)
    def seed(ctx: fg.Draw[None]) -> Candidate:
        return Candidate(dict(ctx.task.seed), 1)

    @graph.source(reads=archive, rounds=len(texts))
    def pick(ctx: fg.Draw[Archive]) -> Number | None:
        ctx.no_parents()
        return Number(ctx.emission) if ctx.view.artifacts else None

    @graph.stage(model="model", counts="proposals")
    async def propose(number: Number, ctx: fg.Context) -> Candidate:
        await ctx.llm(f"proposal {number.number}")
        return Candidate({"text": texts[number.number]}, 1)

    @graph.stage(model="model", counts="evaluations")
    async def validate(work: Work, ctx: fg.Context) -> Attempt:
        if "fails" in work.text["text"]:
            raise KeyError("fails")
        await ctx.llm(f"{work.text['text']} on {work.index}")
        return Attempt(work.index, 0.5, "")

    @graph.stage
    def gate(group: fg.Group[Candidate, Attempt]) -> Candidate | None:
        return group.origin if passes or group.origin.text["text"] == "-" else None

    @graph.stage(model="model")
    async def measure(work: Work, ctx: fg.Context) -> Attempt:
        await ctx.llm(f"{work.text['text']} once more")
        return Attempt(work.index, 0.5, "")

    graph.edge(seed, validate, scatter=Candidate.work, distinct=distinct)
    graph.edge(pick, propose)
    graph.edge(propose, validate, scatter=Candidate.work, distinct=distinct)
    graph.edge(validate, gate, gather=True, on_failure=fg.fail_above(0.0))
    graph.edge(gate, measure, scatter=Candidate.work)
    graph.edge(measure, archive, gather=True)
    return graph


TASK = fg.Task("repeats", [0], [0], seed={"text": "-"}, score=lambda sample, output: fg.Score(0.5))


def run(graph: fg.Graph, schedule: Any = "pipelined", **options: Any) -> fg.Result:
    budget = fg.Budget(calls=1000)
    return check_algorithm(graph, TASK, lambda messages: "", schedule=schedule, budget=budget, **options)


def texts_in(result: fg.Result) -> list[str]:
    return [a.value.text["text"] for a in result.artifacts]


def turned_away(result: fg.Result) -> int:
    return sum(isinstance(e, ev.Ended) and e.how == "filtered" and EQUAL in e.reason for e in result.events)


@pytest.mark.parametrize("schedule", ["pipelined", "throughput", fg.pipelined(1)])
def test_equal_texts_are_judged_once(schedule: Any) -> None:
    """Equal texts are judged once: in work at the same time, admitted before, or equal to the parent. White space makes
    no difference.
    """
    texts = ["a b", "a  b\n", "-", " a b", "c", "c", "-\n", "a\tb"]
    result = run(graph_of(texts), schedule)
    assert sorted(" ".join(text.split()) for text in texts_in(result)) == ["-", "a b", "c"]
    assert turned_away(result) == 5 + 1
    assert result.spent.evaluations == 3
    assert result.spent.proposals == len(texts)


def test_lockstep_judges_them_again() -> None:
    """Lockstep judges equal texts again, as the published loops do."""
    result = run(graph_of(["a", "a", "-"]), "lockstep")
    assert texts_in(result) == ["-", "a", "a", "-"]


def test_a_rejected_text_is_free_again() -> None:
    """A rejected text may be tried again: nothing was admitted, and none of its items is open."""
    result = run(graph_of(["a"] * 4, passes=False), fg.pipelined(1))
    assert texts_in(result) == ["-"]
    assert (result.spent.evaluations, turned_away(result)) == (5, 0)


def test_a_text_that_failed_is_free_again() -> None:
    """A text whose evaluation failed may be tried again."""
    result = run(graph_of(["fails"] * 4), fg.pipelined(1))
    assert texts_in(result) == ["-"]
    assert (result.spent.evaluations, turned_away(result)) == (5, 0)


def test_a_source_that_repeats_itself() -> None:
    """A run whose source repeats itself ends and says why; its repeated emissions cost nothing."""
    graph = fg.Graph("echo")
    archive = graph.pool("archive", Archive)

    @graph.source(reads=archive)
    def pick(ctx: fg.Draw[Archive]) -> Candidate:
        ctx.no_parents()
        return Candidate({"text": "the same"}, 1)

    @graph.stage(model="model", counts="evaluations")
    async def validate(work: Work, ctx: fg.Context) -> Attempt:
        await ctx.llm(work.text["text"])
        return Attempt(work.index, 0.5, "")

    graph.edge(pick, validate, scatter=Candidate.work, distinct=same_text)
    graph.edge(validate, archive, gather=True)
    result = run(graph)
    assert texts_in(result) == ["the same"]
    assert result.cause is Cause.IDLE
    assert "used nothing of the budget" in result.reason


def test_a_retracted_text_is_free_again() -> None:
    """A text that was retracted after an outage has no claim, and may be tried again."""
    graph = fg.Graph("outage")
    archive = graph.pool("archive", lambda: Archive(threshold=0.4))
    tries = list[str]()

    @graph.source(rounds=4)
    def pick(ctx: fg.Draw[None]) -> Number:
        return Number(ctx.emission)

    @graph.stage
    async def think(number: Number) -> Candidate:
        await anyio.sleep(100 * number.number)
        return Candidate({"text": "the same"}, 3)

    @graph.stage
    async def validate(work: Work) -> Attempt:
        tries.append(work.text["text"])
        first = len(tries) <= 3
        await anyio.sleep(1 if work.index == 0 else 10)
        return Attempt(work.index, float(work.index == 0 or not first), "")

    graph.edge(pick, think)
    graph.edge(think, validate, scatter=Candidate.work, distinct=same_text)
    graph.edge(validate, archive, gather=True, release=fg.count(1), late="amend")
    result = run(graph, fg.pipelined(4, focus=0.0))
    assert [a.retracted for a in result.artifacts] == [True, False]
    assert (len(tries), turned_away(result)) == (6, 2)


def test_repaired_into_an_equal_text() -> None:
    """A text that a repair makes equal to another one is filtered; otherwise it claims its new text."""
    graph = fg.Graph("merges")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=1)
    def seed(ctx: fg.Draw[None]) -> Candidate:
        return Candidate(dict(ctx.task.seed), 1)

    @graph.source(reads=archive, rounds=6)
    def pick(ctx: fg.Draw[Archive]) -> Candidate | None:
        ctx.no_parents()
        return Candidate({"text": f"child {ctx.emission}"}, 1) if ctx.view.artifacts else None

    @graph.stage(model="model")
    async def think(candidate: Candidate, ctx: fg.Context) -> Candidate:
        await ctx.llm(candidate.text["text"])
        return candidate

    @graph.stage
    def merge(stale: fg.Stale[Candidate]) -> fg.Verdict[Candidate]:
        return fg.Verdict.patch(Candidate({"text": "all of them"}, 1))

    @graph.stage(model="model", counts="evaluations")
    async def validate(work: Work, ctx: fg.Context) -> Attempt:
        await ctx.llm(f"{work.text['text']} on {work.index}")
        return Attempt(work.index, 0.5, "")

    graph.edge(seed, validate, scatter=Candidate.work, distinct=same_text)
    graph.edge(pick, think, distinct=same_text)
    graph.edge(think, validate, scatter=Candidate.work, stale=fg.repair(merge, above=0), distinct=same_text)
    graph.edge(validate, archive, gather=True)
    result = run(graph, fg.pipelined(6, focus=0.0))
    assert texts_in(result).count("all of them") == 1
    assert len(set(texts_in(result))) == len(texts_in(result))
    assert turned_away(result) == 7 - len(result.artifacts)


def no_key(value: Any) -> Any:
    raise LookupError("no key")


def unhashable(value: Any) -> Any:
    return [value]


@pytest.mark.parametrize("function", [no_key, unhashable])
def test_a_key_that_cannot_be_made(function: Callable[[Any], Any]) -> None:
    """If a key cannot be made, the item fails, as with every function on an edge that raises."""

    async def go() -> fg.Result:
        return await fg.arun(graph_of(["a"], function), TASK, models={"model": lambda messages: ""})

    import anyio

    result = anyio.run(go)
    raised = [e for e in result.events if isinstance(e, ev.EdgeFailed)]
    assert [(e.function, e.edge) for e in raised] == [("distinct", "seed->validate")]
    assert result.status == "failed"


def test_what_is_no_function_of_the_item() -> None:
    async def later(value: Any) -> int:
        return 0

    found = {
        problem.code
        for given in (3, later, lambda one, two: 0)
        for problem in graph_of(["a"], given).check()  # type: ignore[arg-type]
    }
    assert found == {"not-callable", "async-function", "function-arity"}


def test_resumed(tmp_path: Path) -> None:
    """A resumed run knows the texts that it has taken, because claims follow from the turns."""

    def go(**options: Any) -> fg.Result:
        models = {"model": lambda messages: ""}
        return fg.run(graph_of(["a", "b"] * 4), TASK, models=models, folder=tmp_path / "run", **options)

    first = go(budget=fg.Budget(evaluations=2))
    assert len(first.artifacts) == 2
    again = go(budget=fg.Budget(evaluations=20), resume=True)
    assert sorted(texts_in(again)) == ["-", "a", "b"]


@pytest.mark.parametrize(("schedule", "refused"), [("pipelined", True), ("lockstep", False)])
def test_a_run_that_began_without_it(schedule: str, refused: bool, tmp_path: Path) -> None:
    """A run that began without ``distinct`` would decide differently: the difference is shown, and accepted when asked.
    In lockstep there is none.
    """

    def go(distinct: Callable[[Any], Any] | None, budget: int, **options: Any) -> fg.Result:
        models = {"model": lambda messages: ""}
        options |= {"budget": fg.Budget(evaluations=budget), "schedule": schedule, "folder": tmp_path / "run"}
        return fg.run(graph_of(["a", "b"] * 4, distinct), TASK, models=models, **options)

    go(None, 4)
    if refused:
        with pytest.raises(fg.FlashgraphError, match=r"propose->validate\.distinct: \(none\) -> same_text"):
            go(same_text, 20, resume=True)
    else:
        assert len(texts_in(go(same_text, 20, resume=True))) == 9


@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "admit", "retract"]), st.integers(0, 3)), max_size=40))
def test_a_key_has_one_claim(steps: list[tuple[str, int]]) -> None:
    """Claims equal those of a plain model: a key is taken while items hold its claim, or a pool an artifact with it."""
    claims, carried = Claims(), dict[int, list[Claim]]()
    admitted = dict[int, int]()

    def function(value: Any) -> Any:
        return value

    for step, key in steps:
        held = carried.setdefault(key, [])
        if step == "take":
            claim = claims.take((function, key), None)
            assert (claim is None) == (bool(held) or admitted.get(key, 0) > 0)
            held += [] if claim is None else [claim]
        elif step == "drop" and held:
            claims.drop(held.pop())
        elif step == "admit" and held:
            claims.admit(held[0], f"pool {key}", admitted.get(key, 0))
            admitted[key] = admitted.get(key, 0) + 1
        elif step == "retract":
            claims.retract(f"pool {key}", admitted.get(key, 0) - 1)
            admitted[key] = max(0, admitted.get(key, 0) - 1)


@given(st.lists(st.sampled_from(["a", "b", " ", "  ", "\n", "\t"]), max_size=8))
def test_white_space_makes_no_other_text(parts: list[str]) -> None:
    """Texts with equal words in equal order are equal; in a program the blanks before a line count."""
    text = "".join(parts)
    assert same_text(Candidate({"x": text}, 1)) == same_text(Candidate({"x": f" {text}\n".replace("\n", " \n ")}, 1))
    assert same_text(Candidate({"x": text}, 1)) != same_text(Candidate({"x": text + " c"}, 1))
    program = f"if a:\n    {'x'.join(parts).strip() or 'b'}\nc"
    assert same_program(Candidate({"x": program}, 1)) == same_program(Candidate({"x": program + " \n\n"}, 1))
    assert same_program(Candidate({"x": "if a:\n    b\n    c"}, 1)) != same_program(
        Candidate({"x": "if a:\n    b\nc"}, 1)
    )


def test_components_are_told_apart() -> None:
    one, other = Candidate({"a": "x", "b": "y"}, 1), Candidate({"b": "y", "a": "x"}, 1)
    assert same_text(one) == same_text(other) != same_text(Candidate({"a": "y", "b": "x"}, 1))
