"""Rows of tables and iterables that other libraries hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.tasks import data

ROWS = [{"q": "a", "n": 1}, {"q": "b", "n": 2}]


class Frame:
    """An imitation of a table of polars."""

    columns = ("q", "n")

    def to_dicts(self) -> list[dict[str, Any]]:
        return ROWS


class LazyFrame:
    """An imitation of a table of polars that is not computed yet."""

    columns = ("q", "n")

    def collect_schema(self) -> None: ...

    def collect(self) -> Frame:
        return Frame()


async def rows_later() -> AsyncIterator[dict[str, Any]]:
    for row in ROWS:
        await anyio.lowlevel.checkpoint()
        yield row


def of_pandas() -> Any:
    return pytest.importorskip("pandas").DataFrame(ROWS)


def of_arrow() -> Any:
    return pytest.importorskip("pyarrow").Table.from_pylist(ROWS)


def of_datasets() -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(ROWS)


def streamed() -> Any:
    return of_datasets().to_iterable_dataset()


TABLES = [of_pandas, of_arrow, of_datasets, Frame, LazyFrame]


@pytest.mark.parametrize("make", [*TABLES, streamed, rows_later, lambda: ROWS, lambda: iter(ROWS)])
def test_rows(make: Callable[[], Any]) -> None:
    """Each source gives the same rows, with their numbers as places."""
    assert [dict(row) for row in data.read(make())] == ROWS
    (row,) = data.read(make(), {"question": "q"}, take=slice(1, 2))
    assert (row["question"], row.place.line) == ("b", 2)


@pytest.mark.parametrize("make", TABLES)
def test_a_task_takes_tables(make: Callable[[], Any]) -> None:
    """The rows of a table are the samples, not the names of its columns."""
    task: fg.Task[Any, Any] = fg.Task("mine", make(), make(), make(), score=lambda sample, output: fg.Score(1.0))
    assert list(task.train) == list(task.val) == list(task.test) == ROWS


def test_columns_named_like_methods() -> None:
    """A table of pandas has its columns as attributes, which must not be taken for those of another library."""
    rows = [{"features": 1, "to_dicts": 2, "column_names": 3, "collect_schema": 4, "to_pylist": 5}]
    assert [dict(row) for row in data.read(pytest.importorskip("pandas").DataFrame(rows))] == rows


def test_labels_get_their_names() -> None:
    """Class labels of a data set are numbers, and their names are what a model can read."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"])})
    found = datasets.Dataset.from_dict({"label": [1, 0, -1]}, features=features)
    for source in (found, found.to_iterable_dataset()):
        assert [row["label"] for row in data.read(source)] == ["yes", "no", -1]


def test_what_is_no_source() -> None:
    """A message names what was found, and the fix."""
    table = pytest.importorskip("pandas").DataFrame([[1, 2]], columns=["a", "a"])
    for source, said in (
        ({"train": ROWS}, "found {'train': [{'q': 'a', 'n': 1}, {'q': 'b', 'n': 2}]} (a dict)"),
        (3, "read: found 3 (a int); expected a path, a table, or rows."),
        (["text"], "<list>: 1 of 1 rows cannot be used"),
        ([], "<list>: it has no rows."),
        (table, "several columns named 'a'"),
    ):
        with pytest.raises(DataError) as caught:
            data.read(source)
        assert said in str(caught.value)


@pytest.mark.anyio
async def test_an_async_iterator_within_an_event_loop() -> None:
    """A second event loop cannot run there: the message shows how to collect the rows."""
    with pytest.raises(DataError, match="row async for row in it"):
        data.read(rows_later())
    assert len(data.read([row async for row in rows_later()])) == 2
