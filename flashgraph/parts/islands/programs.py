"""Programs as artifacts: read a new program from a model's reply, and write the parts of its prompt.

A reply is a full rewrite between fences, or edits to the current program in SEARCH/REPLACE blocks
(`flashgraph.text.replies`).

A program may mark the part to evolve with lines that contain ``EVOLVE-BLOCK-START`` and ``EVOLVE-BLOCK-END``
(AlphaEvolve, arXiv 2506.13131, section 2.1). Everything outside of the marks then stays as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from flashgraph.errors import UnusableReply
from flashgraph.parts.clipping import clipped
from flashgraph.parts.evaluation import Attempt
from flashgraph.text.differences import unified
from flashgraph.text.replies import Edit, blocks, edits

__all__ = [
    "Check",
    "change",
    "component",
    "edited",
    "goal",
    "outcomes",
    "printed",
    "rewritten_program",
    "same_program",
]

START, END = "EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"

MOST_EDITS = 200
"""The most edits in one reply."""

MOST_DIVIDERS = 8
"""The most lines of ``=======`` in one edit; each is tried as the one that divides it."""

MOST_WORK = 10_000_000
"""The most edits in one reply times characters of the program, because each edit reads the whole program."""

CHANGES = ("diff", "patch")
NO_PROGRAM = (*CHANGES, "bash", "console", "json", "log", "output", "sh", "shell", "text", "txt", "zsh")
"""Languages of fences whose text is probably not a program."""

MOST_SHIFTS = 20
"""The most indentations that an edit's lines are tried with."""


@attrs.frozen
class Check:
    """A sample of a task whose candidates are programs: call ``entry(**arguments)`` and score the result.

    ``arguments`` are JSON values; ``says`` describes the call in words, for prompts.
    """

    entry: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    says: str = ""

    def __str__(self) -> str:
        call = f"{self.entry}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"
        short = call if len(call) <= 120 else f"{call[:116]}...)"
        return short + (f": {self.says}" if self.says else "")


def same_program(value: Any) -> tuple[tuple[str, str], ...]:
    """Return the key that tells programs apart (for ``distinct=`` on an edge): their lines without trailing blanks.

    Leading blanks count, because they have a meaning in a program.
    """
    texts: Mapping[str, str] = value.text
    lines = {name: [line.rstrip() for line in text.strip("\n").splitlines()] for name, text in texts.items()}
    return tuple(sorted((name, "\n".join(found)) for name, found in lines.items()))


def component(text: Mapping[str, str]) -> str:
    """Return the name of the component that is the program: ``"program"``, or the first if none has that name."""
    return "program" if "program" in text else next(iter(text))


# ---- answers ---------------------------------------------------------------------------------------------


def rewritten_program(program: str, answer: str) -> str:
    """Return the program of a full rewrite: the longest fenced block, or the whole reply if nothing is fenced.

    A block whose fence names a shell, a diff or an output counts only if there is no other. If the program has
    EVOLVE-BLOCK marks, only the marked blocks change. Raises `UnusableReply` if there is no new program.
    """
    fences = blocks(answer)
    if fences and all(block.language in CHANGES for block in fences):
        raise UnusableReply(f"the answer holds a {fences[0].language}, expected the whole program")
    # A command or its output may be longer than a small program.
    likely = [block for block in fences if block.language not in NO_PROGRAM] or fences
    found = max((block.body for block in likely), key=len, default=answer).strip("\n")
    if not found.strip():
        raise UnusableReply("the answer holds no program")
    return _new(program, _framed(program, found + "\n"))


def edited(program: str, answer: str) -> str:
    """Return ``program`` after the edits of a reply, one after another.

    Lines end as those of the program do. Raises `UnusableReply` if an edit does not apply.
    """
    found, after = edits(answer), program.replace("\r\n", "\n")
    if not found:
        raise UnusableReply("the answer holds no SEARCH/REPLACE block")
    if len(found) > MOST_EDITS:
        raise UnusableReply(f"the answer has {len(found)} edits, at most {MOST_EDITS} are read; give the whole program")
    if len(found) * len(program) > MOST_WORK:
        raise UnusableReply(
            f"the answer has {len(found)} edits to a program of {len(program):,} characters; "
            f"at most {MOST_WORK // len(program)} are read; give the whole program"
        )
    for number, edit in enumerate(found, 1):
        after = _applied(after, edit, f"edit {number} of {len(found)}")
    return _new(program, after.replace("\n", "\r\n") if "\r\n" in program else after)


def _new(before: str, after: str) -> str:
    if not after.strip():
        raise UnusableReply("the answer leaves nothing of the program")
    if after.strip() == before.strip():
        raise UnusableReply("the answer changes nothing")
    return after


