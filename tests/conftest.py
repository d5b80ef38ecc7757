"""Settings of all tests: no time limit for generated examples, and a report of the processes that tests killed.

Machines may be busy, and the time under test is virtual.  Examples are new in each run.  Where `CI` is set they are the
same in each, so that a change is judged by itself.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Tests seal their runs with a key of their own, and leave the user's alone.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="flashgraph-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", untimed)
settings.register_profile("the same", untimed, derandomize=True)
settings.load_profile("the same" if os.environ.get("CI") else "untimed")

KILLED: list[int] = []
"""For each worker, the number of its child processes that SIGKILL ended."""


def _killed() -> int:
    forks = sys.modules.get("tests.journal.forks")
    return 0 if forks is None else int(forks.killed)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["killed"] = _killed()
    else:
        KILLED.append(_killed())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    KILLED.append(getattr(node, "workeroutput", {}).get("killed", 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if sum(KILLED):
        terminalreporter.write_line(f"{sum(KILLED)} processes were killed with SIGKILL; their runs were resumed")
