"""`Sandbox`: a run's result and its failures; nothing of a run is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Reply
from flashgraph.sandbox import CandidateFailed, Ran, Sandbox, SandboxLimits, pool
from tests.sandbox.processes import descendants, lives, server, until_idle

pytestmark = pytest.mark.anyio


async def failed(sandbox: Sandbox, code: str, entry: str = "main", **arguments: Any) -> CandidateFailed:
    """Return the failure that a candidate ends with."""
    with pytest.raises(CandidateFailed) as caught:
        await sandbox.run(code, entry, arguments)
    return caught.value


async def test_a_run_returns_what_the_entry_does(sandbox: Sandbox) -> None:
    """Arguments and value are JSON; the result has the output and the time."""
    code = """
import sys
def double(x, *, by=2):
    print('ü', by)
    print('warned', file=sys.stderr)
    return [x * by, None]
"""
    ran = await sandbox.run(code, "double", {"x": 1, "by": 2.5})
    assert (ran.value, ran.stdout, ran.stderr) == ([2.5, None], "ü 2.5\n", "warned\n")
    assert ran.seconds > 0


async def test_a_run_is_fresh(sandbox: Sandbox) -> None:
    """No call sees anything of an earlier one, and the candidate is a normal module."""
    code = """
import inspect, sys
state = []
class Harness:
    def answer(self): return 42
def main():
    state.append(1)
    sys.modules["json"].left = getattr(sys.modules["json"], "left", 0) + 1
    return [len(state), sys.modules["json"].left, __name__, inspect.getsource(Harness).splitlines()[0]]
"""
    for _ in range(2):
        assert (await sandbox.run(code)).value == [1, 1, "candidate", "class Harness:"]


async def test_a_driver_calls_the_candidate(sandbox: Sandbox) -> None:
    """The driver imports the candidate; the entry is the driver's."""
    driver = "import candidate\ndef drive(n):\n  return [candidate.Harness().answer(i) for i in range(n)]"
    code = "class Harness:\n  def answer(self, i): return i * i"
    assert (await sandbox.run(code, "drive", {"n": 3}, driver=driver)).value == [0, 1, 4]


async def test_many_runs_at_once(sandbox: Sandbox) -> None:
    """Each call gets its own answer."""
    values: dict[int, Any] = {}

    async def one(number: int) -> None:
        code = "import time\ndef main(n):\n  time.sleep(0.02)\n  return n"
        values[number] = (await sandbox.run(code, arguments={"n": number})).value

    async with anyio.create_task_group() as tasks:
        for number in range(32):
            tasks.start_soon(one, number)
    assert values == {number: number for number in range(32)}


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("def main(:", "syntax", "line 1"),
        ("x = 1\0", "syntax", "null bytes"),
        ("def other(): pass", "entry", "defines no main(); it defines other"),
        ("main = 3", "entry", "main is a int; expected a function"),
        ("def main(a): pass", "entry", "main() cannot be called as main()"),
        ("async def main(): pass", "entry", "is async"),
        ("def main():\n  return 1 / 0", "error", 'File "candidate.py", line 2, in main\n    return 1 / 0'),
        ("1 / 0", "error", 'File "candidate.py", line 1, in <module>'),
        ("def main(): raise SystemExit('bye')", "error", "SystemExit: bye"),
        ("def main(): return object()", "error", "not JSON"),
        ("def main(): return float('nan')", "error", "not JSON"),
        ("def main(): return '\\ud800'", "error", "not JSON"),
        ("def main(): raise MemoryError", "memory", "MemoryError"),
        ("def main(): int(None)", "error", "TypeError"),
    ],
)
async def test_failures_say_what_to_mend(sandbox: Sandbox, code: str, kind: str, says: str) -> None:
    """A failure has its kind and its place in the candidate's own file, and nothing of the sandbox's."""
    failure = await failed(sandbox, code)
    assert failure.kind == kind
    assert says in str(failure)
    assert "guest" not in str(failure)


