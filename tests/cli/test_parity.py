"""The options of ``flashgraph run`` and of `fg.run` are the same, or say where the other's are."""

from __future__ import annotations

import inspect

import click

import flashgraph as fg
from flashgraph.api import RunOptions
from flashgraph.cli import run as command
from flashgraph.launch.opening import COMMAND_LINE_NAMES, Options

OBJECTS = {"on_event", "settle", "memory", "resources", "order"}
"""Options that take Python's objects: no text on a command line could name them."""

OTHER_COMMANDS = {"resume", "accept_changes"}
"""They belong to `flashgraph resume`."""

PYTHON_NAMES = {
    "models": "model",
    "folder": "out",
    "params": "set",
    "settings": "set",
    "any_temperature": "cache-samples",
}
"""The command line's name of an option, if it has another one."""

OF_A_TERMINAL = {"grace", "view", "no-test"}
"""Ctrl-C, a page beside the run, and the test after it: `Run.stop`, `flashgraph view` and `task.test` serve Python."""


def options() -> set[str]:
    """Return the long options of ``flashgraph run``, without the dashes."""
    return {
        name.removeprefix("--")
        for option in command.command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def test_each_option_of_python_is_on_the_command_line() -> None:
    names = set(RunOptions.__annotations__) - OBJECTS - OTHER_COMMANDS - {"budget"}
    missing = {name for name in names if PYTHON_NAMES.get(name, name.replace("_", "-")) not in options()}
    assert not missing, f"add them to flashgraph/cli/run.py: {missing}"


def test_each_option_of_the_command_line_is_in_python() -> None:
    """Under its name, or `Options.of` names the Python form for it."""
    known = set(RunOptions.__annotations__) | set(inspect.signature(fg.run).parameters) | set(COMMAND_LINE_NAMES)
    missing = {name for name in options() - OF_A_TERMINAL if name.replace("-", "_") not in known}
    assert not missing, f"add them to flashgraph.api.RunOptions or COMMAND_LINE_NAMES: {missing}"


def test_the_lists_hold_nothing_old() -> None:
    assert set(Options.__annotations__) == set(RunOptions.__annotations__)
    assert set(RunOptions.__annotations__) >= OBJECTS | OTHER_COMMANDS | set(PYTHON_NAMES)
    assert options() >= OF_A_TERMINAL | set(PYTHON_NAMES.values())
