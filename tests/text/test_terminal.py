"""Terminal output: cleaned, encodable, and printed by one module alone."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.run.journal.jsontext import printed
from flashgraph.text import terminal
from flashgraph.text.terminal import SafeStream, clean, grid, guarded, say, say_json, say_table, style
from tests.test_layers import imports, modules

HOSTILE = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x1b\\": r"\x1b]52;c;aGk=\x1b" + "\\",
    "\x1b[2J\x1b[H": r"\x1b[2J\x1b[H",
    "\x9b2J\x85": r"\x9b2J\x85",
    "a\rb\x08\x7f\x00": r"a\x0db\x08\x7f\x00",
    "\u202egnp.exe\u2066": r"\u202egnp.exe\u2066",
    "half \ud83d": r"half \ud83d",
    "\U000e0041unseen\ufeff\u2028": r"\U000e0041unseen\ufeff\u2028",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_control_characters_are_written_out(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are escaped in lines, styled text, cells of tables, and log messages."""
    assert clean(text) == HOSTILE[text]
    say(text, style(text, fg="red"))
    assert capsys.readouterr().out == f"{HOSTILE[text]} {HOSTILE[text]}\n"
    say_table(grid((text,), [(text,), ((text, "red"),)]))
    assert capsys.readouterr().out.splitlines() == [HOSTILE[text]] * 3
    record = logging.makeLogRecord({"msg": "%s", "args": (text,), "levelno": logging.WARNING})
    with guarded():  # outside of pytest, which has a log handler of its own
        assert logging.lastResort is not None
        logging.lastResort.handle(record)
    assert capsys.readouterr().err == f"{HOSTILE[text]}\n"


@given(st.text())
def test_cleaned_text_is_seen_as_it_is(text: str) -> None:
    """Cleaned text can be encoded, holds no control, stays the same when cleaned again; plain text is unchanged."""
    found = clean(text)
    found.encode()
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in found)
    assert clean(found) == found
    if text.isprintable():
        assert found == text


@given(st.text(max_size=20) | st.just("half \ud83d"), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_json_stays_json(text: str, encoding: str) -> None:
    """JSON stays valid in any encoding of the terminal."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        say_json(printed({text: [text]}))
    output = raw.getvalue().decode(encoding)
    assert json.loads(output) == {text: [text]}
    assert not terminal.COMMANDS.search(output)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", None])
def test_every_text_has_a_form_in_every_encoding(encoding: str | None) -> None:
    """A character that the encoding lacks is escaped."""
    raw = io.BytesIO()
    stream = io.StringIO() if encoding is None else io.TextIOWrapper(raw, encoding=encoding, newline="")
    out = SafeStream(stream)
    out.write("größer … 漢 \ud83d")
    out.flush()
    assert out.error is None
    if encoding is not None:
        output = raw.getvalue().decode(encoding)
        assert output == "größer … 漢 \ud83d".encode(encoding, "backslashreplace").decode(encoding)


class Broken(io.StringIO):
    """A stream on which every write fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.fails = error

    def write(self, text: str) -> int:
        raise self.fails

    def flush(self) -> None:
        raise self.fails


@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(28, "full"), OSError(5, "no terminal")])
def test_a_stream_that_fails_stops_nothing(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error is kept, for the exit code."""
    monkeypatch.setattr(sys, "stdout", Broken(error))
    with guarded() as (out, _):
        say("a line")
        print("of the user's")
        warnings.warn("and one of a library", stacklevel=1)
    assert out.error is error
    assert out.readerless == isinstance(error, BrokenPipeError)


def test_streams_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed standard streams are None, as Python sets them."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with guarded() as (out, err):
        say("lost")
        say("lost", err=True)
        assert not terminal.is_live()
    assert (str(out.error), err.error) == ("stdout is closed", None)
    assert (sys.stdout, sys.stderr) == (None, None)


def test_no_file_becomes_a_closed_stream() -> None:
    """A new file never gets the descriptor of stderr: messages would be written into a journal."""
    code = (
        "import os\nfrom flashgraph.text.terminal import guarded\n"
        "with guarded():\n    file = os.open(os.devnull, os.O_RDONLY)\n    os._exit(file)"
    )
    closed = f"\"{sys.executable}\" -c '{code}' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", closed], check=False).returncode > 2


OTHER_STREAMS = {
    "text.terminal",
    "llm.local_server",  # a child process, whose output its parent reads
    "sandbox.guest.child",  # likewise, and closed to the program that it runs
}


def printing(path: Path) -> list[str]:
    """Return the places where a module prints, or uses a stream directly."""
    found = [f"{path}:{line} imports {name}" for line, name in imports(path) if name.split(".")[0] == "rich"]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
        if hasattr(inner, "lineno")
    }
    found = [place for place in found if int(place.split(" ")[0].rpartition(":")[2]) not in typing_only]
    names = {"print", "input", "click.echo", "click.secho", "click.style", "click.confirm", "click.prompt"}
    names |= {"click.progressbar", "click.echo_via_pager", "traceback.print_exception", "traceback.print_exc"}
    streams = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            found.append(f"{path}:{node.lineno} calls {ast.unparse(node.func)}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.write":
            found += [f"{path}:{node.lineno} writes" for first in node.args[:1] if ast.unparse(first) in ("1", "2")]
        if isinstance(node, ast.Attribute) and ast.unparse(node) in streams:
            found.append(f"{path}:{node.lineno} has {ast.unparse(node)}")
    return found


def test_no_other_module_prints() -> None:
    """All output goes through `say` and its relatives, which clean it."""
    found = [place for name, path in modules() if name not in OTHER_STREAMS for place in printing(path)]
    assert not found, "\n".join(found)
    assert printing(Path(terminal.__file__))
    assert os.path.exists(terminal.__file__)
