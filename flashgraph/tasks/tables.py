"""The rows of values that other libraries hold data in: tables of pandas, polars and Arrow, and Hugging Face data sets.

No library is imported here: each value brings the method that returns its rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any

import anyio
import sniffio

from flashgraph.errors import DataError

__all__ = ["is_table", "named_labels", "rows_in", "table_rows"]


def is_table(given: Any) -> bool:
    """Return whether a value is a table: it has columns, and iterating it may yield something other than rows."""
    return not isinstance(given, type) and _rows_method(given) is not None


def table_rows(given: Any) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings from the names of its columns.

    Raises `DataError` if two columns have one name.
    """
    whole = given.collect() if _has(given, "collect_schema") and _has(given, "collect") else given
    names = list(map(str, whole.column_names if _has(whole, "column_names") else whole.columns))
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"a {type(given).__name__} has several columns named {', '.join(map(repr, twice))}; expected one of each.\n"
            "Fix: rename them."
        )
    method = _rows_method(whole)
    assert method is not None, "the caller has checked that it is a table"
    rows = getattr(whole, method)("records") if method == "to_dict" else getattr(whole, method)()
    named = named_labels(whole)
    return [_labelled({str(name): cell for name, cell in row.items()}, named) for row in rows]


def named_labels(table: Any) -> dict[str, Any]:
    """Return, by column, the functions that name the class labels of a Hugging Face data set."""
    features = (table.features if _has(table, "features") else None) or {}
    return {column: feature.int2str for column, feature in features.items() if hasattr(feature, "int2str")}


def rows_in(given: Any) -> Iterator[Any]:
    """Yield the rows of a table, or the members of an iterable or async iterable.

    Raises `DataError` for another value, and for an async iterable where an event loop runs already.
    """
    if is_table(given):
        yield from table_rows(given)
    elif isinstance(given, AsyncIterable):
        yield from _collected(given)
    elif isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes):
        named = named_labels(given)  # of a data set that is streamed
        for row in given:
            yield _labelled(dict(row), named) if named else row
    else:
        fix = "read(it['train'])" if isinstance(given, Mapping) and "train" in given else "read([...])"
        raise DataError(
            f"read: found {given!r:.60} (a {type(given).__name__}); expected a path, a table, or rows.\nFix: {fix}."
        )


def _rows_method(given: Any) -> str | None:
    """Return the name of the method that returns the rows of a table; None for a value that is no table."""
    if not (_has(given, "columns") or _has(given, "column_names")):
        return None
    if _has(given, "collect_schema"):  # a table of polars that is not computed yet
        return "to_dicts"
    return next((name for name in ("to_dicts", "to_pylist", "to_list", "to_dict") if _has(given, name)), None)


def _has(given: Any, name: str) -> bool:
    """Return whether a value's class has this attribute: a table of pandas has its columns as attributes too."""
    return hasattr(type(given), name)


def _labelled(cells: dict[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return cells with the names of class labels. A missing label is None or -1, and has no name."""
    found = {c: name(cells[c]) for c, name in named.items() if isinstance(cells[c], int) and cells[c] >= 0}
    return {**cells, **found}


def _collected(given: AsyncIterable[Any]) -> list[Any]:
    """Return the members of an async iterable, on an event loop of its own."""
    try:
        running = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        running = ""
    if running:
        raise DataError(
            f"read: a {type(given).__name__} is async, and {running} runs already in this thread.\n"
            "Fix: read([row async for row in it])."
        )

    async def collected() -> list[Any]:
        return [row async for row in given]

    return anyio.run(collected)
