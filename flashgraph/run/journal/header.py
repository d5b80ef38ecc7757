"""What a run was started with, and what it means for the run when its graph has changed since."""

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
"""The key of the ``meta`` table below which a run that was resumed has its last limits, as `Header.limits`."""

DECIDING = ("when", "scatter", "order", "arrange", "release", "stale", "distinct")
"""What of an edge may hold functions of the user's: told again, they must decide as they did."""


@attrs.frozen
class Header:
    """What it takes to go on with a run.

    ``topology`` is what must not change (nodes, edges, what flows); ``functions`` are digests of the texts of what
    stages and sources are made from, and of what decides on edges; ``policies`` are the edges' rules as text: these
    may change when the user says so.  ``capacity`` (a
    `flashgraph.run.plan.Capacity`) may always change.  ``prices`` are
    what each endpoint's tokens cost (USD for one prompt token and one completion token, None where it is not known,
    and whose word that is), as the last session had them.  ``order`` is how the command line started it, or last
    resumed it: paths, model strings, options.
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
    """The task's fingerprint (`flashgraph.run.journal.tasks`); journals of 0.1.0 have none."""

    def rows(self) -> list[tuple[str, str]]:
        """Keys and JSON values for the ``meta`` table."""
        return [(name, dumped(value, default=str)) for name, value in attrs.asdict(self).items()]

    def other_functions(self, other: Header) -> list[str]:
        """Whose functions differ, of what both name: runs that older versions began say nothing of edges, and what only
        one graph has its topology shows.  That another policy has other functions is not worth a word of its own."""
        return [
            name
            for name, digest in self.functions.items()
            if other.functions.get(name, digest) != digest and self.policies.get(name) == other.policies.get(name)
        ]

    @classmethod
    def of_rows(cls, path: Path, rows: Mapping[str, Any]) -> Header:
        """Read the rows of a journal at ``path``.  Raises KeyError for one that is missing, and `JournalError` for one
        that cannot be used."""
        found = {}
        for name, expected in EXPECTED.items():
            if name == "made_of" and name not in rows:
                continue  # a journal of 0.1.0 does not have it
            text = rows[name]
            try:
                found[name] = json_of(expected)(text)
            except UNUSABLE as error:
                said = error if isinstance(error, ValueError) else "a value of another form"
                raise damaged(path, "meta", name, f"value is {text!r:.60}; expected {said}") from error
        return cls(**found)


def _texts(value: Any) -> dict[str, str]:
    """Texts by name, none of them empty."""
    found = mapping(value)
    if not all(word(text) for text in found.values()):
        raise ValueError("texts that are not empty")
    return found


def _prices(value: Any) -> dict[str, Any]:
    """What tokens cost: nothing less than nothing, or a budget of money would never end."""
    for price in mapping(value).values():
        if any(cost is not None and real(cost) < 0 for cost in (price["prompt"], price["completion"])):
            raise ValueError("prices from 0")
        word(price["source"])
    return dict(value)


def _of_task(value: Any) -> dict[str, Any]:
    """A task's fingerprint."""
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
    """What is different in a graph and a task from those that a run was started with.

    ``broken`` makes going on impossible; ``risky`` may be accepted, and so may ``anew``, with which the run begins anew
    from its best artifact."""

    broken: tuple[str, ...] = ()
    risky: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()

    @classmethod
    def between(cls, before: Header, now: Header) -> Changes:
        broken = _differences(before.topology, now.topology)
        others = (f"function of {name}" for name in before.other_functions(now))
        # Before there were rules for the champion, a run handed out the pool's own choice.
        risky = [*others, *_differences({"champion": str(the_best()), **before.policies}, now.policies)]
        if before.seed != now.seed:
            broken.append(f"seed: {before.seed} -> {now.seed}")
        broken += _differences(_shown(before.params), _shown(now.params))
        anew, other = changes_of_task(before.made_of, now.made_of)
        if before.task != now.task:
            other.insert(0, f"name: {before.task!r} -> {now.task!r}")
        risky += [f"task: {said}" for said in other]
        return cls(tuple(broken), tuple(risky), tuple(f"task: {said}" for said in anew))

    def require(self, run: str, accepted: bool) -> None:
        """Raises `DataError` when the run cannot go on with these changes, or not without being told to."""
        if self.broken:
            raise DataError(
                f"{run}: the graph has changed since the run was started:\n  {_listed(self.broken)}\n"
                "Fix: resume with the graph as it was, or start a new run."
            )
        if accepted or not (self.risky or self.anew):
            return
        said = f"{run}: something has changed since the run was started:\n  {_listed([*self.anew, *self.risky])}\n"
        if self.anew:
            raise DataError(
                f"{said}What the run has scored cannot stand beside scores of this task.\n"
                "Fix: resume with the task as it was; or --accept-changes, with which the run begins anew from its "
                "best artifact, which is scored again. What was spent stays counted."
            )
        raise DataError(
            f"{said}What was done stays as it is, and what comes is done in the new way.\n"
            "Fix: --accept-changes, or resume with the graph and the task as they were."
        )

    def blamed(self, run: str, diverged: Exception) -> Exception:
        """Why the run does not go the way it went: these changes, where there are any."""
        if not self.risky:
            return diverged
        return DataError(
            f"{run}: with what has changed, what was done would have been decided otherwise, and the run cannot be put "
            f"together again:\n  {_listed(self.risky)}\nFix: resume with these as they were, or start a new run."
        )


