"""Reports of hand-made results."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from flashgraph.errors import DataError
from flashgraph.evidence import Evidence, weigh
from flashgraph.observe.report import Report, claim_folder, new_folder
from flashgraph.parts.evaluation import Candidate
from flashgraph.run.cause import Cause, RunStatus
from flashgraph.run.events import CallEnded, Created, Ended, Event, JobEnded, JobStarted, Reopened, RunEnded
from flashgraph.run.heldout import HeldOut
from flashgraph.run.result import Result, ResultArtifact, Spent, texts_of

SEED = {"system": "be good", "user/tail": "one\ntwo\nthree"}


def artifact(id: int, value: Any, score: float | None, *, provisional: bool = False) -> ResultArtifact:
    return ResultArtifact("pool", id, id + 1, value, (), score, {}, 0, provisional, False, 1.0)


def result(best: Any, *events: Event, score: float = 0.75, provisional: bool = False, proposals: int = 3) -> Result:
    seed, other = artifact(0, SEED, 0.5), artifact(1, best, score, provisional=provisional)
    spent = Spent(proposals, 20, 25, 1234, 0.5, 61.0)
    return Result("g", "t", "budget", Cause.CALLS, "no calls left", (seed, other), other, spent, events)


BETTER = {**SEED, "user/tail": "one\n2\nthree"}


def test_the_diff_is_by_component() -> None:
    """The diff is by component, without equal ones."""
    lines = Report(result(BETTER), SEED).diff()
    assert lines == ["--- seed: user/tail", "+++ best: user/tail", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three"]


def test_head_and_scores() -> None:
    """The report shows the seed's scores beside the best's, and what was spent."""
    report = Report(result(BETTER, provisional=True), SEED, untested="--no-test")
    assert report.head() == [
        "g on t: budget (no calls left)",
        "2 accepted, 3 proposals, 20 evaluations, 25 calls, 1,234 tokens, $0.5000, 1:01",
    ]
    assert report.scores() == [
        "                 seed    best",
        "validation      0.500   0.750  provisional: part of its validation was still running",
        "held-out test: not tested: --no-test",
    ]


def test_scores_with_their_evidence_and_what_is_not_proven() -> None:
    """Each score has its interval; candidates tried on part of the validation are listed as unproven."""
    half = {sample: float(sample < 40) for sample in range(50)}
    best = weigh(dict.fromkeys(range(100), 0.7), 100)
    known: list[Evidence | None] = [None, best, weigh(half, 100), weigh({**half, 0: 0.0}, 100), weigh({0: 0.0}, 100)]
    found = [
        attrs.evolve(artifact(i, f"text {i}", e.estimate if e else None), evidence=e, retracted=i == 3)
        for i, e in enumerate(known)
    ]
    report = Report(attrs.evolve(result(BETTER), artifacts=tuple(found), best=found[1]), SEED, untested="--no-test")
    assert report.scores()[1:] == [
        f"validation          -  {best}",
        "held-out test: not tested: --no-test",
        f"artifact 2 may be better: {known[2]}, not proven",
    ]
    assert str(known[2]).startswith("0.80 (50 of 100, ")


def test_held_out_scores_with_failures() -> None:
    """The note gives the number of failed samples and a reason."""
    test = (HeldOut(0.5, (1.0, 0.0)), HeldOut(0.5, (1.0, 0.0), {1: "KeyError: 'x'"}))
    report = Report(result(BETTER), SEED, test=test, tested={"calls": 4})
    note = "2 samples, 4 calls; 1 sample of the best failed (e.g. \"KeyError: 'x'\") and got the least score"
    assert report.scores()[-1] == f"held-out test   0.500   0.500  {note}"


def test_nothing_accepted() -> None:
    """Without an accepted artifact there are no scores."""
    report = Report(attrs.evolve(result(BETTER), artifacts=(), best=None), SEED, untested="x")
    assert report.scores() == ["nothing was accepted: there is no best artifact"]
    assert (report.best, report.fruitless()) == (None, "")


def test_failures_are_counted_by_stage() -> None:
    """Failures are counted by stage, with the most frequent reason."""
    ends = [("done", ""), ("failed", "a"), ("failed", "b"), ("failed", "b"), ("cancelled", "late")]
    events = [JobEnded(0.0, k, "try", how, 1.0, Cause.RAISED, why) for k, (how, why) in enumerate(ends)]  # type: ignore[arg-type]
    assert Report(result(BETTER, *events), SEED).failures() == ["stage 'try' failed 3 of 5 times, most often with: b"]


def test_a_seed_that_stays_the_best_has_a_reason() -> None:
    """If the seed stays the best despite proposals, the report gives advice."""
    assert Report(result(SEED), SEED).fruitless().startswith("none of 3 proposals improved on the seed.")
    assert Report(result(SEED, proposals=0), SEED).fruitless() == ""


def test_a_seed_that_stays_the_best_because_nothing_is_proven() -> None:
    """If another artifact may be better, the advice is about evidence, not about the model."""
    few, more = weigh(dict.fromkeys(range(24), 0.0), 100), weigh(dict.fromkeys(range(24), 1.0), 100)
    other, best = (attrs.evolve(artifact(i, SEED, e.estimate), evidence=e) for i, e in ((1, more), (0, few)))
    found = Report(attrs.evolve(result(SEED), artifacts=(best, other), best=best), SEED).fruitless()
    assert found.startswith("none of 3 proposals is proven better than the seed, but some may be (listed below).")
    assert "--set 'EDGE.release=all' for the edge into pool" in found
    assert "--model" not in found


def test_a_seed_that_stays_the_best_because_stages_failed() -> None:
    """If most jobs of a stage failed, the advice is to fix the stage; after rare failures it is a stronger model."""
    failed = JobEnded(0.0, 0, "propose", "failed", 1.0, Cause.RAISED, "KeyError: 'x'")
    said = Report(result(SEED, failed), SEED).fruitless()
    assert "resolve the stage failures listed below" in said
    assert "--model" not in said
    done = [JobEnded(0.0, job, "propose", "done", 1.0) for job in (1, 2)]
    assert "--model" in Report(result(SEED, failed, *done), SEED).fruitless()


def test_what_was_discarded_as_stale() -> None:
    """Stale items are counted by edge and explain a seed that stays the best; orphans do not count."""
    causes = [Cause.STALE, Cause.STALE, Cause.ORPHAN, Cause.STALE, Cause.DONE]
    made = [Created(0.0, k, f"a->{'bbbcb'[k]}", 0, (), None, None, {}, frozenset()) for k in range(5)]
    report = Report(result(SEED, *made, *(Ended(1.0, k, "discarded", c) for k, c in enumerate(causes))), SEED)
    assert report.discards() == ["2 items discarded as stale on a->b", "1 item discarded as stale on a->c"]
    assert report.ends() == {"items": {"stale": 3, "orphan": 1}, "jobs": {}}
    assert "discard fewer stale items" in report.fruitless()


ENDED = [Reopened(1.0, 0), RunEnded(1.0, "completed", Cause.DONE, "", 0)]


@pytest.mark.parametrize(
    ("status", "cause", "events", "said"),
    [
        ("budget", Cause.PROPOSALS, [], "to continue: flashgraph resume out --proposals 6"),
        ("budget", Cause.USD, [], "to continue: flashgraph resume out --usd 1"),
        ("budget", Cause.SECONDS, [], "to continue: flashgraph resume out --minutes 3"),
        ("budget", Cause.RESERVE, [], "to continue: flashgraph resume out, with a larger budget"),
        ("stopped", Cause.CALLER, [], "to continue: flashgraph resume out"),
        ("stopped", Cause.TARGET, [], "to continue: flashgraph resume out --target-score SCORE, with a higher score"),
        ("stopped", Cause.PERFECT, [], "to continue: flashgraph resume out --target-score inf"),
        ("stopped", Cause.PATIENCE, [], "to continue: flashgraph resume out --patience N, with a larger number"),
        ("failed", Cause.MODEL, [RunEnded(1.0, "failed", Cause.MODEL, "", 1)], "to continue: flashgraph resume out"),
        ("failed", Cause.FRUITLESS, ENDED, "resuming does not retry failed work, "),
        ("completed", Cause.DONE, ENDED[1:], ""),
        ("completed", Cause.DONE, ENDED, "no work was left: "),
        ("completed", Cause.DONE, [ENDED[0], JobStarted(1.0, 1, "a", 1, 1, 0), ENDED[1]], ""),
    ],
)
def test_how_to_resume(status: RunStatus, cause: Cause, events: list[Event], said: str) -> None:
    """The advice is a command that works, or the reason why resuming does nothing."""
    report = Report(attrs.evolve(result(BETTER, *events), status=status, cause=cause), SEED)
    found = report.to_resume(Path("out"))
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("x", {"text": "x"}),
        ({"a": "x"}, {"a": "x"}),
        (Candidate({"a": "x"}, 3), {"a": "x"}),
        ({"a": 1}, None),
        (7, None),
    ],
)
def test_texts_of_any_pools_artifacts(value: Any, texts: dict[str, str] | None) -> None:
    """Texts are read from mappings, strings and objects that hold them."""
    assert texts_of(value) == texts


def test_files(tmp_path: Path) -> None:
    """A component's name may hold characters that a file name may not; values of any kind are written."""
    assert Report(result(BETTER), SEED).write(tmp_path) == [
        "best.json",
        "best-system.txt",
        "best-user_tail.txt",
        "result.json",
        "events.jsonl",
    ]
    assert Report(result(7), SEED).write(tmp_path) == ["result.json", "events.jsonl"]


