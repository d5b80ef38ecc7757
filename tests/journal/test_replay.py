"""Turns as they are read from a journal."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flashgraph.llm.protocol import Quota
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.replay import turns
from flashgraph.run.turns import Answered

ANSWER = [4, 2, "done", {"calls": 1.0}, 7, 3, 0.5, "stop", None, "", False]


@pytest.mark.parametrize(
    ("more", "quotas"),
    [
        ([], ()),  # the form before quotas existed
        (
            [[["requests", 240.0, 239.0, 0.25, None], ["tokens", 6e3, 5e3, None, 60.0]]],
            (Quota("requests", 240, 239, 0.25), Quota("tokens", 6000, 5000, None, 60)),
        ),
    ],
)
def test_an_answer(more: list[Any], quotas: tuple[Quota, ...]) -> None:
    """An answer has the rate quotas that its endpoint sent, if any."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE turns (seq INTEGER PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL, chain TEXT)")
    body = json.dumps({"answered": [[*ANSWER, *more]], "sign": None})
    db.execute("INSERT INTO turns VALUES (0, 1.5, ?, NULL)", (body,))
    ((turn, signed),) = turns(db, Path("journal.db"), Codec(()))
    assert (turn.at, signed) == (1.5, None)
    assert turn.answered == (Answered(4, 2, "done", {"calls": 1.0}, (7, 3), 0.5, "stop", quotas=quotas),)
