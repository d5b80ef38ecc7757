"""Reading any model text takes time in proportion to its length.

The tests count the lines of Python that a reader runs on texts made of repeated parts. They also analyse the readers'
regular expressions for backtracking, and read known hostile texts at two lengths.
"""

from __future__ import annotations

import ast
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph
from flashgraph.parts.ace import Playbook, parse_answer, parse_operations, parse_tags
from flashgraph.parts.islands.programs import edited, rewritten_program
from flashgraph.parts.meta_harness.reply import read_reply
from flashgraph.tasks.metrics import final_answer, json_object, last_number
from flashgraph.text.lenient import objects
from flashgraph.text.replies import blocks, edits, fenced, parted

BOOK = Playbook.parse("## A\n" + "\n".join(f"[a-{i:05}] helpful=0 harmful=0 :: text {i}" for i in range(12)))
PROGRAM = "def f(a):\n    if a:\n        return a\n    return 0\n\n\n" * 8


def refused(reader: Callable[[], object]) -> None:
    """Call a reader, and accept a refusal."""
    with suppress(flashgraph.UnusableReply):
        reader()


READERS: dict[str, Callable[[str], object]] = {
    "parted": parted,
    "fenced": fenced,
    "blocks": blocks,
    "edits": lambda text: refused(lambda: edits(text)),
    "edited": lambda text: refused(lambda: edited(PROGRAM, text)),
    "rewritten_program": lambda text: refused(lambda: rewritten_program(PROGRAM, text)),
    "objects": objects,
    "read_reply": read_reply,
    "operations": lambda text: parse_operations(text, BOOK),
    "tags": parse_tags,
    "answer": parse_answer,
    "json_object": json_object,
    "final_answer": final_answer,
    "last_number": last_number,
}
PARTS = [
    "<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n", "    return a\n", "<<<<<<<", " SEARCH",
    "```", "```python\n", "```\n", "````\n", "~~~\n", '"""', "'''", "\\", "class MemorySystem:\n",
    "<think>", "</think>", "[THINK]", "\n", " ", "\t", "a", "a-", "[a", "1", "1,", ".", "-", "(", ")",
    "{", "}", '{"', '{"a":', '{"a":[', '{"operations": [', '{"type": "ADD", "content": "x"},', "{'a': 'b',", "]", ",",
    ":",
    '"', "'", '\\"', '", ', "', '", "a: ", "READ 3\n", "LIST ", "Final answer", "final answer: ", "answer is ",
    "\\boxed", "\\boxed{", "the ", "*", "=", "# ",
]  # fmt: skip
A_CHARACTER = 150
"""The lines of Python a reader may run for each character: JSON is read six times, at up to 15 lines each."""

TEXTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


def lines_run(reader: Callable[[], object]) -> int:
    """Return how many lines of Python a reader runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        reader()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(begin=TEXTS, part=TEXTS, end=TEXTS)
def test_lines_run_in_proportion_to_the_text(name: str, begin: str, part: str, end: str) -> None:
    """A part is repeated to 3,000 characters; a quadratic reader would run thousands of lines for each."""
    text = begin + part * (3000 // len(part)) + end
    assert lines_run(lambda: READERS[name](text)) <= A_CHARACTER * len(text)


def test_the_count_finds_a_quadratic_reader() -> None:
    """The count detects a reader that reads the rest again for each of its lines."""
    text = "a\n" * 1500

    def reader() -> None:
        rest = text
        while rest:
            for _ in rest.split("\n"):
                pass
            rest = rest[2:]

    assert lines_run(reader) > A_CHARACTER * len(text)
    assert lines_run(lambda: parted("<think>\n" * 400)) > 2000


# ---- regular expressions ---------------------------------------------------------------------------------

SCANNERS = ("text/replies.py", "text/lenient.py", "parts/meta_harness/reply.py")
REPEATS = {constants.MAX_REPEAT, constants.MIN_REPEAT}


def patterns(file: str) -> Iterator[str]:
    """Yield the literal patterns that a module passes to `re`, with a character for each inserted part."""
    for node in ast.walk(ast.parse((Path(flashgraph.__file__).parent / file).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "re":
            if node.func.attr == "escape":
                continue
            given = node.args[0]
            parts = given.values if isinstance(given, ast.JoinedStr) else [given]
            yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in parts)  # type: ignore[misc]


def backtracking(parsed: Any) -> list[str]:
    """Return the operations of a parsed pattern that can be tried with several lengths."""
    found = []
    for operation, argument in parsed:
        if operation in REPEATS and argument[0] != argument[1] and argument[1] > 1:
            found.append(str(operation))
        for inner in argument if isinstance(argument, Sequence) else ():
            if isinstance(inner, parser.SubPattern):
                found += backtracking(inner)
            elif isinstance(inner, list):
                found += [x for one in inner if isinstance(one, parser.SubPattern) for x in backtracking(one)]
    return found


@pytest.mark.parametrize("file", SCANNERS)
def test_no_pattern_of_the_scanners_can_backtrack(file: str) -> None:
    """Every repetition in a scanner's pattern is possessive, so it never backtracks."""
    assert {pattern: found for pattern in patterns(file) if (found := backtracking(parser.parse(pattern)))} == {}


