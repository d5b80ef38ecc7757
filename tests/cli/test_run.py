"""``flashgraph run`` against servers on loopback: a whole run, and every way to fail."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.cli.stopping import RESCUES, Interrupts
from flashgraph.run.calls import Calls
from flashgraph.run.journal.reading import StoredRun

from .conftest import FILES, Cli, Ended
from .server import Server, serving

WORDS = FILES / "words.py"


def wise(messages: list[dict[str, str]]) -> str:
    """Reply as a model: a reflection adds letters to the instruction, and an attempt knows the words that begin with
    one."""
    if len(messages) == 1:
        known = messages[0]["content"].count("Know")
        return f"```\nKnow {'abcdefgh'[: 2 + known]}.\nKnow\n```"
    letters = re.search(r"Know (\w+)", messages[0]["content"])
    word = messages[1]["content"]
    return word.upper() if letters and word[0] in letters[1] else "no idea"


def run(cli: Cli, server: Server | str, *args: str | Path, task: Path = WORDS) -> Ended:
    spec = server if isinstance(server, str) else server.spec
    return cli("run", "gepa", "--task", task, "--model", spec, "--out", "out", *args)


def mistake(ended: Ended, code: int = 1) -> str:
    """Return the message of a user's mistake, which is the only output."""
    assert ended.code == code
    assert ended.err.count("error: ") == 1
    assert "Traceback" not in ended.err
    return ended.err


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_whole_way(cli: Cli, tmp_path: Path, backend: str) -> None:
    """Progress is on stderr, the outcome on stdout, and the files are in --out."""
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "6", "--backend", backend, "--target-score", "inf")
    assert ended.code == 0
    assert ended.err.startswith("gepa on words: pipelined, seed 0\n")
    assert re.search(r"^\d+:\d+ best 0\.00 \(\d of \d, 0\.00 to 0\.\d\d\)$", ended.err, re.M)
    assert "ended: budget (no proposals left)" in ended.err
    assert "\x1b" not in ended.err + ended.out
    for line in ("--- seed: instruction", "-Answer.", "+++ best: instruction"):
        assert line in ended.out.splitlines()
    score = r"\(\d of \d, \d\.\d\d to \d\.\d\d\)"
    assert re.search(rf"^validation +0\.00 {score} +[01]\.\d\d {score}$", ended.out, re.M)
    assert re.search(rf"^held-out test +0\.00 {score} +1\.00 {score}  3 samples, 6 calls$", ended.out, re.M)
    assert "written to out: best.json, best-instruction.txt, result.json, events.jsonl" in ended.out
    check_files(tmp_path / "out")


def check_files(out: Path) -> None:
    best = json.loads((out / "best.json").read_text())
    assert (out / "best-instruction.txt").read_text() == best["instruction"] + "\n"
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["seed"]) == ("budget", {"instruction": "Answer."})
    assert result["test"]["best"]["scores"] == [1.0, 1.0, 1.0]
    assert result["test"]["spent"]["calls"] == 6
    assert [price["source"] for price in result["prices"].values()] == ["local"]
    chosen = next(a for a in result["artifacts"] if a["id"] == result["best"]["id"])
    assert chosen["value"] == best
    assert {"parents", "score", "scores", "lag", "version"} <= chosen.keys()
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "RunEnded"
    assert sum(e["event"] == "CallEnded" for e in events) == result["spent"]["calls"]


def test_a_terminal_shows_a_table(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a terminal a table replaces the single lines; without --out the run gets its own folder."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with serving(wise) as server:
        ended = cli("run", "gepa", "--task", WORDS, "--model", server.spec, "--proposals", "2", "--no-test")
    assert ended.code == 0
    for part in ("per min", "validate", "frontier version", "2 of 2 proposals"):
        assert part in ended.err
    assert "ended:" not in ended.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"gepa-words-\d{8}-\d{6}", folder.name)


def test_schedule_settings_and_no_test(cli: Cli) -> None:
    """The options reach the run, and the report names --no-test."""
    with serving(wise) as server:
        args = ("--schedule", "lockstep", "--set", "minibatch=2", "--seed", "3", "--evaluations", "30", "--no-test")
        ended = run(cli, server, *args)
    assert ended.code == 0
    assert ended.err.startswith("gepa on words: lockstep, seed 3\n")
    assert "held-out test: not tested: --no-test" in ended.out


