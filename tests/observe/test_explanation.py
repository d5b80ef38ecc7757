"""The plan in words: it names each policy that a graph or a setting states."""

from __future__ import annotations

import re
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.observe.explanation import explain
from flashgraph.parts import Archive, Candidate, attempt, same_text
from flashgraph.policies.staleness import Decision, Rule
from tests.run.test_sources import Log

from .graphs import mapped, playbook


def said(graph: fg.Graph, schedule: str = "pipelined", **settings: str) -> str:
    """Return the explanation without its line breaks."""
    return " ".join(explain(graph, schedule, {name.replace("__", "."): v for name, v in settings.items()}).split())


@pytest.mark.parametrize(
    "phrase",
    [
        "select reads frontier and starts rounds with a Minibatch | Minibatches, at most 8 open at once.",
        "seed starts rounds with a Candidate, 1 in total.",
        "scatters each Proposal by Proposal.work into Work",
        "gathers members into Group[Minibatch, Attempt], released when 67% of its members are in",
        "takes only Minibatches",
        "then the rest is cancelled, which frees the server",
        "members that all of the last 3 groups passed come last; stale items are sent through rebase above lag 0",
        "stale items are discarded above lag 24",
        "The last 5% of each limit of the budget is reserved for evidence (reserve=0.05).",
        "another artifact becomes the champion only when it is better",
        "rebase turns Stale[Child] into Verdict[Child]; calls the model 'reflection'; reads frontier",
        "through pool frontier: select -> rollout -> propose -> trial -> gate -> validate -> frontier -> select.",
    ],
)
def test_gepa_pipelined(phrase: str) -> None:
    """The words cover sources, edges, stages and cycles."""
    assert phrase in said(load_graph("gepa"))


def test_gepa_validates_on_a_random_part() -> None:
    """The words give the sample's size, the share that releases it, and the lag that discards it."""
    words = said(load_graph("gepa"))
    part = r"released when (all|\d+%) of a random sample of \d+ members are in"
    assert re.search(part, words)
    assert re.search(r"stale items are discarded above lag \d+", words)


def test_gepa_lockstep_waits_for_every_member() -> None:
    """Lockstep ignores the graph's speculation, which is not part of the published algorithm."""
    words = said(load_graph("gepa"), "lockstep")
    assert "one round and one stage at a time" in words
    gathering = sum(edge.gather for edge in load_graph("gepa").spec.edges)
    assert words.count("released when every member has ended") == gathering
    assert "the full group follows" not in words


@pytest.mark.parametrize(
    "phrase",
    [
        "takes an item only when unclear; an item passes at most 3 times",
        "takes only items that no other edge takes",
        "Holds 8, oldest first.",
        "discarded above lag 9, or else sent through rebase above lag 0",
        "released 30 s after the scatter, with the members that are in; then the rest may finish, and is recorded but",
        "it fails if more than 50% of its members fail",
        "released when 2 of its members are in",
        "reflect turns Trace into Trace; calls the model 'reflector'; has at most 4 workers.",
        "reflect -> reflect: an item passes at most 3 times.",
        "playbook: an Archive that takes",
    ],
)
def test_other_policies(phrase: str) -> None:
    """The words cover loops, routes, capacities, combined rules, deadlines, counts and failure rules."""
    assert phrase in said(playbook())


def test_settings_are_part_of_the_plan() -> None:
    """Workers, windows and control from settings appear in the plan."""
    words = said(mapped(), window="2", control="balanced", score__workers="3")
    assert "at most 2 open" not in words, "a source with a number of rounds states the total"
    assert "up to 2 rounds of each source are open at once" in words
    assert "control=balanced: the oldest work gets a free slot" in words
    assert "score turns Part into Part; calls the model 'task'; has at most 3 workers." in words
    assert "newest version first" in words


def test_a_wrong_graph_is_not_explained() -> None:
    """A wrong graph raises its mistakes."""
    with pytest.raises(fg.GraphError):
        explain(fg.Graph("empty"))


class Halving(Rule):
    """A staleness rule of the user."""

    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("discard" if lag > 2 * self.above else "accept")


