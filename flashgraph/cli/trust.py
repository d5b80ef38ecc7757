"""Resuming another user's run: show what its folder makes this machine do, and ask for consent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from flashgraph.errors import DataError
from flashgraph.llm.resolve import FUNCTION_FILE
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.seal import is_own
from flashgraph.text.terminal import agreed, say

__all__ = ["require_trust"]

OPTION_END = re.compile(r"[?&#,;]")
"""Separators between the options of a role's models, at any nesting."""


def require_trust(folder: Path, order: Mapping[str, Any], given: Mapping[str, Any], trusted: bool) -> None:
    """Ask for consent to the actions of ``order``, read from a run's folder, that the command line does not replace.

    ``given`` holds the options of the command line. A run that this user started on this machine needs no consent.
    Raises `DataError` if the user refuses or stdin gives no answer.
    """
    if is_own(folder / JOURNAL):
        return
    wanted = _wanted(order, given)
    if not wanted or trusted:
        return
    say(
        f"{folder}: another user, another machine or an older flashgraph started this run.\n"
        "Resuming it would do what its folder says:",
        err=True,
    )
    for line in wanted:
        say(f"  {line}", err=True)
    if agreed("Resume it?"):
        return
    raise DataError(
        f"{folder}: not resumed.\nFix: --trust, to do what the folder says; or give --graph, --task and --model."
    )


def _wanted(order: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return a line for each thing that a folder makes this machine do."""
    lines = []
    for name in ("graph", "task"):
        if not given.get(name) and order.get(name):
            lines.append(f"run the code of {order[name]} as its {name}")
    for role, spec in dict(order.get("models") or {}).items():
        if role not in given["models"] and FUNCTION_FILE.fullmatch(str(spec)):
            lines.append(f"run the code of {spec} as the model of the role {role}")
        elif role not in given["models"]:
            sent = "".join(f", with the key from the environment variable {key}" for key in _keys(str(spec)))
            lines.append(f"send requests of the role {role} to {spec}{sent}")
    if order.get("cache"):
        lines.append(f"read and write the file {order['cache']} as a cache of replies")
    return lines


def _keys(spec: str) -> list[str]:
    """Return every environment variable that a model string names as a key, with percent-encoding undone (%5F)."""
    options = (pair.partition("=") for pair in OPTION_END.split(spec))
    return list(dict.fromkeys(unquote_plus(value) for name, _, value in options if unquote_plus(name) == "key_env"))
