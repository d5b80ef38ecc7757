"""The page in a real browser."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.run.journal.reading import StoredRun
from flashgraph.view.export import to_html
from tests.journal.small import WORLD, held, small_run
from tests.view.browser import Opened, browsing, serving
from tests.view.stored import stored_run

pytestmark = pytest.mark.browser

VIEWS = ("Run", "Pipeline", "Timeline", "Candidates", "Calls", "Losses", "Compare", "Runs")

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>{}" + "\u202e & </pre>" * 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs."""
    folder = tmp_path_factory.mktemp("view") / "runs"
    stored_run(folder / "one", seconds=120)
    stored_run(folder / "two", seed=1, seconds=60)
    return folder


def drawn(opened: Opened, address: str) -> Any:
    opened.page.goto(address)
    opened.until("window.flashgraph !== undefined")
    return opened.page


def test_every_view_without_an_error(runs: Path) -> None:
    """No console error, no request to another place, and nothing wider than the window, dark and narrow too."""
    with serving(runs) as address:
        for width, scheme in ((1280, "light"), (1280, "dark"), (320, "light")):
            with browsing(viewport={"width": width, "height": 900}, color_scheme=scheme) as opened:
                page = drawn(opened, address)
                for view in VIEWS:
                    opened.go(view, "one")
                    page.wait_for_timeout(100)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, view
                    if folder := os.environ.get("FLASHGRAPH_SCREENSHOTS"):  # those of docs/how-to are made so
                        page.wait_for_timeout(400)
                        look = {(1280, "light"): ""}.get((width, scheme), f"-{scheme}-{width}")
                        page.screenshot(path=str(Path(folder) / f"view-{view.lower()}{look}.png"))
                assert opened.errors == []
                assert {re.sub(r"(?<=\d)/.*", "", url) for url in opened.asked} == {address.partition("/?")[0]}


def test_the_slider_shows_the_fold_of_the_log(runs: Path) -> None:
    """At any time the page's state is that of the events until then, forwards and backwards."""
    with serving(runs) as address, browsing() as opened, StoredRun.open(runs / "one") as run:
        page = drawn(opened, address)
        opened.go("Run", "one")
        events = list(run.events())
        opened.until("n => window.flashgraph.page.log.rows.length === n", len(events))
        end = events[-1].at
        for part in (1.0, 0.31, 0.77, 0.0, 0.5):
            state = page.evaluate("t => window.flashgraph.at(t)", part * end)
            before = [event for event in events if event.at <= part * end]
            ended = [event for event in before if event.kind == "CallEnded"]
            assert state["calls"] == len(ended)
            assert state["tokens"] == sum(e.fields["prompt_tokens"] + e.fields["completion_tokens"] for e in ended)
            started = Counter(e.kind for e in before)
            assert state["out"] == started["CallStarted"] - started["CallEnded"]
            depth = {e.fields["edge"]: e.fields["depth"] for e in before if e.kind in ("Queued", "Dequeued")}
            assert {name: edge["depth"] for name, edge in state["edges"].items() if name in depth} == depth
            done = Counter(e.fields["stage"] for e in before if e.kind == "JobEnded" and e.fields["how"] == "done")
            assert {name: stage["done"] for name, stage in state["stages"].items() if stage["done"]} == done
        page.locator("#time").fill("500")
        opened.until("document.getElementById('live').getAttribute('aria-pressed') === 'false'")
        assert page.locator("#clock").inner_text().startswith("1:00 of ")


def test_the_page_and_the_account_count_the_same(runs: Path) -> None:
    with serving(runs) as address, browsing() as opened, StoredRun.open(runs / "one") as run:
        page = drawn(opened, address)
        opened.go("Run", "one")
        opened.until("window.flashgraph.page.standing !== null")
        state, spend = page.evaluate("window.flashgraph.at(1e9)"), run.spend()
        assert (state["calls"], state["out"]) == (spend.calls, 0)
        opened.until("score => document.querySelector('.tile b').textContent === score", f"{run.best_score():.3f}")
        tiles = page.locator(".tile b").all_inner_texts()
        assert tiles[3] == f"{spend.calls:,}"
        assert tiles[4] == f"{spend.tokens / 1000:.0f} k" if spend.tokens < 1e6 else f"{spend.tokens / 1e6:.2f} M"


