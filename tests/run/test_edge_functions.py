"""A function on an edge that raises is reported like a stage that fails, and one that always raises ends the run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import Place
from flashgraph.graph.ports import Group
from flashgraph.observe.report import Report
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.staleness import Decision, Rule, Touched
from flashgraph.run import events as ev
from flashgraph.run.edge_functions import FAILURES_IN_A_ROW
from flashgraph.run.journal.reading import StoredRun
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

Judge = Callable[[int], bool]
"""Says of a number whether the function under test raises on it."""

ALWAYS: Judge = lambda n: True  # noqa: E731 - a value, which the cases name
ODD: Judge = lambda n: n % 2 == 1  # noqa: E731


class Broken(Exception):
    """The error that the functions raise."""


@attrs.frozen
class Number:
    n: int

    def work(self) -> list[int]:
        return [self.n, self.n]


@attrs.frozen
class Asking(Rule):
    """A user's staleness rule; it calls ``ask``."""

    ask: Callable[[], Any] = attrs.field(kw_only=True)

    def decide(self, lag: int, repairs: int, touched: Touched = lambda when: True) -> Decision:
        said: Decision = self.ask()
        return said


@attrs.frozen
class Strict(FailAbove):
    """A user's failure rule."""

    ask: Callable[[], bool] = attrs.field(kw_only=True)

    def fails(self, failed: int, size: int) -> bool:
        return self.ask()


KINDS = {
    "when": ("fill->look", "when"),
    "when of a source": ("draw->fill", "when"),
    "scatter": ("look->member", "scatter"),
    "arrange": ("look->member", "order"),
    "order": ("member->total", "order"),
    "release": ("member->total", "release"),
    "failure rule": ("member->total", "failure rule"),
    "staleness rule": ("total->pool", "staleness rule"),
    "no decision": ("total->pool", "staleness rule"),
}
"""By function that raises: its edge, and its role there."""


def graph_of(wrong: str, judge: Judge, rounds: int | None = None) -> fg.Graph:
    """Return a graph with a function in each place of an edge; ``wrong`` raises on the values of ``judge``."""
    graph = fg.Graph("risky")
    pool = graph.pool("pool", Log)

    def risk(place: str, n: int) -> None:
        if place == wrong and judge(n):
            raise Broken(f"{place} {n}")

    @graph.source(reads=pool, rounds=rounds)
    def draw(ctx: fg.Draw[Log]) -> Number:
        return Number(ctx.emission)

    @graph.stage
    async def fill(number: Number) -> Number:
        await anyio.sleep(1)
        return number

    @graph.stage
    def look(number: Number) -> Number:
        return number

    @graph.stage
    async def member(n: int) -> int:
        await anyio.sleep(1)
        return n

    @graph.stage
    async def total(group: fg.Group[Number, int]) -> str:
        await anyio.sleep(1)
        return f"{group.origin.n}"

    def passes(number: Number) -> bool:
        risk("when", number.n)
        return True

    def starts(number: Number) -> bool:
        risk("when of a source", number.n)
        return True

    def work(number: Number) -> list[int]:
        risk("scatter", number.n)
        return number.work()

    def identity(n: int) -> int:
        risk("arrange", n)
        return n

    def urgency(group: fg.Group[Number, int]) -> int:
        risk("order", group.origin.n)
        return group.origin.n

    def decided(group: Group[Number, int]) -> bool:
        risk("release", group.origin.n)
        return False

    def bears() -> bool:
        risk("failure rule", 1)
        return False

    def rule() -> Any:
        risk("staleness rule", 1)
        return "discard" if wrong == "no decision" else Decision("accept")

    graph.edge(draw, fill, when=starts)
    graph.edge(fill, look, when=passes)
    graph.edge(look, member, scatter=work, order=fg.discriminative(1, key=identity, passed=bool))
    graph.edge(
        member, total, gather=True, order=fg.priority(urgency), release=fg.decided(decided), late="cancel",
        on_failure=Strict(ask=bears),
    )  # fmt: skip
    graph.edge(total, pool, stale=Asking(ask=rule))
    assert graph.check() == ()
    return graph


def raised(result: fg.Result) -> list[ev.EdgeFailed]:
    return of(result, ev.EdgeFailed)


def line_of(text: str) -> int:
    """Return the line of `graph_of` that holds a text."""
    lines, first = inspect.getsourcelines(graph_of)
    return first + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("wrong", KINDS)
