"""A bullet, its line, and the text of a playbook: ``## SECTION`` headers above lines of bullets.

For example::

    ## STRATEGIES & INSIGHTS
    [si-00001] helpful=3 harmful=0 :: Check the unit before you compare amounts.
    [si-00004] helpful=0 harmful=1 :: The first line of a longer text,
      whose other lines are indented by two spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import attrs

from flashgraph.errors import DataError

__all__ = [
    "COUNT_LIMIT",
    "ID",
    "OTHERS",
    "Bullet",
    "bare_id",
    "clean",
    "clean_section",
    "digest",
    "number_of",
    "parse_bullets",
    "render",
    "same_section",
    "slug",
]

COUNT_LIMIT = 999_999
"""Counters stop here: six digits are enough, and a bound makes a playbook's size independent of its counters."""

OTHERS = "OTHERS"
"""The section of a bullet that names none."""

INDENT = "  "

_HEADER = re.compile(r"##[ \t]+(\S.*)")
_LINE = re.compile(r"\[([^\[\]]*)\](.*)")
ID = r"[^\s\[\],;]*[^\s\[\],;-]-[0-9]{1,15}"
"""The pattern of an id; starting texts may use other slugs than `slug` makes."""

_COUNTS = re.compile(r"[ \t]+helpful=(\S+)[ \t]+harmful=(\S+)[ \t]+::(?:[ \t](.*))?")
_COUNT = re.compile(r"[0-9]{1,6}")


@attrs.frozen
class Bullet:
    """One entry of a playbook; ``id`` is its section's slug and the number of its admission (``si-00001``)."""

    id: str
    section: str
    text: str
    helpful: int = 0
    harmful: int = 0

    @property
    def line(self) -> str:
        """Return the bullet's line in a playbook; further lines of its text are indented."""
        first, *more = self.text.split("\n")
        head = f"[{self.id}] helpful={self.helpful} harmful={self.harmful} :: {first}"
        return "\n".join([head, *(INDENT + line if line else "" for line in more)])

    @property
    def digest(self) -> str:
        """The digest that an operation on this bullet carries, to tell later whether the text has changed."""
        return digest(self.text)

    @property
    def worth(self) -> int:
        """How much more often it helped than it harmed."""
        return self.helpful - self.harmful

    def counted(self, helpful: int, harmful: int) -> Bullet:
        """Return the bullet with its counters raised."""
        return attrs.evolve(
            self,
            helpful=min(self.helpful + helpful, COUNT_LIMIT),
            harmful=min(self.harmful + harmful, COUNT_LIMIT),
        )


def digest(text: str) -> str:
    """Return sixteen hexadecimal digits that identify a bullet's text, without its counters."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def clean(text: str) -> str:
    """Return a text as a bullet holds it: stripped lines, no blank line at either end, valid Unicode.

    A model may write half of a surrogate pair as an escape, which no file can hold.
    """
    valid = text.encode("utf-8", "replace").decode()
    lines = valid.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip()


def clean_section(section: str) -> str:
    """Return a section's name as its header shows it: one line, capitals, spaces for underscores."""
    return " ".join(clean(section).replace("_", " ").lstrip("# ").upper().split()) or OTHERS


def same_section(section: str) -> str:
    """Return a key that is equal for names of one section: ``Tips & Tricks`` and ``tips_and_tricks``."""
    words = re.findall(r"\w+", section.replace("_", " ").replace("&", " and ").casefold())
    return " ".join(words) or section.casefold().strip()


def slug(section: str) -> str:
    """Return the first part of an id: four letters of a single word, or the initials of several (as in ACE's code)."""
    words = re.findall(r"[a-z0-9]+", section.lower().replace("&", " "))
    if not words:
        return "misc"
    return words[0][:4] if len(words) == 1 else "".join(word[0] for word in words[:5])


def number_of(bullet_id: str) -> int:
    """Return the number in an id."""
    return int(bullet_id.rpartition("-")[2])


def bare_id(cited: str) -> str:
    """Return an id without the brackets and spaces that models add."""
    return cited.strip().strip("[]").strip()


def render(bullets: Iterable[Bullet], sections: Sequence[str]) -> str:
    """Return the text of a playbook: ``sections`` in their order, also those without a bullet."""
    lines: dict[str, list[str]] = {section: [f"## {section}"] for section in sections}
    for bullet in bullets:
        lines[bullet.section].append(bullet.line)
    return "\n\n".join("\n".join(block) for block in lines.values())


def parse_bullets(text: str, name: str = "playbook") -> tuple[tuple[Bullet, ...], tuple[str, ...]]:
    """Return the bullets of a playbook's text, in its order, and its sections.

    ``name`` is the file, for messages. Raises `DataError` with the file and the line of the first mistake.
    """
    bullets: list[Bullet] = []
    places: dict[str, int] = {}
    sections: dict[str, str] = {}
    section: str | None = None
    inside = False
    blank = 0
    for at, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        place = f"{name}:{at}"
        if not line.strip():
            blank += 1
            continue
        if line.startswith(INDENT):
            if not inside:
                raise _wrong(place, "line", line, "a bullet above an indented line", "remove the leading spaces")
            bullets[-1] = attrs.evolve(
                bullets[-1], text=bullets[-1].text + "\n" * (blank + 1) + clean_line(line.removeprefix(INDENT))
            )
        elif header := _HEADER.fullmatch(line):
            section = sections.setdefault(same_section(header[1]), clean(header[1]))
            inside = False
        else:
            bullet = _bullet(line, place, section)
            if bullet.id in places:
                expected = f"an id that is not on line {places[bullet.id]} too"
                raise _wrong(place, "id", bullet.id, expected, "give it another number")
            places[bullet.id] = at
            bullets.append(bullet)
            inside = True
        blank = 0
    return tuple(bullets), tuple(sections.values())


def clean_line(line: str) -> str:
    """Return one line of a text, stripped at its end only."""
    return line.encode("utf-8", "replace").decode().rstrip()


def _bullet(line: str, place: str, section: str | None) -> Bullet:
    found = _LINE.fullmatch(line)
    if found is None:
        shape = "## SECTION, or [slug-00001] helpful=0 harmful=0 :: text"
        fix = "indent the further lines of a bullet by two spaces" if section else f"begin with a header: ## {OTHERS}"
        raise _wrong(place, "line", line, shape, fix)
    if not re.fullmatch(ID, found[1]):
        raise _wrong(place, "id", found[1], "a slug, a hyphen and a number", "e.g. [si-00001]")
    counts = _COUNTS.fullmatch(found[2])
    if counts is None:
        shape = "helpful=N harmful=N :: text"
        raise _wrong(place, "counters", found[2].strip(), shape, f"e.g. [{found[1]}] helpful=0 harmful=0 :: text")
    for field, value in (("helpful", counts[1]), ("harmful", counts[2])):
        if not _COUNT.fullmatch(value):
            raise _wrong(place, field, value, f"a whole number from 0 to {COUNT_LIMIT}", f"e.g. {field}=0")
    if not clean(counts[3] or ""):
        raise _wrong(place, "text", "", "a text after ::", "write the text, or delete the line")
    if section is None:
        raise _wrong(place, "section", line, "a header above it", f"write ## {OTHERS} above")
    return Bullet(found[1], section, clean(counts[3]), int(counts[1]), int(counts[2]))


def _wrong(place: str, field: str, found: str, expected: str, fix: str) -> DataError:
    shown = found if len(found) <= 80 else found[:77] + "..."
    return DataError(f"{place}: {field}: found {shown!r}, expected {expected}.\nFix: {fix}.")
