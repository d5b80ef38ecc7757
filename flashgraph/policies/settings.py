"""Settings from the command line and Python: ``minibatch=4``, ``window=16``, ``validate.workers=8``,
``validate->frontier.stale=discard(4)``.

A value is a Python literal or a policy such as ``discard(4)``; nothing else is evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.graph.params import Param, choices, expected, objects, takes
from flashgraph.graph.spec import EdgeSpec, GraphSpec, StageSpec
from flashgraph.policies.champion import Best, Proven, proven, the_best
from flashgraph.policies.control import Control, balanced, drain_first, shortest_first
from flashgraph.policies.failure import FailAbove, fail_above, missing
from flashgraph.policies.order import Discriminative, QueueOrder, discriminative, fifo, freshest
from flashgraph.policies.release import All, count, deadline, everyone, fraction, sampled
from flashgraph.policies.schedule import Schedule, lockstep, pipelined, throughput
from flashgraph.policies.staleness import Rule, accept, discard, refresh, repair

__all__ = ["apply_settings", "parse_policy", "schedule_of"]

POLICIES: dict[str, Callable[..., Any]] = {
    "accept": accept,
    "all": everyone,
    "balanced": balanced,
    "best": the_best,
    "count": count,
    "deadline": deadline,
    "discard": discard,
    "discriminative": discriminative,
    "drain_first": drain_first,
    "everyone": everyone,
    "fail_above": fail_above,
    "fifo": fifo,
    "fraction": fraction,
    "freshest": freshest,
    "given": fifo,
    "missing": missing,
    "proven": proven,
    "refresh": refresh,
    "repair": repair,
    "sampled": sampled,
    "shortest_first": shortest_first,
}
LONGEST = 1000
"""The most characters of a value, because Python's parser recurses as deeply as a text is nested."""
LARGEST = 2**53
"""The largest whole number: floats are not exact beyond it."""
UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, OverflowError)
"""The errors that Python's parser raises for bad texts, and policies raise for bad arguments."""
EXAMPLES = {
    "count": "count(2)",
    "deadline": "deadline(30)",
    "discard": "discard(4)",
    "fail_above": "fail_above(0.2)",
    "fraction": "fraction(0.5)",
    "repair": "repair(STAGE)",
    "sampled": "sampled(24)",
}
"""An example of each policy that needs an argument, for messages."""
OF_FUNCTIONS = ("decided", "priority")
"""Policies that take a function, which a text cannot give."""
SCHEDULES: dict[str, Callable[[], Schedule]] = {"lockstep": lockstep, "pipelined": pipelined, "throughput": throughput}
EDGE_SETTINGS: dict[str, tuple[type, ...]] = {
    "capacity": (int,),
    "late": (str,),
    "on_failure": (FailAbove,),
    "order": (QueueOrder, Discriminative),
    "release": (All,),
    "stale": (Rule,),
}
SCHEDULE_SETTINGS: dict[str, tuple[type, ...]] = {
    "champion": (Best, Proven),
    "control": (Control,),
    "focus": (int, float),
    "reserve": (int, float),
    "window": (int,),
}


def schedule_of(schedule: str | Schedule) -> Schedule:
    """Return the shipped schedule of that name.  Raises `DataError` for any other name."""
    if isinstance(schedule, Schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise DataError(
            f"schedule {schedule!r} is not known; expected one of {', '.join(SCHEDULES)}.\n"
            f"Fix: {did_you_mean(schedule, list(SCHEDULES))}"
        )
    return SCHEDULES[schedule]()


def parse_policy(text: str, nodes: Mapping[str, Any] | None = None, setting: str = "") -> Any:
    """Read a literal or a policy: ``4``, ``0.5``, ``cancel``, ``discard(4) | repair(patch)``, ``fg.discard(4)``.

    Arguments may be names in ``nodes``: stages and pools. Raises `DataError` for anything else, with the name of the
    ``setting``.
    """
    known = nodes or {}

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Attribute(value=ast.Name(id="fg"), attr=name):
                return value(ast.Name(name))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="fg"), attr=name)):
                return value(ast.Call(ast.Name(name), node.args, node.keywords))
            case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name) if name in OF_FUNCTIONS:
                raise ValueError(f"{name} takes a function: set it in the graph's file or from Python")
            case ast.Constant():
                if isinstance(node.value, int) and node.value > LARGEST:
                    raise ValueError(f"a number over {LARGEST}")
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.BinOp(op=ast.BitOr()):
                return value(node.left) | value(node.right)
            case ast.Call(func=ast.Name(id=name)) if name in POLICIES:
                return POLICIES[name](*map(value, node.args), **{str(k.arg): value(k.value) for k in node.keywords})
            case ast.Name(id=name) if name in POLICIES:
                return POLICIES[name]()
            case ast.Name() | ast.Attribute() if (name := ast.unparse(node)) in known:
                return known[name]
            case ast.Name(id=name):
                return name
        raise ValueError(f"{ast.unparse(node)!r:.80} is not one")

    try:
        if len(text) > LONGEST:
            raise ValueError(f"it has {len(text):,} characters, but at most {LONGEST:,} are allowed")
        return value(ast.parse(text.strip(), mode="eval").body)
    except UNREADABLE as error:
        reason = error if isinstance(error, ValueError | TypeError) else "it cannot be read"
        raise DataError(
            f"setting {setting + '=' if setting else '':.200}{text:.200}: not a value or a policy ({reason}); expected "
            f"a literal, or one of {', '.join(sorted(POLICIES))}.\nFix: e.g. {_example(text, setting)}."
        ) from error