async def test_a_failure_keeps_the_end_of_what_was_printed(sandbox: Sandbox) -> None:
    """It is kept even if the process was killed."""
    code = """
import os, sys
def main():
    print('x' * 5000 + 'the end')
    print('err', file=sys.stderr)
    os._exit(1)
"""
    failure = await failed(sandbox, code)
    assert failure.kind == "killed"
    assert failure.stdout.endswith("the end\n")
    assert len(failure.stdout) == 2000
    assert "stderr ended with:\nerr" in str(failure)


async def test_the_standard_library_works(sandbox: Sandbox) -> None:
    """Harmless code has threads, asyncio, temporary files, a database and time zones."""
    code = """
import asyncio, concurrent.futures, pathlib, shutil, sqlite3, tempfile, zoneinfo

async def later():
    await asyncio.sleep(0.01)
    return await asyncio.to_thread(lambda: 5)

def main():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        doubled = list(pool.map(lambda i: i * 2, range(3)))
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "a").write_text("x")
    shutil.copytree(folder, "copied")
    with sqlite3.connect("x.db") as database:
        database.execute("create table t (a)")
    return [doubled, asyncio.run(later()), pathlib.Path("copied/a").read_text(), str(zoneinfo.ZoneInfo("UTC"))]
"""
    assert (await sandbox.run(code)).value == [[0, 2, 4], 5, "x", "UTC"]


async def test_cancelling_a_run_kills_it(sandbox: Sandbox) -> None:
    """Its process is gone, and the next call works."""
    with anyio.move_on_after(0.1) as scope:
        await sandbox.run("def main():\n  while True: pass")
    assert scope.cancelled_caught
    await until_idle(sandbox)
    assert (await sandbox.run("def main(): return 1")).value == 1


async def test_limits_of_one_call(sandbox: Sandbox) -> None:
    """They replace the sandbox's own for that call."""
    with pytest.raises(CandidateFailed, match=r"it ran for 0\.05 s") as caught:
        await sandbox.run("import time\ndef main(): time.sleep(10)", limits=SandboxLimits(wall_seconds=0.05))
    assert caught.value.kind == "timeout"


async def test_arguments_must_be_json(sandbox: Sandbox) -> None:
    """Anything else is the caller's mistake, not the candidate's."""
    with pytest.raises(DataError, match="cannot be sent"):
        await sandbox.run("def main(x): pass", arguments={"x": object()})


async def test_a_large_job_arrives(sandbox: Sandbox) -> None:
    """It is larger than any buffer in between, in both directions."""
    text = "x" * 1_000_000
    assert (await sandbox.run("def main(text): return text", arguments={"text": text})).value == text


async def test_a_server_that_died_is_started_anew(sandbox: Sandbox) -> None:
    """Its call fails as killed; the next one works as usual."""
    code = "import time\ndef main(llm):\n  llm('begun')\n  time.sleep(20)"

    async def kill(_: Any) -> Reply:
        os.kill(server(sandbox), signal.SIGKILL)
        return Reply("")

    with pytest.raises(CandidateFailed, match="server died") as caught:
        await sandbox.run(code, llm=kill)  # type: ignore[arg-type]  # an Llm that takes no parameters
    assert caught.value.kind == "killed"
    assert (await sandbox.run("def main(): return 1")).value == 1


@pytest.mark.parametrize("ended", ["left", "cancelled", "raised"])
async def test_nothing_is_left_of_a_sandbox(sandbox: Sandbox, ended: str) -> None:
    """However the block is left, with a call in progress, all processes end, and no further call is accepted."""
    inner = Sandbox(workers=2)
    pids: list[int] = []
    with anyio.CancelScope() as scope:
        try:
            async with inner.open(), anyio.create_task_group() as tasks:
                tasks.start_soon(inner.run, "import time\ndef main(): time.sleep(100)")
                await anyio.sleep(0.05)
                assert inner._workers
                pids.extend(pid for worker in inner._workers for pid in descendants(worker.process.pid))
                if ended == "raised":
                    raise ZeroDivisionError
                (scope if ended == "cancelled" else tasks.cancel_scope).cancel()
        except* ZeroDivisionError:
            assert ended == "raised"
    assert len(pids) >= 4
    for _ in range(200):
        if not any(map(lives, pids)):
            break
        await anyio.sleep(0.02)
    else:
        raise AssertionError("processes are left")
    with pytest.raises(DataError, match="not open"):
        await inner.run("def main(): pass")