def _listed(differences: Iterable[str]) -> str:
    return "\n  ".join(differences)


def fingerprint(plan: Plan) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the topology, functions and policies of a graph under its schedule, each by name and as text."""
    graph, ports = plan.graph, plan.checked.ports
    topology, functions, policies = {}, {}, {}
    for node in graph.nodes.values():
        if node.kind == "pool":
            topology[node.name] = f"pool of {show(ports.takes[node.name])}"
            continue
        takes = f"{show(ports.takes[node.name])} -> " if node.kind == "stage" else ""
        topology[node.name] = f"{node.kind} {takes}{show(ports.gives[node.name])}, reads {node.reads}"
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
            # Also where there is none, so that one that comes is seen.
            functions[f"{edge.name}.{option}"] = _digest(*_functions_in(getattr(edge, option)))
    schedule = plan.schedule
    policies["window"], policies["focus"], policies["control"] = map(
        str, (schedule.window, schedule.focus, type(schedule.control).__name__)
    )
    policies["reserve"] = f"{schedule.reserve:g}"
    policies["schedule"] = "serial" if schedule.serial else "overlapping"
    policies["champion"], functions["champion"] = _champion(schedule.champion)
    return topology, functions, policies


def _champion(rule: ChampionRule) -> tuple[str, str]:
    """Return a champion rule as text, and a digest of its class where that is the user's own."""
    kind = type(rule)
    plain = kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__
    ours = kind.__module__.startswith("flashgraph.")
    return kind.__qualname__ if plain else str(rule), _digest(*(() if ours else (kind,)))


def _kinds(hints: Iterable[Any]) -> list[type]:
    """The graph's own classes that items are made of."""
    found = {get_origin(part) or part: None for hint in hints for part in parts(hint)}
    kinds = [kind for kind in found if inspect.isclass(kind) and kind not in OURS]
    return [kind for kind in kinds if attrs.has(kind) or vars(kind).get("__annotations__") or issubclass(kind, Enum)]


def _made_of(kind: type) -> str:
    """The fields of a class with their types, or the members of an enum."""
    if issubclass(kind, Enum):
        return " | ".join(kind.__members__)
    fields = [f.name for f in attrs.fields(kind)] if attrs.has(kind) else list(kind.__annotations__)
    hints = _hints(kind)
    shown = {name: hint if isinstance(hint, str) else show(hint) for name, hint in hints.items()}
    return ", ".join(f"{name}: {shown.get(name, '?')}" for name in fields)


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # a forward reference to a class inside a function stays the text that it is
        return dict(kind.__annotations__)


def _functions_in(option: Any) -> Iterator[Any]:
    """The functions that an option of an edge consists of: itself, or those that a policy or its parts hold."""
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
    except (OSError, TypeError):  # made without a file: it cannot be told apart
        return str(getattr(body, "__qualname__", repr(type(body))))


def _shown(params: Mapping[str, Any]) -> dict[str, str]:
    return {f"parameter {name}": printed(value) for name, value in params.items()}


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    gone = [f"{name}: {before[name]} -> (gone)" for name in before if name not in now]
    new = [f"{name}: (none) -> {now[name]}" for name in now if name not in before]
    return [*gone, *new, *(f"{n}: {before[n]} -> {now[n]}" for n in before if n in now and now[n] != before[n])]
