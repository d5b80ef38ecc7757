"""The rules: banned phrases and long sentences by the house style, and proselint's checks."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from tests.prose.texts import BLANK, Passage, passages

__all__ = ["Finding", "findings", "house_style", "library_checks"]

STYLE = Path(__file__).parent / "style.toml"

END = re.compile(rf"[.!?][\"')\]*_]*\s+(?=[\"'(\[*_{BLANK}]*[A-Z{BLANK}\d])")
ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|Dr|Fig|Eq|No)|(?<![\w-])[A-Z]|\.\.)\.\s*$")
WORD = re.compile(r"[^\W_]")


@attrs.frozen
class Finding:
    """A place in a file that breaks a rule."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@cache
def house_style() -> dict[str, Any]:
    """Return the house style as `style.toml` has it."""
    return tomllib.loads(STYLE.read_text())


def findings(path: Path, name: str) -> list[Finding]:
    """Return what breaks a rule in a Markdown or Python file, in order of lines.

    `name` is the file's path from the root of the project.
    """
    messages = house_style()["messages"]
    calls = [] if name.startswith(tuple(messages["prompts"])) else messages["calls"]
    parts = list(passages(path, calls, messages["keywords"]))
    found = {(part.line_at(position), text) for part in parts for position, text in (*_phrases(part), *_lengths(part))}
    found.update(_library(parts))
    return [Finding(name, line, text) for line, text in sorted(found)]


@cache
def _rules(table: str) -> tuple[re.Pattern[str], list[str]]:
    """Return one pattern of all phrases, a group each, and what to say instead of each."""
    phrases: dict[str, str] = house_style()[table]
    pattern = "|".join(f"({phrase})" for phrase in phrases)
    return re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), re.IGNORECASE), list(phrases.values())


def _phrases(passage: Passage) -> Iterator[tuple[int, str]]:
    pattern, instead = _rules("phrases")
    for found in pattern.finditer(passage.text):
        yield found.start(), f"'{_flat(found[0])}': say {instead[(found.lastindex or 1) - 1]}"


def _lengths(passage: Passage) -> Iterator[tuple[int, str]]:
    """Yield the sentences that are too long or begin with a banned word."""
    most = house_style()["words_per_sentence"]
    pattern, instead = _rules("starts")
    for start, sentence in _sentences(passage.text):
        count = sum(WORD.search(word) is not None for word in sentence.split())
        if passage.whole and count > most:
            yield start, f"{count} words in a sentence: at most {most}"
        begins = pattern.match(sentence)
        if passage.whole and begins and not sentence.rstrip().endswith("?"):
            yield start, f"sentence begins with '{begins[0]}': say {instead[(begins.lastindex or 1) - 1]}"


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its position."""
    start = 0
    ends = [found.end() for found in END.finditer(text) if not ABBREVIATED.search(text[: found.end()])]
    for end in (*ends, len(text)):
        sentence = text[start:end]
        body = sentence.lstrip("\n -*\"'(")
        if body:
            yield start + len(sentence) - len(body), body
        start = end


@cache
def library_checks() -> Iterable[Any]:
    """Return proselint's checks that the house style does not turn off; none where it is not installed."""
    try:
        from proselint.checks import __register__
    except ImportError:
        return ()
    off = house_style()["proselint"]["off"]
    return [check for check in __register__ if not any(check.matches_partial(path) for path in off)]


def _library(parts: Sequence[Passage]) -> Iterator[tuple[int, str]]:
    """Yield lines and findings of proselint, which reads all passages as one text."""
    text = "\n".join(f"\n{part.text}\n" for part in parts)
    starts = [0, *accumulate(len(part.text) + 3 for part in parts)]
    for check in library_checks():
        for found in check.check_with_flags(text):
            index = bisect_right(starts, found.span[0]) - 1
            line = parts[index].line_at(max(found.span[0] - starts[index] - 1, 0))
            yield line, f"{found.message} [{found.check_path}]"


def _flat(text: str) -> str:
    return " ".join(text.split())
