"""A plan in words: what flows, how edges handle early, late, stale and failed items, and what overlaps."""

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
from flashgraph.policies.champion import ChampionRule, Proven, settled
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.order import Discriminative
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.plan import EdgePlan, Plan, StagePlan, compile_plan, window_of

__all__ = ["explain"]

WIDTH = 110

LATE = {
    "cancel": "the rest is cancelled, which frees the server",
    "drop": "the rest may finish, and is recorded but not used",
    "amend": "the full group follows when the rest is in, and confirms or retracts the result",
}


def explain(graph: Graph, schedule: str | Schedule = "pipelined", settings: Mapping[str, Any] | None = None) -> str:
    """Return the plan of ``graph`` under ``schedule`` and ``settings`` in words.

    Raises `GraphError` for a graph that does not pass `check`, and `DataError` for unknown or wrong settings.
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
            f"{schedule.name}: one round and one stage at a time; the requests of a stage run concurrently. An item "
            "lags only behind the admissions of its own round, where staleness rules just refresh it. Release and late "
            "rules are not used."
        )
    else:
        yield (
            f"{schedule.name}: stages overlap, and up to {schedule.window} rounds of each source are open at once "
            f"(window={schedule.window})."
        )
        if schedule.focus:
            whole = [source.name for source in plan.sources.values() if source.reads and not source.focus]
            exception = f", except those of {', '.join(whole)}" if whole else ""
            yield (
                f"While other rounds are open, {schedule.focus:.0%} of a source's rounds see only its pool's best line "
                f"(focus={schedule.focus:g}){exception}."
            )
        if schedule.reserve and any(source.evidence for source in plan.graph.sources):
            yield (
                f"The last {schedule.reserve:.0%} of each limit of the budget is reserved for evidence "
                f"(reserve={schedule.reserve:g})."
            )
        yield f"champion={schedule.champion}: {_champion(schedule.champion)}."
        yield from _never_proven(plan)
        yield f"control={schedule.control}: {_control(str(schedule.control))}."
    if plan.params:
        yield "Parameters: " + ", ".join(f"{name}={value!r}" for name, value in plan.params.items()) + "."


def _champion(rule: ChampionRule) -> str:
    if isinstance(rule, Proven):
        return (
            "another artifact becomes the champion only when it is better on the samples that both have tried, with a "
            f"probability of at least {rule.confidence:g}"
        )
    return "the champion is the artifact that its pool calls the best"


def _never_proven(plan: Plan) -> Iterator[str]:
    """Yield a line for each edge to a pool whose samples are too few for the champion ever to change."""
    rule = settled(plan.schedule.champion)  # which asks for fewer where no more evidence comes
    if not isinstance(rule, Proven) or any(source.evidence for source in plan.graph.sources):
        return
    pools = {pool.name for pool in plan.graph.pools}
    for edge in plan.edges.values():
        part = edge.release
        if (
            edge.dst in pools
            and isinstance(part, release.Sampled)
            and part.members < (least := rule.at_end or rule.least)
        ):
            yield (
                f"{edge.name} brings at most {part.members} samples of an artifact, and a proof needs {least} "
                f"that both have tried. If the validation has more than {part.members} samples, the first artifact "
                f"stays the champion. Fix: --set '{edge.name}.release=all', or --set champion=best."
            )


def _control(name: str) -> str:
    return {
        "drain_first": "a free request slot goes to the work nearest a pool, then to the newest line",
        "shortest_first": "a free request slot goes to the work that lacks the fewest requests",
        "balanced": "the oldest work gets a free slot, and stages gain or lose workers until their rates are similar",
    }.get(name, "decides which queued work gets a free request slot")


def _pools(graph: Description) -> Iterator[str]:
    for node in graph.nodes:
        if node.kind == "pool":
            readers = [reader for pool, reader in graph.reads if pool == node.name]
            read = f"; read by {', '.join(readers)}" if readers else ""
            yield f"{node.name}: {with_article(node.gives)} that takes {node.takes}{read}."


def _source(source: SourceSpec, graph: Description, schedule: Schedule) -> str:
    node = graph.node(source.name)
    reads = f" reads {' and '.join(source.reads)} and" if source.reads else ""
    if source.rounds is not None:
        bound = f"{source.rounds} in total"
    elif schedule.serial:
        bound = "one at a time"
    else:
        bound = f"at most {window_of(source, schedule)} open at once"
    if not schedule.serial and source.window is not None:
        bound += f" (its own window={source.window})"
    if not source.focus:
        bound += ", each on a view of the whole pool"
    return f"{node.name}{reads} starts rounds with {with_article(node.gives)}, {bound}."


def _stage(stage: StagePlan, graph: Description, schedule: Schedule) -> str:
    spec, node = stage.spec, graph.node(stage.spec.name)
    parts = [f"{node.name} turns {node.takes} into {node.gives}"]
    if spec.model:
        parts.append(f"calls the model {spec.model!r}")
    if spec.reads:
        parts.append(f"reads {' and '.join(spec.reads)}")
    if spec.counts:
        parts.append(f"counts against the budget of {' and '.join(spec.counts)}")
    workers = schedule.workers.get(spec.name, spec.workers)
    if workers is None and spec.model:
        parts.append("has a worker for each request slot of its model")
    else:
        parts.append(f"has at most {counted(stage.workers, 'worker')}")
    if node.kind == "repair":
        parts.append("gets only the items that a staleness rule sends to it")
    return "; ".join(parts) + "."


def _edge(link: Link, edge: EdgePlan, graph: Description) -> str:
    parts = [f"passes {link.flows}"]
    if edge.scatter is not None:
        name = next(p for p in link.policies if p.startswith("scatter")).removeprefix("scatter ")
        parts = [f"scatters each {link.takes or graph.node(link.src).gives} by {name} into {link.flows}"]
        if isinstance(edge.arrange, Discriminative):
            parts.append(f"members that all of the last {edge.arrange.window} groups passed come last")
        elif edge.arrange is not None:
            parts.append(f"members come in the order of {edge.arrange}")
    if edge.gather:
        parts = [f"gathers members into {link.flows}, released {_release(edge.release)}"]
        if type(edge.release) is not release.All:
            parts.append(f"then {LATE[edge.late]}")
        parts.append(_failure(edge))
    if edge.otherwise:
        parts.append("takes only items that no other edge takes")
    parts += [f"takes an item only {phrase}" for phrase in link.policies if phrase.startswith("when ")]
    if edge.only is not None:
        parts.append(f"takes only {edge.only.__name__}")
    if edge.loop is not None:
        parts.append(f"an item passes at most {counted(edge.loop, 'time')}")
    parts.append(f"stale items are {_stale(edge.stale)}")
    if edge.distinct is not None:
        parts.append(f"an item whose {function_name(edge.distinct)} equals that of an open or held one is left out")
    if edge.keeps_orphans:
        parts.append("descendants of a retracted artifact pass")
    return f"{link.name}: {'; '.join(parts)}. Holds {edge.capacity}, {_order(str(edge.order))} first."


def _release(rule: Release) -> str:
    if type(rule).__module__ != release.__name__:
        return f"when {rule} decides"
    match rule:
        case release.Fraction(share, least):
            floor = f", and at least {least}," if least > 1 else ""
            return f"when {share:.0%} of its members{floor} are in"
        case release.Sampled(members, share):
            return f"when {'all' if share == 1 else f'{share:.0%}'} of a random sample of {members} members are in"
        case release.Count(members):
            return f"when {members} of its members are in"
        case release.Deadline(seconds):
            return f"{seconds:g} s after the scatter, with the members that are in"
        case release.Decided():
            return f"when {rule} finds that the rest cannot change the outcome"
    return "when every member has ended"


def _failure(edge: EdgePlan) -> str:
    if not isinstance(edge.on_failure, FailAbove):
        return f"{edge.on_failure} decides whether it fails"
    share = edge.on_failure.share
    return "failed members are left out" if share >= 1 else f"it fails if more than {share:.0%} of its members fail"


def _stale(rule: Staleness) -> str:
    if type(rule).__module__ != staleness.__name__:
        return f"judged by {rule}"  # the user's own rule, even if it derives from one of these
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
            return f"given the newest view when {rule} decides"
    return "accepted"


def _order(name: str) -> str:
    return {"fifo": "oldest", "freshest": "newest version"}.get(name, "smallest key")


def _cycles(plan: Plan) -> Iterator[str]:
    graph = plan.graph
    for source in plan.sources.values():
        for pool in source.reads:
            if (path := shortest_path(graph, source.name, pool)) is not None:
                yield f"through pool {pool}: {' -> '.join(path)} -> {source.name}."
    for edge in plan.edges.values():
        if edge.loop is not None and (path := shortest_path(graph, edge.dst, edge.src)) is not None:
            yield f"{' -> '.join(path)} -> {edge.dst}: an item passes at most {counted(edge.loop, 'time')}."
