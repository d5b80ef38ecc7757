"""The fingerprint of a graph, and which changes of a graph show in it."""

from __future__ import annotations

import enum
import json
import sqlite3
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.check import check
from flashgraph.parts import Archive
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.header import Changes, Header, fingerprint
from flashgraph.run.journal.payloads import REMEMBERED, Payloads, named
from flashgraph.run.journal.replay import Diverged
from flashgraph.run.plan import compile_plan
from flashgraph.testing.runs import TASK
from tests.journal.kit import SCENARIOS, here, rows
from tests.journal.small import small_run


class Mark(enum.Enum):
    GOOD = 1
    BAD = 2


@attrs.frozen
class Marked:
    mark: Mark
    text: str


def graph_of(item: type, pick: Any) -> fg.Graph:
    """Return a graph with a source of such items and a pool."""
    graph = fg.Graph("marks")
    pick.__annotations__ = {"ctx": fg.Draw[None], "return": item}
    graph.edge(graph.source(name="pick", rounds=1)(pick), graph.pool("pool", Archive))
    return graph


def prints(graph: fg.Graph) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the topology and the functions of a graph's fingerprint."""
    topology, functions, _ = fingerprint(compile_plan(check(graph), fg.lockstep(), {}, {}, {}))
    return topology, functions


def pick(ctx: fg.Draw[None]) -> Any:
    return None


def test_the_members_of_an_enum_are_a_part_of_the_graph() -> None:
    """A removed member of an enum could not be decoded, so it is a change of the topology."""
    topology, _ = prints(graph_of(Marked, pick))
    assert topology["type Marked"] == "mark: Mark, text: str"
    assert topology["type Mark"] == "GOOD | BAD"


def test_fields_whose_types_cannot_be_found() -> None:
    """A type name that exists only inside a function stays text, and still distinguishes graphs."""

    @attrs.frozen
    class Inner:
        text: str

    @attrs.frozen
    class Outer:
        inner: Inner
        size: int

    topology, _ = prints(graph_of(Outer, pick))
    assert topology[f"type {Outer.__qualname__}"] == "inner: Inner, size: int"


def test_functions_without_a_file_are_told_apart_by_name() -> None:
    """Functions made by exec or typed at a prompt have no source, so their names are compared."""
    made: dict[str, Any] = {"Any": Any}
    exec("def pick(ctx) -> Any: return 1\ndef other(ctx) -> Any: return 2", made)
    exec("def changed(ctx) -> Any: return 3\nchanged.__qualname__ = 'pick'", made)
    found = {name: prints(graph_of(Marked, made[name]))[1]["pick"] for name in ("pick", "other", "changed")}
    assert found["pick"] == found["changed"] != found["other"]


def low(value: Any) -> bool:
    return bool(value)


def high(value: Any) -> bool:
    return not value


def touches(value: Any, view: Any) -> bool:
    return True


def spares(value: Any, view: Any) -> bool:
    return False


def cut(value: int) -> list[int]:
    return [value]


def cut_anew(value: int) -> list[int]:
    return [value, value]


def with_edges(members: Mapping[str, Any], group: Mapping[str, Any]) -> fg.Graph:
    """Return a graph whose edges have these options; it is not checked."""
    graph = fg.Graph("edges")
    pool = graph.pool("pool", Archive)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Archive]) -> int:
        return 1

    @graph.stage
    def work(number: int) -> int:
        return number

    graph.edge(draw, work, **{"scatter": cut, **members})
    graph.edge(work, pool, gather=True, **group)
    return graph


def digests(graph: fg.Graph) -> Mapping[str, str]:
    """Return the digests of functions, under a schedule that uses all of them."""
    return fingerprint(compile_plan(check(graph), fg.pipelined(), {}, {}, {}))[1]


@pytest.mark.parametrize(
    ("option", "members", "changed", "group"),
    [
        ("when", {}, {"when": low}, False),
        ("when", {"when": low}, {"when": high}, False),
        ("scatter", {}, {"scatter": cut_anew}, False),
        ("order", {"order": fg.priority(low)}, {"order": fg.priority(high)}, False),
        ("arrange", {"order": fg.discriminative()}, {"order": fg.discriminative(key=low)}, False),
        ("arrange", {"order": fg.discriminative(key=low)}, {"order": fg.discriminative(key=high)}, False),
        ("arrange", {"order": fg.discriminative(passed=low)}, {"order": fg.discriminative(passed=high)}, False),
        (
            "stale",
            {"stale": fg.discard(9) | fg.repair("work", when=touches)},
            {"stale": fg.discard(9) | fg.repair("work", when=spares)},
            False,
        ),
        ("release", {"release": fg.decided(low)}, {"release": fg.decided(high)}, True),
    ],
)
def test_a_function_on_an_edge_is_compared(
    option: str, members: Mapping[str, Any], changed: Mapping[str, Any], group: bool
) -> None:
    """Changing a function on an edge changes its digest alone; adding one changes it too."""
    before, now = (digests(with_edges({}, each) if group else with_edges(each, {})) for each in (members, changed))
    edge = "work->pool" if group else "draw->work"
    assert before.keys() == now.keys()
    assert [name for name in before if before[name] != now[name]] == [f"{edge}.{option}"]


