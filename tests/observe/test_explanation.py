"""The plan in words: each policy that a graph or a setting states is said."""

from __future__ import annotations

import re
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.observe.explanation import explain
from flashgraph.policies.staleness import Decision, Rule
from tests.run.test_sources import Log

from .graphs import mapped, playbook


def said(graph: fg.Graph, schedule: str = "pipelined", **settings: str) -> str:
    """The explanation without its line breaks."""
    return " ".join(explain(graph, schedule, {name.replace("__", "."): v for name, v in settings.items()}).split())


@pytest.mark.parametrize(
    "phrase",
    [
        "select reads frontier and starts rounds with a Trial | Trials: at most 8 of them open.",
        "seed starts rounds with a Candidate: 1 in all.",
        "each Proposal is scattered by Proposal.work, so that Work arrives",
        "gathered into Group[Trial, Attempt], which goes on when 67% of its members are there",
        "then the rest is cancelled, which frees the server",
        "what the last 3 groups all passed goes last; stale items are sent through patch above lag 0",
        "stale items are discarded above lag 24",
        "The last 5% of each limit of the budget are set aside for evidence (reserve=0.05).",
        "the run hands out another artifact only when that is better",
        "patch makes Verdict[Child] of Stale[Child]; calls the model 'reflection'; reads frontier",
        "through pool frontier: select -> rollout -> propose -> trial -> gate -> validate -> frontier -> select.",
    ],
)
def test_gepa_pipelined(phrase: str) -> None:
    """Sources, edges, stages and cycles."""
    assert phrase in said(load_graph("gepa"))


def test_gepa_validates_on_a_random_part() -> None:
    """How much of it is sent out, what of that is waited for, and when it is too old; the numbers were measured."""
    words = said(load_graph("gepa"))
    part = r"goes on when a random part of its members is sent out, \d+ of them, and (all|\d+%) of those are there"
    assert re.search(part, words)
    assert re.search(r"stale items are discarded above lag \d+", words)


def test_gepa_lockstep_waits_for_every_member() -> None:
    """Speculation of the graph is not part of the published algorithm."""
    words = said(load_graph("gepa"), "lockstep")
    assert "one round at a time" in words
    gathering = sum(edge.gather for edge in load_graph("gepa").spec.edges)
    assert words.count("goes on when every member has ended") == gathering
    assert "once more" not in words


@pytest.mark.parametrize(
    "phrase",
    [
        "taken when unclear; an item passes at most 3 times",
        "taken when no other edge takes the item",
        "Holds 8, the oldest first.",
        "discarded above lag 9, or else sent through rebase above lag 0",
        "goes on 30 s after the scatter with what is there; then the rest may end, and is recorded but not used",
        "it fails if over 50% of its members do",
        "goes on when 2 of its members are there",
        "reflect makes Trace of Trace; calls the model 'reflector'; has 4 workers at most.",
        "reflect -> reflect: an item passes at most 3 times.",
        "playbook: an Archive that takes",
    ],
)
def test_other_policies(phrase: str) -> None:
    """Loops, routes, capacities, combined rules, deadlines, counts, failure rules."""
    assert phrase in said(playbook())


def test_settings_are_part_of_the_plan() -> None:
    """Workers, windows and control."""
    words = said(mapped(), window="2", control="balanced", score__workers="3")
    assert "at most 2 of them open" not in words, "a source with rounds says how many in all"
    assert "on up to 2 open rounds" in words
    assert "control=balanced: slots go by age" in words
    assert "score makes Part of Part; calls the model 'task'; has 3 workers at most." in words
    assert "the one made from the newest version first" in words


def test_a_wrong_graph_is_not_explained() -> None:
    """Its mistakes are raised."""
    with pytest.raises(fg.GraphError):
        explain(fg.Graph("empty"))


class Halving(Rule):
    """A rule of the user's own."""

    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("discard" if lag > 2 * self.above else "accept")


def test_a_staleness_rule_of_the_users_own_is_named() -> None:
    """What it does is not known, and is not said to be nothing."""
    graph = fg.Graph("own")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool)
    def draw(at: fg.Draw[Log]) -> str:
        return "text"

    graph.edge(draw, pool, stale=Halving(above=3))
    assert "stale items are judged by halving(above=3)" in said(graph)


class Own:
    """Rules of the user's own, by their methods alone."""

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
    """A release rule, a failure rule and an order, none of which is said to be one of ours."""
    graph = fg.Graph("own")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool)
    def draw(at: fg.Draw[Log]) -> str:
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
    assert "so that str arrives; sent out as mine says" in words
    assert "which goes on when mine says so; then the rest is cancelled" in words
    assert "whether it fails, mine says" in words
