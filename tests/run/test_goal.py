"""A run ends when its best is good enough or no longer improves, says why, and can be resumed with another goal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.evidence import weigh
from flashgraph.graph.ports import Artifact
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Candidate, attempt
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause, End
from flashgraph.run.goal import Goal, Goals, proposing
from flashgraph.testing import check_algorithm

VAL = 3


@attrs.frozen
class Number:
    """The number of a proposal, counted from 1."""

    number: int


def climber(spends: str = "proposals") -> fg.Graph:
    """Return a graph whose proposal n is the text n, and which validates everything in full."""
    graph = fg.Graph("climber")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=1)
    def seed(ctx: fg.Draw[None]) -> Candidate:
        return Candidate(dict(ctx.task.seed), len(ctx.task.val))

    @graph.source(reads=archive)
    def pick(ctx: fg.Draw[Archive]) -> Number | None:
        ctx.no_parents()
        return Number(ctx.emission + 1) if ctx.view.artifacts else None

    @graph.stage(model="reflection", counts=spends)
    async def propose(number: Number, ctx: fg.Context) -> Candidate:
        await ctx.llm(f"proposal {number.number}")
        return Candidate({"text": str(number.number)}, VAL)

    validate = graph.stage(attempt, name="validate", model="task", counts="evaluations")
    graph.edge(seed, validate, scatter=Candidate.work)
    graph.edge(pick, propose)
    graph.edge(propose, validate, scatter=Candidate.work)
    graph.edge(validate, archive, gather=True)
    return graph


def task_of(scores: Sequence[float], **options: Any) -> fg.Task[int, int]:
    """Return a task: candidate n has the score number n of ``scores``, or the last one; the seed is candidate 0."""

    async def reached(candidate: Any, sample: int, llm: fg.Llm) -> int:
        await llm(f"{candidate['text']} on {sample}")
        return int(candidate["text"])

    def score(sample: int, output: int) -> fg.Score:
        return fg.Score(scores[min(output, len(scores) - 1)])

    samples = range(VAL)
    return fg.Task("climb", samples, samples, seed={"text": "0"}, attempt=reached, score=score, **options)


def climb(scores: Sequence[float], schedule: Any = "lockstep", budget: int = 60, **options: Any) -> fg.Result:
    """Return a run in virtual time, checked against the invariants, with its turns replayed (I13)."""
    bounds, options = options.pop("bounds", (0.0, 1.0)), {"target_score": None, **options}
    return check_algorithm(
        climber(), task_of(scores, bounds=bounds), lambda messages: "", schedule=schedule,
        budget=fg.Budget(proposals=budget), **options,
    )  # fmt: skip


SCHEDULES = ["lockstep", "pipelined", "throughput"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_target_ends_the_run(schedule: str) -> None:
    result = climb([0.1, 0.3, 0.5, 0.7, 0.9], schedule, target_score=0.7)
    assert result.status == "stopped"
    assert "was reached, the target is 0.7" in result.reason
    assert result.best is not None
    assert result.best.score is not None
    assert result.best.score > 0.699
    assert result.spent.proposals < 30 if schedule != "lockstep" else result.spent.proposals == 3


@pytest.mark.parametrize("schedule", ["pipelined", "throughput"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 0.5)])
def test_a_perfect_validation_ends_a_run_that_overlaps(schedule: str, bounds: tuple[float, float]) -> None:
    """A validation with the greatest score of the task's bounds ends a run, whatever that score is."""
    result = climb([0.1, 0.3, bounds[1]], schedule, bounds=bounds)
    assert (result.status, result.spent.proposals < 50) == ("stopped", True)
    assert result.reason == f"the best has the greatest score, {bounds[1]:g}, on all 3 samples of the validation"


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("lockstep", {}),
        ("pipelined", {"target_score": math.inf}),
        ("pipelined", {"bounds": (0.0, math.inf)}),
        ("pipelined", {"bounds": (0.0, 2.0)}),
    ],
)
def test_a_perfect_validation_does_not_end_others(schedule: str, options: Any) -> None:
    """Lockstep does not end, as the published loop; nor does ``inf``, nor a task without a finite greatest score."""
    result = climb([0.1, 1.0], schedule, budget=20, **options)
    assert (result.status, result.spent.proposals) == ("budget", 20)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("patience", [1, 3, 10])
