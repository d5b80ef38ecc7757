"""Options that commands share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from flashgraph.run.budget import Budget

__all__ = [
    "FROM_ONE",
    "OVER_ZERO",
    "absolute",
    "budget_of",
    "budget_options",
    "cache_file",
    "models_by_role",
    "pairs",
    "schedule_option",
    "set_option",
]

F = TypeVar("F", bound=Callable[..., Any])

OVER_ZERO = click.FloatRange(min=0, min_open=True)
FROM_ONE = click.IntRange(min=1)

LIMITS = {
    "minutes": (OVER_ZERO, "minutes, without the held-out test at the end."),
    "proposals": (FROM_ONE, "proposals."),
    "evaluations": (FROM_ONE, "evaluations (one candidate on one sample each)."),
    "calls": (FROM_ONE, "model calls."),
    "tokens": (FROM_ONE, "tokens of prompts and replies."),
    "usd": (OVER_ZERO, "US dollars."),
}


def absolute(file: str) -> str:
    """Return FILE or FILE:NAME with the absolute path of the file; return the name of a shipped algorithm as it is."""
    path, colon, name = file.rpartition(":")
    if colon and not Path(file).exists():
        return f"{Path(path).resolve()}:{name}" if Path(path).exists() else file
    return str(Path(file).resolve()) if Path(file).exists() else file


def cache_file(given: str | None) -> str | None:
    """Return the file of ``--cache``: the one ``given``, or the user's default file for the bare flag."""
    if given is None:
        return None
    if given:
        return str(Path(given).resolve())
    from flashgraph.llm.responses import default_path

    return str(default_path())


def schedule_option(command: F) -> F:
    return click.option(
        "--schedule",
        type=click.Choice(["pipelined", "throughput", "lockstep"]),
        default="pipelined",
        show_default=True,
        help="How rounds and stages overlap. pipelined: a good score early; throughput: a busy server; lockstep: the "
        "published algorithm.",
    )(command)


def set_option(command: F) -> F:
    return click.option(
        "--set",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        help="Set a parameter of the graph; window, focus or control; STAGE.workers; or EDGE.POLICY, "
        "e.g. 'validate->frontier.stale=discard(4)'. Repeatable.",
    )(command)


def budget_options(command: F) -> F:
    """Add an option for each limit of a run's budget."""
    for name, (kind, counts) in reversed(LIMITS.items()):
        command = click.option(f"--{name}", type=kind, help=f"Budget: at most this many {counts}")(command)
    return command


def budget_of(options: Mapping[str, Any]) -> Budget:
    """Return the budget that the options of `budget_options` set."""
    from flashgraph.run.budget import Budget

    limits = {name: options[name] for name in LIMITS if name != "minutes"}
    minutes = options["minutes"]
    return Budget(**limits, seconds=None if minutes is None else minutes * 60)


def pairs(texts: Iterable[str], option: str = "--set", example: str = "window=4") -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping, in which the last value of a name counts.

    Raises click's usage error for a text without a name, ``=`` or value.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise click.BadParameter(
                f"found {text!r}, expected NAME=VALUE, e.g. {option} {example}", param_hint=f"'{option}'"
            )
        found[name.strip()] = value.strip()
    return found


def models_by_role(texts: Iterable[str], roles: Iterable[str], option: str = "--model") -> dict[str, str]:
    """Return the spec of each role from the ``ROLE=SPEC`` and ``SPEC`` texts of ``option``.

    A ``SPEC`` without a role serves every role that is not named.  Raises click's usage error for two of these, and
    for two specs of one role.
    """
    bare: list[str] = []
    named: dict[str, str] = {}
    for text in texts:
        role, equals, spec = text.partition("=")
        # A model string may hold "=" itself, but only after its scheme: openai:URL#MODEL?temperature=0.
        if not (equals and role.isidentifier()):
            bare.append(text)
        elif role in named:
            raise click.BadParameter(f"found two for the role {role!r}, expected one", param_hint=f"'{option}'")
        else:
            named[role] = spec
    if len(bare) > 1:
        raise click.BadParameter(
            f"found {bare[0]!r} and {bare[1]!r}, both for all roles; expected ROLE=SPEC for each",
            param_hint=f"'{option}'",
        )
    return {**{role: bare[0] for role in roles if bare}, **named}
