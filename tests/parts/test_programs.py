"""Programs in replies: rewrites, edits that apply or fail, marked blocks; parts of prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.errors import UnusableReply
from flashgraph.parts.clipping import clipped
from flashgraph.parts.evaluation import Attempt
from flashgraph.parts.islands.programs import (
    Check,
    change,
    component,
    edited,
    goal,
    outcomes,
    printed,
    rewritten_program,
)

PROGRAM = '''"""Add things."""


def add(a, b):
    if a:
        return a + b
    return b


def sub(a, b):
    return a - b
'''

MARKED = """import math

# EVOLVE-BLOCK-START
def inner():
    return 1
# EVOLVE-BLOCK-END

def outer():
    return inner()
"""


def edit(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


# ---- edits -----------------------------------------------------------------------------------------------


def test_edits_apply_one_after_another() -> None:
    """The second edit sees the result of the first; text between the blocks does not matter."""
    answer = (
        "First:\n" + edit("    return b", "    return b or 0") + "then\n" + edit("    return b or 0", "    return 0")
    )
    assert edited(PROGRAM, answer) == PROGRAM.replace("    return b\n", "    return 0\n")


def test_lines_can_be_taken_out() -> None:
    """An empty REPLACE part deletes lines, even if its line is missing."""
    answer = "<<<<<<< SEARCH\n    if a:\n        return a + b\n=======\n>>>>>>> REPLACE"
    assert edited(PROGRAM, answer) == PROGRAM.replace("    if a:\n        return a + b\n", "")


def test_blanks_at_line_ends_do_not_count() -> None:
    assert "a * b" in edited(PROGRAM, edit("        return a + b   ", "        return a * b"))


def test_a_common_indentation_may_be_left_out() -> None:
    """If the common indentation is missing, the new lines get that of the lines they replace."""
    answer = edit("if a:\n    return a + b", "if a and b:\n    return b + a")
    assert "    if a and b:\n        return b + a\n    return b\n" in edited(PROGRAM, answer)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I would not change it.", "no SEARCH/REPLACE block"),
        (edit("    return a * b", "    return 1"), "edit 1 of 1: the lines of its SEARCH part are not in the program"),
        (edit("def add(a, b):", "def add(a, b):"), "changes nothing"),
        (edit("", "x = 1"), "its SEARCH part is empty"),
        (edit("    return b", "    return 0") + edit("    return b", "    return 1"), "edit 2 of 2"),
    ],
)
def test_an_edit_that_does_not_apply_says_why(answer: str, reason: str) -> None:
    """An edit that does not apply gives a reason that the model can use."""
    with pytest.raises(UnusableReply, match=reason):
        edited(PROGRAM, answer)


def test_lines_that_occur_twice_are_refused() -> None:
    """Lines that occur twice are refused, because the first place would often be the wrong one."""
    with pytest.raises(UnusableReply, match="occur more than once"):
        edited("x = 1\ny = 2\nx = 1\n", edit("x = 1", "x = 3"))


HEADINGS = '''"""Notes.

Title
=======
text
"""
x = 1
'''


@pytest.mark.parametrize(
    ("search", "replace", "expected"),
    [
        ("Title\n=======\ntext", "Other\n=======\ntext", HEADINGS.replace("Title", "Other")),
        ("Title\n=======", "Other\n=====", HEADINGS.replace("Title\n=======", "Other\n=====")),
        ("x = 1", "y = 2\n=======", HEADINGS.replace("x = 1", "y = 2\n=======")),
        ("text", "A\n=======\nB\n=======\ntext", HEADINGS.replace("text", "A\n=======\nB\n=======\ntext")),
    ],
)
def test_a_line_of_equals_signs_may_stand_in_either_part(search: str, replace: str, expected: str) -> None:
    """The line before which the program's lines occur divides an edit."""
    assert edited(HEADINGS, edit(search, replace)) == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            edit("Titel\n=======", "A\n======="),
            "has 3 lines of =======, and no part before one of them occurs exactly once",
        ),
        (edit("x = 1", "=======\n" * 9), "has 10 lines of =======, at most 8"),
        (edit("x = 1", "y = 1") * 201, "has 201 edits, at most 200"),
        (edit("x = 1", "y = 1") + "<<<<<<< SEARCH\ntext", "edit 2 has no line >>>>>>> REPLACE"),
    ],
)
def test_an_edit_that_could_mean_two_things_is_refused(answer: str, reason: str) -> None:
    with pytest.raises(UnusableReply, match=reason):
        edited(HEADINGS, answer)


def test_line_ends_of_windows() -> None:
    """Line ends of the reply do not matter; those of the program stay."""
    answer = edit("    return b", "    return 0").replace("\n", "\r\n")
    assert edited(PROGRAM, answer) == PROGRAM.replace("    return b\n", "    return 0\n")
    windows = PROGRAM.replace("\n", "\r\n")
    for one in (answer, answer.replace("\r", "")):
        assert edited(windows, one) == windows.replace("    return b\r\n", "    return 0\r\n")


def test_a_shift_has_to_be_one_for_all_lines() -> None:
    """All lines must have the same shift; lines in another shape are other lines."""
    with pytest.raises(UnusableReply, match="are not in the program"):
        edited(PROGRAM, edit("if a:\nreturn a + b", "pass"))
    with pytest.raises(UnusableReply, match="more than once"):
        edited("if a:\n  x = 1\nif b:\n    x = 1\n", edit("x = 1", "x = 2"))