def _example(text: str, setting: str) -> str:
    name = text.partition("(")[0].strip().removeprefix("fg.")
    close: list[str] = get_close_matches(name, list(POLICIES), n=1, cutoff=0.6)
    return EXAMPLES.get(close[0], close[0]) if close else FIXES.get(setting.rpartition(".")[2], "discard(4)")


def _parse_param(text: str, param: Param) -> Any:
    """Return a parameter's value from the command line: the text as a literal, or as a string if only that fits the
    type.
    """
    if takes(param, True) and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        value = ast.literal_eval(text.strip()) if len(text) <= LONGEST else text
    except UNREADABLE:
        return text
    return text if not takes(param, value) and takes(param, text) else value


def apply_settings(
    graph: GraphSpec, schedule: Schedule, params: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Schedule, dict[str, Any]]:
    """Return the schedule and the parameters with ``settings`` applied; string values are parsed.

    Raises `DataError` for a name that the graph does not have, and for a value of the wrong kind. It also checks the
    values in ``schedule`` that were set from Python.
    """
    chosen = {name: p.default for name, p in graph.params.items()}
    nodes = {name: name for name, node in graph.nodes.items() if node.kind != "source"}
    entries = [(n, v, True) for n, v in params.items()] + [(n, v, False) for n, v in settings.items()]
    for name, raw, in_params in entries:
        owner, dot, setting = name.rpartition(".")
        if name in chosen:
            param = graph.params[name]
            given = _parse_param(raw, param) if isinstance(raw, str) and not in_params else raw
            chosen[name] = _param(param, given)
            continue
        if setting == "workers" and isinstance(raw, str) and (upto := re.fullmatch(r"1\.\.(\d+)", raw.strip())):
            raw = upto[1]  # 1..32: the control policy chooses within this range
        value = parse_policy(raw, nodes, name) if isinstance(raw, str) and not in_params else raw
        if name in SCHEDULE_SETTINGS and not in_params:
            schedule = attrs.evolve(schedule, **{name: _typed(name, value, SCHEDULE_SETTINGS[name])})
        elif dot and setting == "workers" and owner in nodes:
            schedule = attrs.evolve(schedule, workers={**schedule.workers, owner: value})
        elif dot and setting in EDGE_SETTINGS and graph.edge(owner) is not None:
            policies = {**schedule.edges.get(owner, {}), setting: value}
            schedule = attrs.evolve(schedule, edges={**schedule.edges, owner: policies})
        else:
            raise DataError(_unknown(graph, name, in_params=in_params))
    objects(graph.classes, chosen)  # raises if the class refuses a value
    _each(graph, schedule)
    _together(graph, schedule)
    return schedule, chosen


def _each(graph: GraphSpec, schedule: Schedule) -> None:
    """Raise `DataError` for the first value of ``schedule`` of the wrong kind, or for an unknown node or edge."""
    kinds: dict[str, tuple[type, ...]] = {f"{stage.name}.workers": (int,) for stage in graph.stages}
    kinds |= {f"{edge.name}.{option}": takers for edge in graph.edges for option, takers in EDGE_SETTINGS.items()}
    values = {f"{stage}.workers": most for stage, most in schedule.workers.items()}
    values |= {f"{edge}.{option}": value for edge, chosen in schedule.edges.items() for option, value in chosen.items()}
    for name, value in values.items():
        if name not in kinds:
            raise DataError(_unknown(graph, name, in_params=False))
        _typed(name, value, kinds[name])
    for name, expected_types in SCHEDULE_SETTINGS.items():
        _typed(name, getattr(schedule, name), expected_types)


