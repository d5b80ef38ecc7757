"""The display on a terminal: rows by importance, in windows of any size."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.observe.frame import frame, outlook_of, spark, status
from flashgraph.observe.progress import Progress
from flashgraph.run import events as ev
from flashgraph.text.differences import words
from flashgraph.text.terminal import Frame

SPEC = load_graph("gepa").spec


def followed(**limits: int) -> Progress:
    """Return the progress of a run that has found a better champion and had failures."""
    progress = Progress(SPEC, fg.Budget(**limits))
    progress.on_event(ev.Admitted(1.0, "frontier", 1, 0, 9, 0, False, (), 0.25))
    progress.on_event(ev.ChampionChanged(1.0, "frontier", 1, 0, 0.25, None, False))
    progress.on_event(ev.Admitted(30.0, "frontier", 2, 1, 9, 2, False, (0,), 0.5))
    progress.on_event(ev.ChampionChanged(30.0, "frontier", 2, 1, 0.5, None, False))
    for job in range(3):
        progress.on_event(ev.JobStarted(30.0, job, "rollout", None, 1, 0))
        progress.on_event(ev.CallStarted(30.0, job, job, "task", "tiny", job + 1))
    progress.on_event(ev.CallEnded(40.0, 0, 0, "task", "cancelled", 700, 300, None, 1.0))
    progress.on_event(ev.JobEnded(40.0, 0, "rollout", "cancelled", 1.0))
    progress.on_event(ev.JobEnded(40.0, 1, "rollout", "failed", 1.0, reason="no reply"))
    progress.on_event(ev.EndpointDown(45.0, "tiny", 9.0, "refused"))
    progress.now, progress.waiting, progress.reserved = 60.0, 40, {"tokens": 500.0}
    progress.endpoints["tiny"].limit = 16
    return progress


def test_rows_are_in_the_order_of_what_matters() -> None:
    """Bar, best, spend, server and news come before the stages and the pools."""
    said = [line for line, _ in frame(followed(tokens=4000, seconds=240), 120, 50)]
    assert said[:8] == [
        "[########------------] 38% of tokens, 1:00 of 4:00, about 1:40 left",
        "best 0.500, seed 0.250, \u2581\u2588 changed 0:30 ago, 2 accepted",
        "1,000 + 500 reserved of 4,000 tokens, 0 proposals, 2 evaluations, 1 calls",
        "tiny down, 2 of 16 in flight, 40 waiting",
        "0:30 best 0.500, was 0.250",
        "0:40 rollout failed: no reply",
        "0:45 tiny is down; its requests go to the other endpoints: refused",
        said[7],
    ]
    assert said[7].split() == [
        "stage",
        "waiting",
        "working",
        "done",
        "failed",
        "cancelled",
        "per",
        "min",
        "tokens",
        "lost",
    ]
    rollout = next(line for line in said if line.startswith("rollout"))
    assert rollout.split() == ["rollout", "0", "1", "0", "1", "1", "0.0", "1,000", "1,000"]
    assert said[-1] == "frontier version 2, 2 artifacts (0 provisional), mean lag 1.0, largest 2"


@given(width=st.integers(20, 200), height=st.integers(1, 40), notice=st.sampled_from(["", "stopping: running work"]))
def test_a_frame_fits_its_window(width: int, height: int, notice: str) -> None:
    """No line is wider than the window, lines are cut from below, and a notice is the first line."""
    progress = followed(tokens=4000)
    progress.notice = notice
    whole, cut = frame(progress, width, 100), frame(progress, width, height)
    assert cut == whole[:height]
    assert all(len(line) <= width for line, _ in whole)
    assert not notice or cut[0][0].startswith(notice[: width - 3])


@pytest.mark.parametrize(("width", "height"), [(80, 16), (44, 12)])
def test_a_small_window_shows_spend_and_time(width: int, height: int) -> None:
    """A terminal of 80 x 16, or of 44 columns, shows time, best, spend and the server."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None)
    console.print(Frame(lambda *size: frame(followed(tokens=4000, seconds=240), *size)))
    said = out.getvalue().splitlines()
    assert len(said) <= height - 1
    for part in ("38% of tokens", "best 0.500", "1,000 + 500 reserved of 4,000", "tiny down"):
        assert any(part in line for line in said), part


def test_what_is_reserved_binds() -> None:
    """A budget is as good as used up when work in flight has reserved the rest."""
    progress = Progress(SPEC, fg.Budget(tokens=1000, calls=100))
    progress.spent["tokens"], progress.spent["calls"], progress.now = 250.0, 30.0, 10.0
    assert outlook_of(progress)[:2] == (0.3, "calls")
    progress.reserved = {"tokens": 750.0}
    assert outlook_of(progress) == (1.0, "tokens", 0.0)
    assert outlook_of(Progress(SPEC, fg.Budget())) == (0.0, "", None)


def test_one_line_for_logs() -> None:
    """A log gets the same facts in one line."""
    assert status(followed(calls=10)) == (
        "10% of calls, 1:00, about 9:00 left; best 0.500; 2 requests in flight, 40 waiting; 1 of 10 calls, "
        "0 proposals, 2 evaluations, 1,000 tokens"
    )


def test_a_curve_in_unicode_and_in_ascii() -> None:
    """The lowest value has the lowest sign; equal values are flat; only the last ones are shown."""
    assert spark([0.0, 0.5, 1.0]) == "\u2581\u2585\u2588"
    assert spark([0.0, 1.0], ascii_only=True) == "_#"
    assert spark([0.5, 0.5]) == "\u2581\u2581"
    assert len(spark([k / 40 for k in range(40)])) == 16


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("sort each ticket", "sort every ticket", "[-each-] {+every+}"),
        ("a b c d", "a c d e", "[-b-] ... {+e+}"),
        ("same", "same", ""),
        ("", "new words", "{+new words+}"),
        ("x " * 9000, "x " * 9001, "9,000 words became 9,001"),
    ],
)
def test_words_that_differ(before: str, after: str, expected: str) -> None:
    """Only the words that differ are shown; texts that would take long are counted."""
    assert words(before, after) == expected


def test_many_words_are_cut() -> None:
    """A rewritten text is cut at the wished length."""
    assert words("old " * 50, "new " * 50, most=40) == "[-" + "old " * 8 + "old" + "..."