def test_patience_ends_the_run(schedule: str, patience: int) -> None:
    """The run ends after that many proposals in a row without improvement; open ones are judged too."""
    result = climb([0.1, 0.3, 0.2, 0.5, 0.4], schedule, patience=patience)
    assert result.status == "stopped", result.reason
    assert result.reason.endswith(f"the patience is {patience}")
    assert "have not improved on the best with a score of 0." in result.reason
    assert not any(isinstance(e, ev.Ended) and e.how == "cancelled" for e in result.events)
    if schedule == "lockstep":
        assert result.spent.proposals == (2 if patience == 1 else 3 + patience)
        assert result.best is not None
        assert result.best.score == (0.3 if patience == 1 else 0.5)


def test_patience_waits_for_what_is_open() -> None:
    """A better champion from rounds that were open when the patience was used up restores it."""
    scores = [0.1, *[0.0] * 8, 0.5, *[0.0] * 60]
    result = climb(scores, fg.pipelined(window=8), patience=3)
    assert result.status == "stopped"
    opened = [e.at for e in result.events if isinstance(e, ev.Emitted) and e.source == "pick"]
    assert 3 < len(opened) < 30
    reported = [e.at for e in result.events if isinstance(e, ev.Admitted) and e.score == 0.5]
    # No more than its window of rounds is open when the last of three has come to nothing.
    assert not reported or any(at > reported[0] for at in opened)


def test_patience_of_a_run_that_accepts_nothing() -> None:
    """Without a champion all proposals count."""
    goals = Goals(frozenset({"pick"}))
    goals.aim(Goal(patience=2))
    assert goals.look(None, None, 1) is goals.given_up(1) is None
    assert not goals.closed(1)
    assert set(goals.closed(2)) == {"pick"}
    said = "2 proposals in a row have come to nothing, the patience is 2"
    assert goals.given_up(2) == End("stopped", Cause.PATIENCE, said)


def test_more_evidence_is_no_improvement() -> None:
    """The champion's own score may rise with confirmation; only another, better champion restores the patience."""
    goals = Goals(frozenset({"pick"}))
    goals.aim(Goal(patience=5))
    goals.look(None, Artifact(0, "x", score=0.5), 1)
    goals.look(None, Artifact(0, "x", score=0.6), 4)
    goals.look(None, Artifact(1, "y", score=0.6), 5)
    assert set(goals.closed(6)) == {"pick"}
    goals.look(None, Artifact(2, "z", score=0.7), 6)
    assert not goals.closed(10)
    assert goals.closed(11)


