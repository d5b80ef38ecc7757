"""What a result makes of its artifacts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flashgraph.run.result import texts_of


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a prompt", {"text": "a prompt"}),
        ({"one": "a", "two": "b"}, {"one": "a", "two": "b"}),
        ({}, {}),
        (SimpleNamespace(text="a prompt"), {"text": "a prompt"}),
        (SimpleNamespace(text={"one": "a"}), {"one": "a"}),
        (SimpleNamespace(text=SimpleNamespace(text="within")), {"text": "within"}),
        ({"one": 1}, None),
        (SimpleNamespace(text=3), None),
        (7, None),
        (None, None),
    ],
)
def test_texts_of_values(value: Any, texts: dict[str, str] | None) -> None:
    """Components of a mapping, an object's own texts, a text; None for what has none."""
    assert texts_of(value) == texts
