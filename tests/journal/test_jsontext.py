"""Numbers that JSON cannot express, in journals and in printed JSON."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.protocol import Message
from flashgraph.observe.report import Report
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt, Candidate, Work
from flashgraph.run.journal.jsontext import dumped, loaded, printed
from flashgraph.run.journal.reading import StoredRun
from flashgraph.testing.runs import TASK
from tests.journal.forks import die, in_child

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def refuse(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


@given(DATA)
def test_what_is_dumped_comes_back_and_is_json(data: Any) -> None:
    """Every number comes back, NaN too, and the text is JSON that SQLite accepts."""
    text = dumped(data)
    json.loads(text.encode(), parse_constant=refuse)
    assert repr(loaded(text)) == repr(data)


@given(DATA)
def test_what_is_printed_is_json(data: Any) -> None:
    """Printed JSON has no bare ``NaN``, which only Python would read."""
    json.loads(printed(data).encode(), parse_constant=refuse)


def test_the_words_for_people() -> None:
    assert printed([math.nan, {"a": -math.inf}, math.inf, 1.5]) == '["NaN", {"a": "-Infinity"}, "Infinity", 1.5]'


@attrs.frozen
class Odd(Candidate):
    """A candidate with numbers of all kinds."""

    numbers: tuple[float, ...] = (math.nan, math.inf, -math.inf, -0.0)
    by: dict[float, str] = attrs.field(factory=lambda: {math.inf: "most"})


@attrs.frozen
class Place:
    number: float = math.nan


def odd_run(folder: Path | None, bad: float, *, die_at: int = 100, **options: Any) -> fg.Result:
    """Run with a number that is not finite in items, cursor, scores, objectives and limits.

    The process dies when its model is asked for answer number ``die_at``.
    """
    asked = 0
    graph = fg.Graph("odd")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=4, state=Place())
    def pick(ctx: fg.Draw[None, None, Place]) -> fg.Emit[Odd, Place]:
        assert math.isnan(ctx.state.number)
        return fg.Emit(Odd({"text": "abcd"[ctx.emission]}, 2), Place())

    @graph.stage(model="judge")
    async def judge(work: Work, ctx: fg.Context) -> Attempt:
        reply = await ctx.llm(f"{work.text['text']} {work.index}")
        return Attempt(work.index, bad if reply.text == "b" else 1.0, "out", objectives={"speed": bad})

    graph.edge(pick, judge, scatter=Candidate.work)
    graph.edge(judge, archive, gather=True)

    async def answer(messages: Sequence[Message]) -> str:
        nonlocal asked
        asked += 1
        if asked > die_at:
            die()
        return str(messages[-1]["content"]).split()[0]

    options = {"budget": fg.Budget(usd=1e15, calls=100), "schedule": "lockstep", **options}
    models = {"judge": FunctionModel(answer, price=(0.0, 0.0))}
    return fg.run(graph, TASK, models=models, folder=folder, **options)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_run_with_such_numbers_is_read_and_resumed(bad: float, tmp_path: Path) -> None:
    """Each reader of such a run works, and a resumed run has the same values."""
    alone = odd_run(None, bad)
    assert in_child(lambda: odd_run(tmp_path / "run", bad, die_at=3)).killed
    then = odd_run(tmp_path / "run", bad, resume=True)
    assert then.status == "completed"
    assert [(a.value.text, repr(a.scores)) for a in then.artifacts] == [
        (a.value.text, repr(a.scores)) for a in alone.artifacts
    ]
    with StoredRun.open(tmp_path / "run") as run:
        assert (run.spend().calls, run.spend().unanswered) == (then.spent.calls, 0)
        assert [a.state for a in run.artifacts()] == ["confirmed"] * len(then.artifacts)
        assert run.limits()["usd"] == 1e15
        assert [call.reply for call in run.calls() if call.how == "done"] == ["a", "a", "b", "b", "c", "c", "d", "d"]
        assert repr(run.artifacts()[0].value["numbers"]) == "[nan, inf, -inf, -0.0]"
    Report(then, TASK.seed).write(tmp_path)
    json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)


def test_no_text_of_a_journal_has_a_bare_word(tmp_path: Path) -> None:
    """SQLite's own JSON functions accept every JSON column."""
    odd_run(tmp_path / "run", math.nan)
    db = sqlite3.connect(tmp_path / "run" / "journal.db")
    texts = [
        ("meta", "value"), ("turns", "body"), ("calls", "spent"), ("admissions", "scores"), ("admissions", "value"),
        ("sources", "cursor"), ("account", "settled"),
    ]  # fmt: skip
    for table, column in texts:
        assert db.execute(f"SELECT count(*) FROM {table} WHERE NOT json_valid({column})").fetchone() == (0,), table
    db.close()


def test_a_journal_of_an_older_version(tmp_path: Path) -> None:
    """A journal with bare ``NaN`` is read, its unfinished requests are counted, and it is resumed."""
    assert in_child(lambda: odd_run(tmp_path / "run", math.nan, die_at=3)).killed
    db = sqlite3.connect(tmp_path / "run" / "journal.db")
    for table, column in [("turns", "body"), ("sources", "cursor"), ("admissions", "value")]:
        for word, bare in [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")]:
            tag = f'{{"$":"float","of":"{word}"}}'
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (tag, bare))
    db.execute("UPDATE turns SET chain = NULL")  # it has no checksums either
    db.commit()
    db.close()
    with StoredRun.open(tmp_path / "run") as run:
        assert run.spend().unanswered == 2
    assert odd_run(tmp_path / "run", math.nan, resume=True).status == "completed"