def test_one_that_always_raises_stops_the_run(wrong: str, virtually: Virtually) -> None:
    """A function that always raises stops the run, whose source would pay forever. The reason names the function, its
    edge, the error and the line.
    """
    edge, function = KINDS[wrong]
    graph = graph_of(wrong, ALWAYS)
    result = watched(graph, virtually, schedule=fg.pipelined(window=4), budget=fg.Budget(seconds=1e4))
    found = raised(result)
    assert {(e.edge, e.function) for e in found} == {(edge, function)}
    last = found[FAILURES_IN_A_ROW - 1]
    assert (result.status, result.reason) == (
        "failed",
        f"the {function} of edge {edge} raised {FAILURES_IN_A_ROW} times in a row, the last time with: "
        f"{last.error} ({last.place})",
    )
    assert len(found) < 2 * FAILURES_IN_A_ROW
    if wrong == "no decision":
        assert last.error.startswith(
            "TypeError: the staleness rule returned 'discard'; expected a flashgraph.policies.staleness.Decision"
        )
        assert last.place == f"{__file__}:{line_of('graph.edge(total, pool')}"
    else:
        assert last.error.startswith(f"Broken: {wrong}")
        assert last.place == f"{__file__}:{line_of('raise Broken')}"


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("wrong", [w for w in KINDS if w not in ("failure rule", "staleness rule", "no decision")])
def test_one_that_raises_now_and_then_fails_only_that(wrong: str, schedule: str, virtually: Virtually) -> None:
    """The count of errors in a row starts again after each success, and each error has its event."""
    rounds = 4 * FAILURES_IN_A_ROW
    graph = graph_of(wrong, ODD, rounds)
    result = watched(graph, virtually, schedule=schedule)
    assert result.status == "completed"
    # In lockstep no group is released early, nor are its members sent out in another order than they were made.
    raises = schedule == "pipelined" or wrong not in ("release", "arrange")
    expected = [str(n) for n in range(rounds) if n % 2 == 0 or not raises]
    assert sorted((str(a.value) for a in result.artifacts), key=int) == expected
    assert len(raised(result)) == rounds - len(expected)
    assert sum(e.failed for e in of(result, ev.RoundEnded)) == rounds - len(expected)


def test_of_several_values_all_or_none_go_on(virtually: Virtually) -> None:
    """If a condition raises on the second of two values, no item of the first is left behind."""
    graph = fg.Graph("several")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw) -> Number:
        return Number(ctx.emission)

    @graph.stage(fanout=2)
    def spread(number: Number) -> fg.Several[str]:
        return fg.Several([f"{number.n} first", f"{number.n} second"])

    def passes(text: str) -> bool:
        if text == "1 second":
            raise Broken(text)
        return True

    graph.edge(draw, spread)
    graph.edge(spread, pool, when=passes)
    result = watched(graph, virtually, schedule="pipelined")
    assert result.status == "completed"
    assert [str(a.value) for a in result.artifacts] == ["0 first", "0 second", "2 first", "2 second"]
    assert [(e.edge, e.function, e.error) for e in raised(result)] == [("spread->pool", "when", "Broken: 1 second")]


def test_where_no_line_of_the_users_raised_the_edge_is_named(virtually: Virtually) -> None:
    """The place of an error without a line of the user is that of the edge."""
    graph = fg.Graph("elsewhere")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw) -> str:
        return "text"

    graph.edge(draw, pool, order=fg.priority(json.loads))
    (found,) = raised(watched(graph, virtually, schedule="pipelined"))
    assert found.error.startswith("JSONDecodeError: ")
    assert found.place == str(graph.spec.edges[0].place)
    assert Place.of_error(Broken("never raised")) is None


def test_the_report_names_it(virtually: Virtually) -> None:
    """The report names the function beside the failed stages, with its count of errors and the most frequent one."""
    result = watched(graph_of("order", ODD, 5), virtually, schedule="pipelined")
    assert Report(result, {}).failures() == [
        f"the order of edge member->total raised 2 times, most often with: Broken: order 1 "
        f"({__file__}:{line_of('raise Broken')})"
    ]


@pytest.mark.parametrize("judge", [ODD, ALWAYS], ids=["odd", "always"])
def test_a_stored_run_names_it(judge: Judge, tmp_path: Path, virtually: Virtually) -> None:
    """`flashgraph show --failures` lists the error, also one in the turn that stopped the run."""
    graph = graph_of("scatter", judge, 5 if judge is ODD else None)
    budget = fg.Budget(seconds=1e4)
    result = watched(graph, virtually, schedule=fg.pipelined(window=40), folder=tmp_path / "run", budget=budget)
    with StoredRun.open(tmp_path / "run") as run:
        found = run.failures()
    place = f"{__file__}:{line_of('raise Broken')}"
    assert {f.stage for f in found} == {"look->member"}
    assert found[0].reason.startswith("scatter: Broken: scatter ")
    assert found[0].reason.endswith(f" ({place})")
    assert sum(f.count for f in found) == len(raised(result)) == (2 if judge is ODD else FAILURES_IN_A_ROW)


def test_a_rule_that_raises_on_a_member(virtually: Virtually) -> None:
    """A rule that passes the whole and raises on its member, when it decides on a newer view, fails that member."""
    graph = fg.Graph("members")
    pool = graph.pool("pool", Log)
    asked: list[None] = []

    @graph.source(reads=pool, rounds=1)
    def draw(ctx: fg.Draw[Log]) -> Number:
        return Number(7)

    @graph.stage
    def member(n: int) -> int:
        return n

    @graph.stage
    def total(group: fg.Group[Number, int]) -> str:
        return ", ".join(m.state for m in group.members)

    def rule() -> Decision:
        asked.append(None)
        if len(asked) == 2:
            raise Broken("the first member")
        return Decision("accept")

    graph.edge(draw, member, scatter=Number.work, stale=Asking(ask=rule))
    graph.edge(member, total, gather=True)
    graph.edge(total, pool)
    result = watched(graph, virtually, schedule="pipelined")
    assert [a.value for a in result.artifacts] == ["failed, arrived"]
    assert [e.error for e in raised(result)] == ["Broken: the first member"]
