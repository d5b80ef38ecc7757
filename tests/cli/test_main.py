"""The command line as a whole: help, version, usage errors, defects."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flashgraph
from flashgraph.cli import COMMANDS

from .conftest import Cli


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_overview(cli: Cli, command: str) -> None:
    """Each command has ``--help``, and the overview has a line for it."""
    overview, own = cli("--help"), cli(command, "--help")
    assert overview.code == own.code == 0
    assert own.out.startswith(f"Usage: flashgraph {command}")
    assert f"\n  {command} " in overview.out


@pytest.mark.parametrize("command", ["check", "draw", "explain", "simulate", "tune"])
def test_commands_that_execute_a_graph_file_say_so(cli: Cli, command: str, tmp_path: Path) -> None:
    """Commands that only seem to read a graph say that they execute it."""
    assert "executes the graph file" in " ".join(cli(command, "--help").out.split())
    ran = tmp_path / "ran"
    (tmp_path / "graph.py").write_text(f"open({str(ran)!r}, 'w').close()\nraise SystemError('enough')\n")
    assert cli(command, "graph.py", *(["-o", "graph.md"] if command == "draw" else [])).code == 1
    assert ran.exists()


def test_exit_codes_are_documented(cli: Cli) -> None:
    """``--help`` ends with the exit codes."""
    said = cli("--help").out
    assert said.index("Exit codes:") > said.index("Commands:")
    for code in ("0", "1", "2", "3", "130"):
        assert re.search(rf"^ +{code} ", said, re.M)


def test_version(cli: Cli) -> None:
    """``--version`` prints the package's version."""
    assert cli("--version").out == f"flashgraph, version {flashgraph.__version__}\n"


def test_a_wrong_command_line_is_clicks_to_report(cli: Cli) -> None:
    """A wrong command line has exit code 2 and prints the usage."""
    for args in (("chek", "gepa"), ("check",), ("run", "gepa"), ("explain", "gepa", "--set", "window")):
        ended = cli(*args)
        assert ended.code == 2
        assert ended.err.startswith("Usage: flashgraph")
    assert "did you mean 'check'?" in cli("chek", "gepa").err


def test_a_defect_shows_its_traceback_and_asks_for_a_report(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of flashgraph prints its traceback and asks for a report."""

    def broken() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("flashgraph.graph.loading.shipped", broken)
    ended = cli("algorithms")
    assert ended.code == 70
    assert "Traceback" in ended.err
    assert "defect of flashgraph" in ended.err


def test_an_extra_that_is_missing_is_no_defect(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra gets a message with the package to install; another missing module is a defect."""

    def broken(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("flashgraph.graph.loading.shipped", lambda: broken("matplotlib.figure"))
    ended = cli("algorithms")
    assert (ended.code, ended.err) == (1, "error: matplotlib is not installed.\nFix: pip install 'flashgraph[draw]'\n")
    monkeypatch.setattr("flashgraph.graph.loading.shipped", lambda: broken("flashgraph.nowhere"))
    assert cli("algorithms").code == 70


def test_help_and_check_leave_heavy_libraries_alone() -> None:
    """Help and ``check`` import no heavy library, so that they start fast."""
    code = "import sys\nfrom flashgraph.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(said.splitlines()[-1].split())
    assert loaded.isdisjoint({"rich", "httpx", "networkx", "matplotlib", "cattrs", "beartype", "litellm", "asyncio"})


def test_python_m_flashgraph() -> None:
    """The package runs as a module."""
    ended = subprocess.run(
        [sys.executable, "-m", "flashgraph", "--version"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("flashgraph, version")
