"""Combee's part by itself: the dealing of records, two copies in one graph, and wrong edges into it."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.algorithms.combee import Brief, Params, Shuffled, part
from tests.algorithms.combee_briefs import Found, alone, numbered, twice
from tests.algorithms.combee_world import check_dealt

TASK = fg.Task(name="none", train=[0], val=[0], score=lambda sample, output: fg.Score(0))


def dealt(records: Sequence[str], duplication: int, seed: int) -> Shuffled:
    """Return the stage's deal from a stream with that seed."""
    ctx: fg.Context[Any, Params] = fg.Context(TASK, None, random.Random(seed), Params(duplication=duplication))
    body: Any = part.spec.nodes["shuffle"].body  # type: ignore[union-attr]  # a stage
    shuffled: Shuffled = body(Brief(tuple(records), "ask\n<<here>>", "join\n<<here>>"), ctx)
    return shuffled


@given(records=st.lists(st.text(max_size=3), max_size=120), duplication=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=200, deadline=None)
def test_every_record_is_dealt_as_often_as_asked(records: list[str], duplication: int, seed: int) -> None:
    """Every record is dealt ``duplication`` times, also if records are equal.

    There are floor(sqrt n) shares whose sizes differ by at most one. Fewer than four records, or none, are one share.
    """
    shuffled = dealt(records, duplication, seed)
    check_dealt(records, shuffled.shares, duplication)
    assert shuffled == dealt(records, duplication, seed)
    prompts = [share.prompt("test", 100) for share in shuffled.work()]
    assert prompts == ["ask\n" + "\n\n".join(share) for share in shuffled.shares]


