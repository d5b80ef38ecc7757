"""A real browser for tests of the page: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Opened", "browsing", "serving"]

CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).parents[2]


class Opened:
    """A page, and all that it complained about or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def go(self, view: str, run: str = "", **more: str) -> None:
        """Show a view of the page and wait until it is drawn."""
        query = "&".join(f"{name}={value}" for name, value in {"run": run, **more}.items() if value)
        self.page.evaluate("hash => { location.hash = hash; }", f"#/{view}?{query}")
        self.until("view => document.title.startsWith(view)", f"{view} ")
        self.page.wait_for_selector("main .panel")

    def until(self, script: str, given: Any = None) -> None:
        """Wait until a script gives true.  Playwright's own wait evaluates a text, which the page's policy forbids."""
        for _ in range(400):
            if self.page.evaluate(script, given):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it stays untrue: {script}, {given!r}")


@contextmanager
def browsing(**options: Any) -> Iterator[Opened]:
    """Yield an empty page; skip the test without Playwright or chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            context.set_default_timeout(120_000)  # ms: other tests share the cores
            yield Opened(context.new_page())
        finally:
            browser.close()


@contextmanager
def serving(target: Path) -> Iterator[str]:
    """Yield the address that ``flashgraph view`` prints, while it runs."""
    command = [sys.executable, "-m", "flashgraph", "view", str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("view: "), said
        yield said.removeprefix("view: ").strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
