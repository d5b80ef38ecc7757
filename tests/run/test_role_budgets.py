"""Limits of one role's requests: held like those of the whole run, on generated graphs and across sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.cli.options import role_limits
from flashgraph.llm.function import FunctionModel
from flashgraph.observe.runs import head
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.cause import Cause
from flashgraph.run.heldout import held_out
from flashgraph.run.journal.reading import StoredRun
from flashgraph.sim.clock import run_virtually
from flashgraph.testing import check_invariants, schedules, shapes
from flashgraph.testing.graphs import build
from flashgraph.testing.runs import Finished, run_shape


def ran(shape: Any, schedule: fg.Schedule, budget: fg.Budget) -> Finished:
    return run_virtually(lambda: run_shape(shape, schedule, budget=budget))


def spent_by(events: Any, role: str) -> dict[str, float]:
    """Return what the requests of a role have spent: throttled ones and those that were never sent cost nothing."""
    total = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
    for event in events:
        if isinstance(event, ev.CallEnded) and event.role == role and event.how != "throttled":
            tokens = event.prompt_tokens + event.completion_tokens
            total["calls"] += event.how != "cancelled" or bool(tokens)
            total["tokens"] += tokens
            total["usd"] += event.usd or 0.0
    return total


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes(),
    schedule=schedules(),
    role=st.sampled_from(["model", "judge"]),
    limits=st.sampled_from([{"calls": 1}, {"calls": 4}, {"usd": 0.02}, {"tokens": 9000}, {"calls": 3, "usd": 0.5}]),
)
def test_no_role_exceeds_its_limit(shape: Any, schedule: fg.Schedule, role: str, limits: dict[str, Any]) -> None:
    """I10: on generated graphs of two roles, whatever is in flight, and the reason names the limit of the role."""
    budget = fg.Budget(seconds=60, roles={role: fg.Budget(**limits)})
    calls = any(stage.model == role for stage in build(shape).spec.stages)
    if not calls:
        return
    done = ran(shape, schedule, budget)
    check_invariants(done.events, done.plan, budget)
    spent = spent_by(done.events, role)
    assert all(spent[name] <= limit * (1 + 1e-9) for name, limit in limits.items()), spent
    if done.result.status == "budget" and done.result.cause is not Cause.SECONDS:
        assert done.result.reason in [f"no {role}.{name} left" for name in limits]


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), schedule=schedules(), calls=st.integers(1, 8))
def test_a_limit_of_the_only_role_is_a_limit_of_the_run(shape: Any, schedule: fg.Schedule, calls: int) -> None:
    """The limit of the run is the oracle: the same events, until the reason at the end."""
    roles = {stage.model for stage in build(shape).spec.stages if stage.model}
    if len(roles) != 1:
        return
    budgets = (fg.Budget(calls=calls, seconds=60), fg.Budget(seconds=60, roles={roles.pop(): fg.Budget(calls=calls)}))
    whole, own = [ran(shape, schedule, budget) for budget in budgets]
    assert whole.events[:-1] == own.events[:-1]
    assert (whole.result.status, whole.result.cause) == (own.result.status, own.result.cause)


async def judged(sample: Any, output: Any, llm: fg.Llm) -> fg.Score:
    return fg.Score(float((await llm("Is it right?", role="judge")).text == "yes"))


def priced(role: str, text: str) -> FunctionModel:
    return FunctionModel(lambda _: fg.Reply(text, fg.Usage(10, 2)), name=role, price=(0.01, 0.1))


ANSWERS = {"task": "out", "reflection": "```\nnew\n```", "judge": "no"}
MODELS = {role: priced(role, text) for role, text in ANSWERS.items()}


def judged_task(**more: Any) -> fg.Task[Any, Any]:
    return fg.Task("judged", range(3), range(4), score=judged, roles=["judge"], **more)


def test_a_judge_ends_the_run_at_its_limit_and_a_larger_one_continues_it(tmp_path: Path) -> None:
    """A resumed run may raise a role's limit, or get one; what the role has spent before counts."""
    folder = tmp_path / "run"
    budget = fg.Budget(proposals=3, roles={"judge": fg.Budget(calls=5)})
    first = fg.run("gepa", judged_task(), models=MODELS, budget=budget, schedule="lockstep", folder=folder)
    assert (first.status, first.cause, first.reason) == ("budget", Cause.CALLS, "no judge.calls left")
    assert spent_by(first.events, "judge")["calls"] == 5
    with StoredRun.open(folder) as stored:
        assert stored.limits() == {"proposals": 3, "judge.calls": 5}
        assert any("judge.calls 5 of 5" in line for line in head(stored))
    larger = fg.Budget(proposals=3, roles={"judge": fg.Budget(calls=9), "task": fg.Budget(calls=20)})
    again = fg.run("gepa", judged_task(), models=MODELS, budget=larger, schedule="lockstep", folder=folder, resume=True)
    assert spent_by(again.events, "judge")["calls"] == 9
    assert again.reason == "no judge.calls left"
    none = fg.Budget(proposals=3, roles={"task": fg.Budget(calls=1)})  # it has spent more already
    last = fg.run("gepa", judged_task(), models=MODELS, budget=none, schedule="lockstep", folder=folder, resume=True)
    assert last.reason == "no task.calls left"
    assert spent_by(last.events, "task") == spent_by(again.events, "task")


