"""What a result makes of its artifacts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import flashgraph as fg
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


def test_a_run_whose_stages_failed_and_that_accepted_nothing_has_failed() -> None:
    """However orderly it ended; the reason names the stage, how often and with what."""

    def broken(messages: object) -> str:
        raise ZeroDivisionError("division by zero")

    task = fg.Task("t", range(3), range(3), score=lambda sample, output: fg.Score(1.0))
    result = fg.run("gepa", task, models={"task": broken, "reflection": broken}, budget=fg.Budget(proposals=2))
    assert (result.status, result.best) == ("failed", None)
    assert result.reason.startswith("stage 'baseline' failed 3 of 3 times, most often with: ")
    assert "ZeroDivisionError: division by zero" in result.reason