def test_a_backtracking_pattern_is_found() -> None:
    """The check detects the pattern that once took 36 seconds for 12 kB."""
    once = r"^<{5,9} ?SEARCH[ \t]*\n(.*?)^={5,9}[ \t]*\n(.*?)^>{5,9} ?REPLACE[ \t]*$"
    assert len(backtracking(parser.parse(once))) >= 5
    assert backtracking(parser.parse(r"(?:a|(b*))c"))
    assert not backtracking(parser.parse(r"a?b{3}c++[de]*+"))


SEARCHING = ("search", "finditer", "findall", "sub", "subn", "split")
LONG = 16_000


@cache
def least_of_quadratic() -> float:
    """Return a twentieth of the processor seconds that a quadratic pattern takes here for `LONG` characters.

    The bound does not depend on the machine: other patterns take less than a hundredth of those seconds.
    """
    reference = Used("reference", re.compile(r"\s+$"), True)
    return min(reference.seconds(" " * LONG + "\0") for _ in range(3)) / 20


@attrs.frozen
class Used:
    """A pattern of the package, and whether it searches a text or matches only its beginning."""

    place: str
    pattern: re.Pattern[str] = attrs.field(repr=False)
    searched: bool

    @classmethod
    def of_module(cls, path: Path) -> Iterator[Used]:
        """Yield the literal patterns, with ``x`` for each inserted part."""
        source = path.read_text()
        tree = ast.parse(source)
        names = {
            node.value: ast.unparse(node.targets[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args):
                continue
            method, given = ast.unparse(node.func).removeprefix("re."), node.args[0]
            parts = given.values if isinstance(given, ast.JoinedStr) else [given]
            if method == "escape" or not all(isinstance(part, ast.Constant | ast.FormattedValue) for part in parts):
                continue
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
            flags = sum(
                getattr(re, flag) for flag in ("IGNORECASE", "MULTILINE", "DOTALL") if flag in ast.unparse(node)
            )
            used = re.findall(rf"\b{re.escape(names[node])}\.(\w+)", source) if node in names else [method]
            searched = method != "compile" or not used or any(way in SEARCHING for way in used)
            searched &= method not in ("match", "fullmatch")
            yield cls(f"{path.name}:{node.lineno}", re.compile(text, flags), searched)

    def seconds(self, text: str) -> float:
        """Return the processor seconds for a text."""
        began = time.process_time()
        if self.searched:
            for _ in self.pattern.finditer(text):
                pass
        else:
            self.pattern.fullmatch(text)
        return time.process_time() - began

    def texts(self) -> Iterator[str]:
        """Yield texts made of the pattern's own characters: one of them, or two in turn, many times."""
        literals = [chr(argument) for operation, argument in _leaves(parser.parse(self.pattern.pattern)) if operation]
        parts = [*dict.fromkeys([*literals[:3], *literals[-3:], "a", "1", " ", "\n"])][:9]
        whole = "".join(literals[:12])
        for part in [*parts, *(one + other for one in parts[:6] for other in parts[:6]), f"{whole} ", f"{whole}1"]:
            yield part * (LONG // len(part)) + "\0"
            yield whole + part * (LONG // len(part)) + "\0"


def _leaves(parsed: Any) -> Iterator[tuple[bool, int]]:
    """Yield the characters of a parsed pattern in their order."""
    for operation, argument in parsed:
        if operation in (constants.LITERAL, constants.NOT_LITERAL):
            yield True, argument
        elif operation is constants.RANGE:
            yield True, argument[0]
        elif operation is constants.IN:
            yield from _leaves(argument)
        for inner in argument if isinstance(argument, Sequence) else ():
            for one in inner if isinstance(inner, list) else [inner]:
                if isinstance(one, parser.SubPattern):
                    yield from _leaves(one)


PACKAGE = Path(flashgraph.__file__).parent
EVERY = [used for path in sorted(PACKAGE.rglob("*.py")) for used in Used.of_module(path)]


@pytest.mark.parametrize("used", EVERY, ids=lambda used: used.place)
def test_no_pattern_of_the_package_is_quadratic(used: Used) -> None:
    """No pattern is quadratic on texts made of its own characters."""
    assert [text[:20] for text in used.texts() if used.seconds(text) > least_of_quadratic()] == []


@pytest.mark.parametrize("pattern", [r"\s+$", r"a+b", r"[ \t]+is"])
def test_a_quadratic_pattern_is_found(pattern: str) -> None:
    """The measurement finds a quadratic pattern."""
    used = Used("here", re.compile(pattern), True)
    assert any(used.seconds(text) > least_of_quadratic() for text in used.texts())


def test_many_edits_of_a_large_program_are_refused() -> None:
    """Each edit reads the program again; 200 edits without indentation once took 8 seconds."""
    lines = [" " * k + f"y{i}" for i in range(200) for k in range(1, 20)] + ["a"] * 60_000
    program = "\n".join([*lines, *(f"  z{i}" for i in range(200))])
    edit = "<<<<<<< SEARCH\nz{0}\n=======\nw{0}\n>>>>>>> REPLACE\n"
    with pytest.raises(flashgraph.UnusableReply, match=r"200 edits to a program of .* at most \d+ are read"):
        edited(program, "".join(map(edit.format, range(200))))
    few = edited(program, "".join(map(edit.format, range(20))))
    assert few.count("  w") == 20


HOSTILE = {
    "the edit of 36 seconds": "<<<<<<< SEARCH\n" + "=======\n" * 4000,
    "edits that do not end": "<<<<<<< SEARCH\n=======\n" * 3000,
    "blanks before a tool": " " * 60_000 + "x",
    "bullets": "> - * ` 1. " * 6000,
    "a tool and blanks": "READ" + " ." * 30_000 + "x",
    "fences that do not close": '```python\n\\"""\n' * 4000,
    "letters": "a" * 60_000,
    "answers": "final answer " * 5000,
    "an answer and colons": "final answer" + " :" * 30_000,
    "an answer and stars": "final answer:" + "* " * 30_000,
    "boxes": "\\boxed" * 10_000,
    "a box and blanks": "\\boxed" + " " * 60_000,
    "numbers": "1,000" * 12_000,
    "digits": "1" * 60_000,
    "brackets": "(" * 60_000,
    "ids": "a-" * 30_000,
    "quotes": '"a' * 30_000,
}


@pytest.mark.parametrize("name", READERS)
def test_a_hostile_text_of_four_times_the_length_takes_about_four_times_as_long(name: str) -> None:
    """Four times a hostile text of 60 kB takes about four times the processor time.

    The bound is generous: a quadratic reader would take sixteen times.
    """

    def seconds(text: str) -> float:
        began = time.process_time()
        READERS[name](text)
        return time.process_time() - began

    for text in HOSTILE.values():
        assert seconds(text) <= 12 * seconds(text[: len(text) // 4]) + 0.1