@attrs.frozen
class Shelf:
    """A pool that accepts every text."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Shelf:
        return Shelf({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Shelf:
        return self


def refusing(take: Any, folder: Path, **options: Any) -> fg.Result:
    """Run numbers; some of them match no edge."""
    graph = fg.Graph("refusing")
    pool = graph.pool("pool", Shelf)

    @graph.source(rounds=4)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage
    def work(number: int) -> str:
        return str(number)

    graph.edge(draw, work, when=take)
    graph.edge(work, pool)
    return fg.run(graph, TASK, models={}, folder=folder, schedule="lockstep", **options)


def even(number: int) -> bool:
    return number % 2 == 0


def odd(number: int) -> bool:
    return number % 2 == 1


def evenly(number: int) -> bool:
    return not number % 2


def test_a_changed_condition_needs_leave(tmp_path: Path) -> None:
    """A changed condition is named; once accepted, the run resumes if the condition decides alike, and else blames
    it."""
    folder = tmp_path / "run"
    assert len(refusing(even, folder, budget=fg.Budget(seconds=100)).artifacts) == 2
    with pytest.raises(fg.DataError, match=r"function of draw->work\.when") as caught:
        refusing(odd, folder, resume=True)
    assert "--accept-changes" in str(caught.value)
    with pytest.raises(fg.DataError, match="decides otherwise with these changes") as caught:
        refusing(odd, folder, resume=True, accept_changes=True)
    assert "function of draw->work.when" in str(caught.value)
    assert len(refusing(evenly, folder, resume=True, accept_changes=True).artifacts) == 2
    assert len(refusing(even, folder, resume=True).artifacts) == 2


def test_a_journal_without_digests_of_edges_opens(tmp_path: Path) -> None:
    """Journals of older versions have no such digests, which counts as no difference."""
    folder = tmp_path / "run"
    refusing(even, folder)
    db = sqlite3.connect(folder / "journal.db")
    ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'functions'").fetchall()
    older = {name: digest for name, digest in json.loads(text).items() if "->" not in name}
    assert older.keys() == {"champion", "draw", "work"}
    db.execute("UPDATE meta SET value = ? WHERE key = 'functions'", (json.dumps(older),))
    db.commit()
    db.close()
    assert len(refusing(evenly, folder, resume=True).artifacts) == 2


def test_another_policy_is_named_once(tmp_path: Path) -> None:
    """The change of a policy is named; the changed functions that it implies are not."""
    build = partial(with_edges, group={})
    first, second = (
        Header("g", "t", "pipelined", 0, {}, {}, topology, functions, policies, {}, {}, "0")
        for graph in (build({"order": fg.priority(low)}), build({"order": fg.freshest()}))
        for topology, functions, policies in [fingerprint(compile_plan(check(graph), fg.pipelined(), {}, {}, {}))]
    )
    assert Changes.between(first, second) == Changes((), ("draw->work.order: priority -> freshest",))


def test_a_turn_that_is_gone(tmp_path: Path) -> None:
    """A missing turn is an error, and not a crash.

    Journals of older versions have no checksums: there the replay diverges instead.
    """
    folder = tmp_path / "one" / "run"
    here(SCENARIOS["cyclic"], folder, schedule="lockstep")
    answered = next(seq for seq, body in rows(folder, "SELECT seq, body FROM turns") if '"asked"' in body)
    db = sqlite3.connect(folder / "journal.db")
    db.execute("DELETE FROM turns WHERE seq = ?", (answered,))
    db.commit()
    db.close()
    with pytest.raises(JournalError, match="it was changed, or turns before it are missing"):
        here(SCENARIOS["cyclic"], folder, schedule="lockstep", resume=True)
    db = sqlite3.connect(folder / "journal.db")
    db.execute("UPDATE turns SET chain = NULL, seq = seq - (seq > ?)", (answered,))
    db.commit()
    db.close()
    with pytest.raises(Diverged, match="the replay diverged from the journal at turn"):
        here(SCENARIOS["cyclic"], folder, schedule="lockstep", resume=True)


def test_what_diverges_without_a_change_is_not_blamed_on_one(tmp_path: Path) -> None:
    """A pool is not among the graph's functions, so that its change only shows as a replay that diverges."""

    @attrs.frozen
    class Choosy:
        """Admits one of two texts."""

        artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

        def apply(self, event: fg.PoolEvent[str]) -> Any:
            made = fg.Artifact(event.artifact, event.value)
            return self if event.value in refused else Choosy({**self.artifacts, event.artifact: made})

        def best(self) -> fg.Artifact | None:
            return None

        def best_line(self) -> Any:
            return self

    refused: set[str] = set()
    graph = fg.Graph("choosy")
    pool = graph.pool("pool", Choosy)

    @graph.source(rounds=4)
    def draw(ctx: fg.Draw[None]) -> str:
        return f"text {ctx.emission}"

    graph.edge(draw, pool)
    options: dict[str, Any] = {"models": {}, "folder": tmp_path / "run", "schedule": "lockstep"}
    assert len(fg.run(graph, TASK, **options).artifacts) == 4
    refused.add("text 1")
    with pytest.raises(Diverged, match="a function that routes, scatters, orders, releases or admits"):
        fg.run(graph, TASK, resume=True, **options)


def test_texts_of_a_long_run_are_not_all_held(tmp_path: Path) -> None:
    """Texts that exceed the cache are read right, also the second time."""
    small_run(tmp_path / "run", budget=fg.Budget(proposals=1))
    db = sqlite3.connect(tmp_path / "run" / "journal.db")
    texts = [f"text {n} ".encode() * 1000 for n in range(2500)]
    rows = [(named(text), zlib.compress(text)) for text in texts]
    db.executemany("INSERT INTO payloads VALUES (?, ?)", rows)
    payloads = Payloads(db, tmp_path / "run" / "journal.db")
    for _ in range(2):
        assert [payloads(name).encode() for name, _ in rows] == texts
    assert payloads._size <= REMEMBERED < sum(map(len, texts))
    with pytest.raises(JournalError, match="the text nowhere is missing"):
        payloads("nowhere")
    db.close()