def _applied(program: str, edit: Edit, name: str) -> str:
    """Return ``program`` after one edit.

    If several lines may divide the edit, its SEARCH part is the longest part before one of them that occurs in the
    program once.
    """
    if len(edit.dividers) > MOST_DIVIDERS:
        raise UnusableReply(f"{name} has {len(edit.dividers)} lines of =======, at most {MOST_DIVIDERS} are tried")
    lines = program.split("\n")
    ways = [(_trimmed(search), _trimmed(replace)) for search, replace in edit.parts() if any(map(str.strip, search))]
    if not ways:
        raise UnusableReply(f"{name}: its SEARCH part is empty")
    bare = [line.rstrip() for line in lines]
    text = "\n".join(["", *bare, ""])
    fitting = [(search, replace) for search, replace in ways if len(_places(text, search)) == 1]
    if not fitting and len(ways) > 1:
        raise UnusableReply(
            f"{name} has {len(ways)} lines of =======, and no part before one of them occurs exactly once:\n"
            + clipped("\n".join(edit.lines), 400)
        )
    search, replace = fitting[0] if fitting else ways[0]
    places = [(place, "") for place in _places(text, search)]
    if not places:
        # Models drop the indentation that all quoted lines share.
        places = [(place, shift) for shift in _shifts(bare, search) for place in _places(text, search, shift)]
    return _replaced(lines, search, replace, places, name)


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Return the lines without empty ones at the end."""
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    return list(lines[:end])


def _replaced(lines: list[str], wanted: list[str], new: list[str], places: list[tuple[int, str]], name: str) -> str:
    """Return the program with ``new`` instead of ``wanted``; ``places`` are pairs of a line and an indentation."""
    if len(places) != 1:
        how = "occur more than once in the program; quote more lines" if places else "are not in the program"
        raise UnusableReply(
            f"{name}: the lines of its SEARCH part {how}:\n{clipped(chr(10).join(wanted).rstrip(), 400)}"
        )
    ((start, indent),) = places
    end = start + len(wanted)
    _inside(lines, start, end, name)
    put = [indent + x if x.strip() else x for x in new] if any(map(str.strip, new)) else []
    return "\n".join([*lines[:start], *put, *lines[end:]])


def _places(text: str, wanted: Sequence[str], shift: str = "") -> list[int]:
    """Return at most two line numbers where ``wanted``, indented by ``shift``, begins in ``text``.

    ``text`` has an empty line at both ends and no trailing blanks. Comparing line by line could take as long as the
    product of both lengths.
    """
    part = "\n".join(["", *((shift + x).rstrip() for x in wanted), ""])
    first = text.find(part)
    second = text.find(part, first + 1) if first >= 0 else -1
    return [text.count("\n", 0, at) for at in (first, second) if at >= 0]


def _shifts(bare: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the indentations with which the first non-blank line of ``wanted`` occurs among ``bare``."""
    first = next(line.rstrip() for line in wanted if line.strip())
    found = {line[: len(line) - len(first)] for line in bare if line.endswith(first)}
    return sorted(shift for shift in found if shift and not shift.strip())[:MOST_SHIFTS]


# ---- marked blocks ---------------------------------------------------------------------------------------


def _blocks(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first line and the end of each marked block."""
    found, start = [], None
    for i, line in enumerate(lines):
        if START in line:
            start = i + 1
        elif END in line and start is not None:
            found.append((start, i))
            start = None
    return found


def _inside(lines: Sequence[str], start: int, end: int, name: str) -> None:
    blocks = _blocks(lines)
    if blocks and not any(first <= start and end <= last for first, last in blocks):
        raise UnusableReply(f"{name} changes lines outside of {START} and {END}; only what is between them may change")


def _framed(program: str, answer: str) -> str:
    """Return ``program`` with its marked blocks taken from ``answer``; ``answer`` itself if the program has no
    marks."""
    lines, others = program.split("\n"), answer.split("\n")
    blocks, new = _blocks(lines), _blocks(others)
    if not blocks:
        return answer
    if len(new) != len(blocks):
        raise UnusableReply(
            f"the program has {len(blocks)} blocks between {START} and {END}, the answer {len(new)}; keep these lines"
        )
    for (start, end), (first, last) in reversed(list(zip(blocks, new, strict=True))):
        lines[start:end] = others[first:last]
    return "\n".join(lines)


# ---- prompts ---------------------------------------------------------------------------------------------


def goal(program: str) -> str:
    """Return the purpose that a seed program states: its docstring, or its leading comment."""
    try:
        docstring = ast.get_docstring(ast.parse(program)) or ""
    # RecursionError and MemoryError come from deep nesting
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        docstring = ""
    comment = re.match(r"(?:[ \t]*#.*\n)+", program)
    return docstring or (re.sub(r"^[ \t]*# ?", "", comment[0], flags=re.MULTILINE).strip() if comment else "")


def outcomes(attempts: Sequence[Attempt], samples: Sequence[Any], most: int = 2000) -> str:
    """Return the results of the checks, the worst first, in about ``most`` characters at most."""
    worst = sorted(attempts, key=lambda a: a.score)
    share = max(200, most // max(1, len(worst)))
    entries = [
        clipped(f"- {samples[a.index]}\n  score {a.score:.4g}. {a.feedback}\n  {a.output}".rstrip(), share)
        for a in worst
    ]
    shown = entries[: max(1, most // share)]
    return "\n".join(shown + [f"- and {len(entries) - len(shown)} more"] * (len(shown) < len(entries)))


def printed(stdout: str, stderr: str, seconds: float, most: int = 600) -> str:
    """Return the output of a run besides its value."""
    parts = [f"took {seconds:.2g} s"]
    parts += [
        f"{name}: {clipped(text.strip(), most)}"
        for name, text in (("stdout", stdout), ("stderr", stderr))
        if text.strip()
    ]
    return "; ".join(parts)


def change(before: str, after: str, most: int = 600) -> str:
    """Return a program's changes as a short unified diff."""
    return clipped("\n".join(unified(before, after, context=1)[2:]), most)
