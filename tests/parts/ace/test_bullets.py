"""The text of a playbook: lines, sections, ids, and every possible mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.errors import DataError
from flashgraph.parts.ace import Bullet, Playbook, PlaybookStart, digest, read_playbook
from flashgraph.parts.ace.bullets import clean, clean_section, same_section, slug
from tests.parts.ace.kit import TEXT


def test_the_text_has_the_papers_form() -> None:
    """The text has headers, and under them one line for each bullet; further lines are indented."""
    playbook = Playbook.parse(TEXT)
    assert playbook.sections == ("RULES", "CODES")
    assert playbook.numbered == 4
    refunds = "Refunds go to queue alpha,\nexcept those over 500, which go to beta."
    assert playbook.by_id["code-00004"] == Bullet("code-00004", "CODES", refunds, 1, 1)
    assert playbook.text == TEXT


def test_reading_is_tolerant_of_layout() -> None:
    """Blank lines, other line ends, repeated sections and other slugs are read."""
    text = (
        "\r\n## Tips & Tricks  \r\n\r\n[t-7]  helpful=1  harmful=0  ::  one \r\n\r\n    two\r\n## RULES\r\n"
        "## tips_and_tricks\r\n[Ä.x-9] helpful=0 harmful=0 :: three"
    )
    playbook = Playbook.parse(text)
    assert playbook.text == (
        "## Tips & Tricks\n[t-7] helpful=1 harmful=0 :: one\n\n    two\n"
        "[Ä.x-9] helpful=0 harmful=0 :: three\n\n## RULES"
    )
    assert playbook.numbered == 9


LINE = "expected ## SECTION, or [slug-00001] helpful=0 harmful=0 :: text.\nFix: "
BULLET = "[a-1] helpful=0 harmful=0 :: text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Be kind.", f"p.txt:1: line: found 'Be kind.', {LINE}begin with a header: ## OTHERS."),
        (
            f"## A\n{BULLET}\nand {'more ' * 30}",
            f"p.txt:3: line: found 'and {'more ' * 14}mor...', {LINE}"
            "indent the further lines of a bullet by two spaces.",
        ),
        (
            "## A\n  text",
            "p.txt:2: line: found '  text', expected a bullet above an indented line.\nFix: remove the leading spaces.",
        ),
        (
            f"## A\n{BULLET}\n\n## B\n{BULLET}",
            "p.txt:5: id: found 'a-1', expected an id that is not on line 2 too.\nFix: give it another number.",
        ),
        (
            "## A\n[first] helpful=0 harmful=0 :: text",
            "p.txt:2: id: found 'first', expected a slug, a hyphen and a number.\nFix: e.g. [si-00001].",
        ),
        (
            "## A\n[a-1] helpful=0 :: text",
            "p.txt:2: counters: found 'helpful=0 :: text', expected helpful=N harmful=N :: text.\n"
            "Fix: e.g. [a-1] helpful=0 harmful=0 :: text.",
        ),
        (
            "## A\n[a-1] helpful=x harmful=0 :: text",
            "p.txt:2: helpful: found 'x', expected a whole number from 0 to 999999.\nFix: e.g. helpful=0.",
        ),
        (
            "## A\n[a-1] helpful=0 harmful=-1 :: text",
            "p.txt:2: harmful: found '-1', expected a whole number from 0 to 999999.\nFix: e.g. harmful=0.",
        ),
        (
            "## A\n[a-1] helpful=0 harmful=0 :: ",
            "p.txt:2: text: found '', expected a text after ::.\nFix: write the text, or delete the line.",
        ),
        (BULLET, f"p.txt:1: section: found '{BULLET}', expected a header above it.\nFix: write ## OTHERS above."),
    ],
)
def test_a_mistake_is_reported_with_its_line(text: str, message: str) -> None:
    """Every mistake is reported with its line, from a file and from a start."""
    with pytest.raises(DataError) as raised:
        Playbook.parse(text, "p.txt")
    assert str(raised.value) == message
    with pytest.raises(DataError) as raised:
        PlaybookStart(text, name="p.txt")
    assert str(raised.value) == message


def test_a_start_has_sound_settings() -> None:
    with pytest.raises(DataError) as raised:
        PlaybookStart("", budget_tokens=0)
    assert str(raised.value) == (
        "playbook: budget_tokens: found 0, expected a whole number from 1.\nFix: e.g. budget_tokens=80_000."
    )
    with pytest.raises(DataError) as raised:
        PlaybookStart("", duplicate_at=1.5)
    assert str(raised.value) == (
        "playbook: duplicate_at: found 1.5, expected a number over 0 and up to 1.\n"
        "Fix: e.g. duplicate_at=0.9, or duplicate_at=1 to refuse equal texts alone."
    )


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "playbook.txt"
    path.write_text(TEXT, encoding="utf-8")
    assert read_playbook(path) == Playbook.parse(TEXT)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The error names a file that is missing, not a text, or has a mistake on a line."""
    path = tmp_path / "playbook.txt"
    with pytest.raises(DataError) as raised:
        read_playbook(path)
    assert str(raised.value) == (
        f"{path}: the playbook cannot be read: No such file or directory.\nFix: give the path of a text file."
    )
    path.write_bytes(b"## A\n\xff")
    with pytest.raises(DataError) as raised:
        read_playbook(path)
    assert str(raised.value) == (
        f"{path}: found a byte that is not UTF-8 at 5, expected a text file.\nFix: save it as UTF-8."
    )
    path.write_text("## A\nhello")
    with pytest.raises(DataError, match=r"playbook\.txt:2: line: found 'hello'"):
        read_playbook(path)


@pytest.mark.parametrize(
    ("section", "name", "short"),
    [
        ("strategies_and_insights", "STRATEGIES AND INSIGHTS", "sai"),
        ("Strategies & Insights", "STRATEGIES & INSIGHTS", "si"),
        ("## rules", "RULES", "rule"),
        ("Überblick", "ÜBERBLICK", "berb"),
        ("規則", "規則", "misc"),
        (" \n ", "OTHERS", "othe"),
    ],
)
def test_sections_and_slugs(section: str, name: str, short: str) -> None:
    """A section gives a header of one line, and a slug of plain letters."""
    assert clean_section(section) == name
    assert slug(name) == short


def test_sections_that_mean_the_same() -> None:
    assert same_section("strategies_and_insights") == same_section("STRATEGIES & INSIGHTS")
    assert same_section("Rules") != same_section("Codes")


def test_a_digest_is_of_the_text_alone() -> None:
    """Counters may rise without changing a bullet's digest."""
    assert Bullet("a-1", "A", "text", 1, 2).digest == Bullet("b-2", "B", "text").digest == digest("text")
    assert digest("text") != digest("text.")


@given(st.text(st.characters()))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """Cleaning is idempotent, and its result can be written to a file."""
    assert clean(clean(text)) == clean(text)
    clean(text).encode()
