"""Programs as artifacts: reading a new program out of a model's answer, and the parts of a prompt that asks for one.

An answer is a full rewrite between fences, or edits to the present program in blocks::

    <<<<<<< SEARCH
    lines as they stand now
    =======
    lines to put in their place
    >>>>>>> REPLACE

A program may mark what is to evolve by lines with ``EVOLVE-BLOCK-START`` and ``EVOLVE-BLOCK-END`` (AlphaEvolve,
arXiv 2506.13131, section 2.1).  What stands outside of them is then kept as it is, whatever an answer says.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from flashgraph.evaluation import Attempt

__all__ = ["Check", "Unusable", "change", "clipped", "component", "edited", "goal", "outcomes", "printed", "rewritten"]

START, END = "EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"
EDIT = re.compile(r"^<{5,9} ?SEARCH[ \t]*\n(.*?)^={5,9}[ \t]*\n(.*?)^>{5,9} ?REPLACE[ \t]*$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


class Unusable(ValueError):
    """An answer that makes no new program; its text says why, fit to be shown to the model that gave it."""


@attrs.frozen
class Check:
    """One sample of a task whose candidates are programs: call ``entry(**arguments)`` and judge what it returns.

    ``arguments`` are JSON values; ``says`` tells in words what is asked, for prompts.
    """

    entry: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    says: str = ""

    def __str__(self) -> str:
        call = f"{self.entry}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"
        short = call if len(call) <= 120 else f"{call[:116]}...)"
        return short + (f": {self.says}" if self.says else "")


def component(text: Mapping[str, str]) -> str:
    """The name of the component that is the program: ``"program"``, or the first where none has that name."""
    return "program" if "program" in text else next(iter(text))


# ---- answers ---------------------------------------------------------------------------------------------


def rewritten(program: str, answer: str) -> str:
    """The program of a full rewrite: the longest text between ``` fences; the whole answer where nothing is fenced.

    Of a program with EVOLVE-BLOCK marks only the blocks are taken over.  Raises `Unusable` when there is no new one.
    """
    # An answer that was cut off has an opening fence only.
    blocks = FENCED.findall(answer) or FENCED.findall(answer.rstrip() + "\n```")
    found = max(blocks, key=len, default=answer).strip("\n")
    if not found.strip():
        raise Unusable("the answer holds no program")
    return _new(program, _framed(program, found + "\n"))


def edited(program: str, answer: str) -> str:
    """``program`` after the edits of an answer, one after another.  Raises `Unusable` when one does not apply."""
    edits = EDIT.findall(answer)
    if not edits:
        raise Unusable("the answer holds no SEARCH/REPLACE block")
    after = program
    for number, (search, replace) in enumerate(edits, 1):
        after = _replaced(after, search, replace, f"edit {number} of {len(edits)}")
    return _new(program, after)


def _new(before: str, after: str) -> str:
    if after.strip() == before.strip():
        raise Unusable("the answer changes nothing")
    return after


def _replaced(program: str, search: str, replace: str, name: str) -> str:
    lines, wanted = program.split("\n"), search.rstrip("\n").split("\n")
    if not search.strip():
        raise Unusable(f"{name}: its SEARCH part is empty")
    places, indent = _places(lines, wanted), ""
    if not places:
        # Models drop the indentation that all quoted lines have in common.
        places = _places([x.lstrip() for x in lines], [x.lstrip() for x in wanted])
        places = [i for i in places if _shift(lines[i : i + len(wanted)], wanted) is not None]
        indent = _shift(lines[places[0] :], wanted) or "" if places else ""
    if len(places) != 1:
        how = f"stand {len(places)} times in the program; quote more of them" if places else "are not in the program"
        raise Unusable(f"{name}: the lines of its SEARCH part {how}:\n{clipped(search.rstrip(), 400)}")
    start, end = places[0], places[0] + len(wanted)
    _inside(lines, start, end, name)
    new = [indent + x if x.strip() else x for x in replace.rstrip("\n").split("\n")] if replace.strip() else []
    return "\n".join([*lines[:start], *new, *lines[end:]])


def _places(lines: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where ``wanted`` stands among ``lines``; blanks at the ends of lines do not count."""
    lines, wanted = [x.rstrip() for x in lines], [x.rstrip() for x in wanted]
    return [i for i in range(len(lines) - len(wanted) + 1) if lines[i : i + len(wanted)] == wanted]


def _shift(lines: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The indentation that makes ``wanted`` the ``lines``; None when it is not the same for all."""
    shifts = {a[: len(a) - len(b)] for a, b in zip(lines, wanted, strict=False) if b.strip() and a.endswith(b.rstrip())}
    return shifts.pop() if len(shifts) == 1 else None


# ---- marked blocks ---------------------------------------------------------------------------------------


def _blocks(lines: Sequence[str]) -> list[tuple[int, int]]:
    """First line and end of what stands between each pair of marks."""
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
        raise Unusable(f"{name} changes lines outside of {START} and {END}; only what is between them may change")


def _framed(program: str, answer: str) -> str:
    """``program`` with its marked blocks as they are in ``answer``; ``answer`` where the program has no marks."""
    lines, others = program.split("\n"), answer.split("\n")
    blocks, new = _blocks(lines), _blocks(others)
    if not blocks:
        return answer
    if len(new) != len(blocks):
        raise Unusable(
            f"the program has {len(blocks)} blocks between {START} and {END}, the answer {len(new)}; keep these lines"
        )
    for (start, end), (first, last) in reversed(list(zip(blocks, new, strict=True))):
        lines[start:end] = others[first:last]
    return "\n".join(lines)


# ---- prompts ---------------------------------------------------------------------------------------------


def goal(program: str) -> str:
    """What a seed program says that it is for: its docstring, or its leading comment."""
    try:
        said = ast.get_docstring(ast.parse(program)) or ""
    except (SyntaxError, ValueError):
        said = ""
    comment = re.match(r"(?:[ \t]*#.*\n)+", program)
    return said or (re.sub(r"^[ \t]*# ?", "", comment[0], flags=re.MULTILINE).strip() if comment else "")


def outcomes(attempts: Sequence[Attempt], samples: Sequence[Any], most: int = 2000) -> str:
    """What came of the checks, the worst first, in at most about ``most`` characters."""
    worst = sorted(attempts, key=lambda a: a.score)
    share = max(200, most // max(1, len(worst)))
    entries = [
        clipped(f"- {samples[a.index]}\n  score {a.score:.4g}. {a.feedback}\n  {a.output}".rstrip(), share)
        for a in worst
    ]
    shown = entries[: max(1, most // share)]
    return "\n".join(shown + [f"- and {len(entries) - len(shown)} more"] * (len(shown) < len(entries)))


def printed(stdout: str, stderr: str, seconds: float, most: int = 600) -> str:
    """What a run left beside its value."""
    parts = [f"took {seconds:.2g} s"]
    parts += [
        f"{name}: {clipped(said.strip(), most)}"
        for name, said in (("stdout", stdout), ("stderr", stderr))
        if said.strip()
    ]
    return "; ".join(parts)


def change(before: str, after: str, most: int = 600) -> str:
    """What was changed in a program, as a short unified diff."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return clipped("\n".join(x for x in lines if not x.startswith(("---", "+++"))), most)


def clipped(text: str, most: int) -> str:
    """At most ``most`` characters: a longer text loses its middle, because errors are told at the end."""
    if len(text) <= most:
        return text
    head, tail = most // 3, most - most // 3
    return f"{text[:head]}\n[... {len(text) - most} characters left out ...]\n{text[-tail:]}"
