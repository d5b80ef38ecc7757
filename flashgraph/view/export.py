"""Exports of a run: one page that works from disk, and a trace for Perfetto or Chrome."""

from __future__ import annotations

import base64
import gzip
import hashlib
import heapq
import html
import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.reading import StoredRun
from flashgraph.view.facts import REDACTED, artifact_facts, call_facts, changes_of, curve_of, run_facts, standing_of

__all__ = ["to_html", "to_trace"]

LARGEST = 5_000_000
"""The most bytes of an exported page."""

MODULES = ("uplot.js", "parts.js", "fold.js", "source.js", "charts.js", "panels.js", "app.js")
"""The page's modules, each after those that it imports."""

IMPORT = re.compile(r'^import (?P<names>\{[^}]*\}|\w+) from "\./(?P<module>[\w.-]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
DEFAULT = re.compile(r"^export \{ (\w+) as default \};$", re.MULTILINE)

MICROSECONDS = 1e6


def to_html(run: StoredRun, out: Path, *, redact: bool = False) -> list[Path]:
    """Write one page with the whole run, which works from disk; return its path.

    ``redact`` leaves out the texts of prompts, replies and artifacts.  The texts of the oldest calls are left out
    where the page would exceed 5 MB.  Raises `DataError` if even its events exceed that, or if it cannot be written.
    """
    with run.snapshot():
        frame, base = _frame(), _data(run, redact)
        data, left = _fitting(run, base, LARGEST - len(frame), redact)
    if data is None:
        raise DataError(
            f"run {run.name}: its events alone need more than {LARGEST:,} bytes.\n"
            "Fix: flashgraph view, which shows runs of any size, or --to trace."
        )
    note = f"<!-- the texts of {left} calls are left out -->" if left else ""
    page = frame.replace("<!--DATA-->", f'{note}<script type="application/octet-stream" id="data">{data}</script>')
    return _written(out, page.encode())


def _data(run: StoredRun, redact: bool) -> dict[str, Any]:
    standing = standing_of(run)
    if redact:
        # An error's text may quote a prompt.
        standing["failures"] = [{**failure, "reason": REDACTED} for failure in standing["failures"]]
    artifacts = {f"{a.pool} {a.id}": artifact_facts(run, a.pool, a.id, redact) for a in run.artifacts()}
    events = [row for _, rows in run.event_lists() for row in rows]
    return {
        "run": {**run_facts(run), **({"params": {}} if redact else {})},
        "standing": standing,
        "events": [_quiet(row) for row in events] if redact else events,
        "changes": changes_of(run, {}),
        "curve": curve_of(run),
        "artifacts": artifacts,
        "calls": {},
    }


QUIET = {"JobEnded": 7, "Ended": 5, "EdgeFailed": 4, "EndpointDown": 4}
"""The place of the text of an error or a reason in an event's list."""


def _quiet(row: list[Any]) -> list[Any]:
    """Return an event without the text of an error."""
    place = QUIET.get(row[0], len(row))
    return [*row[:place], REDACTED, *row[place + 1 :]] if place < len(row) and row[place] else row


def _fitting(run: StoredRun, base: dict[str, Any], room: int, redact: bool) -> tuple[str | None, int]:
    """Return the page's data with the texts of as many of the newest calls as fit, and how many are left out."""
    calls = [call_facts(run, call.id, redact) for call in run.calls()]
    kept = len(calls)
    while True:
        base["calls"] = {str(call["id"]): call for call in calls[len(calls) - kept :] if call is not None}
        packed = base64.b64encode(gzip.compress(printed(base).encode(errors="replace"), 6, mtime=0)).decode()
        if len(packed) <= room:
            return packed, len(calls) - kept
        if not kept:
            return None, len(calls)
        kept = min(kept - 1, int(kept * 0.9 * room / len(packed)))


def _frame() -> str:
    """Return the page with its styles and modules inside; a policy allows these alone, by their hashes."""
    files = resources.files("flashgraph.view") / "static"
    styles = "\n".join((files / name).read_text() for name in ("uplot.css", "style.css"))
    licence = (files / "uplot-licence.txt").read_text()
    script = (
        f"/* The chart library, uPlot:\n{licence}*/\n{_bundled({name: (files / name).read_text() for name in MODULES})}"
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(styles)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (files / "index.html").read_text()
    page = re.sub(r"^<(?:link|script).*\n", "", page, flags=re.MULTILINE)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n<style>{styles}</style>\n'
        '<link rel="icon" href="data:,">\n</head>'
    )
    return page.replace("</head>", head, 1).replace("</body>", f"<!--DATA-->\n<script>{script}</script>\n</body>", 1)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _bundled(modules: dict[str, str]) -> str:
    """Return modules as one script: each in a function of its own, because a file cannot import another from disk."""
    parts = ["(async () => {\nconst MODULES = {};"]
    for name, text in modules.items():
        names = [found[1] for found in EXPORT.finditer(text)]
        given = ", ".join(names) if not (default := DEFAULT.search(text)) else f"default: {default[1]}"
        text = DEFAULT.sub("", EXPORT.sub("", IMPORT.sub(_constant, text)))
        parts.append(f'MODULES["{name}"] = await (async () => {{\n{text}\nreturn {{ {given} }};\n}})();')
    script = "\n".join([*parts, "})();"])
    if "</script" in script.lower() or re.search(r"^(?:import|export) ", script, re.MULTILINE):
        raise AssertionError("a module has a form that the export does not know")
    return script


def _constant(found: re.Match[str]) -> str:
    end = "" if found["names"].startswith("{") else ".default"
    return f'const {found["names"]} = MODULES["{found["module"]}"]{end};'


# ---- traces ------------------------------------------------------------------------------------------------


def to_trace(run: StoredRun, out: Path, *, redact: bool = False) -> list[Path]:
    """Write the run's requests, jobs and champions as Chrome trace events (JSON), for Perfetto; return its path.

    A trace holds no prompts, replies or artifacts.  ``redact`` leaves out the texts of errors too.
    """
    with run.snapshot():
        events = list(_traced(run, redact))
    facts = {"graph": run.header.graph, "task": run.header.task, "schedule": run.header.schedule, "run": run.name}
    return _written(out, printed({"displayTimeUnit": "ms", "otherData": facts, "traceEvents": events}).encode())


@attrs.define
class _Lanes:
    """Rows of a trace, in which spans do not overlap: each span gets the lowest free row."""

    free: list[int] = attrs.field(factory=list)
    used: int = 0

    def take(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        self.used += 1
        return self.used

    def give(self, lane: int) -> None:
        heapq.heappush(self.free, lane)


def _traced(run: StoredRun, redact: bool) -> Iterator[dict[str, Any]]:
    """Yield the trace events: requests in process 1, jobs in process 2, a counter and marks."""
    for number, name in ((1, "requests by slot"), (2, "jobs")):
        yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": name}}
    lanes = {"call": _Lanes(), "job": _Lanes()}
    open_: dict[tuple[str, int], tuple[float, int, str, dict[str, Any]]] = {}
    stages: dict[int, str] = {}
    out = 0
    for event in run.events():
        fields = event.fields
        match event.kind:
            case "JobStarted":
                stages[fields["job"]] = fields["stage"]
                open_["job", fields["job"]] = (event.at, lanes["job"].take(), fields["stage"], {"item": fields["item"]})
            case "CallStarted":
                name = stages.get(fields["job"], fields["role"])
                args = {"call": fields["call"], "role": fields["role"], "endpoint": fields["endpoint"]}
                open_["call", fields["call"]] = (event.at, lanes["call"].take(), name, args)
            case "JobEnded" | "CallEnded":
                kind = "job" if event.kind == "JobEnded" else "call"
                if (began := open_.pop((kind, fields[kind]), None)) is not None:
                    lanes[kind].give(began[1])
                    kept = ("how", "cause", "prompt_tokens", "completion_tokens", "usd", "finish")
                    args = {name: fields[name] for name in kept if name in fields}
                    yield _span(kind, began, event.at, args if redact else args | _reason(fields))
            case "ChampionChanged" | "EndpointDown" | "EndpointUp" | "LimitChanged":
                args = {n: v for n, v in fields.items() if n != "evidence" and not (redact and n == "reason")}
                yield {"ph": "i", "s": "g", "name": event.kind, "ts": _ts(event.at), "pid": 1, "tid": 0, "args": args}
        if event.kind in ("CallStarted", "CallEnded"):
            out = max(0, out + (1 if event.kind == "CallStarted" else -1))
            count = {"out": out}
            yield {"ph": "C", "name": "requests out", "ts": _ts(event.at), "pid": 1, "tid": 0, "args": count}
    for (kind, _), began in open_.items():
        yield _span(kind, began, max(run.seconds(), began[0]), {"how": "open"})


def _reason(fields: Any) -> dict[str, Any]:
    return {"reason": fields["reason"]} if fields.get("reason") else {}


def _span(kind: str, began: tuple[float, int, str, dict[str, Any]], end: float, args: dict[str, Any]) -> dict[str, Any]:
    at, lane, name, known = began
    return {
        "ph": "X", "name": name, "cat": kind, "ts": _ts(at), "dur": max(0.0, _ts(end) - _ts(at)),
        "pid": 1 if kind == "call" else 2, "tid": lane, "args": {**known, **args},
    }  # fmt: skip


def _ts(at: float) -> float:
    return round(at * MICROSECONDS, 1)


def _written(out: Path, data: bytes) -> list[Path]:
    """Write a file at once, so that a reader never sees one half."""
    new = out.with_name(f".{out.name[:200]}.{os.getpid()}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        new.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}.\nFix: give another -o.") from error
    finally:
        new.unlink(missing_ok=True)
    return [out]
