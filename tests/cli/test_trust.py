"""Resuming a folder from elsewhere: nothing is done before the user agrees."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from flashgraph.cli import main
from flashgraph.run.journal.seal import is_own, seal

from .conftest import Cli, Ended
from .server import Server, serving
from .test_run import WORDS, wise

OWN = Path(os.environ["XDG_STATE_HOME"])
EVIL = """
from pathlib import Path
Path({marker!r}).write_text("executed")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(wise) as found:
        yield found


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this user."""
    folder = tmp_path_factory.mktemp("trust") / "out"
    args = ["--task", str(WORDS), "--model", server.spec, "--out", str(folder), "--proposals", "2", "--no-test"]
    with pytest.raises(SystemExit) as ended:
        main(["run", "gepa", *args, "--unsafe-no-sandbox"])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def begun(made: Path, tmp_path: Path) -> Path:
    """The same, as ``out`` in the working directory."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def rewritten(folder: Path, **changes: Any) -> None:
    """Change the run's order, as someone without the key would."""
    db = sqlite3.connect(folder / "journal.db")
    (order,) = db.execute("SELECT value FROM meta WHERE key = 'order'").fetchone()
    db.execute("UPDATE meta SET value = ? WHERE key = 'order'", (json.dumps({**json.loads(order), **changes}),))
    db.commit()
    db.close()


def refused(ended: Ended, server: Server, before: int, marker: Path) -> None:
    assert ended.code == 1
    assert "not resumed.\nFix: --trust, to do what the folder says" in ended.err
    assert server.chats == before
    assert not marker.exists()


