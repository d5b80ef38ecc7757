"""The settings that a run was started with, and what changes of its graph since then mean for it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.signatures import function_name
from flashgraph.graph.types import OURS, parts, show
from flashgraph.policies.champion import ChampionRule, the_best
from flashgraph.run.journal.columns import (
    UNUSABLE,
    Expected,
    amounts,
    damaged,
    json_of,
    list_of,
    mapping,
    number,
    pair,
    real,
    whole,
    word,
)
from flashgraph.run.journal.jsontext import dumped, printed
from flashgraph.run.journal.tasks import SPLITS, changes_of_task
from flashgraph.run.plan import Plan

__all__ = ["BUDGET", "Changes", "Header", "fingerprint"]

BUDGET = "budget"
"""Key in the ``meta`` table of a resumed run's last limits; the form is that of `Header.limits`."""

DECIDING = ("when", "scatter", "order", "arrange", "release", "stale", "distinct")
"""Options of an edge that may hold functions of the user's; in a replay they must decide as before."""


@attrs.frozen
class Header:
    """The settings that resuming a run needs.

    ``topology`` (nodes, edges, types) must not change.  ``functions`` are digests of the sources of stages, of sources
    and of the functions on edges.  ``policies`` are the edges' rules as text.  Functions and policies may change when
    the user accepts it.  ``capacity`` (a `flashgraph.run.plan.Capacity`) may always change.

    ``prices`` are those of the last session, by endpoint: USD for one prompt token and one completion token (None if
    unknown) and their source.  ``order`` is how the command line last started or resumed the run: paths, model strings,
    options.
    """

    graph: str
    task: str
    schedule: str
    seed: int
    limits: Mapping[str, float]
    params: Mapping[str, Any]
    topology: Mapping[str, str]
    functions: Mapping[str, str]
    policies: Mapping[str, str]
    capacity: Mapping[str, Any]
    prices: Mapping[str, Mapping[str, Any]]
    version: str
    order: Mapping[str, Any] = attrs.field(factory=dict)
    made_of: Mapping[str, Any] = attrs.field(factory=dict)
    """The task's fingerprint (`flashgraph.run.journal.tasks`); empty in journals of 0.1.0."""

    def rows(self) -> list[tuple[str, str]]:
        """Return keys and JSON values for the ``meta`` table."""
        return [(name, dumped(value, default=str)) for name, value in attrs.asdict(self).items()]

    def other_functions(self, other: Header) -> list[str]:
        """Return the names whose functions differ, among those that both headers have.

        Runs of older versions name no edges; a name that only one graph has differs in the topology.  A change of
        policy implies other functions, so only the policy is reported.
        """
        return [
            name
            for name, digest in self.functions.items()
            if other.functions.get(name, digest) != digest and self.policies.get(name) == other.policies.get(name)
        ]

    @classmethod
    def of_rows(cls, path: Path, rows: Mapping[str, Any]) -> Header:
        """Read the rows of a journal at ``path``.

        Raises KeyError for a missing row, and `JournalError` for one that cannot be used.
        """
        found = {}
        for name, expected in EXPECTED.items():
            if name == "made_of" and name not in rows:
                continue  # absent in journals of 0.1.0
            text = rows[name]
            try:
                found[name] = json_of(expected)(text)
            except UNUSABLE as error:
                said = error if isinstance(error, ValueError) else "a value of another form"
                raise damaged(path, "meta", name, f"value is {text!r:.60}; expected {said}") from error
        return cls(**found)


def _texts(value: Any) -> dict[str, str]:
    """Return texts by name, none of them empty."""
    found = mapping(value)
    if not all(word(text) for text in found.values()):
        raise ValueError("texts that are not empty")
    return found


def _prices(value: Any) -> dict[str, Any]:
    """Return prices, each at least 0: with a negative price a budget of money would never end."""
    for price in mapping(value).values():
        if any(cost is not None and real(cost) < 0 for cost in (price["prompt"], price["completion"])):
            raise ValueError("prices from 0")
        word(price["source"])
    return dict(value)


