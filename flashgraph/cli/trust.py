"""Resuming a run of somebody else's: what its folder would have this machine do is shown, and asked about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from flashgraph.errors import DataError
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.seal import is_own
from flashgraph.text.terminal import agreed, say

__all__ = ["require_trust"]

OPTION_END = re.compile(r"[?&#,;]")
"""What may stand between the options of a role's models, however they are nested."""


def require_trust(folder: Path, order: Mapping[str, Any], given: Mapping[str, Any], trusted: bool) -> None:
    """Ask whether to do what ``order``, as a run's folder has it, says, but for what was ``given`` on the command line.

    A run that this user has started on this machine asks nothing.  Raises `DataError` for a no, and where there is
    nobody to ask.
    """
    if is_own(folder / JOURNAL):
        return
    wanted = _wanted(order, given)
    if not wanted or trusted:
        return
    say(
        f"{folder}: this run was not started by you on this machine, or by an older flashgraph.\n"
        "On the word of its folder, resuming it would:",
        err=True,
    )
    for line in wanted:
        say(f"  {line}", err=True)
    if agreed("Go on?"):
        return
    raise DataError(
        f"{folder}: not resumed.\nFix: --trust does what the folder says; or say --graph, --task and --model yourself."
    )


def _wanted(order: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What a folder has this machine do, a line each."""
    lines = []
    for name in ("graph", "task"):
        if not given.get(name) and order.get(name):
            lines.append(f"run the code of {order[name]}, as its {name}")
    for role, spec in dict(order.get("models") or {}).items():
        if role not in given["models"]:
            sent = "".join(f", with the key in the environment's {key}" for key in _keys(str(spec)))
            lines.append(f"send requests to {spec} for the role {role}{sent}")
    if order.get("cache"):
        lines.append(f"read and write the file {order['cache']}, as a cache of replies")
    return lines


def _keys(spec: str) -> list[str]:
    """The variables that a model string names as keys: all of them, and as it is read, which undoes %5F."""
    options = (pair.partition("=") for pair in OPTION_END.split(spec))
    return list(dict.fromkeys(unquote_plus(value) for name, _, value in options if unquote_plus(name) == "key_env"))
