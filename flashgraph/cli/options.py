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
    "role_budget_option",
    "role_limits",
    "schedule_option",
    "set_option",
]

F = TypeVar("F", bound=Callable[..., Any])

OVER_ZERO = click.FloatRange(min=0, min_open=True)
FROM_ONE = click.IntRange(min=1)

LIMITS: dict[str, tuple[click.ParamType[Any], str]] = {
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
    return role_budget_option(command)


def role_budget_option(command: F) -> F:
    return click.option(
        "--budget",
        "roles",
        metavar="ROLE.LIMIT=NUMBER",
        multiple=True,
        help="Budget of one role's requests: calls, tokens or usd, e.g. judge.usd=1. Repeatable.",
    )(command)


def role_limits(texts: Iterable[str]) -> dict[str, float]:
    """Return the limits of ``--budget`` by name, as in `Budget.flat`. Raises click's usage error for unknown ones."""
    from flashgraph.run.budget import OF_REQUESTS

    found = {}
    for name, text in pairs(texts, "--budget", "judge.usd=1").items():
        role, _, limit = name.strip().rpartition(".")
        kind = LIMITS.get(limit)
        if kind is None or limit not in OF_REQUESTS or not role:
            raise click.BadParameter(
                f"found {name!r}, expected ROLE.LIMIT with a limit of {', '.join(OF_REQUESTS)}, e.g. --budget "
                f"judge.usd=1; for the whole run write --{limit if kind else 'usd'} {text}",
                param_hint="'--budget'",
            )
        found[f"{role}.{limit}"] = kind[0](text.strip())
    return found


def budget_of(options: Mapping[str, Any]) -> Budget:
    """Return the budget that the options of `budget_options` set."""
    from flashgraph.run.budget import Budget

    limits = {name: options[name] for name in LIMITS if name != "minutes"}
    limits["seconds"] = None if options["minutes"] is None else options["minutes"] * 60
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return Budget.of({**given, **role_limits(options["roles"])})


def pairs(texts: Iterable[str], option: str = "--set", example: str = "window=4") -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping; the last value of a name wins.

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

    A ``SPEC`` without a role serves every role that no other text names. Raises click's usage error for two specs
    without a role, and for two specs of one role.
    """
    bare: list[str] = []
    named: dict[str, str] = {}
    for text in texts:
        role, equals, spec = text.partition("=")
        # A model string may hold "=" itself, but only after its scheme: openai:URL#MODEL?temperature=0.
        if not (equals and role.isidentifier()):
            bare.append(text)
        elif role in named:
            raise click.BadParameter(f"found two models for the role {role!r}, expected one", param_hint=f"'{option}'")
        else:
            named[role] = spec
    if len(bare) > 1:
        raise click.BadParameter(
            f"found {bare[0]!r} and {bare[1]!r}, both without a role; expected ROLE=SPEC for each",
            param_hint=f"'{option}'",
        )
    return {**{role: bare[0] for role in roles if bare}, **named}
