"""The task world: better instructions score better, and answers depend only on the request."""

from __future__ import annotations

import re

from flashgraph.sim.world import SEED_TEXT, World, rules_of


def instruction(rules: dict[int, str]) -> str:
    return SEED_TEXT + " " + " ".join(f"R{r}{v}" for r, v in rules.items())


def test_knowing_more_rules_scores_better() -> None:
    """Each known rule raises the score, from guessing to almost perfect; a garbled rule is worse than none."""
    world = World(seed=3)
    scores = [world.true_score(instruction(dict.fromkeys(range(n), "!"))) for n in (0, 10, 20, 40)]
    assert scores == sorted(scores)
    assert scores[0] < 0.15
    assert scores[-1] > 0.94
    assert world.true_score(instruction({0: "~"})) < scores[0]


def test_reflection_learns_from_failures_only() -> None:
    """Reflection learns most rules that failed samples need, and keeps most known ones."""
    world = World(seed=1)
    prompt = (
        f"```\n{instruction({5: '!'})}\n```\nInput: a\nAnswer: b\nFeedback: needs R7! R8! (failed)\n\n"
        "Input: c\nAnswer: d\nFeedback: needs R9!"
    )
    learned = [rules_of(World(seed=s).answer([{"role": "user", "content": prompt}])) for s in range(200)]
    assert all(9 not in rules for rules in learned)
    assert 0.5 < sum(rules.get(7) == "!" for rules in learned) / 200 < 0.7
    assert sum(5 in rules for rules in learned) > 180
    assert world.answer([{"role": "user", "content": prompt}]) == world.answer([{"role": "user", "content": prompt}])


def test_a_merge_keeps_most_of_both() -> None:
    """If both texts have a rule, a merge keeps the better text's version."""
    best, other = instruction({1: "!", 2: "!"}), instruction({2: "~", 3: "!"})
    prompt = f"one\n```\n{best}\n```\nother\n```\n{other}\n```"
    merged = [rules_of(World(seed=s).answer([{"role": "user", "content": prompt}])) for s in range(200)]
    assert sum(rules.get(2) == "!" for rules in merged) > 180
    assert 0.75 < sum(3 in rules for rules in merged) / 200 < 0.95


def test_worlds_differ_and_splits_do_not_overlap() -> None:
    """Another seed gives another world, and samples carry their split."""
    one, two = World(seed=1), World(seed=2)
    assert one.samples("val", 20) != two.samples("val", 20)
    assert {str(s) for s in one.samples("val", 20)}.isdisjoint(str(s) for s in one.samples("test", 20))
    assert all(re.fullmatch(r"case val-\d+", str(s)) for s in one.samples("val", 20))
