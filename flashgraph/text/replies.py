"""Read a model's reply: its thoughts, fences and SEARCH/REPLACE edits, and whether it can be used at all.

Every reader of a reply starts here. No regular expression in this module can backtrack, so the time is linear in the
length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import attrs

from flashgraph.errors import UnusableReply

__all__ = ["Block", "Edit", "blocks", "edits", "fenced", "parted", "usable"]

CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
"""The finish reasons of a reply that was truncated at its token limit."""

WITHHELD = frozenset({"content_filter", "refusal", "safety"})
"""The finish reasons of a reply that the provider or the model refused."""

ABORTED = frozenset({"abort", "error"})
"""The finish reasons of a reply that its server did not complete."""

LONGEST = 262_144
"""The most characters of an answer; a longer one is not a proposal and would delay the run."""

LONGEST_REFUSAL = 400
"""The most characters of a refusal: a longer text that begins with an apology also has other content."""

SORRY = ("i'm sorry", "i am sorry", "sorry,", "i apologize", "i apologise", "i can't", "i cannot", "i'm unable",
         "i am unable", "i'm not able", "i am not able", "i won't", "i will not")  # fmt: skip
UNWILLING = ("can't", "cannot", "unable", "not able", "won't", "will not")

# Nothing in these patterns repeats, so they cannot backtrack.
_TAG = re.compile(r"</?(?:think|thinking|thought|seed:think)>|\[/?THINK\]", re.IGNORECASE)
_PYTHON = re.compile(r"\"\"\"|'''|\\.|[\"'#]")

PYTHON = ("", "python", "py", "python3")
"""Languages of fences, in lower case, whose strings may contain fences."""


def usable(text: str, finish: str = "stop", thoughts: str = "") -> str:
    """Return the answer of a reply.

    ``text`` comes without the ``thoughts``, as `parted` returns it. Raises `UnusableReply` if the reply was truncated,
    refused or aborted, if its text is empty, or if its text is longer than `LONGEST`.
    """
    if finish in CUT_OFF:
        raise UnusableReply(
            f"the reply was truncated at its token limit (finish={finish}).\n"
            "Fix: give the model a higher max_tokens, as in --model 'MODEL?max_tokens=4000'."
        )
    if finish in WITHHELD:
        raise UnusableReply(f"the reply was withheld (finish={finish})")
    if finish in ABORTED:
        raise UnusableReply(f"the reply is not complete (finish={finish})")
    if not text.strip():
        raise UnusableReply("the reply holds thoughts and no answer" if thoughts.strip() else "the reply is empty")
    if len(text) > LONGEST:
        raise UnusableReply(f"the reply has {len(text):,} characters; at most {LONGEST:,} are read")
    if _refuses(text.strip()):
        raise UnusableReply(f"the model refused: {text.strip()!r}")
    return text


def _refuses(text: str) -> bool:
    """Return whether a text is a refusal: short, without a fence, and worded as one."""
    if len(text) > LONGEST_REFUSAL or "```" in text:
        return False
    plain = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower().lstrip("*_# ")
    return plain.startswith(SORRY) and any(word in plain for word in UNWILLING)


# ---- thoughts --------------------------------------------------------------------------------------------


def parted(text: str) -> tuple[str, str]:
    """Return the answer of a reply, and the thoughts that a reasoning model wrote before or between its parts.

    Thoughts are between ``<think>`` and ``</think>`` (also ``<thinking>``, ``<thought>``, ``[THINK]``). The opening tag
    begins the reply or a line, or is missing because the model's template contains it. A reply whose thoughts do not
    end has no answer. Tags in a fence, and pairs of tags within a line, are text.
    """
    return _Parting(text).done() if _TAG.search(text) else (text, "")


@attrs.define
class _Parting:
    """One pass over the lines of a reply."""

    text: str
    state: Literal["answer", "fence", "thoughts"] = "answer"
    marker: str = ""
    """The marker of the open fence."""
    kept: list[str] = attrs.field(factory=list)
    thoughts: list[str] = attrs.field(factory=list)
    begin: int = 0
    """The start of the current part of the answer, or of the thoughts."""
    opened: int = 0
    """Opening tags of the current thoughts; more than one if the thoughts themselves mention tags."""
    inline: int = 0
    """Opening tags that are text and not closed yet."""
    owed: int | None = None
    """Closing tags still expected for thoughts that ended early; None before there were any."""

    def done(self) -> tuple[str, str]:
        """Return (answer, thoughts); without thoughts, the text as it is."""
        for start, line in _lines(self.text):
            if self.state == "fence" and closes(line, self.marker):
                self.state = "answer"
            elif self.state == "answer" and (marker := opens(line)):
                self.state, self.marker = "fence", marker
            else:
                for tag in _TAG.finditer(line):
                    self._tag(line, start, tag)
        if self.state == "thoughts":
            return "", self.text.strip()
        if not self.thoughts:
            return self.text, ""
        self.kept.append(self.text[self.begin :])
        return "".join(self.kept).strip(), "\n".join(part.strip() for part in self.thoughts)

    def _tag(self, line: str, start: int, tag: re.Match[str]) -> None:
        at, end = start + tag.start(), start + tag.end()
        closing = tag[0][1] == "/"
        if self.state == "thoughts":
            if not closing:
                self.opened += 1
                return
            self.thoughts.append(self.text[self.begin : at])
            self.state, self.begin = "answer", end
            self.owed = (self.owed or 0) + self.opened - 1
        elif not closing:
            if self.state == "answer" and not self.text[max(start, self.begin) : at].strip():
                self.kept.append(self.text[self.begin : at])
                self.state, self.begin, self.opened = "thoughts", end, 1
            else:
                self.inline += 1
        elif self.inline:
            self.inline -= 1
        elif self.owed != 0 and (self.state == "answer" or line.strip() == tag[0]):
            # Everything before this tag was thoughts: of the model, or of a part that mentioned tags.
            self.kept, self.thoughts = [], [self.text[:at]]
            self.state, self.begin = "answer", end
            self.owed = self.owed and self.owed - 1


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its start position."""
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


