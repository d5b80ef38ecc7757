"""Proposers' replies as real models write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.parts.meta_harness.reply import ToolRequest, read_reply

PROGRAM = "class MemorySystem:\n    x = 1\n"
OTHER = "import json\n\n\nclass MemorySystem:\n    x = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{PROGRAM}```",
        f"Here it is:\n\n```py\n{PROGRAM}\n```\nDone.",
        f"```\n{PROGRAM}```",
        f"READ 3\n```python\n{PROGRAM}```",
        f"```python title=harness.py\n{PROGRAM}```",
        f"```python\n{PROGRAM}",
        f"```bash\nls\n```\n```python\n{PROGRAM}```",
    ],
)
def test_a_program_in_a_fence(text: str) -> None:
    """A program is read whatever surrounds it, whatever its fence says, and also from a truncated reply."""
    assert read_reply(text).programs == (PROGRAM,)
    assert not read_reply(text).requests


def test_several_programs_in_their_order() -> None:
    """Each fence holds one program, and a repeated program counts once, at its first place."""
    text = f"```python\n{PROGRAM}```\nand\n```python\n{OTHER}```\n```python\n# the same\n{PROGRAM}\n```"
    assert read_reply(text).programs == (PROGRAM, OTHER)


def test_a_fence_without_the_class_is_no_program() -> None:
    """A fence without the class at its top level holds no program."""
    assert not read_reply("```python\nx = 1\n```").programs
    assert not read_reply("```python\nif True:\n    class MemorySystem: ...\n```").programs
    assert not read_reply(PROGRAM).programs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LIST", [ToolRequest("LIST")]),
        ("READ 3", [ToolRequest("READ", "3")]),
        ("- `READ #3`", [ToolRequest("READ", "3")]),
        ("READ: 3.", [ToolRequest("READ", "3")]),
        ("1. FAILURES 12\n2. EXAMPLES finer 8", [ToolRequest("FAILURES", "12"), ToolRequest("EXAMPLES", "finer 8")]),
        ("**READ 4**\n> LIST", [ToolRequest("READ", "4"), ToolRequest("LIST")]),
        ("```\nREAD 3\nREAD 3\n```", [ToolRequest("READ", "3")]),
        ("Read the examples. I would LIST them.", []),
        ("", []),
    ],
)
def test_requests(text: str, expected: list[ToolRequest]) -> None:
    """A request is a tool's name in capitals at the start of a line, after any bullets and quotes; each counts once."""
    assert list(read_reply(text).requests) == expected


def test_the_number_of_an_entry() -> None:
    """The number of an entry is read in any notation."""
    assert ToolRequest("READ", "<12>").number == 12
    assert ToolRequest("READ", "number 7 please").number == 7
    assert ToolRequest("READ", "the best").number is None


@given(st.text(alphabet="` \nREADLIST3#pythonclass MemorySystem:=", max_size=300))
def test_any_reply_can_be_read(text: str) -> None:
    """No reply raises, and a reply is programs or requests, never both."""
    turn = read_reply(text)
    assert not (turn.programs and turn.requests)
