"""``flashgraph view`` and ``run --view`` as processes, and the exports of a page and of a trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.journal.small import small_run

from .conftest import Cli

TASK = Path(__file__).parents[2] / "examples" / "sim_world" / "task.py"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewed") / "run"
    small_run(folder)
    return folder


def test_the_page_is_served_until_ctrl_c(stored: Path) -> None:
    """The printed address opens the page, another one does not; Ctrl-C ends it in order."""
    command = [sys.executable, "-m", "flashgraph", "view", str(stored)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("view: ").strip()
            with httpx.Client(trust_env=False, follow_redirects=True) as client:
                assert client.get(address.partition("?")[0]).status_code == 401
                assert "flashgraph view" in client.get(address).text
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_mistakes_name_the_fix(cli: Cli, stored: Path) -> None:
    ended = cli("view", "nothing")
    assert ended.code == 1
    assert "run 'nothing': no such run" in ended.err
    assert "Fix:" in ended.err
    ended = cli("export", stored, "--to", "csv", "-o", "out", "--redact")
    assert ended.code == 2
    assert "--redact is for --to html and --to trace" in ended.err


def test_a_run_with_its_page_beside_it(cli: Cli) -> None:
    """The address is on stderr; the page's process ends with the run."""
    ended = cli(
        "run", "gepa", "--task", TASK, "--model", "sim:vllm", "--minutes", "0.02", "--out", "run", "--no-test", "--view"
    )
    assert ended.code == 0, ended.err
    address = next(line for line in ended.err.splitlines() if line.startswith("view: http://127.0.0.1:"))
    with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as client:
        client.get(address.removeprefix("view: "))


def test_exports(cli: Cli, stored: Path, tmp_path: Path) -> None:
    for kind, name in (("html", "run.html"), ("trace", "run.json")):
        ended = cli("export", stored, "--to", kind, "-o", name)
        assert (ended.code, ended.out) == (0, f"written: {name}\n")
    assert (tmp_path / "run.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.json"]
