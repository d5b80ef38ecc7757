"""A journal's values without the classes of its graph."""

from __future__ import annotations

import pytest

from flashgraph.run.journal.plain import plain, texts
from flashgraph.run.journal.stored import text_diff

PLAIN = [
    ({"$": "Candidate", "text": {"a": "b"}, "size": 4}, {"text": {"a": "b"}, "size": 4}),
    ({"$": "tuple", "of": [1, {"$": "long", "of": "hash"}]}, [1, "<hash>"]),
    ({"$": "dict", "of": [[0, "a"], ["b", None], [{"$": "tuple", "of": [1]}, 2]]}, {"0": "a", "b": None, "[1]": 2}),
    ({"$": "frozenset", "of": [1, 2]}, [1, 2]),
    ({"$": "enum", "of": "Colour", "is": "RED"}, "RED"),
    ({"$": "bytes", "of": "YQ=="}, "YQ=="),
    ({"$": "Pair", "of": [1, 2]}, [1, 2]),
    ({"$": "Empty"}, {}),
]


@pytest.mark.parametrize(("data", "expected"), PLAIN)
def test_plain_values(data: object, expected: object) -> None:
    """Every tag of the codec and unknown classes have a plain form."""
    assert plain(data, lambda name: f"<{name}>") == expected


def test_texts_of_plain_values() -> None:
    """The texts of a value are its components, an object's text, or the whole value as JSON."""
    assert texts("a") == {"text": "a"}
    assert texts({"one": "a", "two": "b"}) == {"one": "a", "two": "b"}
    assert texts({"text": {"one": "a"}, "size": 3}) == {"one": "a"}
    assert texts({"files": ["a"], "text": 3}) == {"value": '{\n  "files": [\n    "a"\n  ],\n  "text": 3\n}'}
    assert texts([]) == {"value": "[]"}


def test_text_diff_names_components() -> None:
    """Only components that differ are named, including new and removed ones."""
    lines = text_diff({"a": "x", "same": "s", "gone": "g"}, {"a": "y", "same": "s", "new": "n"}, ("old", "now"))
    assert [line for line in lines if line[:3] in ("---", "+++")] == [
        "--- old: a", "+++ now: a", "--- old: gone", "+++ now: gone", "--- old: new", "+++ now: new",
    ]  # fmt: skip
    assert text_diff({"a": "x"}, {"a": "x"}, ("old", "now")) == ()