async def test_modules_can_be_preloaded(sandbox: Sandbox) -> None:
    """An installed package works without the project's folder; a missing one is named."""
    with_attrs = Sandbox(preload=["attrs"])
    code = "import attrs\n@attrs.frozen\nclass A:\n  x: int\ndef main(): return [A(3).x, attrs.__file__]"
    async with with_attrs.open():
        value, file = (await with_attrs.run(code)).value
        assert value == 3
        assert file.startswith("/packages/")
    assert (await failed(sandbox, "import attrs")).kind == "error"
    with pytest.raises(DataError, match="preload 'tests'"):
        async with Sandbox(preload=["tests"]).open():
            pass


async def test_without_bubblewrap_it_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the cause and the fix."""
    monkeypatch.setattr("flashgraph.sandbox.jail.shutil.which", lambda name: None)
    with pytest.raises(DataError, match=r"no bwrap command(.|\n)*Fix: install bubblewrap .*--unsafe-no-sandbox"):
        async with Sandbox().open():
            pass


async def test_a_bubblewrap_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This happens where user namespaces are forbidden."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: No permissions >&2\n")
    broken.chmod(0o755)
    monkeypatch.setattr("flashgraph.sandbox.jail.shutil.which", lambda name: str(broken))
    with pytest.raises(DataError, match=r"does not start \(bwrap: No permissions\)"):
        async with Sandbox().open():
            pass


async def test_a_sandbox_that_does_not_hold_is_refused(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what the probe could do."""
    monkeypatch.setattr("flashgraph.sandbox.probe.secrets", lambda: ["/usr/lib"])
    with pytest.raises(DataError, match="a probe could read /usr/lib"):
        async with Sandbox().open():
            pass


async def test_a_sandbox_is_opened_once(sandbox: Sandbox) -> None:
    """A second opening is refused, and the first one continues."""
    with pytest.raises(DataError, match="already open"):
        async with sandbox.open():
            pass
    assert (await sandbox.run("def main(): return 1")).value == 1


async def test_unconfined(caplog: pytest.LogCaptureFixture, anyio_backend: str) -> None:
    """Without bubblewrap, limits and the filter still hold, and a warning says what does not."""
    open_ = Sandbox(unconfined=True, limits=SandboxLimits(wall_seconds=0.3))
    async with open_.open():
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert (await open_.run("import os\ndef main(p): return os.path.exists(p)", arguments={"p": __file__})).value
        for code, kind in {
            "import time\ndef main(): time.sleep(9)": "timeout",
            "import os\ndef main(): os.fork()": "error",
            "import socket\ndef main(): socket.socket()": "error",
            "import os\ndef main(): os.kill(os.getppid(), 9)": "error",
            "def main(): bytearray(1 << 40)": "memory",
        }.items():
            assert (await failed(open_, code)).kind == kind
        scratch = (await open_.run("import os\ndef main(): open('x', 'w'); return os.getcwd()")).value
        assert (await open_.run("import os\ndef main(): return [dict(os.environ), os.listdir()]")).value == [{}, []]
    assert not Path(scratch).parent.exists()


def test_mistakes_of_the_caller() -> None:
    """Each error names the value found and the value expected."""
    with pytest.raises(DataError, match="workers=0; expected a whole number"):
        Sandbox(workers=0)
    with pytest.raises(DataError, match="preload='numpy'; expected names in a list"):
        Sandbox(preload="numpy")
    with pytest.raises(DataError, match=r"limits: cpu_seconds=0; expected a number over 0"):
        SandboxLimits(cpu_seconds=0)
    with pytest.raises(DataError, match=r"limits: threads=1\.5; expected a whole number"):
        SandboxLimits(threads=1.5)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(DataError, match="memory_bytes=5; expected at least 16777216"):
        SandboxLimits(memory_bytes=5)


def test_the_public_names() -> None:
    """Other code depends on these names."""
    import flashgraph.sandbox

    assert flashgraph.sandbox.__all__ == ["CandidateFailed", "Ran", "Sandbox", "SandboxLimits"]
    assert Ran(1, "", "", 0.0).value == 1
    assert pool.Sandbox is Sandbox