@given(
    st.lists(st.sampled_from([0.2, 0.5, 1.0]), max_size=4),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_perfect(scores: list[float], score: float, provisional: bool, open_ended: bool) -> None:
    """A confirmed champion with the greatest score on all samples is perfect, unless its pool can improve otherwise."""
    goals = Goals(frozenset())
    goals.aim(Goal(perfect=1.0, samples=VAL))

    @attrs.frozen
    class Pool:
        open_ended: bool

    champion = Artifact(0, "x", score=score, scores=dict(enumerate(scores)), provisional=provisional)
    perfect = len(scores) >= VAL and set(scores) == {1.0}
    end = goals.look(Pool(open_ended), champion, 0)
    assert goals.met == (end is not None) == (perfect and not provisional and not open_ended)
    assert end is None or (end.status, end.cause) == ("stopped", Cause.PERFECT)


def test_a_provisional_best_reaches_no_target() -> None:
    goals = Goals(frozenset())
    goals.aim(Goal(target=0.5))
    assert goals.look(None, Artifact(0, "x", score=0.9, provisional=True), 0) is None
    end = goals.look(None, Artifact(0, "x", score=0.9), 0)
    assert end == End("stopped", Cause.TARGET, "a score of 0.900 was reached, the target is 0.5")


@pytest.mark.parametrize(("tried", "reached"), [(10, False), (20, True)])
def test_a_lucky_part_reaches_no_target(tried: int, reached: bool) -> None:
    """The estimate of a partial validation counts, and the mean of a complete one."""
    parent = weigh(dict.fromkeys(range(20), 0.2), 20)
    control, scores = dict.fromkeys(range(20), 0.2), {sample: 0.9 - sample % 2 / 10 for sample in range(tried)}
    known = weigh(scores, 20, control=control, parent=parent)
    assert known.estimate < 0.845 < known.mean
    champion = Artifact(0, "text", score=known.mean, scores=scores, evidence=known)
    goals = Goals(frozenset(), Goal(target=0.845))
    assert bool(goals.look(Archive(), champion, 1)) == reached


def test_resumed_with_a_farther_goal(tmp_path: Path) -> None:
    """The goal is the session's: a run that it ended continues with another one, and ends at once with the same."""
    scores = [0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.9]

    def go(**options: Any) -> fg.Result:
        models = {"task": lambda messages: "", "reflection": lambda messages: ""}
        return fg.run(
            climber(), task_of(scores), models=models, schedule="lockstep", budget=fg.Budget(proposals=20),
            folder=tmp_path / "run", **options,
        )  # fmt: skip

    first = go(patience=3)
    assert (first.status, first.spent.proposals) == ("stopped", 4)
    again = go(patience=3, resume=True)
    assert (again.status, again.reason, again.spent.proposals) == ("stopped", first.reason, 4)
    longer = go(patience=5, target_score=0.9, resume=True)
    assert (longer.reason, longer.spent.proposals) == ("a score of 0.900 was reached, the target is 0.9", 6)
    last = go(resume=True)
    assert (last.status, last.spent.proposals) == ("budget", 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_score": 1.5}, "target_score=1.5 (--target-score): no score of task 'climb' can reach it"),
        ({"target_score": math.nan}, "target_score=nan (--target-score): no score of task"),
        ({"target_score": "0.9"}, "target_score='0.9' (--target-score): no score of task"),
        ({"patience": 0}, "patience=0 (--patience): expected a number of proposals in a row"),
        ({"patience": 2.5}, "patience=2.5 (--patience): expected a number of proposals in a row"),
        ({"patience": True}, "patience=True (--patience): expected a number of proposals in a row"),
    ],
)
def test_wrong_goals_are_refused(options: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        climb([0.1], **options)
    assert str(caught.value).startswith(message)
    assert "\nFix: " in str(caught.value)


def test_patience_where_nothing_proposes() -> None:
    models = {"task": lambda messages: "", "reflection": lambda messages: ""}
    budget = fg.Budget(evaluations=20)
    with pytest.raises(DataError, match=r"patience=3 .*: no stage of graph 'climber' counts proposals"):
        fg.run(climber("evaluations"), task_of([0.1]), models=models, budget=budget, patience=3)


@pytest.mark.parametrize(
    ("graph", "sources"),
    [
        ("gepa", {"select"}),
        ("ace", {"select"}),
        ("combee", {"gepa.select"}),
        ("combee:ace_graph", {"ace.select"}),
        ("islands", {"select"}),
        ("meta_harness", {"iterate"}),
    ],
)
def test_which_sources_propose(graph: str, sources: set[str]) -> None:
    """Sources that validate the seed or cross candidates lead to no proposal."""
    from flashgraph.graph.loading import load_graph

    assert proposing(load_graph(graph).spec) == sources
