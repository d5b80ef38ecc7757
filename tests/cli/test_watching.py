"""The output during a run: news as lines, notices in the display, and the progress of the held-out test."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.cli.watching import Follower, HeldOutCount
from flashgraph.graph.loading import load_graph
from flashgraph.observe.frame import frame
from flashgraph.run import events as ev


def test_news_are_lines_without_a_display(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe each piece of news is a line on stderr; with a display it is a row of the display alone."""
    for live in (False, True):
        follower = Follower(load_graph("gepa").spec, fg.Budget(calls=10), live)
        follower.on_event(ev.EndpointDown(5.0, "tiny", 9.0, "refused"))
        assert ("0:05 tiny is down" in capsys.readouterr().err) is not live
        assert any("0:05 tiny is down" in line for line, _ in frame(follower.progress, 120, 20))


def test_the_message_of_a_signal_stays_in_the_display() -> None:
    """The message of Ctrl-C is the first row until the end."""
    follower = Follower(load_graph("gepa").spec, fg.Budget(calls=10), live=True)
    follower.notify("stopping: running work has 30 s to finish")
    assert frame(follower.progress, 80, 16)[0][0] == "stopping: running work has 30 s to finish"


@pytest.mark.parametrize(("total", "said"), [(1, []), (4, [1, 2, 3]), (200, [50, 100, 150])])
def test_the_held_out_test_says_how_far_it_is(total: int, said: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """A line at each quarter of the attempts."""
    tested = HeldOutCount(total)
    for _ in range(total):
        tested()
    assert capsys.readouterr().err.splitlines() == [f"tested {done} of {total}" for done in said]