def test_models_by_role(cli: Cli) -> None:
    """Each role has its own server; a spec without a role serves the rest."""
    with serving(wise) as one, serving(wise) as other:
        ended = run(cli, one, "--model", f"reflection={other.spec}", "--proposals", "2", "--no-test")
    assert ended.code == 0
    assert one.chats > other.chats >= 2


def test_no_model_for_a_role_and_two_for_all(cli: Cli) -> None:
    """A missing role, an unknown role and two specs for all roles are mistakes."""
    message = mistake(cli("run", "gepa", "--task", WORDS, "--calls", "9"))
    assert "no model was given for reflection, task" in message
    message = mistake(cli("run", "gepa", "--task", WORDS, "--model", "taks=sim:vllm", "--calls", "9"))
    assert (
        "model role 'taks' is not one of graph 'gepa'; it calls reflection, task.\nFix: did you mean 'task'?" in message
    )
    ended = cli("run", "gepa", "--task", WORDS, "--model", "local", "--model", "sim:x", "--calls", "9")
    assert ended.code == 2
    assert "expected ROLE=SPEC for each" in ended.err


def test_the_test_needs_what_is_left_of_the_budget(cli: Cli) -> None:
    """A run that has used up its call budget skips the test and says why."""
    with serving(wise) as server:
        ended = run(cli, server, "--calls", "40", "--target-score", "inf")
        assert server.chats <= 40
    assert ended.code == 0
    assert re.search(r"held-out test: not tested: it needs at least [36] calls, and \d are left", ended.out)
    assert "testing" not in ended.err


def test_no_budget(cli: Cli) -> None:
    """A run that would never end is refused and leaves no folder."""
    assert "--minutes 10" in mistake(run(cli, "openai:http://127.0.0.1:9#tiny"))
    assert not Path("out").exists()


