"""The files whose prose is checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["ROOT", "files"]

ROOT = Path(__file__).parents[2]
TOPS = (
    "docs",
    "flashgraph",
    "algorithms",
    "examples",
    "tests",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "pytest_flashgraph.py",
)


def files(paths: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the Markdown and Python files at or below `paths`, or all of the project's, by name from its root."""
    chosen = [path.resolve() for path in paths] or [ROOT / name for name in TOPS]
    found = {path for top in chosen for path in ([top] if top.is_file() else top.rglob("*"))}
    resolved = sorted({path.resolve() for path in found})  # the package has the algorithms by links
    fitting = [path for path in resolved if path.suffix in (".md", ".py") and path.is_file()]
    return {path.relative_to(ROOT).as_posix(): path for path in fitting}
