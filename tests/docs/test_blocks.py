"""Every block of code in README.md and docs/ works: Python runs, commands run or are at least read, excerpts are true.

A comment before a block says what a test cannot give it, and then the block is only read::

    <!-- needs: a model server -->
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flashgraph import cli
from flashgraph.extras import EXTRAS
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.setups import SETUPS

RUN = ("algorithms", "check", "draw", "explain")
"""Commands that cost nothing and need no run."""

TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that has the examples, and whose files can be imported."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    with chdir(tmp_path):
        yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def excerpt_of(block: Block) -> Path | None:
    """The file of this project that a block is a part of."""
    return ROOT / block.title if block.title and (ROOT / block.title).is_file() else None


def flush(text: str) -> str:
    """The lines without their indents."""
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def lines_of(text: str) -> list[str]:
    """The commands of a shell block, without comments and continuations."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.split("\n") if line.strip() and not line.startswith("#")]


def command(line: str) -> tuple[click.Group, list[str]]:
    (group,) = {value for value in vars(cli).values() if isinstance(value, click.Group)}
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    assert words.pop(0) == "flashgraph"
    return group, words


def run_command(line: str, block: Block) -> str:
    """Run a command that costs nothing; read the arguments of any other.  Return the output."""
    group, words = command(line)
    if words[0] in RUN and not block.needs:
        done = CliRunner().invoke(group, words)
        assert done.exit_code == 0, f"{block}: {line}\n{done.output}"
        return done.output
    context = click.Context(group)
    found = group.get_command(context, words[0])
    assert found is not None, f"{block}: {line}"
    if "--help" not in words:
        found.make_context(words[0], words[1:], parent=context)
    return ""


def run_line(line: str, block: Block) -> None:
    """Try a line of a shell block."""
    bare = re.sub(r"^(?:\w+=\S+ )+", "", line)
    words = shlex.split(bare, comments=True)
    if words[0] == "flashgraph":
        run_command(line, block)
    elif words[0] == "make":
        assert words[1] in TARGETS, f"{block}: {line}"
    elif words[:2] == ["pip", "install"]:
        for extras in re.findall(r"flashgraph\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= set(EXTRAS.values()), f"{block}: {line}"
    elif words[:2] == ["python", "-m"] and words[2].startswith("tests."):
        assert find_spec(words[2]), f"{block}: {line}"
    else:
        assert block.needs, f"{block}: {line}: say with <!-- needs: ... --> why no test runs it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_runs(page: Path, folder: Path) -> None:
    """In order, in one namespace a page; a block with the title of a new file is written there first."""
    namespace: dict[str, object] = {"__name__": page.stem}
    name = page.relative_to(ROOT).as_posix()
    exec(SETUPS.get(name, ""), namespace)
    for block in blocks(page):
        if block.language != "python":
            continue
        file = excerpt_of(block)
        code = compile(block.text, str(block), "exec", dont_inherit=True) if not file else None
        if file:
            rest = file.read_text()
            for part in re.split(r"^ *\.\.\.\n", block.text, flags=re.M):
                assert flush(part) in flush(rest), f"{block} is no part of {block.title}"
        elif block.title:
            (folder / block.title).write_text(block.text)
        if code and not block.needs:
            exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run_or_are_read(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.language == "python" and block.title and not excerpt_of(block):
            (folder / block.title).write_text(block.text)
    for block in blocks(page):
        if block.language == "sh":
            for line in lines_of(block.text):
                run_line(line, block)
        elif block.language == "console":
            session(block)


def session(block: Block) -> None:
    """Compare what each `$ command` prints with the lines below it."""
    assert block.text.startswith("$ "), block
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        line, _, expected = part.partition("\n")
        output = run_command(line, block)
        assert block.needs or output.strip() == expected.strip(), f"{block}: {line}"


def test_languages_are_known() -> None:
    """Any block that is neither Python nor a command is output or data."""
    found = {block.language for page in PAGES for block in blocks(page)}
    assert found <= {"python", "sh", "console", "text", "json", "toml"}
