"""A thread of the event loop that never returns does not keep a run, or its process, from ending."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.threads import MOST, LooseThreads
from flashgraph.testing.runs import TASK

never = threading.Event()


def test_it_runs_functions_and_hands_on_what_they_give() -> None:
    """The executor runs more functions than it has threads, and passes on their results and errors."""
    threads = LooseThreads()
    futures = [threads.submit(divmod, n, 7) for n in range(4 * MOST)]
    assert [future.result(10) for future in futures] == [divmod(n, 7) for n in range(4 * MOST)]
    assert isinstance(threads.submit(divmod, 1, 0).exception(10), ZeroDivisionError)
    threads.shutdown()


def test_it_waits_for_functions_that_return() -> None:
    """The executor waits for functions that return, such as one that writes a file."""
    threads, done = LooseThreads(), threading.Event()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        assert begun.wait(10)
        done.set()

    threads.submit(work)
    threads.shutdown()
    assert done.is_set()


def test_it_leaves_a_function_that_does_not_return(caplog: pytest.LogCaptureFixture) -> None:
    """The executor leaves a function that does not return, with a warning; waiting ones are cancelled on demand."""
    threads, release = LooseThreads(grace=0), threading.Event()
    futures = [threads.submit(release.wait, 60) for _ in range(MOST + 1)]
    with caplog.at_level(logging.WARNING, "flashgraph"):
        threads.shutdown(cancel_futures=True)
    assert futures[-1].cancelled()
    assert f"{MOST} functions in threads do not return" in caplog.text
    release.set()


@pytest.mark.parametrize("begin", [
    lambda: asyncio.to_thread(never.wait),
    lambda: asyncio.get_running_loop().run_in_executor(None, never.wait),
])  # fmt: skip
def test_a_run_ends_without_a_thread_that_does_not(begin: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`fg.run` returns its result without a thread that does not return."""
    monkeypatch.setattr(LooseThreads.__init__, "__defaults__", (0.0,))

    async def attempt(candidate: Mapping[str, str], sample: Any, llm: fg.Llm) -> str:
        await begin()
        return ""

    task = attrs.evolve(TASK, attempt=attempt)
    result = fg.run("gepa", task, models={"task": repr, "reflection": repr}, budget=fg.Budget(seconds=0.05))
    assert (result.status, result.cause.value) == ("budget", "seconds")


SCRIPT = """
import asyncio, threading
from flashgraph.run.threads import LooseThreads, use_loose_threads

async def main():
    use_loose_threads()
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

LooseThreads.__init__.__defaults__ = (0.0,)
asyncio.run(main())
print("ended")
"""


def test_a_process_ends_too(tmp_path: Path) -> None:
    """The process ends too, because Python does not wait for these threads."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "ended\n"
