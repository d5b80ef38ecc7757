"""How fast endpoints answer, and how full their servers say they are."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flashgraph.llm.protocol import Load
from flashgraph.run.loads import reading
from flashgraph.run.pace import Pace
from flashgraph.testing import run_virtually


@pytest.mark.parametrize(
    ("seconds", "most", "reply"), [(4.0, None, 20), (4.0, 12, 12), (4.0, 100, 20), (0.0, None, 0), (0.1, None, 0)]
)
def test_a_request_that_is_cut_off_has_cost_what_others_had_by_then(
    seconds: float, most: int | None, reply: int
) -> None:
    """A cancelled request counts as the tokens that others had by that time at its endpoint, up to its own bound."""
    pace = Pace()
    pace.answered("one", 20, 2.0)
    pace.answered("one", 30, 8.0)
    pace.answered("other", 1000, 1.0)
    assert pace.cut_off("one", 12.4, seconds, most) == (12, reply)


def test_before_any_answer_nothing_is_known() -> None:
    """Before any answer only the prompt counts; answers that took no time change nothing."""
    pace = Pace()
    assert pace.cut_off("one", 7.0, 9.0) == (7, 0)
    pace.answered("one", 20, 0.0)
    assert pace.cut_off("one", 7.0, 9.0) == (7, 0)


class Says:
    """A model whose server states its load after that many seconds."""

    name = "says"

    def __init__(self, seconds: float = 0.0, fails: bool = False) -> None:
        self.seconds, self.fails = seconds, fails

    async def load(self) -> Load:
        await anyio.sleep(self.seconds)
        if self.fails:
            raise OSError("no metrics")
        return Load(3, 2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Says(), Load(3, 2)),
        (Says(4.9), Load(3, 2)),
        (Says(5.1), None),
        (Says(fails=True), None),
        (object(), None),
    ],
    ids=["says", "slowly", "too slowly", "fails", "cannot"],
)
def test_a_server_is_asked_and_may_not_answer(model: Any, said: Load | None) -> None:
    """A server has 5 s to state its load; the run continues whatever it raises."""

    async def run() -> Load | None:
        return await reading(model)

    assert run_virtually(run, backend="trio") == said
