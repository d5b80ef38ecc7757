"""Champion rules: who is handed out after which evidence."""

from __future__ import annotations

import pytest

from flashgraph.graph.ports import Artifact
from flashgraph.policies.champion import Title, proven


def artifact(id: int, scores: dict[int, float]) -> Artifact:
    return Artifact(id, f"text {id}", (), sum(scores.values()) / len(scores) if scores else None, scores)


@pytest.mark.parametrize("scores", [{}, {40: 1.0}, {41: 1.0, 42: 1.0}], ids=["none", "another sample", "others"])
def test_a_challenger_without_common_samples_proves_nothing(scores: dict[int, float]) -> None:
    """A failed program has no scores; others may have been tried on other samples.  The champion stays."""
    rule, champion = proven(), artifact(0, dict.fromkeys(range(40), 0.0))
    title = rule.next(Title(), {0: champion}, champion, 0)
    pool = {0: champion, 1: artifact(1, scores)}
    assert rule.next(title, pool, champion, 1).champion == 0


def test_a_challenger_that_is_better_on_every_common_sample_wins() -> None:
    """With as many samples as the rule asks for."""
    rule, champion = proven(), artifact(0, dict.fromkeys(range(40), 0.0))
    title = rule.next(Title(), {0: champion}, champion, 0)
    pool = {0: champion, 1: artifact(1, dict.fromkeys(range(40), 1.0))}
    assert rule.next(title, pool, champion, 1).champion == 1
