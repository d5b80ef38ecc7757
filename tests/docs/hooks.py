"""MkDocs calls these while it builds the site: they add the generated pages."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

from tests.docs.generated import pages


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, as if they were files below docs/."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