def test_what_tokens_were_counted_at_is_written(tmp_path: Path) -> None:
    """Prices are written by endpoint with their source."""
    paid = attrs.evolve(result(7), prices={"m@host": {"prompt": 1e-6, "completion": None, "source": "option"}})
    Report(paid, SEED).write(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["prices"] == paid.prices


def test_a_folder_is_claimed_before_the_run(tmp_path: Path) -> None:
    """A folder is claimed unless it holds a run or cannot be made."""
    assert claim_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the run"):
        claim_folder(tmp_path / "file" / "x")
    (tmp_path / "result.json").touch()
    with pytest.raises(DataError, match="already holds a run"):
        claim_folder(tmp_path)


def test_runs_that_start_at_once_share_no_folder(tmp_path: Path) -> None:
    """Runs that start together get different folders, with a number after the name."""
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_folder(tmp_path / "runs" / "gepa"), range(8)))
    assert sorted(folder.name for folder in made) == ["gepa", *(f"gepa-{number}" for number in range(2, 9))]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the run"):
        new_folder(tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("cause", "limits", "expected"),
    [
        (Cause.CALLS, {"judge.calls": 3}, "--budget judge.calls=6"),
        (Cause.CALLS, {"calls": 100, "judge.calls": 3}, "--budget judge.calls=6"),
        (Cause.CALLS, {"judge.calls": 3, "task.calls": 50}, "--budget judge.calls=6"),
        (Cause.TOKENS, {"judge.tokens": 40, "calls": 3}, "--budget judge.tokens=72"),
        (Cause.USD, {"judge.usd": 0.2}, "--budget judge.usd=0.3"),
        (Cause.USD, {"usd": 0.5, "judge.usd": 9}, "--usd 1"),
        (Cause.PROPOSALS, {"proposals": 3, "judge.calls": 3}, "--proposals 6"),
    ],
)
def test_the_limit_of_a_role_is_raised_for_that_role(cause: Cause, limits: Any, expected: str) -> None:
    """The one that is used up most, of those that count the amount which ended the run."""
    started = JobStarted(0.0, 1, "rate", 1, 1, 0)
    calls = [CallEnded(1.0, n, 1, "judge", "done", 10, 2, 0.05, 1.0, "stop", False) for n in range(3)]
    spent = Spent(3, 9, 20, 200, 0.5, 90.0)
    ended = attrs.evolve(result(BETTER), status="budget", cause=cause, events=[started, *calls], spent=spent)
    assert Report(ended, SEED, limits=limits).to_resume(Path("out")) == f"to continue: flashgraph resume out {expected}"