CRAFTED: list[tuple[str, Callable[[Path, Path], dict[str, Any]], str]] = [
    ("graph", lambda evil, marker: {"graph": str(evil)}, "run the code of {evil} as its graph"),
    ("task", lambda evil, marker: {"task": str(evil)}, "run the code of {evil} as its task"),
    (
        "key",
        lambda evil, marker: {"models": {"task": "openai:http://127.0.0.1:9/v1#x?key_env=MY_SECRET"}},
        "send requests of the role task to openai:http://127.0.0.1:9/v1#x?key_env=MY_SECRET, with the key from the"
        " environment variable MY_SECRET",
    ),
    (
        "two keys, one of them disguised",
        lambda evil, marker: {
            "models": {"task": "openai:http://127.0.0.1:9/v1#x?key_env=A_FILLER&key%5Fenv=MY_SECRET"}
        },
        "send requests of the role task to openai:http://127.0.0.1:9/v1#x?key_env=A_FILLER&key%5Fenv=MY_SECRET, with"
        " the key from the environment variable A_FILLER, with the key from the environment variable MY_SECRET",
    ),
    (
        "keys of several models",
        lambda evil, marker: {
            "models": {"task": "openai:http://127.0.0.1:9#x?key_env=A,openai:http://[::1]:9#y?key_env=MY_SECRET"}
        },
        "send requests of the role task to openai:http://127.0.0.1:9#x?key_env=A,openai:http://[::1]:9#y?key_env=MY_SECRET,"
        " with the key from the environment variable A, with the key from the environment variable MY_SECRET",
    ),
    (
        "cache",
        lambda evil, marker: {"cache": str(marker)},
        "read and write the file {marker} as a cache of replies",
    ),
    ("graph by name", lambda evil, marker: {"graph": "islands"}, "run the code of islands as its graph"),
]


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in CRAFTED], ids=[row[0] for row in CRAFTED])
def test_what_a_folder_wants_is_shown_and_not_done(
    cli: Cli, begun: Path, server: Server, tmp_path: Path, change: Callable[[Path, Path], dict[str, Any]], said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without consent no code runs, no request is sent and no file is made."""
    evil, marker = tmp_path / "evil.py", tmp_path / "marker"
    evil.write_text(EVIL.format(marker=str(marker)))
    monkeypatch.setenv("MY_SECRET", "sk-secret")
    rewritten(begun, **change(evil, marker))
    before = server.chats
    ended = cli("resume", "out", "--proposals", "4")
    refused(ended, server, before, marker)
    assert f"  {said.format(evil=evil, marker=marker)}\n" in ended.err
    assert "sk-secret" not in ended.err + ended.out


def test_looking_at_a_run_runs_none_of_its_code(cli: Cli, begun: Path, server: Server, tmp_path: Path) -> None:
    """Reading a run runs none of its code and sends nothing."""
    evil, marker = tmp_path / "evil.py", tmp_path / "marker"
    evil.write_text(EVIL.format(marker=str(marker)))
    rewritten(begun, graph=str(evil), task=str(evil), cache=str(marker))
    before = server.chats
    for words in (
        ["runs", "."], ["show", "out"], ["show", "out", "--artifacts"], ["show", "out", "--calls", "3"],
        ["diff", "out", "out"],
        ["export", "out", "--to", "jsonl", "-o", "out.jsonl"], ["prune", ".", "--keep", "5", "--yes"],
    ):  # fmt: skip
        assert cli(*words).code == 0
    assert server.chats == before
    assert not marker.exists()


@pytest.mark.parametrize("answer", [True, False])
def test_the_question(
    cli: Cli, begun: Path, server: Server, tmp_path: Path, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a yes the run resumes and later asks nothing; a no changes nothing."""
    rewritten(begun, target=0.99)
    monkeypatch.setattr(click, "confirm", lambda text, **options: answer)
    before = server.chats
    ended = cli("resume", "out", "--proposals", "4")
    if not answer:
        refused(ended, server, before, tmp_path / "marker")
        return
    assert ended.code == 0
    assert f"  run the code of {WORDS} as its task\n" in ended.err
    monkeypatch.setattr(click, "confirm", lambda text, **options: pytest.fail("asked again"))
    assert cli("resume", "out", "--proposals", "5").code == 0


def test_trust_is_an_option(cli: Cli, begun: Path) -> None:
    rewritten(begun, target=0.99)
    assert cli("resume", "out", "--proposals", "4", "--trust").code == 0


def test_options_of_the_command_line_need_no_consent(cli: Cli, begun: Path, server: Server) -> None:
    """Nothing is asked when the command line gives graph, task and model."""
    rewritten(begun, graph="/nowhere/evil.py", task="/nowhere/evil.py", models={"task": "openai:http://127.0.0.1:9#x"})
    args = ("--graph", "gepa", "--task", WORDS, "--model", server.spec)
    ended = cli("resume", "out", "--proposals", "4", *args)
    assert ended.code == 0
    assert "what its folder says" not in ended.err


def test_a_run_of_ones_own_asks_nothing(cli: Cli, begun: Path) -> None:
    ended = cli("resume", "out", "--proposals", "4")
    assert ended.code == 0
    assert "what its folder says" not in ended.err


def test_another_user(cli: Cli, begun: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another machine or home has another key, so the command asks."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert cli("resume", "out", "--proposals", "4").code == 1
    assert not (tmp_path / "elsewhere").exists()


def test_an_unsafe_switch_must_be_repeated(cli: Cli, begun: Path) -> None:
    """The sandbox stays on unless this command turns it off; the folder cannot."""
    ended = cli("resume", "out", "--proposals", "4")
    assert "the run was started with --unsafe-no-sandbox and now continues in the sandbox" in ended.err
    ended = cli("resume", "out", "--proposals", "5", "--unsafe-no-sandbox")
    assert "in the sandbox" not in ended.err
    ended = cli("resume", "out", "--proposals", "6")
    assert "now continues in the sandbox" in ended.err


# ---- the key ---------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_key_is_the_users_alone(state: Path) -> None:
    one = seal("order")
    assert one == seal("order") != seal("other")
    key = state / "flashgraph" / "key"
    assert (oct(key.stat().st_mode & 0o777), len(key.read_bytes())) == ("0o600", 32)
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    key.unlink()
    assert seal("order") != one


@pytest.mark.parametrize("kind", ["open", "short", "link", "pipe"])
def test_a_key_that_others_may_know(state: Path, kind: str, begun: Path) -> None:
    """A key that others can read seals nothing, and its seals are not trusted."""
    key = state / "flashgraph" / "key"
    shutil.copytree(OWN / "flashgraph", key.parent)
    assert is_own(begun / "journal.db")
    content = key.read_bytes()
    key.unlink()
    if kind == "pipe":
        os.mkfifo(key, 0o600)
    elif kind == "link":
        (state / "key").write_bytes(content)
        (state / "key").chmod(0o600)
        key.symlink_to(state / "key")
    else:
        key.write_bytes(content if kind == "open" else content[:5])
        key.chmod(0o644 if kind == "open" else 0o600)
    assert seal("order") == ""
    assert not is_own(begun / "journal.db")


def test_no_place_for_a_key(state: Path, cli: Cli, server: Server) -> None:
    """Without a place for the key the run works, and resuming it asks."""
    state.write_text("a file in the way")
    args = ("--task", WORDS, "--model", server.spec, "--out", "out", "--proposals", "1", "--no-test")
    assert cli("run", "gepa", *args).code == 0
    assert cli("resume", "out", "--proposals", "2").code == 1
    assert cli("resume", "out", "--proposals", "2", "--trust").code == 0


@pytest.mark.parametrize("said", ["", "0" * 64, "é" * 64, None])
def test_a_seal_that_is_none(said: str | None, begun: Path) -> None:
    db = sqlite3.connect(begun / "journal.db")
    db.execute("DELETE FROM meta WHERE key = 'seal'")
    if said is not None:
        db.execute("INSERT INTO meta VALUES ('seal', ?)", (said,))
    db.commit()
    db.close()
    assert not is_own(begun / "journal.db")
