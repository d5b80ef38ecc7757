"""Settings from the command line and Python: ``minibatch=4``, ``window=16``, ``validate.workers=8``,
``validate->frontier.stale=discard(4)``.

A value is read as a Python literal or a call of a policy; nothing else is evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.graph.spec import GraphSpec
from flashgraph.policies.control import Control, balanced, drain_first
from flashgraph.policies.failure import FailAbove, fail_above, missing
from flashgraph.policies.order import Discriminative, QueueOrder, discriminative, fifo, freshest
from flashgraph.policies.release import All, count, deadline, everyone, fraction
from flashgraph.policies.schedule import Schedule, lockstep, pipelined
from flashgraph.policies.staleness import Rule, accept, discard, refresh, repair

__all__ = ["apply_settings", "parse_policy", "schedule_of"]

POLICIES: dict[str, Callable[..., Any]] = {
    "accept": accept,
    "all": everyone,
    "balanced": balanced,
    "count": count,
    "deadline": deadline,
    "discard": discard,
    "discriminative": discriminative,
    "drain_first": drain_first,
    "fail_above": fail_above,
    "fifo": fifo,
    "fraction": fraction,
    "freshest": freshest,
    "given": fifo,
    "missing": missing,
    "refresh": refresh,
    "repair": repair,
}
SCHEDULES: dict[str, Callable[[], Schedule]] = {"lockstep": lockstep, "pipelined": pipelined}
EDGE_SETTINGS: dict[str, tuple[type, ...]] = {
    "capacity": (int,),
    "late": (str,),
    "on_failure": (FailAbove,),
    "order": (QueueOrder, Discriminative),
    "release": (All,),
    "stale": (Rule,),
}
SCHEDULE_SETTINGS: dict[str, tuple[type, ...]] = {
    "control": (Control,),
    "focus": (int, float),
    "window": (int,),
}


def schedule_of(schedule: str | Schedule) -> Schedule:
    """The shipped schedule of that name.  Raises `DataError` for any other."""
    if isinstance(schedule, Schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise DataError(
            f"schedule {schedule!r} is not known; expected one of {', '.join(SCHEDULES)}.\n"
            f"Fix: {did_you_mean(schedule, list(SCHEDULES))}"
        )
    return SCHEDULES[schedule]()


def parse_policy(text: str, stages: Mapping[str, Any] | None = None) -> Any:
    """A literal or a policy: ``4``, ``0.5``, ``cancel``, ``discard(4) | repair(patch)``.

    Names of ``stages`` may stand as arguments.  Raises `DataError` for anything else.
    """
    known = stages or {}

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.BinOp(op=ast.BitOr()):
                return value(node.left) | value(node.right)
            case ast.Call(func=ast.Name(id=name)) if name in POLICIES:
                return POLICIES[name](*map(value, node.args), **{str(k.arg): value(k.value) for k in node.keywords})
            case ast.Name(id=name) if name in POLICIES:
                return POLICIES[name]()
            case ast.Name(id=name) if name in known:
                return known[name]
            case ast.Name(id=name):
                return name
        raise ValueError(ast.unparse(node))

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError) as error:
        raise DataError(
            f"setting {text!r} is not a value or a policy ({error}); expected a literal, or one of "
            f"{', '.join(sorted(POLICIES))}, e.g. discard(4)."
        ) from error


def apply_settings(
    graph: GraphSpec, schedule: Schedule, params: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Schedule, dict[str, Any]]:
    """The schedule and the parameters with ``settings`` applied; string values are parsed.

    Raises `DataError` for a name that the graph does not have or a value of the wrong kind.
    """
    chosen = {name: p.default for name, p in graph.params.items()}
    stages = {s.name: s.name for s in graph.stages}
    for name, raw in {**params, **settings}.items():
        value = parse_policy(raw, stages) if isinstance(raw, str) and name not in params else raw
        owner, dot, setting = name.rpartition(".")
        if name in chosen:
            chosen[name] = _param(name, value, graph.params[name].default)
        elif name in SCHEDULE_SETTINGS and name not in params:
            schedule = attrs.evolve(schedule, **{name: _typed(name, value, SCHEDULE_SETTINGS[name])})
        elif dot and setting == "workers" and owner in stages:
            schedule = attrs.evolve(schedule, workers={**schedule.workers, owner: _typed(name, value, (int,))})
        elif dot and setting in EDGE_SETTINGS and graph.edge(owner) is not None:
            policies = {**schedule.edges.get(owner, {}), setting: _typed(name, value, EDGE_SETTINGS[setting])}
            schedule = attrs.evolve(schedule, edges={**schedule.edges, owner: policies})
        else:
            raise DataError(_unknown(graph, name, in_params=name in params))
    if schedule.window < 1:
        raise DataError(f"setting window={schedule.window}; expected a whole number from 1.\nFix: window=8.")
    if not 0 <= schedule.focus <= 1:
        raise DataError(f"setting focus={schedule.focus}; expected a share from 0 to 1.\nFix: focus=0.5.")
    return schedule, chosen


def _param(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool) != isinstance(value, bool) or (
        default is not None
        and not isinstance(value, int | float if isinstance(default, int | float) else type(default))
    ):
        raise DataError(
            f"parameter {name}={value!r} is a {type(value).__name__}; expected a {type(default).__name__} like its "
            f"default {default!r}."
        )
    return value


def _typed(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    bad = not isinstance(value, kinds) or isinstance(value, bool)
    flaw = value.flaw() if not bad and hasattr(value, "flaw") else None
    if name.endswith(".late") and value not in ("cancel", "drop", "amend"):
        raise DataError(f"setting {name}={value!r}; expected cancel, drop or amend.")
    if isinstance(value, int) and not bad and kinds == (int,) and value < 1:
        raise DataError(f"setting {name}={value!r}; expected a whole number from 1.")
    if flaw is not None:
        raise DataError(f"setting {name}: found {flaw.found}, expected {flaw.expected}.\nFix: {flaw.fix}.")
    if bad:
        wanted = " or ".join(sorted(k.__name__.lower() for k in kinds))
        raise DataError(f"setting {name}={value!r} is a {type(value).__name__}; expected a {wanted}.")
    return value


def _unknown(graph: GraphSpec, name: str, *, in_params: bool) -> str:
    if in_params or not ("." in name or "->" in name):
        names = [*graph.params, *([] if in_params else SCHEDULE_SETTINGS)]
        kind = "parameter" if in_params else "setting"
        return f"{kind} {name!r} is not known to graph {graph.name!r}.\nFix: {did_you_mean(name, names)}"
    names = [f"{s.name}.workers" for s in graph.stages]
    names += [f"{e.name}.{setting}" for e in graph.edges for setting in EDGE_SETTINGS]
    hint = did_you_mean(name, names)
    if hint.startswith("there is"):
        hint = f"there is: STAGE.workers and EDGE.{{{','.join(EDGE_SETTINGS)}}}, e.g. {names[-1] if names else ''}"
    return f"setting {name!r} names no stage or edge of graph {graph.name!r}.\nFix: {hint}"