# ---- fences ----------------------------------------------------------------------------------------------


def opens(line: str) -> str:
    """Return the marker of the fence that a line opens (three or more backticks or tildes), or ""."""
    stripped = line.lstrip()
    for character in "`~":
        if stripped.startswith(character * 3):
            info = stripped.lstrip(character)
            return "" if character == "`" and "`" in info else character * (len(stripped) - len(info))
    return ""


def closes(line: str, marker: str) -> bool:
    """Return whether a line closes the fence that ``marker`` opened: at least as many characters, and nothing after
    them."""
    stripped = line.strip()
    return stripped.startswith(marker) and not stripped.strip(marker[0])


def fenced(answer: str) -> str:
    """Return the text between the first fence and the last, without a language word.

    Without a pair of fences, return the whole answer without its single fence. This is GEPA's rule, extended to fences
    of any length and of tildes.
    """
    answer = _unified(answer)
    marker, first = _first_fence(answer)
    if not marker:
        return answer.strip()
    begin, last = first + len(marker), answer.rfind(marker)
    while last > begin and answer[last - 1] == marker[0]:
        last -= 1
    if last >= begin:
        return _worded(answer[begin:last]).strip()
    before, after = answer[:first].strip(), answer[begin:].strip(marker[0])
    return f"{before}\n{after.strip()}".strip() if before else _worded(after).strip()


def _first_fence(answer: str) -> tuple[str, int]:
    """Return the marker of the first fence and its position: backticks anywhere, or tildes that begin a line."""
    ticks, tildes = answer.find("```"), answer.find("~~~") if answer.startswith("~~~") else answer.find("\n~~~") + 1
    has_tildes = tildes > 0 or answer.startswith("~~~")
    if ticks < 0 and not has_tildes:
        return "", 0
    first = tildes if has_tildes and not 0 <= ticks < tildes else ticks
    rest = answer[first:]
    return rest[: len(rest) - len(rest.lstrip(rest[0]))], first


def _worded(text: str) -> str:
    """Return a fence's text without the language word on its first line."""
    word, newline, rest = text.partition("\n")
    return rest if newline and not any(map(str.isspace, word)) else text


