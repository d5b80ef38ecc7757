"""Find the prose of a file: paragraphs of a page; docstrings, comments and messages of a module."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from markdown_it import MarkdownIt

__all__ = ["Passage", "passages"]

BLANK = "\0"
"""Stands for each character of code, so that positions stay as they are and no rule reads code."""

CODE = re.compile(r"``.+?``|`[^`]+`|https?://[^\s)]+", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
FIELD = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s|\s{4,}\w+: ")
DIRECTIVE = re.compile(r"#\s*(?:type:|noqa|pragma|mypy:|fmt:|-{4})|#!")


@attrs.frozen
class Passage:
    """A paragraph: its first line in the file (1-based), and its text with code blanked out."""

    line: int
    text: str
    whole: bool = True
    """Whether it consists of sentences, whose words count; headings and cells of tables do not."""

    def line_at(self, position: int) -> int:
        """Return the line of the file that holds a position of the text."""
        return self.line + self.text.count("\n", 0, position)


@attrs.frozen
class Messages:
    """Which string literals of a module are messages for a person."""

    calls: frozenset[str]
    keywords: frozenset[str]


def passages(path: Path, calls: Sequence[str], keywords: Sequence[str]) -> Iterator[Passage]:
    """Yield the paragraphs of a Markdown or Python file.

    A string literal is a message where it is raised, or is an argument of one of `calls` or for one of `keywords`.
    """
    text = path.read_text()
    if path.suffix == ".md":
        yield from _page(text)
    else:
        yield from _module(text, Messages(frozenset(calls), frozenset(keywords)))


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", BLANK, found[0])


def _page(text: str) -> Iterator[Passage]:
    line = 1
    block = ""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type.endswith("_open"):
            block = token.type
        if token.map is not None:
            line = token.map[0] + 1
        if token.type == "inline":
            content = CODE.sub(_blank, token.content)
            content = LINK.sub(lambda found: found[1], content)
            yield Passage(line, content, whole=block == "paragraph_open")


def _module(text: str, messages: Messages) -> Iterator[Passage]:
    comment: list[str] = []
    began = last = 0
    reader = _Strings(text, messages)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if DIRECTIVE.match(token.string):
                continue
            if comment and token.start[0] != last + 1:
                yield from _paragraphs(began, "\n".join(comment))
                comment = []
            if not comment:
                began = token.start[0]
            last = token.start[0]
            comment.append(token.string.lstrip("#: "))
        else:
            yield from reader.read(token)
    if comment:
        yield from _paragraphs(began, "\n".join(comment))


class _Strings:
    """Reads tokens, and yields the paragraphs of literals that are docstrings or messages."""

    def __init__(self, text: str, messages: Messages) -> None:
        self.lines = text.splitlines(keepends=True)
        self.messages = messages
        self.group: list[tuple[int, str]] = []
        self.statement: list[str] = []
        self.calls: list[str] = []
        self.keywords: list[str] = [""]
        self.previous = ""
        self.opened: list[tuple[int, int]] = []

    def read(self, token: tokenize.TokenInfo) -> Iterator[Passage]:
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            self.opened.append(token.start)
        elif kind == "FSTRING_END":
            start = self.opened.pop()
            if not self.opened:
                self.group.append((start[0], self._source(start, token.end)))
        elif self.opened or kind in ("NL", "INDENT", "DEDENT", "ENCODING"):
            pass
        elif kind == "STRING":
            self.group.append((token.start[0], token.string))
        else:
            yield from self._end_of_group(ends=kind in ("NEWLINE", "ENDMARKER"))
            self._step(kind, token.string)

    def _source(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        lines = self.lines[start[0] - 1 : end[0]]
        lines[-1] = lines[-1][: end[1]]
        lines[0] = lines[0][start[1] :]
        return "".join(lines)

    def _end_of_group(self, ends: bool) -> Iterator[Passage]:
        if not self.group:
            return
        docstring = ends and not self.statement
        message = (
            self.statement[:1] == ["raise"]
            or not self.messages.calls.isdisjoint(self.calls)
            or not self.messages.keywords.isdisjoint(self.keywords)
        )
        if docstring or message:
            (line, _), *_ = self.group
            yield from _paragraphs(line, "".join(_value(literal) for _, literal in self.group))
        self.group = []
        self.statement.append("literal")

    def _step(self, kind: str, text: str) -> None:
        if kind == "NEWLINE":
            self.statement = []
        else:
            self.statement.append(text)
        if kind == "OP" and text in "([{":
            self.calls.append(self.previous if text == "(" else "")
            self.keywords.append("")
        elif kind == "OP" and text in ")]}" and self.calls:
            self.calls.pop()
            self.keywords.pop()
        elif text == "=" and self.calls:
            self.keywords[-1] = self.previous
        elif text == ",":
            self.keywords[-1] = ""
        self.previous = text if kind == "NAME" else ""


def _value(literal: str) -> str:
    """Return the text of a literal; what an f-string inserts is blanked out."""
    prefix = literal[: literal.find(literal[-1])].lower()
    if "b" in prefix:
        return ""
    if "f" in prefix:
        quotes = 3 if literal.endswith(literal[-1] * 3) and len(literal) > 5 else 1
        body = literal[len(prefix) + quotes : -quotes]
        return FIELD.sub(_blank, body.replace("{{", "(").replace("}}", ")")).replace("\\n", "\n")
    value = ast.literal_eval(literal)
    assert isinstance(value, str)
    return value


def _paragraphs(line: int, text: str) -> Iterator[Passage]:
    """Split a docstring, comment or message at blank lines and items of lists, without its blocks of code."""
    block: list[str] = []
    began = line
    code: int | None = None
    printed = False
    lines = text.split("\n")
    for number, row in enumerate([*lines, ""]):
        indent = len(row) - len(row.lstrip())
        printed = row.strip() == "\b" or (printed and bool(row.strip()))  # click keeps the lines of the paragraph
        if printed or (code is not None and (not row.strip() or indent > code)):
            row = ""
        elif row.lstrip().startswith((">>>", "```", "|")):
            row, code = "", max(indent - 1, 0)
        else:
            code = None
        if block and (not row.strip() or ITEM.match(row) or "Fix: " in row):
            yield Passage(began, CODE.sub(_blank, "\n".join(block)))
            block = []
        if row.strip():
            if not block:
                began = line + number
            block.append(row)
            if row.rstrip().endswith("::"):
                code = indent
