"""The linter of prose finds what the house style bans, at its line, and leaves code alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose.allowed import Allowances
from tests.prose.files import ROOT
from tests.prose.style import findings, library_checks

LONG = " ".join(["word"] * 26).capitalize() + "."


def found(tmp_path: Path, name: str, text: str) -> list[str]:
    """The findings of a file, as `line: text`."""
    path = tmp_path / name
    path.write_text(text)
    return [f"{finding.line}: {finding.text}" for finding in findings(path, name)]


@pytest.mark.parametrize(
    "text",
    [
        "It waits until\nall is heard.",
        "| a |\n| --- |\n| is heard |",
        "- it is\n  heard",
        "# Heard",
        "It has [once\nheard](heard.md) `so`.",
    ],
)
def test_a_banned_phrase_of_a_page(text: str, tmp_path: Path) -> None:
    (only,) = found(tmp_path, "page.md", f"First.\n\n{text}\n")
    line = 3 + text.lower().split("](")[0].count("\n", 0, text.lower().index("heard"))
    assert only.lower() == f"{line}: 'heard': say received, processed"


@pytest.mark.parametrize(
    "text", ["```sh\nheard\n```", "`heard`", "[x](heard.md)", "    heard", "https://heard.example/"]
)
def test_code_and_links_of_a_page_are_left_alone(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, "page.md", f"First.\n\n{text}\n") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""First.\n\nIs heard.\n"""\n', 3),
        ("a = 1\n# It is\n# heard.\n", 3),
        ('a = 1\n"""It is heard."""\n', 2),
        ('def f():\n    raise ValueError(f"{1}: is" " heard")\n', 2),
        ('note(f"{f(1)} is heard")\n', 1),
        ('f(1, help="Is heard.")\n', 1),
        ("a = 1  # is heard\n", 1),
    ],
)
def test_a_banned_phrase_of_a_module(text: str, line: int, tmp_path: Path) -> None:
    assert found(tmp_path, "module.py", text) == [f"{line}: 'heard': say received, processed"]


@pytest.mark.parametrize(
    "text",
    [
        'a = "heard"\n',
        '"""See `heard` and ``is\nheard``."""\n',
        '"""First::\n\n    heard\n"""\n',
        '"""First.\n\n>>> heard\n"""\n',
        '"""First.\n\n\\b\nheard\n"""\n',
        'raise ValueError(f"{heard} and {f({heard: 1})}")\n',
        'f(a["heard"], help="")\n',
    ],
)
def test_code_of_a_module_is_left_alone(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, "module.py", text) == []


def test_prompts_are_left_alone(tmp_path: Path) -> None:
    """The authors of an algorithm wrote them; what it raises is ours."""
    path = tmp_path / "a.py"
    path.write_text('lines.append("is heard")\n')
    assert [len(findings(path, name)) for name in ("flashgraph/run/a.py", "flashgraph/parts/a.py")] == [1, 0]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        (LONG, ["3: 26 words in a sentence: at most 25"]),
        (LONG.replace("word.", "word `and code`."), ["3: 26 words in a sentence: at most 25"]),
        (LONG.replace("word.", "`and some code`."), []),
        (f"# {LONG}", []),
        (f"| {LONG} |\n| --- |\n", []),
        (LONG.replace("word word", "word e.g. word", 1), ["3: 27 words in a sentence: at most 25"]),
        (LONG.replace("word word", "word. Word", 1), []),
        (LONG.replace("word word", "Ctrl-C. Word", 1), []),
        (LONG.replace("word word", "(https://a.b/). Word", 1), []),
        ("- " + LONG.replace(" word word", " word\n- word", 1), []),
        ("Who waits loses.", ["3: sentence begins with 'Who': say a noun: The one who ..., Whoever ..."]),
        ("Who waits?", []),
        ("It ends. What waits is lost.", ["3: sentence begins with 'What': say a noun: The ..."]),
    ],
)
def test_sentences(text: str, findings: list[str], tmp_path: Path) -> None:
    """Words of code and cells do not count; an abbreviation ends no sentence, an item of a list does."""
    assert found(tmp_path, "page.md", f"First.\n\n{text}\n") == findings


def test_arguments_of_a_docstring_are_items(tmp_path: Path) -> None:
    """Each begins a sentence of its own."""
    text = f'"""First.\n\n    Args:\n        a: {LONG[:-11].lower()}\n        b: {LONG[:-11].lower()}\n    """\n'
    assert found(tmp_path, "module.py", text) == []


@pytest.mark.skipif(not library_checks(), reason="proselint is not installed")
def test_the_library_reads_every_passage(tmp_path: Path) -> None:
    text = '"""First."""\n\n# Second,\n# on the spot.\n'
    assert found(tmp_path, "module.py", text) == ["4: 'on the spot' is a cliché [cliches.misc.write_good]"]


def test_allowances_only_fall() -> None:
    """More findings than allowed fail, and so do fewer until the allowance is lowered."""
    allowed = Allowances({"a.md": 2, "b.md": 1, "gone.md": 3})
    assert allowed.problems({"a.md": 2, "b.md": 1, "c.md": 0}, whole=False) == []
    more = "a.md: 3 findings, 2 allowed.\nFix: resolve those above"
    fewer = "b.md: 0 findings, 1 allowed.\nFix: python -m tests.prose --update b.md"
    new = "c.md: 1 findings, 0 allowed.\nFix: resolve those above"
    assert allowed.problems({"a.md": 3, "b.md": 0, "c.md": 1}, whole=False) == [more, fewer, new]
    assert allowed.lowered({"a.md": 3, "b.md": 0, "c.md": 1}, whole=False).counts == {"a.md": 2, "gone.md": 3}
    assert allowed.lowered({"a.md": 1, "b.md": 1}, whole=True).counts == {"a.md": 1, "b.md": 1}


def test_allowances_are_for_files_that_exist() -> None:
    counts = Allowances.load().counts
    assert all((ROOT / name).is_file() and count > 0 for name, count in counts.items())
    assert list(counts) == sorted(counts)
