"""A budget of money over functions or objects as models: it is held, or the run says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.run import events as ev
from flashgraph.testing.runs import TASK

COSTLY = fg.Reply("```\nnew\n```", fg.Usage(100, 100), cost=0.03)


def ran(models: Any, **options: Any) -> fg.Result:
    """Return GEPA's run with these models under a budget of 0.50 USD."""
    budget = fg.Budget(usd=0.5, proposals=50)
    return fg.run("gepa", TASK, models=models, budget=budget, **options)


def costly(_: object) -> fg.Reply:
    return COSTLY


def free(_: object) -> str:
    return "out"


@pytest.mark.parametrize(
    "models",
    [
        {"task": costly, "reflection": costly},
        {"task": FunctionModel(free, price=(0, 0)), "reflection": costly},
        {"task": free, "reflection": FunctionModel(costly, price=(1e-4, 1e-4))},
        {"task": [FunctionModel(free, price=(0, 0)), free], "reflection": FunctionModel(free, price=(0, 0))},
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_function_is_asked_for_its_price(models: Any, cached: bool, tmp_path: Path) -> None:
    """A function as model needs a price before any call, also among several, and behind a cache."""
    with pytest.raises(fg.DataError) as caught:
        ran(models, cache=tmp_path / "cache.db" if cached else None, any_temperature=cached)
    assert "is a function without a price; its replies may cost any amount, so the limit cannot" in str(caught.value)
    assert "FunctionModel(FUNCTION, price=(USD_PER_PROMPT_TOKEN, USD_PER_COMPLETION_TOKEN))" in str(caught.value)


def test_other_budgets_do_not_ask() -> None:
    """Other budgets need no price; the cost in the function's reply counts."""
    result = fg.run("gepa", TASK, models={"task": costly, "reflection": costly}, budget=fg.Budget(proposals=1))
    assert result.spent.usd == pytest.approx(0.03 * result.spent.calls)


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_limit_is_held_over_functions_with_a_price(schedule: str) -> None:
    """A limit is held over functions with a price, whatever their single replies cost within the bound."""
    models = {
        "task": FunctionModel(lambda _: fg.Reply("out", fg.Usage(50, 50), cost=0.01), price=(1e-6, 3e-6)),
        "reflection": FunctionModel(lambda _: fg.Reply("```\nx\n```", fg.Usage(50, 50)), price=(1e-6, 3e-6)),
    }
    result = ran(models, schedule=schedule)
    assert result.status in ("budget", "completed")
    assert 0 < result.spent.usd <= 0.5


OVER: list[Callable[[], Any]] = [
    lambda: FunctionModel(costly, price=(0, 0), name="f"),
    lambda: FunctionModel(costly, price=(1e-9, 1e-9), name="f"),
    lambda: ScriptedModel(lambda _: COSTLY, name="f"),
]


@pytest.mark.parametrize("make", OVER)
def test_a_reply_that_costs_more_than_it_could_ends_the_run(make: Callable[[], Any]) -> None:
    """A reply above its bound stops the run, with the model and both amounts: later costs would have no bound."""
    result = ran({"task": FunctionModel(free, price=(0, 0)), "reflection": make()}, schedule="lockstep")
    assert result.status == "failed"
    assert "budget usd=0.5: a reply of f has cost 0.03 USD, and its worst_cost had said at most" in result.reason
    assert "\nFix: give the model the price of its tokens" in result.reason
    paid = [e for e in result.events if isinstance(e, ev.CallEnded) and e.usd]
    assert len(paid) == 1
    assert result.spent.usd == pytest.approx(0.03)
