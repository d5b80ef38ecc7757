"""The server of the page: who may ask, and the answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.run.journal.reading import StoredRun
from flashgraph.view.export import MODULES, to_html, to_trace
from flashgraph.view.guard import Guard
from flashgraph.view.server import viewed
from tests.journal.small import small_run

pytestmark = pytest.mark.anyio

LARGEST = 150_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "runs"
    small_run(folder / "one", schedule="pipelined", budget=fg.Budget(proposals=12))
    return folder


@asynccontextmanager
async def asking(target: Path) -> AsyncIterator[tuple[Guard, httpx.AsyncClient]]:
    """Yield the server's guard and a client that has the token."""
    async with viewed(target) as guard:
        headers = {"authorization": f"Bearer {guard.token}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{guard.port}", headers=headers, trust_env=False
        ) as client:
            yield guard, client


async def test_only_those_with_the_token_are_answered(runs: Path) -> None:
    async with asking(runs) as (guard, client):
        home = f"127.0.0.1:{guard.port}"
        for path in ("/", "/static/app.js", "/api/runs", "/api/stream?run=one", "/?token=wrong", "/nothing"):
            answer = await client.get(path, headers={"authorization": ""})
            assert answer.status_code == 401, path
            assert "one" not in answer.text.split()
        for headers in (
            {"host": "evil.example"}, {"host": f"evil.example:{guard.port}"}, {"host": "127.0.0.1:1"},
            {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):  # fmt: skip
            assert (await client.get("/api/runs", headers=headers)).status_code == 403, headers
        assert (await client.post("/api/runs")).status_code == 405
        for headers in ({}, {"origin": f"http://{home}"}, {"sec-fetch-site": "same-origin"}):
            assert (await client.get("/api/runs", headers=headers)).status_code == 200


async def test_the_printed_address_gives_a_cookie(runs: Path) -> None:
    """The token is in no page's address afterwards, and scripts cannot read the cookie."""
    async with asking(runs) as (guard, client):
        answer = await client.get(guard.address, headers={"authorization": ""})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert answer.headers["set-cookie"].startswith(f"flashgraph-{guard.port}={guard.token}; HttpOnly; SameSite=S")
        cookie = {"authorization": "", "cookie": answer.headers["set-cookie"].partition(";")[0]}
        page = await client.get("/", headers=cookie)
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "token" not in repr(guard)


async def test_paths_lead_nowhere_else(runs: Path) -> None:
    async with asking(runs) as (_, client):
        for path in (
            "/static/../server.py", "/static/%2e%2e/server.py", "/static/", "/api/run?run=../one", "/api/run?run=",
            "/api/run?run=%2Fetc", "/api/artifact?run=one&pool=none&id=0", "/api/artifact?run=one&pool=frontier&id=-1",
        ):  # fmt: skip
            assert (await client.get(path)).status_code == 404, path


async def read_stream(client: httpx.AsyncClient, path: str, **headers: str) -> list[tuple[str, Any, str]]:
    """Return the events of a stream until its first events of the run: kind, data, id."""
    found, kind, id = [], "", ""
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind, id = value, ""
            elif name == "id":
                id = value
            elif name == "data":
                found.append((kind, json.loads(value), id))
                if kind == "events":
                    return found
    return found


async def test_a_stream_tells_all_and_continues_where_it_broke(runs: Path) -> None:
    with StoredRun.open(runs / "one") as run:
        events = len(list(run.events()))
        admitted = sum(event.kind == "Admitted" for event in run.events())
    with anyio.fail_after(20):
        async with asking(runs / "one") as (_, client):
            told = await read_stream(client, "/api/stream?run=one")
            pages = [(data, id) for kind, data, id in told if kind == "events"]
            assert sum(len(data["rows"]) for data, _ in pages) == events
            assert pages[-1][1] == str(events)
            (changes,) = [data for kind, data, _ in told if kind == "changes"]
            assert sum(change[3] == "admit" for change in changes) == admitted
            again = await read_stream(client, "/api/stream?run=one", **{"last-event-id": str(events - 7)})
            ((rest, _),) = [(data, id) for kind, data, id in again if kind == "events"]
            assert (rest["first"], len(rest["rows"])) == (events - 7, 7)


async def test_a_run_and_a_folder(runs: Path, tmp_path: Path) -> None:
    with anyio.fail_after(20):
        for target, first in ((runs, ""), (runs / "one", "one")):
            async with asking(target) as (_, client):
                found = (await client.get("/api/runs")).json()
                assert (found["first"], [run["name"] for run in found["runs"]]) == (first, ["one"])
                drawing = (await client.get("/api/run?run=one")).json()["drawing"]
                assert {node["name"] for node in drawing["nodes"]} == set(drawing["names"])
                assert {line["edge"] for line in drawing["lines"]} - {""} <= set(drawing["edges"])
    with pytest.raises(DataError, match="no such run"):
        async with viewed(tmp_path / "nothing"):
            pass


def test_the_page_is_small_and_readable() -> None:
    """All its files together are at most 150 kB gzipped, and their lines can be read."""
    files = [f for f in (resources.files("flashgraph.view") / "static").iterdir() if f.is_file()]
    assert {"uplot-licence.txt", "index.html", *MODULES} <= {file.name for file in files}
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < LARGEST
    index = (resources.files("flashgraph.view") / "static" / "index.html").read_text()
    assert "<script>" not in index
    assert " style=" not in index
    ours = [f for f in files if f.name.endswith(".js") and f.name != "uplot.js"]
    for file in ours:
        text = file.read_text()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in text, f"{file.name}: {way}"


def test_a_redacted_page_has_no_texts(runs: Path, tmp_path: Path) -> None:
    import base64
    import re

    def data(path: Path) -> str:
        found = re.search(r'id="data">([^<]*)<', path.read_text())
        assert found is not None
        return gzip.decompress(base64.b64decode(found[1])).decode()

    with StoredRun.open(runs / "one") as run:
        best = run.best()
        assert best is not None
        text = next(iter(best.texts.values()))
        assert text in data(to_html(run, tmp_path / "whole.html")[0])
        redacted = data(to_html(run, tmp_path / "redacted.html", redact=True)[0])
        said = {text for call in run.calls() for _, text in call.messages} | {call.reply for call in run.calls()}
    assert text not in redacted
    assert not any(one in redacted for one in said if one and len(one) > 20)
    assert json.loads(redacted)["calls"]


def test_a_trace_has_every_request(runs: Path, tmp_path: Path) -> None:
    """Complete events of Chrome's trace format, whose spans in a row do not overlap."""
    with StoredRun.open(runs / "one") as run:
        (path,) = to_trace(run, tmp_path / "run.json")
        started = sum(event.kind == "CallStarted" for event in run.events())
    found = json.loads(path.read_text())
    events = found["traceEvents"]
    assert {event["ph"] for event in events} <= {"M", "X", "C", "i"}
    assert all(isinstance(e["pid"], int) and isinstance(e["tid"], int) for e in events)
    assert all(e["ts"] >= 0 for e in events if e["ph"] != "M")
    spans = [e for e in events if e["ph"] == "X"]
    assert sum(e["cat"] == "call" for e in spans) == started
    rows: dict[tuple[int, int], float] = {}
    for span in sorted(spans, key=lambda e: (e["pid"], e["tid"], e["ts"], e["dur"])):
        row = (span["pid"], span["tid"])
        assert span["ts"] >= rows.get(row, 0.0) - 0.2
        rows[row] = span["ts"] + span["dur"]