@given(st.lists(st.sampled_from(["a = 1", "    b = 2", "", "c = [", "]", "\td"]), max_size=12), st.data())
def test_an_edit_changes_the_quoted_lines_and_no_others(lines: list[str], data: st.DataObject) -> None:
    """An edit either replaces the quoted lines at their place, once, or is refused."""
    start = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.integers(start, len(lines)))
    program = "\n".join(lines)
    try:
        new = edited(program, edit("\n".join(lines[start:end]), "NEW"))
    except UnusableReply:
        return
    assert new.split("\n").count("NEW") + new.split("\n").count("    NEW") + new.split("\n").count("\tNEW") == 1
    assert len(new.split("\n")) >= len(lines) - (end - start) + 1


# ---- rewrites --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "```python\nx = 1\n```",
        "Like this:\n```\nx = 1\n```\nIt is better.",
        "First `x`:\n```\nx\n```\nand whole:\n```python\nx = 1\n```",
        "x = 1",
        "```python\nx = 1\n",
        "````python\nx = 1\n````",
        "~~~python\nx = 1\n~~~",
        "```python\r\nx = 1\r\n```",
        "  ```python\n  x = 1\n  ```",
    ],
)
def test_the_program_of_a_rewrite(answer: str) -> None:
    """A rewrite is the longest fenced text, also an unclosed one, or the bare reply."""
    assert rewritten_program(PROGRAM, answer) == "x = 1\n"


def test_a_docstring_with_a_fence_is_a_part_of_the_program() -> None:
    """A docstring with a fence belongs to the program, even at the margin where it looks like the block's end."""
    program = '"""Use it so:\n\n```\nf()\n```\n"""\n\n\ndef f():\n    return 1\n'
    assert rewritten_program(PROGRAM, f"Here:\n```python\n{program}```\nDone.") == program


@pytest.mark.parametrize("answer", ["", "```python\n```", "   \n"])
def test_an_answer_without_a_program(answer: str) -> None:
    with pytest.raises(UnusableReply, match="no program"):
        rewritten_program(PROGRAM, answer)


def test_a_rewrite_to_the_same_is_none() -> None:
    with pytest.raises(UnusableReply, match="changes nothing"):
        rewritten_program(PROGRAM, f"```python\n{PROGRAM}```")


# ---- marked blocks ---------------------------------------------------------------------------------------


def test_only_marked_blocks_evolve() -> None:
    """A rewrite changes only marked blocks, and an edit outside of them is refused."""
    answer = MARKED.replace("return 1", "return 2").replace("return inner()", "return 99")
    assert rewritten_program(MARKED, answer) == MARKED.replace("return 1", "return 2")
    assert edited(MARKED, edit("    return 1", "    return 2")) == MARKED.replace("return 1", "return 2")
    with pytest.raises(UnusableReply, match="outside of EVOLVE-BLOCK-START"):
        edited(MARKED, edit("    return inner()", "    return 99"))
    with pytest.raises(UnusableReply, match="outside of"):
        edited(MARKED, edit("# EVOLVE-BLOCK-START\ndef inner():", "def inner():"))
    with pytest.raises(UnusableReply, match="the answer 0; keep"):
        rewritten_program(MARKED, "def inner():\n    return 2")


# ---- parts of prompts ------------------------------------------------------------------------------------


def test_the_goal_is_the_seeds_docstring_or_comment() -> None:
    """The goal is the seed's docstring or leading comment, even if Python cannot parse it, and otherwise empty."""
    assert goal(PROGRAM) == "Add things."
    assert goal("# Add\n# things.\nx = = 1\n") == "Add\nthings."
    assert goal("x = 1") == ""


def test_outcomes_show_the_worst_first_in_bounded_room() -> None:
    samples = [Check("f", {"n": i}, "a thing") for i in range(30)]
    attempts = [Attempt(i, i / 30, "took 1 s", "word " * 300) for i in range(30)]
    shown = outcomes(attempts, samples)
    assert shown.startswith("- f(n=0): a thing\n  score 0. word")
    assert shown.endswith("- and 20 more")
    assert len(shown) < 3000


def test_small_parts() -> None:
    """Texts lose their middle, a change is a diff, and output is listed with the run time."""
    assert clipped("a" * 50 + "b" * 50, 9) == f"aaa\n[... 91 characters left out ...]\n{'b' * 6}"
    assert clipped("short", 9) == "short"
    assert change("a\nb\n", "a\nc\n") == "@@ -1,2 +1,2 @@\n a\n-b\n+c"
    assert printed("", " oh\n", 0.5) == "took 0.5 s; stderr: oh"
    assert str(Check("f", {"n": 3})) == "f(n=3)"
    assert component({"a": "x", "program": "y"}) == "program"
    assert component({"a": "x", "b": "y"}) == "a"


@pytest.mark.parametrize("language", ["bash", "sh", "console", "text", "output", "json", "diff"])
def test_a_command_or_an_output_is_no_program(language: str) -> None:
    """A shell command or an output is not the program, however long; alone, it is."""
    other = f"```{language}\n{'pip install numpy ' * 40}\n```\n"
    program = "```python\nx = 1\n```\n"
    assert rewritten_program("x = 0\n", other + program) == rewritten_program("x = 0\n", program + other) == "x = 1\n"


def test_a_diff_is_no_whole_program() -> None:
    with pytest.raises(UnusableReply, match="holds a diff, expected the whole program"):
        rewritten_program("x = 0\n", "```diff\n-x = 0\n+x = 1\n```\n")


def test_nothing_is_no_program() -> None:
    """An edit that removes all lines is refused."""
    with pytest.raises(UnusableReply, match="leaves nothing"):
        edited("x = 0\n", edit("x = 0", ""))


@pytest.mark.parametrize("part", ["(", "+", "[0]", "-1 ", '{"a":1,'])
def test_a_program_that_is_nested_too_deeply_says_no_goal(part: str) -> None:
    """Nesting that Python's parser refuses gives no goal, though it raises more than a SyntaxError."""
    assert goal(part * 50_000) == ""
