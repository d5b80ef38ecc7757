"""The pages are short, linked, and all in the site; the generated ones leave nothing out."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

import flashgraph as fg
from flashgraph.cli import COMMANDS
from flashgraph.graph.dsl import EDGE_OPTIONS, SOURCE_OPTIONS, STAGE_OPTIONS
from flashgraph.graph.loading import load_graph
from flashgraph.llm import resolve
from tests.docs.generated import API, pages
from tests.docs.pages import PAGES, ROOT, blocks
from tests.docs.pictures import drawings
from tests.graph.kit import MISTAKES
from tests.test_surface import PUBLIC

LONGEST = 250
GENERATED = pages()


def listed(nav: Any) -> list[str]:
    """The paths in a part of the site's navigation."""
    if isinstance(nav, str):
        return [nav]
    return [path for part in (nav.values() if isinstance(nav, dict) else nav) for path in listed(part)]


def anchors(path: str) -> set[str]:
    """The anchors of a page's headings, as both GitHub and MkDocs make them."""
    text = GENERATED.get(path) or (ROOT / "docs" / path).read_text(encoding="utf-8")
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in re.findall(r"^#+ (.*)$", plain, re.M)]
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_site_has_every_page() -> None:
    """The navigation lists each written and generated page once."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    written = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert sorted(listed(site["nav"])) == sorted([*written, *GENERATED])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a page or file that exists or is generated, and a heading in it."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        name = file.relative_to(ROOT / "docs").as_posix() if file.is_relative_to(ROOT / "docs") else ""
        assert name in GENERATED or file.exists(), target
        assert not fragment or fragment in anchors(name), target
        assert page.name == "README.md" or name, f"{target} is not below docs/, where the site can show it"


def test_pages_named_elsewhere_exist() -> None:
    """Messages, docstrings and other files name pages by their path from the root of the project."""
    for folder in ("flashgraph", "algorithms", "examples", "tests", "."):
        for file in (ROOT / folder).glob("*.*" if folder == "." else "**/*.py"):
            if file.suffix in (".py", ".md", ".toml") or file.name == "Makefile":
                for name in re.findall(r"docs/[\w/-]+\.(?:md|svg)", file.read_text(encoding="utf-8")):
                    known = name.removeprefix("docs/") in GENERATED or (ROOT / name).exists()
                    assert known or name == "docs/algorithms/NAME.svg", f"{file}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_names_its_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"{block}: write ```python, ```sh, ```console or ```text"


@pytest.mark.parametrize("name", ["ace", "gepa", "islands", "meta_harness"])
def test_pages_of_algorithms_name_every_parameter(name: str) -> None:
    text = (ROOT / "docs" / "algorithms" / f"{name.replace('_', '-')}.md").read_text(encoding="utf-8")
    assert [parameter for parameter in load_graph(name).spec.params if f"`{parameter}`" not in text] == []


def test_readme_has_a_line_for_each_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Install")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.M) == sorted(extras)


def test_pages_name_every_option_of_models_and_every_limit() -> None:
    models = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    budgets = (ROOT / "docs" / "explanation" / "budgets.md").read_text(encoding="utf-8")
    options = {*resolve.SAMPLING, *resolve.ENGINE, *resolve.RATES, *resolve.COMMON, *resolve.EXPECTED}
    assert sorted(option for option in options if f"`{option}`" not in models) == []
    assert [field.name for field in attrs.fields(fg.Budget) if f"`{field.name}`" not in budgets] == []


def test_the_generated_pages_have_every_public_name() -> None:
    assert {module for page in API.values() for module in page.names} >= set(PUBLIC)
    names = {f"{module}.{name}" for page in API.values() for module, names in page.names.items() for name in names}
    assert {f"flashgraph.{name}" for name in fg.__all__} - {"flashgraph.data"} <= names
    for page in API.values():
        for module, wanted in page.names.items():
            assert set(wanted) <= {*importlib.import_module(module).__all__, *fg.__all__}


def test_the_generated_pages_have_every_command_and_message() -> None:
    for command in COMMANDS:
        assert f"## `flashgraph {command}`" in GENERATED["reference/command-line.md"]
    codes = {code for mistake in MISTAKES for code in re.findall(r"\[([a-z-]+)\]\n    found:", mistake.expected)}
    assert codes == set(re.findall(r"^\| \[`([a-z-]+)`\]", GENERATED["reference/messages.md"], re.M))


@pytest.mark.parametrize(
    ("method", "options"),
    [("source", SOURCE_OPTIONS), ("stage", STAGE_OPTIONS), ("edge", EDGE_OPTIONS)],
)
def test_docstrings_explain_every_option(method: str, options: set[str]) -> None:
    """The reference shows them, and so does `help(fg.Graph.edge)`."""
    described = re.findall(r"^            (\w+): ", getattr(fg.Graph, method).__doc__, re.M)
    assert set(described) == set(options)
    assert len(described) == len(options)


@pytest.mark.parametrize("path", drawings(), ids=lambda path: path.stem)
def test_drawings_have_every_node(path: Path) -> None:
    """The drawing in docs/ has the graph's nodes.  Fix: python -m tests.docs.pictures."""
    nodes = re.compile("<desc[^>]*>(.*?)</desc>")
    assert nodes.findall(path.read_text(encoding="utf-8")) == nodes.findall(drawings()[path])