def test_the_held_out_test_spends_the_role_s_limit() -> None:
    """It ends where the judge's limit does; the account has the judge's own amounts."""
    ledger = Ledger(fg.Budget(roles={"judge": fg.Budget(calls=2)}))
    task = judged_task(test=range(3))

    async def test() -> Any:
        return await held_out(task, [{"a": "b"}], MODELS["task"], ledger, others={"judge": MODELS["judge"]})

    with pytest.raises(fg.BudgetExhausted, match=r"no judge\.calls left"):
        anyio.run(test)
    assert (ledger.settled["judge.calls"], ledger.settled["task.calls"] >= 2) == (2, True)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"jugde": fg.Budget(calls=1)}, "(?s)role 'jugde' has limits.*did you mean 'judge'"),
        ({"judge": fg.Budget(usd=1)}, "budget judge.usd=1: judge .role 'judge'. is a function without a price"),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused(roles: Any, message: str) -> None:
    budget = fg.Budget(proposals=1, roles=roles)
    models = {**MODELS, "judge": FunctionModel(lambda _: "no", name="judge")}
    with pytest.raises(fg.DataError, match=message):
        fg.run("gepa", judged_task(), models=models, budget=budget)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"judge": 1}, "expected a mapping from roles to budgets"),
        ({"a judge": fg.Budget(usd=1)}, "expected the name of a role"),
        ({"judge": fg.Budget(proposals=1)}, "'judge' has a limit of proposals; expected calls, tokens, usd"),
        ({"judge": fg.Budget(seconds=1)}, "'judge' has a limit of seconds"),
    ],
)
def test_only_requests_have_limits_by_role(roles: Any, message: str) -> None:
    with pytest.raises(fg.DataError, match=message):
        fg.Budget(roles=roles)


def test_a_budget_has_one_flat_form() -> None:
    """It is what a journal stores, and what the command line gives."""
    budget = fg.Budget(usd=5, seconds=60, roles={"judge": fg.Budget(usd=1, calls=7)})
    assert budget.flat == {"usd": 5, "seconds": 60, "judge.usd": 1, "judge.calls": 7}
    assert fg.Budget.of(budget.flat) == budget
    assert role_limits(["judge.usd=0.5", "judge.calls=3"]) == {"judge.usd": 0.5, "judge.calls": 3}
    with pytest.raises(fg.DataError, match=r"found 'judge\.dollars'"):
        fg.Budget.of({"judge.dollars": 1})


@pytest.mark.parametrize("text", ["usd=1", "judge.usd=0", "judge.calls=1.5", "judge.minutes=1", "judge.usd"])
def test_other_options_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        role_limits([text])
