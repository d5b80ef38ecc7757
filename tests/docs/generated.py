"""The reference pages that are generated from the code: names, the command line, and every message of `check`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import attrs
import click

import flashgraph
from flashgraph.cli import COMMANDS
from flashgraph.graph.check.options import LATE
from flashgraph.graph.dsl import Graph
from flashgraph.policies import settings
from tests.graph import mistakes_edges, mistakes_nodes, mistakes_shape
from tests.graph.kit import MISTAKES, Mistake
from tests.mutants.bugs import BUGS
from tests.mutants.historical import table

__all__ = ["API", "pages"]

HEAD = "<!-- Generated from the code by tests/docs/generated.py. -->\n"


@attrs.frozen
class Page:
    """A page of names: its title, and names by the module that users import them from."""

    title: str
    names: Mapping[str, tuple[str, ...]]


API = {
    "graph": Page(
        "Graphs",
        {
            "flashgraph": (
                "Graph",
                *("Draw", "Emit", "Context", "Resource", "Costs", "Epochs"),
                *("Pool", "PoolEvent", "Artifact", "Contender"),
                *("Group", "Member", "Several", "Failed", "Stale", "Change", "Verdict"),
            ),
        },
    ),
    "policies": Page(
        "Policies",
        {
            "flashgraph": (
                *("everyone", "sampled", "fraction", "count", "deadline", "decided"),
                *("fifo", "freshest", "priority", "discriminative"),
                *("accept", "discard", "refresh", "repair"),
                *("missing", "fail_above"),
                *("lockstep", "pipelined", "throughput", "Schedule"),
                *("drain_first", "shortest_first", "balanced"),
            ),
            "flashgraph.policies": ("Rule", "Decision", "Touched", "Control", "Waiting"),
            "flashgraph.policies.champion": ("the_best", "proven", "ChampionRule", "Title"),
        },
    ),
    "runs": Page(
        "Runs",
        {
            "flashgraph": (
                "run",
                "arun",
                "open_run",
                "load_graph",
                "load_best",
                "load_task",
                "Budget",
                "Result",
                "ResultArtifact",
                "StoredRun",
            )
        },
    ),
    "tasks": Page(
        "Tasks and data",
        {
            "flashgraph": ("Task", "Score", "Llm"),
            "flashgraph.tasks": (),
            "flashgraph.tasks.data": ("read", "samples", "split", "locate", "Row", "BadRow"),
            "flashgraph.tasks.metrics": ("final_answer", "last_number", "json_object"),
        },
    ),
    "models": Page("Models", {"flashgraph": ("Model", "Message", "Reply", "Usage"), "flashgraph.llm": ()}),
    "errors": Page(
        "Errors",
        {
            "flashgraph": (
                *("FlashgraphError", "GraphError", "Problem", "DataError", "BudgetExhausted", "UnusableReply"),
                *("ModelError", "ModelUnavailable", "ModelRefused", "RequestFailed"),
            ),
            "flashgraph.errors": (),
        },
    ),
    "parts": Page("Parts", {"flashgraph.parts": (), "flashgraph.text": ()}),
    "parts-gepa": Page("Parts of GEPA", {"flashgraph.parts.gepa": ()}),
    "parts-ace": Page("Parts of ACE", {"flashgraph.parts.ace": ()}),
    "parts-meta-harness": Page("Parts of Meta-Harness", {"flashgraph.parts.meta_harness": ()}),
    "parts-islands": Page("Parts of islands", {"flashgraph.parts.islands": ()}),
    "gepa": Page("Drop-in for gepa", {"flashgraph.gepa": ()}),
    "sandbox": Page("Sandbox", {"flashgraph.sandbox": ()}),
    "sim": Page("Simulation", {"flashgraph.sim": ()}),
    "evidence": Page("Evidence", {"flashgraph.evidence": ()}),
    "testing": Page("Testing", {"flashgraph.testing": ()}),
}
"""Pages by file name; a module without names has all of its ``__all__`` that `flashgraph` does not export as well."""

KINDS = {
    "nodes": ("Messages about parameters, pools, sources and stages", mistakes_nodes),
    "edges": ("Messages about edges", mistakes_edges),
    "shape": ("Messages about the shape of a graph", mistakes_shape),
}


def pages() -> dict[str, str]:
    """Return the text of each generated page by its path below docs/."""
    found = {f"reference/api/{name}.md": _api(page) for name, page in API.items()}
    found["reference/options.md"] = _options()
    found["reference/command-line.md"] = _command_line()
    found["benchmarks/bugs.md"] = _bugs()
    found["reference/settings.md"] = _settings()
    found["reference/messages.md"] = _codes()
    found.update({f"reference/messages-{name}.md": _messages(name) for name in KINDS})
    return {path: HEAD + text for path, text in found.items()}


# ---- names -----------------------------------------------------------------------------------------------


def _api(page: Page) -> str:
    blocks = [f"# {page.title}\n"]
    for module, names in page.names.items():
        for name in names or (name for name in import_module(module).__all__ if name not in flashgraph.__all__):
            target = _target(module, name)
            entry = f'::: {target}\n    options:\n      heading: "{module}.{name}"\n      toc_label: {name}\n'
            blocks.append(entry if target else f"## {module}.{name}\n\n`{getattr(import_module(module), name)!r}`\n")
    return "\n".join(blocks)


def _target(module: str, name: str) -> str | None:
    """Return the path of the definition of a name; None for a value that is assigned together with others."""
    value = inspect.unwrap(getattr(import_module(module), name))
    home = getattr(value, "__module__", module)
    if (inspect.isclass(value) or inspect.isfunction(value)) and home.startswith("flashgraph"):
        return f"{home}.{value.__qualname__}"
    for other, found in sorted(sys.modules.items()):
        if not other.startswith("flashgraph") or name not in vars(found):
            continue
        if re.search(rf"^{name}\b[^\n(,]*=", inspect.getsource(found), re.M):
            return f"{other}.{name}"
    return None


# ---- options of the DSL ----------------------------------------------------------------------------------


def _options() -> str:
    blocks = [
        "# Options of sources, stages and edges\n",
        "The [Python API](api/graph.md) has their types. [Sources and stages](nodes.md) and [Edges](edges.md) "
        "explain them.\n",
    ]
    for method in ("source", "stage", "edge"):
        text = inspect.cleandoc(getattr(Graph, method).__doc__ or "").partition("\nArgs:\n")[2]
        rows = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", text, re.M)
        blocks += [
            f"## `graph.{method}`\n",
            "| option | meaning |",
            "| --- | --- |",
            *(f"| `{name}` | {' '.join(meaning.split())} |" for name, meaning in rows),
            "",
        ]
    return "\n".join(blocks)


# ---- planted bugs ----------------------------------------------------------------------------------------


def _bugs() -> str:
    return "\n".join(
        [
            "# Historical bugs\n",
            "Each was planted in a copy of the package, and caught with a violation of its invariant "
            "([mutation testing](mutants.md#historical-bugs)).\n",
            table(BUGS),
            "",
        ]
    )


# ---- the command line ------------------------------------------------------------------------------------


def _command_line() -> str:
    blocks = [
        "# Command line\n",
        "`flashgraph COMMAND --help` prints the text of a command. `python -m flashgraph` is the same program.\n",
    ]
    context = click.Context(_group(), info_name="flashgraph", max_content_width=100, terminal_width=100)
    blocks += ["```text", _group().get_help(context), "```\n"]
    for name in COMMANDS:
        command = _group().get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, max_content_width=100, terminal_width=100)
        blocks += [f"## `flashgraph {name}`\n", "```text", command.get_help(inner), "```\n"]
    return "\n".join(blocks)


def _group() -> click.Group:
    from flashgraph import cli

    (group,) = {value for value in vars(cli).values() if isinstance(value, click.Group)}
    return group


# ---- settings --------------------------------------------------------------------------------------------


def _settings() -> str:
    rows = [
        *((f"EDGE.{name}", kinds) for name, kinds in settings.EDGE_SETTINGS.items()),
        ("STAGE.workers", (int,)),
        *settings.SCHEDULE_SETTINGS.items(),
    ]
    return "\n".join(
        [
            "# Settings of a run\n",
            "`--set NAME=VALUE` changes a parameter of the graph, or the schedule, for one run. From Python it is "
            "`params=` and `settings=`.\n",
            "An edge is written `'validate->frontier'`, in quotes for the shell. A policy that takes a function "
            "(`decided`, `priority`, a `when=`) is set in the graph or from Python. So is the shape of a graph.\n",
            "| name | values |",
            "| --- | --- |",
            "| `PARAMETER` | a value of the type of the parameter's default |",
            *(f"| `{name}` | {_values(name, kinds)} |" for name, kinds in rows),
            "",
        ]
    )


def _values(name: str, kinds: Sequence[type]) -> str:
    """Return the values of a setting: names of its policies, or the numbers that it takes."""
    if name.endswith(".late"):
        return ", ".join(f"`{value}`" for value in LATE)
    if kinds == (int,):
        return "a whole number from 1"
    if float in kinds:
        return "a share, from 0 to 1"
    examples = [settings.EXAMPLES.get(policy, policy) for policy in settings.POLICIES]
    found = [text for text in examples if isinstance(settings.parse_policy(text), tuple(kinds))]
    return ", ".join(f"`{text}`" for text in found)


# ---- messages of check -----------------------------------------------------------------------------------


def _examples(module: Any) -> list[tuple[str, str]]:
    """Return the code and the text of each message of a module of mistakes."""
    found = []
    for mistake in MISTAKES:
        if mistake.build.__module__ == module.__name__:
            found += [(_code(message), message) for message in _split(mistake)]
    return found


def _split(mistake: Mistake) -> list[str]:
    return re.split(r"\n(?=\S)", mistake.expected.strip("\n"))


def _code(message: str) -> str:
    found = re.search(r"\[([a-z-]+)\]$", message.split("\n")[0])
    assert found, message
    return found[1]


def _first() -> dict[str, tuple[str, str]]:
    """Return by code the kind of page that has its first message, and that message."""
    found: dict[str, tuple[str, str]] = {}
    for kind, (_, module) in KINDS.items():
        for code, message in _examples(module):
            found.setdefault(code, (kind, message))
    return dict(sorted(found.items()))


def _line(message: str, label: str) -> str:
    (line,) = re.findall(rf"^    {label}:\s+(.*)$", message, re.M)
    return str(line)


def _codes() -> str:
    rows = [
        f"| [`{code}`](messages-{kind}.md#{code}) | {_cell(_line(message, 'expected'))} |"
        for code, (kind, message) in _first().items()
    ]
    return "\n".join(
        [
            "# Messages of check\n",
            "`flashgraph check` reports all mistakes of a graph by line. Each has a code in brackets. "
            "Here is what each code expects; its link leads to an example of the whole message.\n",
            "| code | expected, in the example |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`\[\]])", r"\\\1", text)


def _messages(kind: str) -> str:
    title, _ = KINDS[kind]
    blocks = [f"# {title}\n", "One message of each code. `FILE` stands for the graph file.\n"]
    for code, (at, message) in _first().items():
        if at == kind:
            blocks += [f"## {code}\n", "```text", message, "```\n"]
    return "\n".join(blocks)


if __name__ == "__main__":
    for path, text in pages().items():
        click.echo(f"{text.count(chr(10)):5} {path}")