@attrs.frozen
class Block:
    """The lines in one fence, each with its line break; not ``closed`` if the text ends before the fence closes."""

    language: str
    body: str
    closed: bool = True


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a text in their order, for fences of any length, of backticks or tildes.

    A fence inside a string of a Python block does not end the block.
    """
    lines, found, at, trusting = _unified(text).split("\n"), list[Block](), 0, True
    while at < len(lines):
        marker = opens(lines[at])
        if not marker:
            at += 1
            continue
        indent = len(lines[at]) - len(lines[at].lstrip())
        info = lines[at].strip().lstrip(marker[0]).split()
        language = info[0].lower() if info else ""
        end = _end(lines, at + 1, marker, python=trusting and language in PYTHON)
        if end is None and trusting:
            # A quotation mark was not closed: ignore quotes from here to the end of the text. Trying quotes
            # again at each fence could cost one pass over the rest per fence.
            trusting = False
            end = _end(lines, at + 1, marker, python=False)
        body = [_dedented(line, indent) for line in lines[at + 1 : end]]
        found.append(Block(language, "".join(f"{line}\n" for line in body), end is not None))
        at = len(lines) if end is None else end + 1
    return found


def _end(lines: list[str], start: int, marker: str, *, python: bool) -> int | None:
    """Return the index of the line that closes a fence; in ``python``, lines inside a multi-line string do not."""
    quote = ""
    for number in range(start, len(lines)):
        line = lines[number]
        if not quote and closes(line, marker):
            return number
        if python:
            quote = _quoted(line, quote)
    return None


def _quoted(line: str, quote: str) -> str:
    """Return the triple quotation marks that are open after a line of Python, if ``quote`` was open before it."""
    short = ""
    for token in _PYTHON.finditer(line):
        mark = token[0]
        if quote:
            quote = "" if mark == quote else quote
        elif short:
            short = "" if mark[0] == short else short
        elif mark == "#":
            break
        elif len(mark) == 3:
            quote = mark
        elif mark in ("'", '"'):
            short = mark
    return quote


def _dedented(line: str, indent: int) -> str:
    """Return a line without its first ``indent`` blanks, or without all of them if it has fewer."""
    return line[min(indent, len(line) - len(line.lstrip(" \t"))) :]


def _unified(text: str) -> str:
    """Return a text whose lines end with LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ---- edits -----------------------------------------------------------------------------------------------


@attrs.frozen
class Edit:
    """One SEARCH/REPLACE block: the lines between its markers, and the indices of the possible dividers."""

    lines: tuple[str, ...]
    dividers: tuple[int, ...]

    def parts(self) -> list[tuple[list[str], list[str]]]:
        """Return each way to read it as (SEARCH, REPLACE), the longest SEARCH first."""
        return [(list(self.lines[:at]), list(self.lines[at + 1 :])) for at in reversed(self.dividers)]


def edits(text: str) -> list[Edit]:
    """Return the SEARCH/REPLACE blocks of an answer in their order::

        <<<<<<< SEARCH
        the current lines
        =======
        the new lines
        >>>>>>> REPLACE

    Raises `UnusableReply` for a block that lacks one of its three marks, because a guess could garble a program.
    """
    found, inside, opened = list[Edit](), list[str](), 0
    for line in _unified(text).split("\n"):
        mark, count = _mark(line)
        if mark == "SEARCH" and opened:
            raise UnusableReply(f"edit {len(found) + 1} has no line >>>>>>> REPLACE before the next <<<<<<< SEARCH")
        if mark == "REPLACE" and not opened:
            raise UnusableReply(f"after edit {len(found)} there is a line >>>>>>> REPLACE without its <<<<<<< SEARCH")
        if mark == "SEARCH":
            inside, opened = [], count
        elif mark == "REPLACE":
            found.append(_edit(inside, opened, len(found) + 1))
            opened = 0
        elif opened:
            inside.append(line)
    if opened:
        raise UnusableReply(f"edit {len(found) + 1} has no line >>>>>>> REPLACE")
    return found


def _edit(lines: list[str], width: int, number: int) -> Edit:
    """Return an edit whose marks have ``width`` characters.

    A line of ``width`` ``=`` characters divides it; if there is none, a line of 5 to 9.
    """
    marks = [(at, count) for at, line in enumerate(lines) for mark, count in [_mark(line)] if mark == "="]
    dividers = [at for at, count in marks if count == width] or [at for at, _ in marks]
    if not dividers:
        raise UnusableReply(f"edit {number} has no line ======= between SEARCH and REPLACE")
    return Edit(tuple(lines), tuple(dividers))


def _mark(line: str) -> tuple[str, int]:
    """Return which of an edit's marks a line is, and the number of its mark characters; ("", 0) if none."""
    for character, word in (("<", "SEARCH"), ("=", ""), (">", "REPLACE")):
        if line.startswith(character * 5):
            rest = line.lstrip(character)
            count = len(line) - len(rest)
            return (word or "=", count) if count <= 9 and rest.strip() == word else ("", 0)
    return "", 0