def _of_task(value: Any) -> dict[str, Any]:
    """Return a task's fingerprint."""
    found = mapping(value)
    _texts(found["seed"])
    for split in SPLITS:
        list_of(word)(found[split])
    for name in ("attempt", "score"):
        word(found[name])
    pair(number, number)(found["bounds"])
    return found


EXPECTED: dict[str, Expected] = {
    "graph": word, "task": word, "schedule": word, "seed": whole, "limits": amounts, "params": mapping,
    "topology": _texts, "functions": _texts, "policies": _texts, "capacity": mapping, "prices": _prices,
    "version": word, "order": mapping, "made_of": _of_task,
}  # fmt: skip


@attrs.frozen
class Changes:
    """How a graph and a task differ from the ones that started a run.

    ``broken`` ones prevent resuming.  ``risky`` ones can be accepted.  So can ``restart`` ones, with which the run
    restarts from its best artifact.
    """

    broken: tuple[str, ...] = ()
    risky: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @classmethod
    def between(cls, before: Header, now: Header) -> Changes:
        broken = _differences(before.topology, now.topology)
        others = (f"function of {name}" for name in before.other_functions(now))
        # Before champion rules existed, a run handed out the pool's own choice.
        risky = [*others, *_differences({"champion": str(the_best()), **before.policies}, now.policies)]
        if before.seed != now.seed:
            broken.append(f"seed: {before.seed} -> {now.seed}")
        broken += _differences(_shown(before.params), _shown(now.params))
        restart, other = changes_of_task(before.made_of, now.made_of)
        if before.task != now.task:
            other.insert(0, f"name: {before.task!r} -> {now.task!r}")
        risky += [f"task: {said}" for said in other]
        return cls(tuple(broken), tuple(risky), tuple(f"task: {said}" for said in restart))

    def require(self, run: str, accepted: bool) -> None:
        """Raise `DataError` when these changes prevent resuming, or need ``accepted``."""
        if self.broken:
            raise DataError(
                f"{run}: the graph has changed since the run was started:\n  {_listed(self.broken)}\n"
                "Fix: resume with the graph as it was, or start a new run."
            )
        if accepted or not (self.risky or self.restart):
            return
        said = f"{run}: something has changed since the run was started:\n  {_listed([*self.restart, *self.risky])}\n"
        if self.restart:
            raise DataError(
                f"{said}Scores of the earlier task cannot be compared with scores of this one.\n"
                "Fix: resume with the earlier task; or --accept-changes, which restarts from the run's best "
                "artifact and scores it again. All earlier spending stays counted."
            )
        raise DataError(
            f"{said}Finished work is kept as it is; new work uses the changed parts.\n"
            "Fix: --accept-changes, or resume with the earlier graph and task."
        )

    def explain(self, run: str, diverged: Exception) -> Exception:
        """Return the error for a replay that diverged: these changes explain it, where there are any."""
        if not self.risky:
            return diverged
        return DataError(
            f"{run}: the run cannot be replayed, because it decides otherwise with these changes:\n"
            f"  {_listed(self.risky)}\nFix: resume with these as they were, or start a new run."
        )


def _listed(differences: Iterable[str]) -> str:
    return "\n  ".join(differences)