def test_a_folder_that_holds_a_run_is_kept(cli: Cli, tmp_path: Path) -> None:
    """--out never overwrites a run."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    assert "the folder already holds a run" in mistake(run(cli, "openai:http://127.0.0.1:9#tiny", "--calls", "9"))


def test_an_unreachable_server(cli: Cli) -> None:
    """An unreachable server is named before any work starts."""
    message = mistake(run(cli, "openai:http://127.0.0.1:9#tiny?tries=1", "--calls", "9"), 3)
    assert "no model server answers at http://127.0.0.1:9/v1" in message
    assert "run again" in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("key_env=MY_KEY", "set MY_KEY (the key in it was refused)"),
        ("", "name the variable that contains its key with ?key_env=OPENAI_API_KEY (OPENAI_API_KEY is sent to "),
    ],
)
def test_a_wrong_key(cli: Cli, option: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the source of the key, and not the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("MY_KEY", "sk-secret\r\n")
    with serving(wise, status=401) as server:
        spec = f"{server.spec}{'&' if '?' in server.spec else '?'}{option}" if option else server.spec
        message = mistake(run(cli, spec, "--calls", "9"), 3)
    assert f"refuses access (401): {said}" in message
    assert "sk-secret" not in message


def test_a_model_that_answers_nonsense(cli: Cli) -> None:
    """With useless replies the run ends normally, with the seed and advice."""
    with serving(lambda messages: "blah blah") as server:
        ended = run(cli, server, "--proposals", "4")
    assert ended.code == 0
    assert "the best artifact is the seed" in ended.out
    assert "none of 4 proposals improved on the seed. Fix: " in ended.out


def test_a_server_that_answers_nonsense(cli: Cli, tmp_path: Path) -> None:
    """If no attempt succeeds the run fails and reports the reason."""
    task = tmp_path / "broken.py"
    task.write_text(WORDS.read_text().replace("return reply.text", "raise ValueError('cannot read ' + reply.text)"))
    with serving(lambda messages: "blah") as server:
        ended = run(cli, server, "--proposals", "4", task=task)
    message = mistake(ended, 3)
    assert "stage 'baseline' failed 4 of 4 times, most often with: ValueError: cannot read blah" in message
    assert "ended: failed (stage 'baseline' failed 4 of 4 times" in message
    assert "nothing was accepted" in ended.out
    with fg.StoredRun.open("out") as stored:
        assert stored.status == "failed"
        assert stored.reason.startswith("stage 'baseline' failed 4 of 4 times")


def test_a_server_that_dies_in_mid_run(cli: Cli, tmp_path: Path) -> None:
    """If the server dies the exit code is 3, and what was reached is reported and written."""

    def die(server: Server) -> None:
        if server.chats >= 20:
            server.status = -1

    with serving(wise) as server:
        server.on_chat = die
        ended = run(cli, server, "--proposals", "50")
    assert "the run failed: no model server answers" in mistake(ended, 3)
    assert "gepa on words: failed (" in ended.out
    assert "held-out test: not tested: the run failed" in ended.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "failed"


def test_a_defect_in_mid_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect prints its traceback, and what was paid for is still reported."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Calls, "answered", broken)
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "3")
    assert ended.code == 3
    assert "Traceback" in ended.err
    assert "a defect of flashgraph: ZeroDivisionError: oh" in ended.err
    assert "written to out:" in ended.out


def test_ctrl_c(cli: Cli, tmp_path: Path) -> None:
    """The first Ctrl-C waits for running work and reports; the exit code and the advice follow."""

    def interrupt(server: Server) -> None:
        if server.chats == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with serving(wise) as server:
        server.on_chat = interrupt
        ended = run(cli, server, "--proposals", "500")
    assert ended.code == 130
    assert "stopping" in ended.err
    assert "gepa on words: stopped (interrupted)" in ended.out
    assert "to continue: flashgraph resume out" in ended.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "stopped"


def test_resume(cli: Cli, tmp_path: Path) -> None:
    """An interrupted run continues to its budget as if uninterrupted, and then to a larger one."""

    def interrupt(server: Server) -> None:
        if server.chats == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with serving(wise) as server:
        server.on_chat = interrupt
        assert run(cli, server, "--proposals", "4", "--schedule", "lockstep").code == 130
        server.on_chat = lambda server: None
        ended = cli("resume", "out")
        assert ended.code == 0, ended.err
        assert "gepa on words: budget (no proposals left)" in ended.out
        assert json.loads((tmp_path / "out" / "result.json").read_text())["spent"]["proposals"] == 4
        ended = cli("resume", "out", "--proposals", "6")
        assert ended.code == 0, ended.err
        assert json.loads((tmp_path / "out" / "result.json").read_text())["spent"]["proposals"] == 6


def test_what_tests_have_cost_stays_counted_with_another_task(cli: Cli, tmp_path: Path) -> None:
    """A run that starts over twice reports the cost of all its tests."""
    task = tmp_path / "mine.py"
    task.write_text(WORDS.read_text())
    with serving(wise) as server:
        run(cli, server, "--proposals", "1", "--schedule", "lockstep", task=task)
        costs = []
        for change in ("cow", "doe"):
            costs.append(json.loads((tmp_path / "out" / "result.json").read_text())["test"]["spent"]["calls"])
            task.write_text(task.read_text().replace(f'"{change}"', f'"{change}s"'))
            for name in [name for name in sys.modules if name.startswith("flashgraph_file_mine")]:
                del sys.modules[name]  # as in another process
            assert cli("resume", "out", "--accept-changes", "--proposals", f"{len(costs) + 1}").code == 0
        last = json.loads((tmp_path / "out" / "result.json").read_text())
        shown = json.loads(cli("show", "out", "--json").out)
    assert 0 < costs[0] < costs[1] < last["test"]["spent"]["calls"]
    assert shown["run"]["spend"]["calls"] == server.chats


def test_the_test_is_not_paid_again(cli: Cli, tmp_path: Path) -> None:
    """Resuming tests only what it has not tested, and reports the same for the rest."""
    with serving(wise) as server:
        run(cli, server, "--proposals", "2", "--schedule", "lockstep")
        first, chats = json.loads((tmp_path / "out" / "result.json").read_text()), server.chats
        assert cli("resume", "out").code == 0
        second = json.loads((tmp_path / "out" / "result.json").read_text())
        assert server.chats == chats
        assert (second["test"]["seed"], second["test"]["best"]) == (first["test"]["seed"], first["test"]["best"])
        assert second["test"]["spent"] == first["test"]["spent"]
        shown = json.loads(cli("show", "out", "--json").out)
    assert shown["run"]["spend"]["calls"] == chats
    assert shown["run"]["spend"]["prompt_tokens"] == 7 * chats


def test_tests_count_on_the_budget_of_all_sessions(cli: Cli, tmp_path: Path) -> None:
    """I10: the budget includes what earlier sessions paid for their tests."""
    with serving(wise) as server:
        run(cli, server, "--proposals", "1", "--calls", "60", "--schedule", "lockstep")
        assert server.chats < 40
        for proposals in ("2", "3", "500"):
            assert cli("resume", "out", "--proposals", proposals).code == 0
        assert server.chats <= 60
        with sqlite3.connect(tmp_path / "out" / "journal.db") as db:
            (tests,) = db.execute("SELECT count(*) FROM tests WHERE how = 'done'").fetchone()
        assert json.loads((tmp_path / "out" / "result.json").read_text())["test"]["spent"]["calls"] == tests > 6
        shown = json.loads(cli("show", "out", "--json").out)
    assert shown["run"]["spend"]["calls"] == server.chats


def test_the_advice_to_continue_works(cli: Cli, tmp_path: Path) -> None:
    """The advice after a budget is a command that works; a budget below the use is refused."""
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "3", "--schedule", "lockstep", "--no-test")
        (hint,) = [line for line in ended.out.splitlines() if line.startswith("to continue: ")]
        assert cli(*hint.split()[3:]).code == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["spent"]["proposals"] == 6
    ended = cli("resume", "out", "--proposals", "5")
    assert ended.code == 2
    assert "found 5, but the run has already used 6 proposals" in ended.err
    assert "e.g. --proposals 12" in ended.err


def test_resume_keeps_the_budget_that_the_run_had_last(cli: Cli) -> None:
    """A larger budget of an earlier resume stays, and cancelled work continues under it."""

    def interrupt(server: Server) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        server.on_chat = lambda server: None

    with serving(wise) as server:
        run(cli, server, "--proposals", "1", "--schedule", "lockstep", "--no-test")
        server.on_chat = interrupt
        assert cli("resume", "out", "--proposals", "4").code == 130
        assert " accepted, 4 proposals" in cli("resume", "out").out


def test_a_test_that_was_declined_stays_so(cli: Cli, tmp_path: Path) -> None:
    """A declined test stays declined until a resume asks for it."""
    with serving(wise) as server:
        run(cli, server, "--proposals", "2", "--no-test")
        assert "not tested: --no-test" in cli("resume", "out", "--proposals", "3").out
        assert "not tested" not in cli("resume", "out", "--test").out


def test_resume_after_a_failure(cli: Cli, tmp_path: Path) -> None:
    """Failed work is not retried, and the output says so; an accepted change of the task starts the run over."""
    task = tmp_path / "broken.py"
    task.write_text(WORDS.read_text().replace("return reply.text", "raise ValueError('cannot read')"))
    with serving(wise) as server:
        assert run(cli, server, "--proposals", "4", task=task).code == 3
        ended = cli("resume", "out")
        assert ended.code == 3
        assert "resuming does not retry failed work" in ended.out
        assert "to continue" not in ended.out
        task.write_text(WORDS.read_text())
        ended = cli("resume", "out")
        assert (ended.code, ended.out) == (1, "")
        assert "task: attempt: another function" in ended.err
        assert "--accept-changes, which restarts" in ended.err
        for name in [name for name in sys.modules if name.startswith("flashgraph_file_broken")]:
            del sys.modules[name]  # as in another process
        ended = cli("resume", "out", "--accept-changes", "--target-score", "inf")
    assert ended.code == 0
    assert "4 proposals" in ended.out


def test_the_lock_is_deleted_during_the_run(cli: Cli, tmp_path: Path) -> None:
    """The run stops, because another process could take it, and can be resumed."""

    def delete(server: Server) -> None:
        if server.chats == 30:
            (tmp_path / "out" / "lock").unlink()

    with serving(wise) as server:
        server.on_chat = delete
        ended = run(cli, server, "--proposals", "200", "--no-test", "--target-score", "inf")
        assert server.chats < 60
        assert ended.code == 3
        assert "the file lock was deleted or replaced during the run" in ended.err
        assert "flashgraph resume out" in ended.out
        assert cli("resume", "out", "--proposals", "12").code == 0


def test_the_journal_is_deleted_during_the_run(cli: Cli, tmp_path: Path) -> None:
    """If its journal is deleted, the run stops, writes its files and does not offer to be resumed."""

    def delete(server: Server) -> None:
        if server.chats == 30:
            (tmp_path / "out" / "journal.db").unlink()

    with serving(wise) as server:
        server.on_chat = delete
        ended = run(cli, server, "--proposals", "200", "--no-test", "--target-score", "inf")
        assert server.chats < 60
    assert ended.code == 3
    assert "the journal was lost during the run: journal.db was deleted or moved" in ended.err
    assert "the run cannot be resumed: out/journal.db: no such journal" in ended.out
    assert "flashgraph resume" not in ended.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "failed"


def test_resume_after_a_kill(cli: Cli, tmp_path: Path) -> None:
    """After a kill, progress includes earlier sessions and lost calls, and the target still counts."""
    with serving(wise) as server:
        command = ["run", "gepa", "--task", str(WORDS), "--model", server.spec, "--out", "out", "--proposals", "500"]
        process = subprocess.Popen(
            [sys.executable, "-m", "flashgraph", *command],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server.on_chat = lambda server: process.kill() if server.chats >= 30 else None
        process.wait()
        server.on_chat = lambda server: None
        with fg.StoredRun.open("out") as run:
            assert run.status == "killed"
            assert run.spend().unanswered > 0
            before = run.best_score()
        assert before is not None
        assert before < 0.9
        ended = cli("resume", "out", "--target-score", "0.9")
    assert ended.code == 0
    assert "called again" not in ended.err
    assert f", was {before:.2f} (" in next(line for line in ended.err.splitlines() if " best " in line)
    assert "stopped (a score of 1.000 was reached, the target is 0.9)" in ended.out


def test_a_target_that_no_score_can_reach(cli: Cli) -> None:
    """A target that no score can reach is refused."""
    message = mistake(run(cli, "local", "--proposals", "5", "--target-score", "7"))
    assert "(--target-score): no score of task 'words' can reach it; expected a number of at most 1" in message


def test_a_perfect_validation(cli: Cli, tmp_path: Path) -> None:
    """A perfect validation ends the run, which says how to continue; resumed with inf it runs to its budget."""
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "500", "--no-test")
        assert ended.code == 0
        reason = "the best has the greatest score, 1, on all 4 samples of the validation"
        assert f"ended: stopped ({reason})" in ended.err
        assert "to continue: flashgraph resume out --target-score inf\n" in ended.out
        used = json.loads((tmp_path / "out" / "result.json").read_text())["spent"]["proposals"]
        assert used < 100
        ended = cli("resume", "out", "--proposals", str(used + 20), "--target-score", "inf")
    assert "gepa on words: budget (no proposals left)" in ended.out


def test_patience(cli: Cli, tmp_path: Path) -> None:
    """The patience ends a run without progress; a resume with the same patience ends again, a larger one continues."""
    with serving(lambda messages: "```\nAnswer briefly.\n```") as server:
        ended = run(cli, server, "--proposals", "500", "--schedule", "lockstep", "--patience", "5", "--no-test")
        assert ended.code == 0
        reason = "5 proposals in a row have not improved on the best with a score of 0.000, the patience is 5"
        assert f"gepa on words: stopped ({reason})" in ended.out
        assert "to continue: flashgraph resume out --patience N, with a larger number\n" in ended.out
        assert reason in cli("resume", "out").out
        ended = cli("resume", "out", "--patience", "7")
    assert "stopped (7 proposals in a row have not improved" in ended.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["spent"]["proposals"] == 7


def test_a_target_that_was_reached_before(cli: Cli) -> None:
    """A run that is resumed for a score that it has reached calls no model."""
    with serving(wise) as server:
        run(cli, server, "--proposals", "6", "--no-test")
        chats = server.chats
        ended = cli("resume", "out", "--proposals", "60", "--no-test", "--target-score", "0.5")
    assert "the target is 0.5" in ended.out
    assert server.chats == chats


def test_resume_of_no_run(cli: Cli) -> None:
    """The message names the folder."""
    message = mistake(cli("resume", "nowhere"), 1)
    assert "run 'nowhere': no such run" in message


def test_a_target_score(cli: Cli, tmp_path: Path) -> None:
    """The run ends normally at the target score, and its best artifact is tested."""
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "500", "--target-score", "0.5")
    assert ended.code == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["status"] == "stopped"
    assert "the target is 0.5" in found["reason"]
    assert found["validation"]["best"] >= 0.5
    assert "to continue: flashgraph resume out --target-score SCORE, with a higher score\n" in ended.out
    assert found["test"] is not None


def test_a_target_is_no_interruption(cli: Cli, tmp_path: Path) -> None:
    """Running work may finish after the target is reached, for longer than --grace; the best is tested."""
    slow = threading.Event()

    def later(messages: list[dict[str, str]]) -> str:
        if len(messages) == 1 and "Know" in messages[0]["content"]:
            slow.wait(1.0)
        return wise(messages)

    with serving(later) as server:
        ended = run(cli, server, "--proposals", "500", "--target-score", "0.2", "--grace", "0")
    assert ended.code == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (found["status"], found["test"] is None) == ("stopped", False)


def test_resume_keeps_the_target(cli: Cli, tmp_path: Path) -> None:
    """A resumed run keeps its target unless another one is given."""
    with serving(wise) as server:
        run(cli, server, "--proposals", "1", "--schedule", "lockstep", "--target-score", "0.5", "--no-test")
        assert "the target is 0.5" in cli("resume", "out", "--proposals", "500").err
        assert "the target is 0.9" in cli("resume", "out", "--target-score", "0.9").err


def test_resume_keeps_minutes_and_models(cli: Cli, tmp_path: Path) -> None:
    """A resumed run keeps the minutes and models of its last session."""

    def last_limits() -> Mapping[str, float]:
        with StoredRun.open(tmp_path / "out") as stored:
            return stored.limits()

    with serving(wise) as first, serving(wise) as second:
        run(cli, first, "--proposals", "1", "--minutes", "0.0001", "--schedule", "lockstep", "--no-test")
        assert cli("resume", "out", "--minutes", "50", "--model", second.spec).code == 0
        assert last_limits() == {"proposals": 1, "seconds": 3000}
        before = first.chats
        assert cli("resume", "out", "--proposals", "3").code == 0
        assert last_limits() == {"proposals": 3, "seconds": 3000}
    assert (first.chats, second.chats > 0) == (before, True)


def test_ctrl_c_in_the_test(cli: Cli, tmp_path: Path) -> None:
    """Ctrl-C in the test keeps the run's outcome, without a test."""
    asked: list[str] = []

    def counted(messages: list[dict[str, str]]) -> str:
        asked.append(messages[-1]["content"])
        return wise(messages)

    def interrupt(server: Server) -> None:
        if asked and asked[-1] in ("asp", "boa", "cod"):
            server.on_chat = lambda server: None
            os.kill(os.getpid(), signal.SIGINT)

    with serving(counted) as server:
        server.on_chat = interrupt
        ended = run(cli, server, "--proposals", "2", "--target-score", "inf")
    assert ended.code == 130
    assert "gepa on words: budget (no proposals left)" in ended.out
    assert "held-out test: not tested: interrupted" in ended.out


