"""The command line as the tests call it: in this process, through its entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from flashgraph.cli import main

FILES = Path(__file__).parent / "files"


@attrs.frozen
class Ended:
    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call ``cli("check", "gepa")`` in an empty folder; return the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(*args: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in args])
        assert isinstance(ended.value.code, int)
        printed = capsys.readouterr()
        return Ended(ended.value.code, printed.out, printed.err)

    return call
