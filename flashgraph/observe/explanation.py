"""A plan in words: what flows, what each edge does with what is early, late, stale or failed, and what overlaps."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from flashgraph.graph.analysis import shortest_path, topological
from flashgraph.graph.dsl import Graph
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import Release, SourceSpec, Staleness
from flashgraph.observe.description import Description, Link, describe
from flashgraph.observe.words import counted, with_article
from flashgraph.policies import release, staleness
from flashgraph.policies.champion import ChampionRule, Proven
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.order import Discriminative
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.plan import EdgePlan, Plan, StagePlan, compile_plan

__all__ = ["explain"]

WIDTH = 110

LATE = {
    "cancel": "the rest is cancelled, which frees the server",
    "drop": "the rest may end, and is recorded but not used",
    "amend": "the full group is delivered once more when the rest is in, and confirms or retracts what came of it",
}


def explain(graph: Graph, schedule: str | Schedule = "pipelined", settings: Mapping[str, Any] | None = None) -> str:
    """The plan of ``graph`` under ``schedule`` and ``settings``, in words.

    Raises `GraphError` for a graph that does not pass `check`, and `DataError` for settings it does not have.
    """
    checked = graph.checked()
    found = describe(checked)
    chosen, params = apply_settings(checked.spec, schedule_of(schedule), {}, settings or {})
    roles = {role: role for role in found.roles}
    plan = compile_plan(checked, chosen, params, roles, {})
    parts = [f"{found.name}: {found.doc}" if found.doc else found.name]
    parts += [*_section("Schedule", _schedule(plan)), *_section("Pools", _pools(found))]
    parts += _section("Sources", (_source(s, found, chosen) for s in plan.sources.values()))
    ordered = sorted(plan.stages.values(), key=lambda s: s.rank)
    parts += _section("Stages", (_stage(s, found, chosen) for s in ordered))
    rank = topological(checked.spec)
    links = sorted(found.links, key=lambda k: (rank[k.src], rank[k.dst]))
    parts += _section("Edges", (_edge(k, plan.edges[k.name], found) for k in links))
    parts += _section("Cycles", _cycles(plan))
    return "\n".join(parts)


def _section(title: str, lines: Iterator[str]) -> list[str]:
    wrapped = [
        textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        for line in lines
    ]
    return ["", title, *wrapped] if wrapped else []


def _schedule(plan: Plan) -> Iterator[str]:
    schedule = plan.schedule
    if schedule.serial:
        yield (
            f"{schedule.name}: one round at a time and one stage at a time; requests of one stage run side by side. "
            "An item lags only behind what its own round has admitted: rules for stale items refresh it there and do "
            "nothing else, and release and late rules are not used."
        )
    else:
        yield (
            f"{schedule.name}: stages work at the same time, on up to {schedule.window} open rounds of each source "
            f"(window={schedule.window})."
        )
        if schedule.focus:
            yield (
                f"While other rounds are open, {schedule.focus:.0%} of a source's rounds see only its pool's best line "
                f"(focus={schedule.focus:g})."
            )
        if schedule.reserve and any(source.evidence for source in plan.graph.sources):
            yield (
                f"The last {schedule.reserve:.0%} of each limit of the budget are set aside for evidence "
                f"(reserve={schedule.reserve:g})."
            )
        yield f"champion={schedule.champion}: {_champion(schedule.champion)}."
        yield f"control={schedule.control}: {_control(str(schedule.control))}."
    if plan.params:
        yield "Parameters: " + ", ".join(f"{name}={value!r}" for name, value in plan.params.items()) + "."


def _champion(rule: ChampionRule) -> str:
    if isinstance(rule, Proven):
        return (
            "the run hands out another artifact only when that is better on the samples that both were tried on, with "
            f"a probability of at least {rule.confidence:g}"
        )
    return "the run hands out what its pool calls the best"


def _control(name: str) -> str:
    return {
        "drain_first": "a free request slot goes to the work nearest a pool, then to the newest line",
        "balanced": "slots go by age, and stages gain and lose workers until they produce at like rates",
    }.get(name, "decides which waiting work gets a free request slot")


def _pools(graph: Description) -> Iterator[str]:
    for node in graph.nodes:
        if node.kind == "pool":
            readers = [reader for pool, reader in graph.reads if pool == node.name]
            read = f"; read by {', '.join(readers)}" if readers else ""
            what = f"{with_article(node.gives)} that takes {node.takes}{read}"
            yield f"{node.name}: {what}. Each change raises its version by one."


def _source(source: SourceSpec, graph: Description, schedule: Schedule) -> str:
    node = graph.node(source.name)
    reads = f" reads {source.reads} and" if source.reads else ""
    if source.rounds is not None:
        bound = f"{source.rounds} in all"
    elif schedule.serial:
        bound = "the next one when everything before it has ended"
    else:
        bound = f"at most {schedule.window} of them open"
    return f"{node.name}{reads} starts rounds with {with_article(node.gives)}: {bound}."


def _stage(stage: StagePlan, graph: Description, schedule: Schedule) -> str:
    spec, node = stage.spec, graph.node(stage.spec.name)
    said = [f"{node.name} makes {node.gives} of {node.takes}"]
    if spec.llm:
        said.append(f"calls the model {spec.llm!r}")
    if spec.reads:
        said.append(f"reads {spec.reads}")
    if spec.spends:
        said.append(f"counts against the budget's {' and '.join(spec.spends)}")
    workers = schedule.workers.get(spec.name, spec.workers)
    if workers is None and spec.llm:
        said.append("has as many workers as its model takes requests")
    else:
        said.append(f"has {counted(stage.workers, 'worker')} at most")
    if node.kind == "repair":
        said.append("only sees items that a staleness rule sends to it")
    return "; ".join(said) + "."


def _edge(link: Link, edge: EdgePlan, graph: Description) -> str:
    said = [f"{link.flows} arrives"]
    if edge.scatter is not None:
        name = next(p for p in link.policies if p.startswith("scatter")).removeprefix("scatter ")
        said = [f"each {link.takes or graph.node(link.src).gives} is scattered by {name}, so that {link.flows} arrives"]
        if isinstance(edge.arrange, Discriminative):
            said.append(f"what the last {edge.arrange.window} groups all passed goes last")
        elif edge.arrange is not None:
            said.append(f"sent out as {edge.arrange} says")
    if edge.gather:
        said = [f"members are gathered into {link.flows}, which goes on {_release(edge.release)}"]
        if type(edge.release) is not release.All:
            said.append(f"then {LATE[edge.late]}")
        said.append(_failure(edge))
    if edge.otherwise:
        said.append("taken when no other edge takes the item")
    said += [f"taken {phrase}" for phrase in link.policies if phrase.startswith("when ")]
    if edge.only is not None:
        said.append(f"takes only what is a {edge.only.__name__}")
    if edge.loop is not None:
        said.append(f"an item passes at most {edge.loop} times")
    said.append(f"stale items are {_stale(edge.stale)}")
    if edge.keeps_orphans:
        said.append("descendants of a retracted artifact pass")
    return f"{link.name}: {'; '.join(said)}. Holds {edge.capacity}, {_order(str(edge.order))} first."


def _release(rule: Release) -> str:
    if type(rule).__module__ != release.__name__:
        return f"when {rule} says so"
    match rule:
        case release.Fraction(share, least):
            floor = f", and {least} at least" if least > 1 else ""
            return f"when {share:.0%} of its members are there{floor}"
        case release.Sampled(members, share):
            drawn = f"a random part of its members is sent out, {members} of them"
            return f"when {drawn}, and {'all' if share == 1 else f'{share:.0%}'} of those are there"
        case release.Count(members):
            return f"when {members} of its members are there"
        case release.Deadline(seconds):
            return f"{seconds:g} s after the scatter with what is there"
        case release.Decided():
            return f"when {rule} says that the rest cannot change the outcome"
    return "when every member has ended"


def _failure(edge: EdgePlan) -> str:
    if not isinstance(edge.on_failure, FailAbove):
        return f"whether it fails, {edge.on_failure} says"
    share = edge.on_failure.share
    return "failed members are missing from it" if share >= 1 else f"it fails if over {share:.0%} of its members do"


def _stale(rule: Staleness) -> str:
    if type(rule).__module__ != staleness.__name__:
        return f"judged by {rule}"  # one of the user's own, be it derived from another
    match rule:
        case staleness.FirstOf(rules=rules):
            return ", or else ".join(map(_stale, rules))
        case staleness.Discard(above):
            return f"discarded above lag {above}"
        case staleness.Repair(above, stage=stage, when=when):
            touched = f" if {function_name(when)}" if when is not None else ""
            return f"sent through {getattr(stage, 'name', stage)} above lag {above}{touched}"
        case staleness.Refresh(above):
            return f"given the newest view above lag {above}"
        case staleness.Refreshing(rule=rule):
            return f"given the newest view where {rule} says so"
    return "taken as they are"


def _order(name: str) -> str:
    return {"fifo": "the oldest", "freshest": "the one made from the newest version"}.get(name, "the smallest key")


def _cycles(plan: Plan) -> Iterator[str]:
    graph = plan.graph
    for source in plan.sources.values():
        if source.reads is not None and (path := shortest_path(graph, source.name, source.reads)) is not None:
            yield f"through pool {source.reads}: {' -> '.join(path)} -> {source.name}."
    for edge in plan.edges.values():
        if edge.loop is not None and (path := shortest_path(graph, edge.dst, edge.src)) is not None:
            yield f"{' -> '.join(path)} -> {edge.dst}: an item passes at most {edge.loop} times."