def _together(graph: GraphSpec, schedule: Schedule) -> None:
    """Raise `DataError` for the first problem that the policies of ``schedule`` cause in the graph."""
    if not schedule.edges:
        return
    from flashgraph.graph.check import check_spec  # the checks load only when asked for

    edges = tuple(attrs.evolve(e, **dict(schedule.edges.get(e.name, {}))) for e in graph.edges)
    before = set(check_spec(graph).problems)
    for problem in check_spec(attrs.evolve(graph, edges=edges)).problems:
        # A setting may leave a repair stage unused, which is not a mistake.
        if problem not in before and problem.code != "repair-unused":
            raise DataError(
                f"the settings of {', '.join(schedule.edges)} do not fit graph {graph.name!r}: {problem.what}: found "
                f"{problem.found}; expected {problem.expected}.\nFix: {problem.fix}"
            )


def _param(param: Param, value: Any) -> Any:
    """Return ``value`` if it has the parameter's type (an int is accepted for a float); otherwise raise `DataError`."""
    name, default = param.name, param.default
    if takes(param, value):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise DataError(f"parameter {name} is a number over {LARGEST}.\nFix: e.g. {name}={default!r}.")
        return value
    known = choices(param)
    found = f"{name}={value!r:.200}" + ("" if known and isinstance(value, str) else f" is {_a(type(value))}")
    fix = did_you_mean(value, known) if known and isinstance(value, str) else f"e.g. {name}={default!r}."
    raise DataError(f"parameter {found}; expected {expected(param)}.\nFix: {fix}")


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"


KINDS = {
    "capacity": "a whole number from 1",
    "champion": "a champion rule",
    "control": "a control policy",
    "focus": "a share from 0 to 1",
    "late": "cancel, drop or amend",
    "on_failure": "a failure rule",
    "order": "an order",
    "release": "a release rule",
    "reserve": "a share from 0 to 1",
    "stale": "a staleness rule",
    "window": "a whole number from 1",
    "workers": "a whole number from 1",
}
FIXES = {
    "capacity": "64",
    "champion": "proven(0.9)",
    "control": "drain_first",
    "focus": "0.5",
    "late": "cancel",
    "on_failure": "fail_above(0.2)",
    "order": "freshest",
    "release": "fraction(0.5)",
    "reserve": "0.05",
    "stale": "discard(4)",
    "window": "8",
    "workers": "8",
}


def _typed(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Return ``value`` if the setting takes it.  Raises `DataError` with the expected kind otherwise."""
    option = name.rpartition(".")[2]
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if option == "late":
        good = value in ("cancel", "drop", "amend")
    if good and kinds == (int,):
        good = value >= 1
    if good and option in ("focus", "reserve"):
        good = 0 <= value <= 1
    try:
        flaw = value.flaw() if good and hasattr(value, "flaw") else None
    except TypeError:  # a policy with a string instead of a number
        good, flaw = False, None
    if flaw is not None:
        raise DataError(f"setting {name}: found {flaw.found}, expected {flaw.expected}.\nFix: {flaw.fix}.")
    if good:
        # 1 and 1.0 must give the same fingerprint of a run.
        return float(value) if option in ("focus", "reserve") else value
    raise DataError(f"setting {name}={value!r:.200}; expected {KINDS[option]}.\nFix: e.g. {name}={FIXES[option]}.")


def _unknown(graph: GraphSpec, name: str, *, in_params: bool) -> str:
    if in_params or not ("." in name or "->" in name):
        names = [*graph.params, *([] if in_params else SCHEDULE_SETTINGS)]
        kind = "parameter" if in_params else "setting"
        return f"{kind} {name!r:.200} is not known to graph {graph.name!r}.\nFix: {did_you_mean(name, names)}"
    names = [f"{s.name}.workers" for s in graph.stages]
    names += [f"{e.name}.{setting}" for e in graph.edges for setting in EDGE_SETTINGS]
    owner, _, option = name.rpartition(".")
    own = [known for known in names if known.rpartition(".")[0] == owner]
    if own:
        kind = "stage" if own == [f"{owner}.workers"] else "edge"
        fixed = option in {field.name for field in attrs.fields(EdgeSpec if kind == "edge" else StageSpec)}
        hint = "change it in the graph's file." if fixed else did_you_mean(name, own)
        has = ", ".join(known.rpartition(".")[2] for known in own)
        return f"setting {name!r:.200}: {kind} {owner!r} has no setting {option!r:.200}; it has {has}.\nFix: {hint}"
    hint = did_you_mean(name, names)
    if not hint.startswith("did you mean"):
        hint = f"choose from STAGE.workers and EDGE.{{{','.join(EDGE_SETTINGS)}}}, e.g. {names[-1] if names else ''}"
    return f"setting {name!r:.200} names no stage or edge of graph {graph.name!r}.\nFix: {hint}"