@given(size=st.integers(12, 60), seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_records_are_shuffled(size: int, seed: int) -> None:
    """Shares are not consecutive records, and another seed deals other ones."""
    records = [str(i) for i in range(size)]
    shares = dealt(records, 2, seed).shares
    assert any(list(share) != sorted(share, key=int) for share in shares)
    assert shares != dealt(records, 2, seed + 1).shares


def test_records_may_show_the_hole() -> None:
    """A placeholder in a record is not filled in."""
    (share,) = dealt(["<<here>> and there", "b"], 2, 0).work()
    assert share.prompt("test", 100) == "ask\n<<here>> and there\n\nb"


@pytest.mark.parametrize("duplication", [0, -1])
def test_records_are_never_dealt_less_than_once(duplication: int) -> None:
    """A duplication below 1 is refused, because its prompts would have no records."""
    with pytest.raises(ValueError, match="'duplication' must be >= 1"):
        Params(duplication=duplication)


# ---- reuse -----------------------------------------------------------------------------------------------


def test_two_copies_in_one_graph() -> None:
    """Each copy calls its own model and has its own parameters.

    The first has 3 shares of 6 records and a join, the second 2 shares of the 4 resulting words, once each, and a join.
    """
    graph, requests = twice(), list[tuple[str, str]]()

    def model(role: str) -> Any:
        def answer(messages: Sequence[fg.Message]) -> str:
            requests.append((role, messages[-1]["content"]))
            return "so it is then" if "join" in requests[-1][1] else f"{role} {len(requests)}"

        return answer

    assert graph.check() == ()
    result = fg.run(graph, TASK, models={r: model(r) for r in ("scribe", "judge")}, schedule="lockstep")
    assert result.status == "completed", result.reason
    assert [(role, prompt.partition("\n")[0]) for role, prompt in requests] == [
        *[("scribe", "Brief 0, think:")] * 3,
        ("scribe", "Brief 0, join:"),
        *[("judge", "Judge:")] * 2,
        ("judge", "Settle:"),
    ]
    assert all(prompt.count("record 0.") == 6 for _, prompt in requests[:3])
    assert requests[3][1] == "Brief 0, join:\nDraft 1:\nscribe 1\n\nDraft 2:\nscribe 2\n\nDraft 3:\nscribe 3"
    judged = [word for _, prompt in requests[4:6] for word in prompt.split()[1:]]
    assert sorted(judged) == sorted(["so", "it", "is", "then"])


def test_fewer_than_four_records_are_one_call() -> None:
    """Fewer than four records take one call, whose answer is the insight."""
    requests = list[str]()

    def answer(messages: Sequence[fg.Message]) -> str:
        requests.append(messages[-1]["content"])
        return "x"

    fg.run(alone(1, 3), TASK, models={"reflection": answer}, schedule="lockstep")
    assert requests == ["Brief 0, think:\nrecord 0.0\n\nrecord 0.1\n\nrecord 0.2"]


def test_wrong_edges_into_the_part() -> None:
    """A wrong edge is a problem at its line, with the types found and expected."""
    graph = fg.Graph("wrong")
    found = graph.pool("found", Found)
    one, two = graph.include(part, "one"), graph.include(part, "two")

    @graph.source(reads=found)
    def pick(ctx: fg.Draw[Found]) -> Brief:
        return numbered(0, 9)

    graph.edge(pick, one["shuffle"])
    graph.edge(pick, one["think"])  # <- whole briefs
    graph.edge(one["combine"], two["shuffle"])  # <- an insight is no brief
    graph.edge(one["combine"], two["reduce"])  # <- there is no such stage
    graph.edge(two["think"], found)  # <- drafts out of their group
    graph.edge(two["combine"], found)
    lines, start = inspect.getsourcelines(test_wrong_edges_into_the_part)
    marked = [f"{__file__}:{start + i}" for i, line in enumerate(lines) if "# <- " in line]
    names = "found, one.combine, one.shuffle, one.think, pick, two.combine, two.shuffle, two.think"
    assert here(graph) == [
        f"{marked[0]}: edge pick->one.think [type-mismatch]\n"
        "    found:    'pick' delivers Brief\n"
        "    expected: Share, which stage 'one.think' takes\n"
        "    fix:      end the edge at 'one.shuffle', which takes it",
        f"{marked[1]}: edge one.combine->two.shuffle [type-mismatch]\n"
        "    found:    'one.combine' delivers Insight\n"
        "    expected: Brief, which stage 'two.shuffle' takes\n"
        "    fix:      end the edge at 'found', which takes it",
        f"{marked[2]}: edge one.combine->two.reduce [foreign-node]\n"
        "    found:    'two.reduce', which is not a node of graph 'wrong'\n"
        "    expected: a pool, source or stage of graph 'wrong'\n"
        f"    fix:      choose from {names}",
        f"{marked[3]}: edge two.think->found [type-mismatch]\n"
        "    found:    'two.think' delivers str\n"
        "    expected: Insight, which pool 'found' takes\n"
        "    fix:      a stage between that turns str into Insight",
    ]


def here(graph: fg.Graph) -> list[str]:
    """Return the problems of this file's own lines; a wrong edge into the part also makes the part's edges wrong."""
    return [str(problem) for problem in graph.check() if problem.place.file == __file__]


def test_unknown_names_of_the_part() -> None:
    """An unknown role or parameter is a problem of the include."""
    graph = alone(1, 9)
    graph.include(part, "more", params={"duplicates": 3}, roles={"reflections": "scribe"})
    assert [problem.partition(": ")[2] for problem in here(graph)] == [
        "parameter 'duplicates' of included graph 'combee-part' [unknown-in-part]\n"
        "    found:    'duplicates'\n"
        "    expected: a parameter that 'combee-part' declares\n"
        "    fix:      did you mean 'duplication'?",
        "role 'reflections' of included graph 'combee-part' [unknown-in-part]\n"
        "    found:    'reflections'\n"
        "    expected: a role that 'combee-part' declares\n"
        "    fix:      did you mean 'reflection'?",
    ]


def test_the_graph_of_the_manual_runs(tmp_path: Path) -> None:
    """The file on the page docs/algorithms/combee.md passes its checks and evolves."""
    page = (Path(__file__).parents[2] / "docs" / "algorithms" / "combee.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "advice.py"
    path.write_text(source)
    task = fg.Task(name="sums", train=list(range(9)), val=[1, 2], score=lambda sample, output: fg.Score(output == "x"))
    models = {"task": lambda messages: "x", "adviser": lambda messages: "Add."}
    result = fg.run(path, task, models=models, schedule="lockstep")
    assert (result.status, result.spent.calls) == ("completed", 10 * (3 + 1 + 2)), result.reason
    assert result.best is not None
    assert result.best.value.text == {"instruction": "Add."}
