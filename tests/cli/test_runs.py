"""``flashgraph runs``, ``show`` and ``diff``."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.observe.records import EVIDENCE
from flashgraph.observe.runs import age
from flashgraph.run.journal import JournalError
from tests.journal.small import held, judged_run, small_run

from .conftest import Cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs: ``one`` in lockstep, ``two`` pipelined and with a larger budget."""
    parent = tmp_path_factory.mktemp("runs")
    small_run(parent / "one")
    small_run(parent / "two", schedule="pipelined", budget=fg.Budget(proposals=16, calls=1000))
    return parent


@pytest.fixture
def runs(made: Path, cli: Cli, tmp_path: Path) -> Path:
    """The same as ``runs/`` in the working directory."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


RUN_KEYS = [
    "name", "folder", "status", "reason", "cause", "graph", "task", "schedule", "seed", "opened", "touched", "seconds",
    "best", "evidence", "accepted", "calls", "tokens", "usd", "size", "damage",
]  # fmt: skip


def test_runs_are_listed(cli: Cli, runs: Path) -> None:
    """Each run has a line, newest first; stderr is empty."""
    ended = cli("runs")
    assert (ended.code, ended.err) == (0, "")
    head, *lines = ended.out.splitlines()
    assert head.split() == [
        "run", "graph", "task", "status", "best", "accepted", "calls", "tokens", "usd", "time", "started",
    ]  # fmt: skip
    assert sorted(line.split()[0] for line in lines) == ["one", "two"]
    assert all(line.split()[1:4] == ["gepa", "world-1", "budget"] for line in lines)
    assert cli("runs", runs).out == ended.out


def test_a_run_that_is_damaged(cli: Cli, runs: Path) -> None:
    """A damaged run is listed as unreadable with its readable parts; the others are unaffected."""
    before = json.loads(cli("runs", "--json").out)
    db = sqlite3.connect(runs / before[0]["name"] / "journal.db")
    db.execute("UPDATE account SET settled = '{'")
    db.commit()
    db.close()
    ended = cli("runs")
    assert ended.code == 0
    assert ended.err == (
        f"{before[0]['name']}: runs/{before[0]['name']}/journal.db: table account, row 0: settled is '{{'; "
        "expected JSON. The journal is damaged.\n"
    )
    found = json.loads(cli("runs", "--json").out)
    assert found[1] == before[1]
    assert (found[0]["status"], found[0]["calls"]) == ("unreadable", None)
    assert (found[0]["graph"], found[0]["best"]) == (before[0]["graph"], before[0]["best"])


def test_runs_as_json(cli: Cli, runs: Path) -> None:
    """The keys are the same for every run, and numbers are numbers."""
    found = json.loads(cli("runs", "--json").out)
    assert [list(run) for run in found] == [RUN_KEYS, RUN_KEYS]
    one = next(run for run in found if run["name"] == "one")
    assert (one["folder"], one["graph"], one["schedule"], one["seed"]) == ("runs/one", "gepa", "lockstep", 0)
    assert (one["status"], one["cause"], one["reason"]) == ("budget", "proposals", "no proposals left")
    assert isinstance(one["best"], float)
    assert datetime.fromisoformat(one["opened"]) <= datetime.fromisoformat(one["touched"])


def test_no_runs(cli: Cli, tmp_path: Path) -> None:
    """A folder without runs and a missing folder print a message."""
    assert cli("runs", tmp_path).out == f"no runs in {tmp_path}\n"
    assert cli("runs", tmp_path, "--json").out == "[]\n"
    ended = cli("runs")
    assert ended.code == 1
    assert ended.err.startswith("error: runs: no such folder of runs.\nFix: ")


def test_an_unreadable_run_hides_no_other(cli: Cli, runs: Path) -> None:
    """An unreadable run has its line, and the reason on stderr."""
    (runs / "broken").mkdir()
    (runs / "broken" / "journal.db").write_bytes(b"nothing that SQLite knows" * 100)
    ended = cli("runs")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 4
    assert next(line for line in ended.out.splitlines() if "broken" in line).split() == ["broken", "unreadable", "-"]
    assert "broken: " in ended.err
    assert "it is not an SQLite file" in ended.err
    assert json.loads(cli("runs", "--json").out)[-1]["status"] == "unreadable"


def test_a_run_that_is_running_and_then_killed(cli: Cli, tmp_path: Path) -> None:
    """A running and a killed run show their status, their open requests and what may be paid twice."""
    with held(tmp_path / "held") as process:
        assert "running" in cli("runs", tmp_path).out
        shown = cli("show", tmp_path / "held")
        assert shown.code == 0
        assert f"held: gepa on world-1: running (process {process.pid} on " in shown.out
        assert " in flight or queued\n" in shown.out
        process.kill()
        process.wait()
    assert "killed" in cli("runs", tmp_path).out
    shown = cli("show", tmp_path / "held")
    assert " in flight when the run was killed; resuming counts them as spent\n" in shown.out
    small_run(tmp_path / "held", resume=True)
    shown = cli("show", tmp_path / "held")
    assert " were lost when the run was killed or cancelled; these calls may have been paid twice\n" in shown.out
    assert "session  opened" in shown.out


def test_a_run_that_was_cut_off(cli: Cli, tmp_path: Path) -> None:
    """A run that ends with requests in flight counts them, and keeps its provisional artifact."""
    judged_run(tmp_path / "runs" / "cut")
    shown = cli("show", "cut", "--artifacts")
    assert "cut: judged on generated: budget (1 seconds are over)\n2 accepted, 12 calls, " in shown.out
    assert "up to 3 requests cancelled at the end; resuming sends (and pays for) them again\n" in shown.out
    states = [re.findall("confirmed|retracted|provisional", line) for line in shown.out.splitlines()[-3:]]
    assert states == [["confirmed"], ["retracted"], ["provisional"]]


def test_show_prints_status_and_lineage(cli: Cli, runs: Path) -> None:
    """The output has status, spend, the best texts and each step as a diff, without colours."""
    ended = cli("show", "two")
    assert (ended.code, ended.err) == (0, "")
    first, second, third, *rest = ended.out.splitlines()
    assert first == "two: gepa on world-1: budget (no proposals left)"
    assert " accepted, " in second
    assert " of 1,000, " in second
    assert third == "pipelined, seed 0, limits: proposals 16"
    assert any(line.startswith("artifact ") and " of frontier: score " in line for line in rest)
    assert "instruction" in rest
    assert "lineage:" in rest
    assert "--- artifact 0: instruction" in rest
    assert "\x1b" not in ended.out


def test_show_as_json(cli: Cli, runs: Path) -> None:
    """The JSON holds the run, its best artifact with its value, and the lineage."""
    found = json.loads(cli("show", "one", "--json").out)
    assert list(found) == ["run", "artifact", "lineage"]
    assert list(found["run"]) == [*RUN_KEYS, "limits", "params", "version", "prices", "spend", "endpoints", "sessions"]
    assert list(found["run"]["spend"]) == [
        "proposals", "evaluations", "calls", "tokens", "usd", "prompt_tokens", "completion_tokens", "failed", "lost",
        "unanswered", "seconds",
    ]  # fmt: skip
    assert list(found["artifact"]) == [
        "pool", "id", "version", "at", "parents", "score", "scores", "lag", "provisional", "retracted", "value",
        "evicted", "state", *EVIDENCE,
    ]  # fmt: skip
    assert list(found["artifact"]["value"]) == ["instruction"]
    assert found["artifact"]["score"] == found["run"]["best"] == found["lineage"][-1]["score"]
    assert list(found["lineage"][0]) == ["artifact", "parent", "score", *EVIDENCE, "diff"]


def test_show_an_artifact(cli: Cli, runs: Path) -> None:
    """An artifact is named by its number, with or without its pool."""
    ended = cli("show", "one", "--artifact", "0")
    assert "artifact 0 of frontier: score " in ended.out
    assert ", no parents, " in ended.out
    assert "lineage:" not in ended.out
    assert cli("show", "one", "--artifact", "frontier:0").out == ended.out
    assert json.loads(cli("show", "one", "--artifact", "0", "--json").out)["artifact"]["id"] == 0


def test_show_artifacts_calls_and_failures(cli: Cli, runs: Path) -> None:
    """Artifacts, calls and failures are printed as tables and as JSON."""
    listed = json.loads(cli("show", "one", "--artifacts", "--json").out)["artifacts"]
    assert "value" not in listed[0]
    lines = cli("show", "one", "--artifacts").out.splitlines()
    costs = [line.split(":")[0] for line in lines if " prompt tokens, " in line]
    assert costs == sorted(costs)
    assert "propose (reflection)" in costs
    assert len(lines) == 3 + len(costs) + 1 + 1 + len(listed)
    calls = json.loads(cli("show", "one", "--calls", "3", "--json").out)["calls"]
    assert len(calls) == 3
    assert calls[-1]["messages"][0][0] in ("system", "user")
    lines = cli("show", "one", "--calls", "3").out.splitlines()
    assert lines[-4].split() == ["call", "at", "stage", "how", "prompt", "reply", "usd", "seconds", "text"]
    assert [line.split()[0] for line in lines[-3:]] == [str(call["id"]) for call in calls]
    assert cli("show", "one", "--failures").out.endswith("\nno stage or edge has failed\n")
    assert json.loads(cli("show", "one", "--failures", "--json").out)["failures"] == []


def test_show_of_a_run_with_failures_alone(cli: Cli, tmp_path: Path) -> None:
    """A run with nothing but failures shows their reasons and no best artifact."""

    def broken(messages: object) -> str:
        raise fg.RequestFailed("[red]too long[/red]")

    small_run(tmp_path / "runs" / "bad", models={"task": broken, "reflection": broken})
    ended = cli("show", "bad", "--failures")
    assert ended.out.splitlines()[-1].split(maxsplit=4)[0::4] == ["baseline", "RequestFailed: [red]too long[/red]"]
    assert json.loads(cli("show", "bad", "--failures", "--json").out)["failures"][0]["cause"] == "model"
    ended = cli("show", "bad")
    assert "8 calls failed (each try counts)\n" in ended.out
    assert ended.out.endswith("nothing was accepted: there is no best artifact\n")
    assert json.loads(cli("show", "bad", "--json").out)["artifact"] is None
    assert cli("diff", "bad", "bad").out.endswith("no texts to compare: one of the runs has accepted no artifact\n")


@pytest.mark.parametrize("name", ["show", "diff", "export"])
def test_no_such_run(cli: Cli, runs: Path, name: str) -> None:
    """An unknown run gets the nearest name."""
    rest = {"show": [], "diff": ["two"], "export": ["--to", "csv", "-o", "x"]}[name]
    ended = cli(name, "onne", *rest)
    assert ended.code == 1
    assert ended.err.startswith("error: run 'onne': no such run; there is no journal.db in onne or runs/onne. ")
    assert "did you mean 'one'?" in ended.err
    assert "Fix: " in ended.err


def test_wrong_options_of_show(cli: Cli, runs: Path) -> None:
    """Two listings at once, an artifact that is no number and an unknown one are usage errors."""
    ended = cli("show", "one", "--failures", "--calls", "3")
    assert (ended.code, "give only one of" in ended.err) == (2, True)
    ended = cli("show", "one", "--artifact", "best")
    assert (ended.code, "found 'best', expected ID or POOL:ID" in ended.err) == (2, True)
    ended = cli("show", "one", "--artifact", "99")
    assert (ended.code, "pool 'frontier' has no artifact 99; they are numbered 0 to " in ended.err) == (1, True)


def test_diff_puts_two_runs_side_by_side(cli: Cli, runs: Path) -> None:
    """The output has differing settings, spend, scores by calls and by time, and the diff of the best texts."""
    ended = cli("diff", "one", "two")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    heads = [line.split() for line in lines if line.split()[-2:] == ["one", "two"]]
    assert heads == [["setting", "one", "two"], ["total", "one", "two"], ["best", "score", "after", "one", "two"]]
    assert ["schedule", "lockstep", "pipelined"] in [line.split() for line in lines]
    assert ["limits:", "calls", "(none)", "1000"] in [line.split() for line in lines]
    assert "--- best of one: instruction" in lines
    assert "+++ best of two: instruction" in lines


def test_diff_as_json(cli: Cli, runs: Path) -> None:
    """The scores of the last milestone equal the best scores."""
    found = json.loads(cli("diff", "one", "two", "--json").out)
    assert list(found) == ["names", "settings", "spend", "calls", "seconds", "diff", "evidence"]
    assert found["names"] == ["one", "two"]
    assert {"name": "schedule", "first": "lockstep", "second": "pipelined"} in found["settings"]
    assert found["calls"][-1]["after"] == max(found["spend"]["calls"])
    place = found["spend"]["calls"].index(max(found["spend"]["calls"]))
    assert found["calls"][-1][("first", "second")[place]] == found["spend"]["best"][place]


def test_diff_of_a_run_with_itself(cli: Cli, runs: Path) -> None:
    """A run does not differ from itself."""
    ended = cli("diff", "one", "runs/one")
    assert ended.out.startswith("the settings are the same\n")
    assert ended.out.endswith("\nthe best texts are the same\n")


def test_ages() -> None:
    """Ages are given in the largest whole unit."""
    now = datetime(2026, 8, 1, 12, tzinfo=UTC)
    spans = {5: "just now", 60: "1 minute ago", 7199: "1 hour ago", 86400 * 3: "3 days ago"}
    for seconds, said in spans.items():
        assert age((now - timedelta(seconds=seconds)).isoformat(), now) == said
    assert age(None, now) == ""


def test_links_among_the_runs(cli: Cli, runs: Path) -> None:
    """They are not listed, and not resumed: neither here nor from Python."""
    (runs / "two").rename("elsewhere")
    (runs / "two").symlink_to(Path("elsewhere").resolve())
    ended = cli("runs", "--json")
    assert [run["name"] for run in json.loads(ended.out)] == ["one"]
    assert "runs/two: skipped, because it is a symbolic link" in ended.err
    for name in ("two", "runs/two", "runs/two/journal.db"):
        ended = cli("resume", name, "--proposals", "20")
        assert (ended.code, ended.out) == (1, "")
        assert f"Fix: name the folder itself: {Path('elsewhere').resolve()}" in ended.err
    with pytest.raises(JournalError, match="expected the run's own folder"):
        small_run(runs / "two", schedule="pipelined", resume=True)
