"""Events of a run with a journal: few in memory, and all of them readable."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run import spool
from flashgraph.run.spool import EventLog
from flashgraph.testing import settle
from flashgraph.testing.graphs import build
from flashgraph.testing.runs import TASK
from flashgraph.testing.shape import Shape, Step
from tests.run.kit import Virtually


def events(count: int, begin: int = 0) -> list[ev.Event]:
    return [
        ev.Created(float(n), n, "a->b", n // 7, (n,), None, None, {"pool": n}, frozenset({("pool", n)}))
        for n in range(begin, begin + count)
    ]


@given(parts=st.lists(st.integers(0, 40), max_size=8), kept=st.booleans(), data=st.data())
def test_a_log_is_a_list(parts: list[int], kept: bool, data: st.DataObject) -> None:
    """A log equals a list, for all pieces and all reads, in memory or in a file."""
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(spool, "CHUNK", 8)
        log, expected = EventLog(Path(tempfile.gettempdir()) if kept else None), list[ev.Event]()
        views = []
        for size in parts:
            new = events(size, len(expected))
            log.extend(new)
            expected += new
            views.append((log.view(), list(expected)))
        for view, then in [*views, (log, expected)]:
            assert (len(view), list(view), list(reversed(view))) == (len(then), then, then[::-1])
            assert view == then
            assert view == tuple(then)
            assert view != [*then, ev.Late(0.0, 0)]
            assert view != "text"
            begin, end = data.draw(st.integers(-50, 50)), data.draw(st.integers(-50, 50))
            assert view[begin:end] == tuple(then[begin:end])
            if then:
                place = data.draw(st.integers(-len(then), len(then) - 1))
                assert view[place] == then[place]
            for place in (len(then), -len(then) - 1):
                with pytest.raises(IndexError):
                    view[place]
        assert not kept or len(log._tail) < 8
        assert all(isinstance(chunk, tuple) == kept for chunk in log._chunks)


def test_a_file_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the file cannot be written, memory keeps all events, and the run continues."""
    log = EventLog(tmp_path / "missing")
    log.extend(events(3 * spool.CHUNK))
    assert list(log) == events(3 * spool.CHUNK)
    assert caplog.text.count("kept in memory") == 1


def test_a_result_reads_them_after_the_run(
    virtually: Virtually, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events read after a run with a journal equal those of the run without, also in a second session. Nothing is left
    in the folder.
    """
    monkeypatch.setattr(spool, "CHUNK", 16)
    shape = Shape((Step(calls=0), Step()), rounds=20)

    async def run(**options: Any) -> fg.Result:
        async with fg.open_run(build(shape), TASK, models={}, schedule="lockstep", settle=settle, **options) as opened:
            heard = [event async for event in opened]
            result = await opened.wait()
            assert heard[-5:] == list(result.events[-5:])
            assert len(opened._events._tail) < 16
            return result

    plain: fg.Result = virtually(run)
    kept: fg.Result = virtually(lambda: run(folder=tmp_path / "run"))
    again: fg.Result = virtually(lambda: run(folder=tmp_path / "run", resume=True))
    assert len(plain.events) > 100
    assert kept.events == plain.events
    assert again.events[: len(plain.events)] == tuple(plain.events)
    assert {file.name.split(".")[0] for file in (tmp_path / "run").iterdir()} <= {"journal", "lock"}
