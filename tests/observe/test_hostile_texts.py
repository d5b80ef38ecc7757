"""Texts of graphs that are markup in Mermaid, Markdown, HTML or matplotlib's formulas."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import attrs
import pytest

from flashgraph.observe.description import Description, Link, Node, describe
from flashgraph.observe.figure import figure
from flashgraph.observe.svg import svg
from flashgraph.observe.tables import dot, html, markdown, mermaid

from .graphs import playbook

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "```\n<b>out of the fence</b>\n```mermaid",
    "`code`",
    '"]; click n_a "javascript:alert(1)"',
    "%%{init: {'securityLevel': 'loose'}}%%",
    "[a link](javascript:alert(1))",
    "# | a | *b* | _c_ | ~d~ | \\",
    "&lt;script&gt; #lt;",
    r"costs $\frac$ and $x",
    "$a_b^c$ $\\notamacro$",
    "\x1b]0;title\x07 \x9b2J \u202egnp",
    "half \ud83d of one",
]


def described(text: str) -> Description:
    """Return a graph with ``text`` wherever a graph can hold text."""
    nodes = (
        Node("pool", "pool", None, text, text, ()),
        Node("source", "source", None, "", text, (text,)),
        Node(text, "stage", "task", text, text, (text,)),
    )
    links = (Link("source", text, text, (text,), (), None), Link(text, "pool", text, (text,), (), None))
    return Description(text, text, (f"p={text!r}",), nodes, links, (("pool", "source"),), 64)


def outside_of_code(page: str) -> str:
    """Return the lines of a page outside fences, without their code spans."""
    plain = re.sub(r"^```mermaid\n.*?^```$", "", page, flags=re.M | re.S)
    return re.sub(r"(?<![\\`])(`+)(?!`).+?(?<!`)\1(?!`)", "", plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_mermaid_has_texts_and_no_markup_of_theirs(text: str) -> None:
    """Each Mermaid line is one statement, and quoted texts hold no markup."""
    said = mermaid(described(text))
    assert {sign for sign in said if not sign.isprintable()} <= {"\n"}
    for line in said.splitlines()[1:]:
        assert line.startswith("    ")
        for label in re.findall(r'"([^"]*)"', line):
            assert not re.search("[`%]|<(?!br/>)", label)
        assert line.count('"') in (0, 2)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_one_fence_and_no_tag(text: str) -> None:
    """Markdown shows the text unchanged, with one fence and no tag."""
    page = markdown(described(text))
    assert [line for line in page.splitlines() if line.startswith("```")] == ["```mermaid", "```"]
    plain = outside_of_code(page)
    assert not re.search(r"<|(?<!\\)[`*]|(?<!\\)\]\(", plain)
    for line in plain.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 7)
    page.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_graphviz_has_one_statement_a_line(text: str) -> None:
    """Each line of DOT is one statement whose texts are quoted."""
    for line in dot(described(text)).splitlines()[2:-1]:
        plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
        assert re.fullmatch(r"  (?: -> )?[ \w=,\[\]>-]*;", plain), line


def test_names_that_differ_in_signs_are_two_nodes() -> None:
    """In Mermaid ``a.b``, ``a_b`` and ``a__b`` have different identifiers."""
    nodes = tuple(Node(name, "stage", None, "T", "T", ()) for name in ("a.b", "a_b", "a__b", "a-b", "a b", "a_2e_b"))
    said = mermaid(Description("g", "", (), nodes, (), (), 64))
    ids = [line.split("[")[0].strip() for line in said.splitlines() if "[" in line]
    assert len(set(ids)) == len(nodes)


class Tags(HTMLParser):
    """A parser that collects the tags of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs)]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_picture_and_its_page(text: str) -> None:
    """A picture holds no formula and is valid XML."""
    found = described(text)
    ElementTree.fromstring(svg(found))
    page = html(found)
    assert not {"script", "img", "b", "onerror"}.intersection(Tags(page).found)
    page.encode()


@pytest.mark.parametrize("doc", [r"Costs $\frac$ of the rest.", "Costs $5 to $10.", "$x_$", r"\$ $ \$\frac{1}$"])
def test_dollars_in_a_docstring_are_dollars(doc: str) -> None:
    """A docstring with dollar signs is drawn as text."""
    found = attrs.evolve(describe(playbook()), doc=doc)
    assert figure(found).startswith(b"\x89PNG")
    assert doc in [text.text for text in ElementTree.fromstring(svg(found)).iter("{http://www.w3.org/2000/svg}text")]