class Last(Interrupts):
    """Interrupts without steps, so that each signal is the last one."""

    steps = property(lambda self: [], lambda self, steps: None)


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGHUP], [signal.SIGTERM] * 3])
def test_the_last_interrupt_leaves_the_files(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: list[signal.Signals]
) -> None:
    """The last interrupt ends the run at once, and what was reached is reported."""
    monkeypatch.setattr("flashgraph.cli.session.Interrupts", Last)

    def interrupt(server: Server) -> None:
        if server.chats > 20:
            server.on_chat = lambda server: None
            for number in signals:
                os.kill(os.getpid(), number)

    with serving(wise) as server:
        server.on_chat = interrupt
        ended = run(cli, server, "--proposals", "500", "--target-score", "inf")
        assert ended.code == 130
        assert "written to out: best.json, best-instruction.txt, result.json, events.jsonl" in ended.out
        assert "to continue: flashgraph resume out" in ended.out
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert (result["status"], result["reason"]) == ("cancelled", "interrupted")
        assert cli("resume", "out", "--proposals", "2", "--no-test").code in (0, 2)


def test_a_run_that_is_written_from_another_thread(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread can write the files while a function blocks the event loop."""
    seen: list[set[str]] = []

    def rescue(server: Server) -> None:
        if server.chats == 20:  # on the server's thread
            for write in RESCUES:
                write()
            seen.append({path.name for path in (tmp_path / "out").iterdir()})

    with serving(wise) as server:
        server.on_chat = rescue
        run(cli, server, "--proposals", "3", "--target-score", "inf", "--no-test")
    assert {"best.json", "result.json", "events.jsonl"} <= seen[0]
    assert RESCUES == []


def test_a_file_that_changes_the_working_directory(cli: Cli, tmp_path: Path) -> None:
    """A task that changes the working directory, on import and in attempts, does not move the run's files."""
    (tmp_path / "elsewhere").mkdir()
    change = f"os.chdir({str(tmp_path / 'elsewhere')!r})"
    text = WORDS.read_text().replace("    return reply.text", f"    {change}\n    return reply.text")
    (tmp_path / "task.py").write_text(
        text.replace("import flashgraph as fg\n", f"import os\nimport flashgraph as fg\n{change}\n")
    )
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "1", "--schedule", "lockstep", "--cache", "c.db", task=Path("task.py"))
        assert ended.code == 0, ended.err
        assert "written to out: best.json" in ended.out
        assert (tmp_path / "out" / "result.json").exists()
        os.chdir(tmp_path)
        assert cli("resume", "out", "--proposals", "2").code == 0
    assert (tmp_path / "c.db").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    score=score,\n", "", "missing 1 required keyword-only argument: 'score'"),
        ('val=["ape", "bat", "cow", "doe"]', "val=[]", "the val split is empty"),
        ("task = fg.Task(", "chore = attempt or fg.Task(", "found no fg.Task, expected one"),
        ("task = fg.Task(", "exit()\ntask = fg.Task(", "the file could not be loaded: SystemExit"),
        (
            "task = fg.Task(",
            "raise BaseException(1)\ntask = fg.Task(",
            "the file could not be loaded: BaseException: 1",
        ),
        ("task = fg.Task(", "raise GeneratorExit\ntask = fg.Task(", "the file could not be loaded: GeneratorExit"),
    ],
)
def test_a_task_file_with_a_mistake(cli: Cli, tmp_path: Path, old: str, new: str, said: str) -> None:
    """A mistake in the task file gets one message with the fix."""
    task = tmp_path / "mine.py"
    task.write_text(WORDS.read_text().replace(old, new))
    message = mistake(run(cli, "local", "--calls", "9", task=task))
    assert said in message
    assert "Fix: " in message


