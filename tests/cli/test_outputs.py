"""Outputs that are closed, full, without a reader or in another encoding, and errors that are no defects."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flashgraph.cli.failures import DEFECT, FAILED, INTERRUPTED, WRONG, report_error

from .conftest import Cli
from .server import serving
from .test_run import WORDS, wise

FILES = {"best-instruction.txt", "best.json", "events.jsonl", "result.json"}


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Return how a shell command that runs ``flashgraph`` ends."""
    script = f"set -o pipefail\n{command.replace('flashgraph', f'{sys.executable} -m flashgraph', 1)}"
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("outputs", [">/dev/full 2>/dev/full", "<&- >&- 2>&-", "| head -1"])
def test_no_output_decides_over_a_run(tmp_path: Path, outputs: str) -> None:
    """A run continues without its outputs: it writes its files and keeps its exit code."""
    with serving(wise) as server:
        options = "--proposals 1 --schedule lockstep --out out"
        ended = shell(f"flashgraph run gepa --task {WORDS} --model '{server.spec}' {options} {outputs}", tmp_path)
    assert ended.returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= FILES
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "budget"


def test_files_that_could_not_be_written(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that cannot be written set the exit code, and resuming the run writes them."""
    with serving(wise) as server, monkeypatch.context() as full:
        full.setattr("flashgraph.observe.report.write_text", lambda path, text: os.read(-1, 1))
        options = ("--proposals", "1", "--schedule", "lockstep", "--out", "out")
        ended = cli("run", "gepa", "--task", WORDS, "--model", server.spec, *options)
        assert ended.code == FAILED
        assert "some files could not be written to out: Bad file descriptor; resuming the run writes them" in ended.out
        full.undo()
        assert cli("resume", "out", "--model", server.spec).code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= FILES


def test_what_is_only_printed_is_missed(tmp_path: Path) -> None:
    """A full disk fails a command that only prints; a reader that closes early does not."""
    ended = shell("flashgraph algorithms >/dev/full", tmp_path)
    assert (ended.returncode, ended.stderr) == (
        WRONG,
        b"error: cannot write the output: No space left on device\n",
    )
    assert shell("flashgraph algorithms >&-", tmp_path).returncode == WRONG
    ended = shell("flashgraph explain gepa | head -1", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_are_none(tmp_path: Path, encoding: str) -> None:
    """A task's name may be long and hold slashes, escapes, NUL and characters that the terminal lacks."""
    name = '"a/../b\\x1b]0;t\\x07\\x00\\u6f22\\u202e" + "n" * 300'
    (tmp_path / "task.py").write_text(WORDS.read_text().replace('"words"', name))
    with serving(wise) as server:
        options = "--proposals 1 --schedule lockstep"
        command = f"flashgraph run gepa --task task.py --model '{server.spec}' {options}"
        ended = shell(command, tmp_path, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0
    assert rb"gepa on a/../b\x1b]0;t\x07\x00\u6f22\u202ennn" in ended.stdout
    assert not set(ended.stdout + ended.stderr) & {0x1B, 0x07, 0}
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} >= FILES


@pytest.mark.parametrize(
    "args", [("show",), ("check",), ("runs",), ("explain",), ("run", "gepa", "--calls", "9", "--model", "x", "--task")]
)
def test_names_that_no_file_can_have(cli: Cli, args: tuple[str, ...]) -> None:
    """A name that no file can have gets a message."""
    for name in ("x" * 300, "a\0b", "\udcff\x1b[2J", "/dev/null/x"):
        ended = cli(*args, name)
        assert ended.code in (1, 2), ended.err
        assert "Fix: " in ended.err or "Usage: " in ended.err
        assert "\x1b" not in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a\x1bfile"), WRONG, "Fix: free space on the disk."),
        (PermissionError(errno.EACCES, "Permission denied", "file"), WRONG, "'file': Permission denied.\nFix: grant"),
        (OSError("odd"), WRONG, "odd.\nFix: "),
        (MemoryError(), FAILED, "out of memory.\nFix: "),
        (UnicodeEncodeError("ascii", "\u6f22", 0, 1, "no"), WRONG, "Fix: set PYTHONIOENCODING=utf-8"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), WRONG, "Fix: save the file as UTF-8."),
        (ModuleNotFoundError("No module named 'h11'", name="h11"), WRONG, "Fix: pip install h11"),
        (
            ExceptionGroup("of a task group", [OSError(errno.EIO, "I/O error")]),
            WRONG,
            "I/O error.\nFix: check the system",
        ),
        (
            SystemExit(0),
            WRONG,
            "SystemExit: 0: raised by the code of a graph, a task or a model; it ended the command.\nFix: raise",
        ),
        (BaseExceptionGroup("a", [SystemExit(0)]), WRONG, "raised by the code of a graph, a task or a model"),
        (ZeroDivisionError("oh"), DEFECT, "defect of flashgraph"),
        (ModuleNotFoundError("No module named 'flashgraph.x'", name="flashgraph.x"), DEFECT, "defect of flashgraph"),
    ],
)
def test_only_a_defect_of_flashgraph_is_called_one(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of the machine or its files gets a fix, and no traceback."""
    assert report_error(error) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert ("Please report it" in shown) == (code == DEFECT)
    assert "\x1b" not in shown


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=["Ctrl-C", "before a run has begun"])
def test_ctrl_c_within_a_task_group(error: BaseException, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is recognised inside any number of exception groups."""

    def interrupted() -> None:
        raise BaseExceptionGroup("a", [BaseExceptionGroup("b", [error])])

    monkeypatch.setattr("flashgraph.graph.loading.shipped", interrupted)
    ended = cli("algorithms")
    assert (ended.code, ended.err) == (INTERRUPTED, "interrupted\n")


def test_an_exit_of_the_users_is_no_success(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that user code ends with `sys.exit(0)` has failed."""
    monkeypatch.setattr("flashgraph.graph.loading.shipped", lambda: sys.exit(0))
    ended = cli("algorithms")
    assert (ended.code, ended.out) == (WRONG, "")
    assert "SystemExit: 0: raised by the code of a graph, a task or a model; it ended the command" in ended.err
