"""`LocalModel` with real weights (135M), and its errors when it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from flashgraph.errors import DataError, ModelUnavailable
from flashgraph.llm import local as module
from flashgraph.llm.local import LocalModel
from flashgraph.llm.protocol import Model
from flashgraph.text.terminal import Screen

from .conftest import SETTINGS, silent

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Say hello."}]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed child of a killed parent may stay a zombie if nothing reaps orphans.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else True


def wait_until_dead(pid: int) -> None:
    for _ in range(200):
        if not alive(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still lives")


@pytest.mark.local_model
async def test_it_answers_and_ends(weights: str) -> None:
    """It opens, serves two concurrent requests with one cancelled, and leaves no child."""
    told: list[str] = []
    model = LocalModel(weights, report=lambda what, done, total: told.append(what), **SETTINGS)
    async with model.open():
        async with anyio.create_task_group() as group:
            group.start_soon(model.complete, HELLO, {"max_tokens": 4})
            reply = await model.complete(HELLO, {"max_tokens": 4, "temperature": 0})
        with anyio.move_on_after(0.2) as scope:
            await model.complete(HELLO, {"max_tokens": 1500, "ignore_eos": True})
        assert scope.cancelled_caught
        assert reply.text
        assert (reply.usage.completion, reply.cost, reply.finish) == (4, 0.0, "length")
        children = await anyio.to_thread.run_sync(children_of, os.getpid())
        assert len(children) == 1
    await anyio.to_thread.run_sync(wait_until_dead, children[0])
    assert told == ["starting SmolLM2-135M-Instruct.Q4_1.gguf on 1 threads"]
    with pytest.raises(RuntimeError, match="not open"):
        await model.complete(HELLO, {})


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "local_server"], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


PARENT = """
import anyio
from flashgraph.llm.local import LocalModel

async def main():
    async with LocalModel("135m", limit=1, context=1024, threads=1, report=lambda *_: None).open():
        print("open", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.local_model
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_server_dies_with_its_parent(weights: str, how: signal.Signals) -> None:
    """If the parent is killed or interrupted, no server stays."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"open\n"
        (child,) = children_of(parent.pid)
        parent.send_signal(how)
        parent.wait()
    wait_until_dead(child)


@pytest.mark.local_model
async def test_weights_that_do_not_load(weights: str, tmp_path: Path) -> None:
    """The message has the engine's last output."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing that follows")
    with pytest.raises(ModelUnavailable, match="its server ended while it started"):
        async with LocalModel(str(broken), report=silent, **SETTINGS).open():
            pass


async def test_a_missing_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the command that installs it, and the alternatives."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'flashgraph\[local\]'"):
        async with LocalModel().open():
            pass


async def test_it_is_a_model() -> None:
    """It is free, and its limit is the number of its slots."""
    model = LocalModel("0.5b", limit=3)
    assert isinstance(model, Model)
    assert (model.name, model.limit, model.worst_cost(10, 10)) == ("local:0.5b", 3, 0.0)


def test_the_screen_takes_both_kinds_of_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Each new activity gets a line, on standard error only."""
    with Screen() as screen:
        screen("fetching x", 10, 100)
        screen("fetching x", 100, 100)
        screen("starting x", 0, 0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.split("\n")[:2] == ["fetching x", "starting x"]