def test_a_staleness_rule_of_the_users_own_is_named() -> None:
    """A staleness rule of the user is named, because its effect is unknown."""
    graph = fg.Graph("own")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Log]) -> str:
        return "text"

    graph.edge(draw, pool, stale=Halving(above=3))
    assert "stale items are judged by halving(above=3)" in said(graph)


class Own:
    """A rule of the user that inherits from no rule of flashgraph."""

    def __str__(self) -> str:
        return "mine"

    def flaw(self) -> None:
        return None


class Early(Own):
    """A release rule."""

    def ready(self, group: Any, arrived: int, elapsed: float) -> bool:
        return arrived > 0

    def needs(self, size: int) -> int:
        return 1

    def deadline(self) -> float | None:
        return None


class Mild(Own):
    """A failure rule."""

    def fails(self, failed: int, size: int) -> bool:
        return failed > 3


class Last(Own):
    """An order of members."""

    def arrange(self, members: Any, streaks: Any) -> list[int]:
        return [*reversed(range(len(members)))]

    def identity(self, index: int, member: Any) -> int:
        return index

    def passed(self, value: Any) -> bool:
        return True


def test_rules_of_the_users_own_are_named() -> None:
    """A release rule, a failure rule and an order of the user are named."""
    graph = fg.Graph("own")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Log]) -> str:
        return "text"

    @graph.stage
    def member(text: str) -> str:
        return text

    @graph.stage
    def total(group: fg.Group[str, str]) -> str:
        return group.origin

    def parts(text: str) -> list[str]:
        return [text]

    graph.edge(draw, member, scatter=parts, order=Last())
    graph.edge(member, total, gather=True, release=Early(), on_failure=Mild())
    graph.edge(total, pool)
    words = said(graph)
    assert "into str; members come in the order of mine" in words
    assert "released when mine decides; then the rest is cancelled" in words
    assert "mine decides whether it fails" in words


def sampled(members: int, *, focus: bool = True) -> fg.Graph:
    """Return a graph whose validations are released with a part of the samples, without a source of evidence."""
    graph = fg.Graph("sampled")
    archive = graph.pool("archive", Archive)

    @graph.source(reads=archive, focus=focus, rounds=1)
    def pick(ctx: fg.Draw[Archive]) -> Candidate:
        return Candidate({}, 100)

    validate = graph.stage(attempt, name="validate", model="task")
    graph.edge(pick, validate, scatter=Candidate.work, distinct=same_text)
    graph.edge(validate, archive, gather=True, release=fg.sampled(members))
    return graph


@pytest.mark.parametrize(
    ("members", "settings", "never"),
    [
        (6, {}, True),
        (9, {}, True),
        (10, {}, False),
        (6, {"champion": "best"}, False),
        (6, {"validate->archive.release": "all"}, False),
        (6, {"champion": "proven(0.9, least=6)"}, False),
    ],
)
def test_a_champion_that_can_never_change(members: int, settings: dict[str, str], never: bool) -> None:
    """The words warn of validations on fewer samples than a proof needs, and their fixes end the warning."""
    words = " ".join(explain(sampled(members), "pipelined", settings).split())
    warning = (
        f"validate->archive brings at most {members} samples of an artifact, and a proof needs 10 that both have tried."
    )
    assert (warning in words) == never
    assert ("Fix: --set 'validate->archive.release=all', or --set champion=best." in words) == never


def test_a_source_of_evidence_can_change_the_champion() -> None:
    """GEPA samples its validations too, but sends contenders to more samples."""
    assert "a proof needs" not in said(load_graph("gepa"))
    assert "a proof needs" not in said(sampled(24), "lockstep")


def test_distinct_items_and_views_of_the_whole_pool_are_named() -> None:
    """The words name the key of distinct items, and the sources that the focus leaves alone."""
    assert "an item whose same_text equals that of an open or held one is left out" in said(sampled(30))
    assert "best line (focus=1), except those of pick." in said(sampled(30, focus=False))
    assert "best line (focus=1). " in said(sampled(30))
    assert "same_text" not in said(sampled(30), "lockstep")
