"""Splits of one data set: shares, strata and duplicates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.tasks import data
from flashgraph.tasks.splitting import DISTINCT


def test_bare_shares_are_those_of_a_task() -> None:
    """Three numbers are train, val and test, as a task takes them."""
    parts: Any = data.split(range(10), (0.5, 0.3, 0.2))
    assert {name: len(part) for name, part in parts.items()} == {"train": 5, "val": 3, "test": 2}
    task: fg.Task[Any, Any] = fg.Task("mine", **parts, score=lambda sample, output: fg.Score(1.0))
    assert sorted([*task.train, *task.val, *task.test]) == list(range(10))
    assert set(data.split(range(10), (1, 1))) == {"train", "val"}


@given(
    st.lists(st.sampled_from("abc"), min_size=30, max_size=90),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.integers(0, 3),
)
def test_strata(labels: list[str], shares: tuple[int, int, int], seed: int) -> None:
    """Each part has its share of each value, to within two rows, and every row is used once."""
    rows: list[dict[str, Any]] = [{"id": number, "label": label} for number, label in enumerate(labels)]
    parts = data.split(rows, shares, seed=seed, by="label")
    assert sorted(row["id"] for part in parts.values() for row in part) == list(range(len(rows)))
    for label, count in Counter(labels).items():
        for (_, part), share in zip(parts.items(), shares, strict=True):
            assert abs(sum(row["label"] == label for row in part) - count * share / sum(shares)) <= 2
    assert parts == data.split(rows, shares, seed=seed, by=lambda row: row["label"])


def test_duplicates_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Equal rows in several parts are counted; equal rows in one part are not."""
    data.split([{"q": "a"}] * 8 + [{"q": "b"}] * 1, (1, 1))
    assert [record.getMessage() for record in caplog.records] == [
        f"split: 1 rows are in more than one of train, val.  Fix: split({DISTINCT}, ...)."
    ]
    for rows in ([{"q": "a"}, {"q": "b"}, {"q": "a"}], data.read([{"q": "a"}, {"q": "b"}, {"q": "a"}]), (1, 2, 1)):
        assert len(eval(DISTINCT, {"rows": rows})) == 2  # for every kind of row
    caplog.clear()
    data.split(range(9), (1, 1, 1))
    assert not caplog.records


def test_what_cannot_be_split() -> None:
    """A message names the column or the shares."""
    for call, said in (
        (lambda: data.split([{"label": 1}] * 4, (1, 1), by="labl"), "split: by='labl', and a row has no such column"),
        (lambda: data.split(range(9), (1, 1, 1, 1)), "split: 4 shares; expected at most 3."),
        (lambda: data.split(range(9), (1, float("nan"))), "expected numbers over 0"),
    ):
        with pytest.raises(DataError, match="split: ") as caught:
            call()
        assert said in str(caught.value)
