"""Check the arguments of a run against its graph: models, resources, budget and goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flashgraph.errors import DataError, did_you_mean
from flashgraph.graph.dsl import Graph
from flashgraph.graph.spec import GraphSpec
from flashgraph.llm.protocol import Model, bounds_cost
from flashgraph.policies.schedule import Schedule
from flashgraph.run.budget import Budget
from flashgraph.run.goal import Goal
from flashgraph.tasks.task import Task

__all__ = ["check_end", "check_prices", "check_roles", "for_roles", "goal_of", "resources_of", "roles_of"]


def roles_of(graph: GraphSpec, task: Task) -> tuple[str, ...]:
    """Return the roles of the models that a run calls: those of the graph's stages and of the task, sorted."""
    return tuple(sorted({*graph.roles, *task.roles}))


def for_roles(graph: Graph, task: Task, models: Any) -> dict[str, Any]:
    """Return the models by the roles of graph and task; a single model serves all roles.

    Raises `DataError` for missing and unknown roles.
    """
    roles = roles_of(graph.spec, task)
    if models is None:
        models = {}
    if not isinstance(models, Mapping):
        models = dict.fromkeys(roles, models)
    unknown = [role for role in models if role not in roles]
    if unknown:
        raise DataError(
            f"model role {unknown[0]!r} is not one of graph {graph.name!r}; it calls "
            f"{', '.join(roles) or 'no model'}.\nFix: {did_you_mean(unknown[0], roles) if roles else 'leave it out.'}"
        )
    missing = [role for role in roles if role not in models]
    if missing:
        raise DataError(
            f"graph {graph.name!r} needs models for {', '.join(roles)}; no model was given for {', '.join(missing)}.\n"
            f"Fix: models={{{missing[0]!r}: 'local'}}, or --model {missing[0]}=local on the command line."
        )
    return {role: models[role] for role in roles}


def resources_of(graph: GraphSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources of a run by name. Raises `DataError` for one that is unknown or cannot be opened."""
    for name in given:
        if name not in graph.resources:
            known = ", ".join(graph.resources) or "none"
            raise DataError(
                f"resource {name!r}: graph {graph.name!r} has no such resource; it has {known}.\nFix: leave it out."
            )
    held = {name: given[name] if name in given else spec.factory() for name, spec in graph.resources.items()}
    for name, resource in held.items():
        if not callable(getattr(resource, "open", None)):
            raise DataError(
                f"resource {name!r} of graph {graph.name!r}: a {type(resource).__name__} has no open(); expected an "
                "object whose open() is an async context manager.\nFix: add an open() method to its class."
            )
    return held


def check_roles(budget: Budget, models: Mapping[str, Model]) -> None:
    """Raise `DataError` for a budget of a role that the run does not call."""
    for role in budget.roles:
        if role not in models:
            raise DataError(
                f"budget: role {role!r} has limits, but the run calls {', '.join(models) or 'no model'}.\n"
                f"Fix: {did_you_mean(role, list(models)) if models else 'leave it out.'}"
            )


def check_end(graph: Graph, budget: Budget, models: Mapping[str, Model]) -> None:
    """Raise `DataError` for a run that never stops: it has no limit, or no work counts towards its limits."""
    endless = [s.name for s in graph.spec.sources if s.rounds is None and s.reads]
    if not endless or budget.seconds is not None:
        return
    counted = {limit for stage in graph.spec.stages for limit in stage.counts}
    if models:
        counted |= {"calls", "tokens", *[f"{role}.{name}" for role in graph.spec.roles for name in ("calls", "tokens")]}
    costly = [role for role, model in models.items() if model.worst_cost(1, 1) != 0]
    counted |= {"usd", *[f"{role}.usd" for role in costly]} if costly else set()
    if budget.limits.keys() & counted:
        return
    given = ", ".join(f"{name}={limit:g}" for name, limit in budget.limits.items())
    but = f" that can end it: nothing in it counts towards {given}" if given else ""
    raise DataError(
        f"graph {graph.name!r}: source {endless[0]!r} never stops by itself, and the run has no budget{but}.\n"
        "Fix: budget=fg.Budget(proposals=50) or fg.Budget(seconds=600); --proposals 50 or --minutes 10."
    )


def goal_of(graph: GraphSpec, task: Task, schedule: Schedule, target: float | None, patience: int | None) -> Goal:
    """Return the goal of a run.

    Raises `DataError` for a target that no score can reach, and for ``patience`` if the graph counts no proposals.
    """
    least, most = task.bounds
    numeric = isinstance(target, int | float) and not isinstance(target, bool) and not math.isnan(target)
    if target is not None and (not numeric or most < target < math.inf):
        raise DataError(
            f"target_score={target!r} (--target-score): no score of task {task.name!r} can reach it; expected a "
            f"number of at most {most:g}, because the task's bounds are {least:g} and {most:g}.\n"
            f"Fix: {most:g}, or give the task the bounds that its scores have."
        )
    if patience is not None and (not isinstance(patience, int) or isinstance(patience, bool) or patience < 1):
        raise DataError(
            f"patience={patience!r} (--patience): expected a number of proposals in a row, at least 1.\n"
            "Fix: patience=50."
        )
    if patience is not None and not any("proposals" in stage.counts for stage in graph.stages):
        raise DataError(
            f"patience={patience} (--patience): no stage of graph {graph.name!r} counts proposals; expected one.\n"
            'Fix: @graph.stage(..., counts="proposals") on the stage that proposes, or leave patience out.'
        )
    perfect = task.perfect if target is None and not schedule.serial else None
    return Goal(target if target != math.inf else None, patience, perfect, len(task.val))


def check_prices(models: Mapping[str, Model], budget: Budget) -> None:
    """Raise `DataError` for a budget in dollars if a model that spends it has no known price."""
    for role, model in models.items():
        own = budget.roles.get(role)
        name, usd = ("usd", budget.usd) if own is None or own.usd is None else (f"{role}.usd", own.usd)
        if usd is None:
            continue
        if model.worst_cost(1, 1) is None:
            raise DataError(
                f"budget {name}={usd:g}: the price of {model.name} (role {role!r}) is not known, so the limit "
                "cannot be enforced.\nFix: limit tokens or calls instead, or give the price: "
                "openai:URL#MODEL?price=IN,OUT."
            )
        if not bounds_cost(model):
            raise DataError(
                f"budget {name}={usd:g}: {model.name} (role {role!r}) is a function without a price; its replies "
                "may cost any amount, so the limit cannot be enforced.\nFix: FunctionModel(FUNCTION, "
                "price=(USD_PER_PROMPT_TOKEN, USD_PER_COMPLETION_TOKEN)) of flashgraph.llm.function, with price=(0, 0) "
                "if it costs nothing; or limit tokens or calls instead."
            )