def fingerprint(plan: Plan) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return topology, functions and policies of a graph under a schedule, each a text by name."""
    graph, ports = plan.graph, plan.checked.ports
    topology, functions, policies = {}, {}, {}
    for node in graph.nodes.values():
        if node.kind == "pool":
            topology[node.name] = f"pool of {show(ports.takes[node.name])}"
            continue
        takes = f"{show(ports.takes[node.name])} -> " if node.kind == "stage" else ""
        topology[node.name] = (
            f"{node.kind} {takes}{show(ports.gives[node.name])}, reads {', '.join(node.reads) or None}"
        )
        functions[node.name] = _digest(node.body)
    for kind in _kinds([*ports.gives.values(), *ports.takes.values()]):
        topology[f"type {kind.__qualname__}"] = _made_of(kind)
    for edge in plan.edges.values():
        flow = "scatter" if edge.scatter else "gather" if edge.gather else "single"
        topology[edge.name] = f"edge, {flow}" + (f", loop={edge.loop}" if edge.loop else "")
        for option in ("release", "late", "order", "arrange", "stale", "on_failure", "capacity"):
            value = getattr(edge, option)
            if value is not None:
                policies[f"{edge.name}.{option}"] = str(value)
        if edge.distinct is not None:
            policies[f"{edge.name}.distinct"] = function_name(edge.distinct)
        for option in DECIDING:
            # Also for an edge without one, so that an added function is noticed.
            functions[f"{edge.name}.{option}"] = _digest(*_functions_in(getattr(edge, option)))
    schedule = plan.schedule
    policies["window"], policies["focus"], policies["control"] = map(
        str, (schedule.window, schedule.focus, type(schedule.control).__name__)
    )
    policies["reserve"] = f"{schedule.reserve:g}"
    policies["schedule"] = "serial" if schedule.serial else "overlapping"
    policies["champion"], functions["champion"] = _champion(schedule.champion)
    if graph.result is not None:
        policies["result"] = graph.result
    for source in graph.sources:
        if source.window is not None or not source.focus:
            policies[f"{source.name}.window"] = f"{source.window}, focus {source.focus}"
    return topology, functions, policies


def _champion(rule: ChampionRule) -> tuple[str, str]:
    """Return a champion rule as text, and a digest of its class where that is the user's own."""
    kind = type(rule)
    plain = kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__
    ours = kind.__module__.startswith("flashgraph.")
    return kind.__qualname__ if plain else str(rule), _digest(*(() if ours else (kind,)))


def _kinds(hints: Iterable[Any]) -> list[type]:
    """Return the graph's own classes that items consist of."""
    found = {get_origin(part) or part: None for hint in hints for part in parts(hint)}
    kinds = [kind for kind in found if inspect.isclass(kind) and kind not in OURS]
    return [kind for kind in kinds if attrs.has(kind) or vars(kind).get("__annotations__") or issubclass(kind, Enum)]


def _made_of(kind: type) -> str:
    """Return the fields of a class with their types, or the members of an enum."""
    if issubclass(kind, Enum):
        return " | ".join(kind.__members__)
    fields = [f.name for f in attrs.fields(kind)] if attrs.has(kind) else list(kind.__annotations__)
    hints = _hints(kind)
    shown = {name: hint if isinstance(hint, str) else show(hint) for name, hint in hints.items()}
    return ", ".join(f"{name}: {shown.get(name, '?')}" for name in fields)


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # a forward reference to a class inside a function stays text
        return dict(kind.__annotations__)


def _functions_in(option: Any) -> Iterator[Any]:
    """Yield the functions of an edge's option: the option itself, or those inside a policy and its parts."""
    if attrs.has(type(option)):
        option = tuple(getattr(option, field.name) for field in attrs.fields(type(option)))
    if isinstance(option, tuple):
        for part in option:
            yield from _functions_in(part)
    elif callable(option):
        yield option


def _digest(*bodies: Any) -> str:
    return hashlib.sha256("\n".join(map(_text, bodies)).encode()).hexdigest()[:16]


def _text(body: Any) -> str:
    try:
        return inspect.getsource(inspect.unwrap(body))
    except (OSError, TypeError):  # it was defined without a file, so its source is unknown
        return str(getattr(body, "__qualname__", repr(type(body))))


def _shown(params: Mapping[str, Any]) -> dict[str, str]:
    return {f"parameter {name}": printed(value) for name, value in params.items()}


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    gone = [f"{name}: {before[name]} -> (gone)" for name in before if name not in now]
    new = [f"{name}: (none) -> {now[name]}" for name in now if name not in before]
    return [*gone, *new, *(f"{n}: {before[n]} -> {now[n]}" for n in before if n in now and now[n] != before[n])]
