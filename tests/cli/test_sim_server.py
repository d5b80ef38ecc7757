"""``flashgraph sim-server`` as a process: its address on stdout, load on stderr, and Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import flashgraph as fg

from .conftest import Cli

TASK = Path(__file__).parents[2] / "examples" / "sim_world" / "task.py"


@contextmanager
def started(*args: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the server; yield its address and the process."""
    command = [sys.executable, "-m", "flashgraph", "sim-server", "--port", "0", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert found, said
            yield found[0], process
        finally:
            process.kill()


def test_a_run_against_it_learns() -> None:
    """The documented example makes proposals against the server, which reports its load."""
    with started("--speed", "100000", "--every", "0.05", "--fault", "429=0.01") as (url, process):
        result = fg.run(
            "gepa",
            TASK,
            models=dict.fromkeys(("task", "reflection"), f"vllm:{url}?limit=16"),
            budget=fg.Budget(proposals=4),
        )
        assert process.stderr is not None
        line = process.stderr.readline()
    assert result.spent.proposals == 4
    assert re.match(
        r"running \d+ of 128, waiting 0, [\d,]+ tokens/s \(\d+%\), cache \d+%, answered \d+, refused \d+, aborted \d+$",
        line,
    )


def test_ctrl_c_ends_it_in_order() -> None:
    """Ctrl-C ends it with exit code 0; until then no other process can listen on the port."""
    with started("--profile", "api", "--slots", "3", "--name", "tiny") as (url, process):
        port = httpx.URL(url).port
        models = httpx.get(f"{url}/v1/models", trust_env=False).json()
        other = subprocess.run(
            [sys.executable, "-m", "flashgraph", "sim-server", "--port", str(port)], capture_output=True, text=True
        )
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert process.stdout is not None
        assert process.stderr is not None
        # Not communicate(), which misses what was buffered with the first line.
        out, err = process.stdout.read(), process.stderr.read()
    assert [model["id"] for model in models["data"]] == ["tiny"]
    assert f"--model vllm:{url}?limit=3" in out
    assert (process.returncode, err) == (0, "ended\n")
    assert other.returncode == 1
    assert f"cannot listen on port {port} of 127.0.0.1" in other.stderr
    assert "Fix: --port 0" in other.stderr


def test_it_listens_on_loopback_alone() -> None:
    """The server listens on loopback only."""
    with started() as (url, _):
        port = httpx.URL(url).port
        with socket.socket() as client, pytest.raises(OSError, match="refused"):
            client.connect(("127.0.0.2", port))


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--profile", "vlm"), 1, "did you mean 'vllm'"),
        (("--fault", "rest=0.1"), 1, "did you mean 'reset'"),
        (("--fault", "reset"), 2, "expected NAME=VALUE, e.g. --fault 429=0.01"),
        (("--fault", "reset=often"), 2, "expected a share from 0 to 1"),
        (("--speed", "0"), 2, "--speed"),
    ],
)
def test_wrong_options(cli: Cli, args: tuple[str, ...], code: int, said: str) -> None:
    """Wrong options get one message before the server listens."""
    ended = cli("sim-server", *args)
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err