def test_a_live_run_appears_as_it_goes(tmp_path: Path) -> None:
    """The page follows a run that another process holds, and notices its end."""
    with held(tmp_path / "run") as process, serving(tmp_path / "run") as address, browsing() as opened:
        page = drawn(opened, address)
        page.wait_for_selector("text=running")
        with StoredRun.open(tmp_path / "run") as run:
            unanswered, admitted = run.spend().unanswered, len(run.artifacts())
        opened.until("n => window.flashgraph.at(1e9).out === n", unanswered)
        assert page.evaluate("window.flashgraph.page.log.artifacts(1e9).length") == admitted > 0
        process.kill()
        process.wait()
        page.wait_for_selector("header >> text=killed")
        rows = page.evaluate("window.flashgraph.page.log.rows.length")
        with ThreadPoolExecutor() as alone:  # Playwright has an event loop in this thread
            alone.submit(small_run, tmp_path / "run", resume=True).result()
        page.wait_for_selector("header >> text=budget")
        with StoredRun.open(tmp_path / "run") as run:
            events, admitted = len(list(run.events())), len(run.artifacts())
        assert events > rows
        opened.until("n => window.flashgraph.page.log.rows.length === n", events)
        assert page.evaluate("window.flashgraph.page.log.artifacts(1e9).length") == admitted
        assert opened.errors == []


def hostile_run(folder: Path) -> None:
    def answer(messages: Any) -> str:
        return WORLD.answer(messages) + HOSTILE + "x" * 1_000_000

    small_run(folder, models={"task": WORLD.answer, "reflection": answer}, budget=fg.Budget(proposals=3))


def test_texts_of_models_stay_text(tmp_path: Path) -> None:
    """Scripts and a megabyte in a reply neither run nor break the page, served or exported."""
    hostile_run(tmp_path / "run")
    with StoredRun.open(tmp_path / "run") as run:
        call = next(call for call in run.calls() if call.reply is not None and "hacked" in call.reply)
        to_html(run, tmp_path / "run.html")
    with serving(tmp_path / "run") as address, browsing() as opened:
        for place in (address, (tmp_path / "run.html").as_uri()):
            page = drawn(opened, place)
            opened.go("Calls", "run", call=str(call.id))
            page.wait_for_selector("pre >> text=hacked")
            opened.go("Candidates", "run")
            page.wait_for_timeout(200)
            assert page.evaluate("window.hacked") is None
            assert page.locator("main script, main img").count() == 0
        assert opened.errors == []


def test_the_export_works_from_disk_without_a_network(runs: Path, tmp_path: Path) -> None:
    with StoredRun.open(runs / "one") as run:
        (path,) = to_html(run, tmp_path / "run.html")
        events, best = len(list(run.events())), run.best()
    assert path.stat().st_size < 5_000_000
    assert best is not None
    with browsing(offline=True) as opened:
        page = drawn(opened, path.as_uri())
        assert page.evaluate("window.flashgraph.page.log.rows.length") == events
        for view in VIEWS:
            opened.go(view, "one")
        opened.go("Candidates", "one")
        page.wait_for_selector("h3 >> text=instruction")
        assert opened.errors == []
        assert opened.asked == [path.as_uri()]


def test_the_keyboard_alone_reaches_everything(runs: Path) -> None:
    """Digits choose views, rows can be chosen by Enter, and each chart has a table."""
    with serving(runs) as address, browsing() as opened:
        page = drawn(opened, address)
        opened.go("Run", "one")
        page.keyboard.press("5")
        page.wait_for_selector("h2 >> text=Calls")
        page.locator("tr.pick").first.focus()
        page.keyboard.press("Enter")
        opened.until("location.hash.includes('call=')")
        page.keyboard.press("3")
        page.wait_for_selector("canvas")
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("details[open] table")