def test_an_unknown_parameter(cli: Cli) -> None:
    """An unknown parameter gets the nearest name."""
    message = mistake(run(cli, "openai:http://127.0.0.1:9#tiny", "--calls", "9", "--set", "minibach=3"))
    assert "did you mean 'minibatch'?" in message


def test_a_graph_with_three_mistakes(cli: Cli) -> None:
    """All mistakes of a graph are reported before any model is called."""
    ended = cli("run", FILES / "three_mistakes.py", "--task", WORDS, "--model", "local", "--calls", "9")
    assert "has 3 problems" in mistake(ended)


def test_a_model_string_with_a_mistake(cli: Cli) -> None:
    """A wrong model string gets the list of forms."""
    assert "did you mean 'openai'?" in mistake(run(cli, "openia:http://x#y", "--calls", "9"))


def test_failing_samples_of_the_test_count_as_zero(cli: Cli, tmp_path: Path) -> None:
    """Failing test samples get the least score and are reported beside the score."""
    task = tmp_path / "partly.py"
    broken = 'if sample == "boa":\n        raise KeyError(sample)\n    return reply.text'
    task.write_text(WORDS.read_text().replace("return reply.text", broken))
    with serving(wise) as server:
        ended = run(cli, server, "--proposals", "6", task=task)
    line = next(line for line in ended.out.splitlines() if line.startswith("held-out test"))
    why = r"\(e.g. \"KeyError: 'boa'\"\) and got the least score"
    failed = r"\(3 of 3, 1 failed, \d\.\d\d to \d\.\d\d\)"
    assert re.search(rf"0\.00 {failed} +0\.67 {failed}  3 samples, 6 calls; 1 sample of the seed failed {why}", line)


def test_a_cache(cli: Cli, tmp_path: Path) -> None:
    """A second run sends no request whose reply at temperature 0 is in the cache."""
    with serving(wise) as server:
        cache = ("--cache", "replies.db", "--cache-samples")
        options = ("--proposals", "2", "--schedule", "lockstep", "--no-test", *cache)
        assert run(cli, server, *options).code == 0
        asked = server.chats
        (tmp_path / "out").rename(tmp_path / "first")
        assert run(cli, server, *options).code == 0
        assert server.chats == asked
    first, second = (json.loads((tmp_path / f / "result.json").read_text()) for f in ("first", "out"))
    assert second["spent"]["tokens"] == 0
    assert first["validation"] == second["validation"]
