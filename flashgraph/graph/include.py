"""Composition: a copy of one graph inside another, under a prefix."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.errors import did_you_mean
from flashgraph.graph.declarations import Declarations
from flashgraph.graph.handles import PoolNode
from flashgraph.graph.spec import PoolSpec, StageSpec

__all__ = ["include"]


def include(
    graph: Declarations,
    part: Declarations,
    prefix: str,
    params: Mapping[str, Any],
    pools: Mapping[str, Any],
    without: Sequence[str],
    roles: Mapping[str, str],
) -> dict[str, str]:
    """Copy ``part`` into ``graph`` and return each node's name in ``graph``. Note a problem for each part that cannot
    be copied.
    """
    if not _can_include(graph, part, prefix):
        return {}
    graph.noted.extend(part.noted)
    spec = part.spec
    _known(graph, part, "parameter", params, spec.params)
    _known(graph, part, "pool", pools, {p.name: p for p in spec.pools})
    _known(
        graph,
        part,
        "source or stage",
        dict.fromkeys(without),
        {s.name: s for s in spec.sources} | {s.name: s for s in spec.stages},
    )
    _known(graph, part, "role", roles, set(spec.roles))
    without = [n for n in without if not isinstance(spec.nodes.get(n), PoolSpec)]
    replaced = {p.name: pools[p.name].name for p in spec.pools if _usable(graph, part, p.name, pools)}
    for param in spec.params.values():
        name = f"{prefix}.{param.name}"
        graph._params[name] = attrs.evolve(param, name=name, default=params.get(param.name, param.default))
    graph._classes |= {f"{prefix}.{inner}": kind for inner, kind in spec.classes.items()}
    for resource in spec.resources.values():
        graph.resource(resource.name, resource.factory)
    names = {n: replaced.get(n, f"{prefix}.{n}") for n in spec.nodes if n not in without}
    for node in spec.nodes.values():
        if node.name in without:
            continue
        if isinstance(node, PoolSpec):
            if node.name not in replaced:
                graph.add(attrs.evolve(node, name=names[node.name], prefix=f"{prefix}.{node.prefix}"))
        else:
            reads = tuple(names[pool] for pool in node.reads)
            copy: Any = attrs.evolve(node, name=names[node.name], reads=reads, prefix=f"{prefix}.{node.prefix}")
            if isinstance(copy, StageSpec) and copy.model is not None:
                copy = attrs.evolve(copy, model=roles.get(copy.model, copy.model))
            graph.add(copy)
    for edge in spec.edges:
        if edge.src in without or edge.dst in without:
            continue
        stale: Any = edge.stale
        if callable(getattr(stale, "renamed", None)) and not isinstance(stale, type):
            stale = stale.renamed(names)
        own = f"{prefix}.{edge.prefix}"
        graph.add_edge(attrs.evolve(edge, src=names[edge.src], dst=names[edge.dst], stale=stale, prefix=own))
    graph.left_out |= {names[n] for n in part.left_out if n in names}
    return names


def _can_include(graph: Declarations, part: Any, prefix: Any) -> bool:
    what, note = f"include of {getattr(part, 'name', part)!r}", graph.note
    if not hasattr(part, "spec"):
        note("bad-include", what, f"a {type(part).__name__}", "a fg.Graph", "graph.include(PART, 'prefix')")
    elif part is graph:
        note("bad-include", what, "the graph itself", "another graph", "declare the part as a fg.Graph of its own")
    elif not isinstance(prefix, str) or not prefix.isidentifier():
        note("bad-include", what, f"prefix {prefix!r}", "a name of letters, digits and underscores", "e.g. 'part'")
    elif any(name.startswith(f"{prefix}.") for name in graph.spec.nodes):
        note(
            "bad-include", what,
            f"prefix {prefix!r}, which another included graph has",
            "one prefix for each included graph",
            f"e.g. {prefix + '_2'!r}",
        )  # fmt: skip
    else:
        return True
    return False


def _known(
    graph: Declarations, part: Declarations, kind: str, given: Mapping[str, Any], known: Collection[str]
) -> None:
    for name in given:
        if name not in known:
            graph.note(
                "unknown-in-part",
                f"{kind} {name!r} of included graph {part.name!r}",
                f"{name!r}",
                f"a {kind} that {part.name!r} declares",
                did_you_mean(name if isinstance(name, str) else repr(name), sorted(known)),
            )


def _usable(graph: Declarations, part: Declarations, name: str, pools: Mapping[str, Any]) -> bool:
    """Return whether a pool of this graph replaces a pool of the part; note a problem for any other value."""
    if name not in pools:
        return False
    given = pools[name]
    if isinstance(given, PoolNode) and given.owner is graph:
        return True
    graph.note(
        "part-pool-not-a-pool",
        f"pool {name!r} of included graph {part.name!r}",
        f"{getattr(given, 'name', given)!r} instead of a pool",
        f"a pool of graph {graph.name!r}, as graph.pool(...) returned it",
        f"pools={{{name!r}: POOL}}",
    )
    return False
