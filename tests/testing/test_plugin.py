"""The pytest plugin in a project that has installed only flashgraph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = """
import anyio, sniffio
import flashgraph as fg
from flashgraph.parts.evaluation import Candidate
from flashgraph.testing import settle

SEEN = []

def test_an_hour(virtually):
    async def wait():
        await anyio.sleep(3600)
        SEEN.append(sniffio.current_async_library())
        return anyio.current_time()

    assert 3600 <= virtually(wait) < 3601

def test_both_loops_were_used():
    assert SEEN == ["trio", "asyncio"]

def test_a_model_with_a_long_tail(virtually, slow_model):
    model = slow_model(lambda messages: messages[-1]["content"].upper(), seconds=60.0)

    async def ask():
        async with model.open():
            return (await model.complete([{"role": "user", "content": "hello"}], {})).text, anyio.current_time()

    text, seconds = virtually(ask)
    assert text == "HELLO"
    assert seconds > 1
    assert model.in_flight == 0
"""


def session(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a separate process, in a folder without this project's configuration."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_fixtures_are_there_without_being_asked_for(tmp_path: Path) -> None:
    """Pytest finds the fixtures by the entry point, and each test runs on trio and on asyncio."""
    (tmp_path / "test_mine.py").write_text(PROJECT)
    done = session(tmp_path, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_an_hour[trio]", "test_an_hour[asyncio]", "test_a_model_with_a_long_tail[asyncio]"):
        assert f"{name} PASSED" in done.stdout
    assert "5 passed" in done.stdout


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    """Pytest imports the plugin in every project, so it imports neither flashgraph nor hypothesis."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n    assert 'pytest_flashgraph' in sys.modules\n"
        "    assert not {'flashgraph', 'hypothesis', 'trio'} & set(sys.modules)\n"
    )
    # Without the plugins of hypothesis, trio and anyio.
    done = session(tmp_path, "-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:trio")
    assert done.returncode == 0, done.stdout + done.stderr
