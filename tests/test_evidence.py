"""Estimates from partial samples: unbiased over the draws, and with intervals that hold."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from statistics import fmean, stdev, variance
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flashgraph.evidence import Drift, Evidence, anchor, paired, sampling_variance, weigh
from flashgraph.policies.release import drawn

ANY = (-math.inf, math.inf)
"""No bounds at all."""

POPULATIONS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0, 0, 1])),
    min_size=2,
    max_size=8,
)
"""By sample: its score, the control's prediction, and its stratum."""


def taken(strata: Sequence[int], members: int) -> Counter[int]:
    """Return how many of each stratum are drawn; every draw has the same numbers."""
    return Counter(strata[place] for place in drawn(strata, members, random.Random(0)))


def parts(strata: Sequence[int], counts: Mapping[int, int]) -> list[list[int]]:
    """Return all draws of these numbers from each stratum."""
    places = {own: [i for i, other in enumerate(strata) if other == own] for own in set(strata)}
    each = [list(combinations(places[own], counts[own])) for own in places]
    return [[i for part in draw for i in part] for draw in product(*each)]


def weighed(population: Sequence[tuple[float, float, int]], sent: Sequence[int], controlled: bool) -> Evidence:
    control = {i: guess for i, (_, guess, _) in enumerate(population)} if controlled else None
    strata = {i: own for i, (_, _, own) in enumerate(population)}
    scores = {i: population[i][0] for i in sent}
    return weigh(scores, len(population), control=control, strata=strata)


# ---- the mean --------------------------------------------------------------------------------------------


@given(POPULATIONS, st.integers(1, 8), st.booleans())
@example([(1.0, 0.0, 0), (0.0, 1.0, 0), (1.0, 1.0, 1), (1.0, 1.0, 1), (0.0, 1.0, 1)], 3, True)
def test_the_mean_is_unbiased(population: list[tuple[float, float, int]], members: int, controlled: bool) -> None:
    """Over all draws the mean is exactly unbiased, for any control and strata."""
    strata = [own for _, _, own in population]
    counts = taken(strata, min(members, len(population)))
    assume(all(counts[own] for own in strata))
    means = [weighed(population, sent, controlled).mean for sent in parts(strata, counts)]
    assert fmean(means) == pytest.approx(fmean(score for score, _, _ in population), abs=1e-12)


@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("members", [6, 12, 30])
def test_the_mean_is_unbiased_over_drawn_samples(controlled: bool, members: int) -> None:
    """With `drawn`'s own draws the mean is unbiased within four standard errors, for very different strata."""
    stream = random.Random(f"{controlled} {members}")
    population = [(float(i % 3 == 0), float(i % 2), 0) for i in range(20)] + [
        (1.0, float(i % 5 > 0), 1) for i in range(20)
    ]
    strata = [own for _, _, own in population]
    means = [weighed(population, drawn(strata, members, stream), controlled).mean for _ in range(800)]
    assert abs(fmean(means) - fmean(score for score, _, _ in population)) < 1e-9 + 4 * stdev(means) / math.sqrt(
        len(means)
    )


def test_a_control_that_is_right_leaves_nothing_to_chance() -> None:
    """With a control whose error is the same on all samples, every draw gives the true mean."""
    population = [(0.1 * i, 0.1 * i - 0.3, i % 2) for i in range(8)]
    for sent in ([0, 1], [6, 7], [2, 3, 4]):
        assert weighed(population, sent, True).mean == pytest.approx(0.35)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.booleans())
def test_complete_evidence_is_the_plain_mean(scores: list[float], controlled: bool) -> None:
    """Complete evidence is the plain mean, to the last bit, with no variance from sampling."""
    control = dict.fromkeys(range(len(scores)), 0.5) if controlled else None
    found = weigh(dict(enumerate(scores)), len(scores), control=control, strata={0: 1})
    assert found.mean == sum(scores) / len(scores)
    assert found.complete
    assert (found.estimate, found.variance) == (found.mean, 0.0)
    assert (found.tried, found.of) == (len(scores), len(scores))


def test_a_stratum_that_was_never_tried() -> None:
    """A stratum that was never tried has the mean difference of the others, or their mean score without a control."""
    control, strata = {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}, {0: 0, 1: 0, 2: 1, 3: 1}
    found = weigh({0: 0.25, 1: 0.75}, 4, bounds=ANY, control=control, strata=strata)
    assert found.mean == pytest.approx(fmean([0.25, 0.75, 1.5, 1.5]))
    assert found.variance > 0
    assert weigh({0: 0.5, 1: 0.5}, 4, strata=strata).mean == pytest.approx(0.5)


def test_a_control_that_lacks_samples_is_none() -> None:
    """A parent with untried samples, and no estimate for them, is no control."""
    assert weigh({0: 1.0}, 4, control={0: 1.0, 1: 0.0}) == weigh({0: 1.0}, 4)


def test_strata_are_weighted_by_their_size() -> None:
    """A stratum of two and one of eight are weighted by size."""
    strata = {i: int(i >= 2) for i in range(10)}
    assert weigh({0: 0.0, 9: 1.0}, 10, strata=strata).mean == pytest.approx(0.8)


def test_estimates_stay_within_bounds() -> None:
    """A control that was much too good cannot push the estimate below the least score.

    The mean may go below it, because clipping would bias it upwards.
    """
    control = {i: float(i > 0) for i in range(10)}
    found = weigh({1: 0.0, 2: 0.0}, 10, control=control, parent=weigh(control, 10), drift=Drift(-5.0, 0.003))
    assert found.mean == pytest.approx(-0.1)
    assert found.estimate == 0.0
    alone = weigh({1: 0.0, 2: 0.0}, 10, control=control)
    assert alone.mean == pytest.approx(-0.1)
    assert alone.estimate == 0.0
    low, high = found.interval
    assert 0.0 <= low < high <= 1.0


# ---- the estimate and the interval -----------------------------------------------------------------------


def test_little_evidence_is_drawn_towards_the_parent() -> None:
    """Fewer samples shrink the estimate more towards the parent's, and never past the mean."""
    parent = {i: float(i % 2) for i in range(40)}
    before = weigh(parent, 40)
    child = dict.fromkeys(range(40), 1.0)
    found = [weigh({i: child[i] for i in range(n)}, 40, control=parent, parent=before) for n in (4, 12, 40)]
    gains = [e.estimate - before.estimate for e in found]
    assert 0 < gains[0] < gains[1] < gains[2] < 0.5
    assert [e.mean for e in found] == pytest.approx([1.0, 1.0, 1.0])


def test_a_child_is_expected_to_do_as_children_do() -> None:
    """Of two children with equal scores, the one whose siblings do worse than their parents has the lower estimate."""
    parent = {i: float(i % 2) for i in range(20)}
    scores = {i: parent[i] for i in range(8)} | {0: 1.0, 1: 0.0}
    found = [
        weigh(scores, 20, control=parent, parent=weigh(parent, 20), drift=Drift(mean, 0.003)).estimate
        for mean in (-0.2, 0.0)
    ]
    assert found[0] < found[1]


def test_without_bounds_the_interval_is_plain() -> None:
    """Without bounds the interval is 1.96 standard errors to each side of the estimate, and nothing clips it."""
    scores = {i: float(s) for i, s in enumerate([-30, 10, 50, 90])}
    found = weigh(scores, 4, bounds=ANY)
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(30.0)
    assert high - low == pytest.approx(2 * 1.959964 * math.sqrt(variance(scores.values()) / 4), rel=1e-5)


def test_bounds_that_are_shifted_shift_all() -> None:
    """Complete evidence on a shifted scale is the same evidence on that scale."""
    scale, by = 5.0, -2.0
    scores = {i: float(i % 3 == 0) for i in range(12)}
    one = weigh(scores, 12)
    other = weigh({i: by + scale * s for i, s in scores.items()}, 12, bounds=(by, by + scale))
    assert other.estimate == pytest.approx(by + scale * one.estimate)
    assert other.interval == pytest.approx(tuple(by + scale * edge for edge in one.interval))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_equal_scores_are_not_certain(score: float) -> None:
    """For three equal scores the interval is wide, for thirty narrower; Wilson's for 0 of 3 ends at 0.5615."""
    few, many = (weigh(dict.fromkeys(range(n), score), n).interval for n in (3, 30))
    assert few == pytest.approx((0.0, 0.5615) if score == 0 else (0.4385, 1.0), abs=1e-4)
    assert many[1] - many[0] < few[1] - few[0]


def test_failures_are_counted() -> None:
    """Failures are among the scores, as the least one, and `failed` counts them."""
    found = weigh({0: 0.0, 1: 1.0}, 4, failed=1)
    assert (found.failed, found.tried, found.mean) == (1, 2, 0.5)
    assert str(found).startswith("0.50 (2 of 4, 1 failed, ")
    assert "failed" not in str(weigh({0: 0.0}, 4))
    assert not found.complete


def simulated(samples: int, sent: int, seed: int, *, of_a_parent: bool) -> tuple[bool, float]:
    """Return whether a child's interval holds its true score, and the error of its estimate.

    The samples are of the same kind. A candidate passes those that are easier than it is good, with noise of its own.
    """
    stream = random.Random(f"{samples} {sent} {seed}")
    good = stream.uniform(0.15, 0.85)
    truth = min(max(stream.gauss(good, math.sqrt(Drift().variance)), 0.02), 0.98)
    easy = [stream.random() for _ in range(samples)]

    def passes(quality: float, place: int) -> float:
        return float((easy[place] if stream.random() < 0.85 else stream.random()) < quality)

    parent = {i: passes(good, i) for i in range(samples)}
    child = {i: passes(truth, i) for i in range(samples)}
    strata = {i: int(parent[i] == 1.0 and stream.random() < 0.8) for i in range(samples)}
    scores = {i: child[i] for i in drawn(list(strata.values()), sent, stream)}
    given: dict[str, Any] = {"control": parent, "parent": weigh(parent, samples)} if of_a_parent else {}
    found = weigh(scores, samples, strata=strata, **given)
    return found.interval[0] <= truth <= found.interval[1], found.estimate - truth


@pytest.mark.slow
@pytest.mark.parametrize("of_a_parent", [False, True])
@pytest.mark.parametrize(("samples", "sent"), [(30, 24), (60, 24), (100, 24), (100, 48), (40, 40)])
def test_intervals_hold_the_truth(samples: int, sent: int, of_a_parent: bool) -> None:
    """At the 95 % level, 93 to 97 of a hundred intervals hold the truth, within the error of 4,000; no bias."""
    found = [simulated(samples, sent, seed, of_a_parent=of_a_parent) for seed in range(4000)]
    slack = 2.5 * math.sqrt(0.95 * 0.05 / len(found))
    assert 0.93 - slack < fmean(held for held, _ in found) < 0.97 + slack
    errors = [error for _, error in found]
    assert abs(fmean(errors)) < 0.005 + 3 * stdev(errors) / math.sqrt(len(errors))


# ---- differences -----------------------------------------------------------------------------------------


def test_a_few_differences_that_agree_are_not_certain() -> None:
    """The variance of a few equal differences includes one more difference of each sign (Agresti and Min, 2005)."""
    mean, noise = paired([0.5, 0.5])
    assert mean == 0.5
    assert noise == pytest.approx(variance([0.5, 0.5, 1.0, -1.0]) / 4)
    assert paired([0.5] * 50)[1] < noise


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_differences_the_other_way_round(differences: list[float]) -> None:
    """Reversed differences give the reversed evidence."""
    mean, noise = paired(differences)
    turned, other = paired([-d for d in differences])
    assert turned == pytest.approx(-mean)
    assert other == pytest.approx(noise)


def test_the_drift_of_no_children() -> None:
    """Without children, the drift is the prior."""
    assert Drift.of([]) == Drift()


def test_the_drift_of_many_children() -> None:
    """With many children, the drift is their common difference, and its variance excludes sampling noise."""
    stream = random.Random(5)
    noise = 0.01
    seen = [(stream.gauss(-0.1, math.sqrt(0.02)) + stream.gauss(0, math.sqrt(noise)), noise) for _ in range(4000)]
    found = Drift.of(seen)
    assert found.mean == pytest.approx(-0.1, abs=0.01)
    assert found.variance == pytest.approx(0.02, abs=0.003)


def test_children_are_never_taken_to_be_all_alike() -> None:
    """If chance explains more than the children's differences, the drift still has a variance."""
    assert Drift.of([(0.0, 1.0)] * 50).variance > 0


# ---- roots -----------------------------------------------------------------------------------------------

LUCKY = {i: float(i % 5 == 0) for i in range(100)}
"""A root with a mean of 0.2."""


def test_a_root_whose_children_are_all_worse_was_lucky() -> None:
    """A root whose children are all worse was lucky, more so the more children it has; its mean stays."""
    without = weigh(LUCKY, 100)
    few, many = (weigh(LUCKY, 100, children=[(0.14, 0.004)] * count) for count in (3, 60))
    assert (without.estimate, few.mean, many.mean) == (0.2, 0.2, 0.2)
    assert 0.14 < many.estimate < few.estimate < 0.2
    assert many.interval[1] < without.interval[1]


@pytest.mark.parametrize("children", [[(0.14, 0.004)] * 2, [(0.3, 0.004)] * 60, []])
def test_children_that_say_nothing_of_their_root(children: list[tuple[float, float]]) -> None:
    """Too few children, or better ones, say nothing of their root's luck."""
    assert weigh(LUCKY, 100, children=children) == weigh(LUCKY, 100)


def test_luck_has_the_unit_of_the_scores() -> None:
    """Scores from 0 to 100 are corrected by a hundred times as much."""
    small = weigh(LUCKY, 100, children=[(0.14, 0.004)] * 9)
    large = weigh(
        {i: 100 * y for i, y in LUCKY.items()}, 100, bounds=(0.0, 100.0), children=[(14.0, 40.0)] * 9
    )  # fmt: skip
    assert large.estimate == pytest.approx(100 * small.estimate)


# ---- lines of descent ------------------------------------------------------------------------------------

RULES = 24
SAMPLES = 100


def passes(stream: random.Random, text: frozenset[int], needs: int) -> float:
    """Return one reply: a text that states the rule of a sample passes nearly always, another one seldom."""
    return float(stream.random() < (0.95 if needs in text else 0.12))


def line_of_descent(seed: int, generations: int = 12, children: int = 8) -> tuple[Evidence, float]:
    """Return the evidence of a greedy search's last text, and its true score.

    All texts are tried on the same samples. Each child of a generation adds a rule and may lose one, and the most
    promising text is the next parent.
    """
    stream = random.Random(seed)
    frequent = [1 / (1 + rule / 8) for rule in range(RULES)]
    needs = stream.choices(range(RULES), frequent, k=SAMPLES)

    def tried(text: frozenset[int]) -> dict[int, float]:
        return {i: passes(stream, text, rule) for i, rule in enumerate(needs)}

    text = frozenset[int]()
    scores = tried(text)
    best = weigh(scores, SAMPLES)
    seen: list[tuple[float, float]] = []
    for _ in range(generations):
        born = []
        for _ in range(children):
            lost = {rule for rule in text if stream.random() < 0.06}
            child = (text - lost) | set(stream.choices(range(RULES), frequent, k=1))
            of_child = tried(child)
            evidence = weigh(of_child, SAMPLES, control=scores, parent=best, drift=Drift.of(seen[-60:]))
            born.append((evidence, child, of_child))
        seen += [(e.mean - anchor(best), sampling_variance(s, scores)) for e, _, s in born]
        first, child, of_child = max(born, key=lambda b: b[0].estimate)
        if first.estimate > best.estimate:
            best, text, scores = first, child, of_child
    truth = sum(w * (0.95 if r in text else 0.12) for r, w in enumerate(frequent)) / sum(frequent)
    return best, truth


def test_the_best_of_many_generations_is_estimated_right() -> None:
    """The best of many generations has an estimate near its true score, and an interval that holds it.

    The mean is too high, because the same samples chose every parent.
    """
    lines = [line_of_descent(seed) for seed in range(40)]
    assert abs(fmean(e.estimate - truth for e, truth in lines)) < 0.035
    assert fmean(e.mean - truth for e, truth in lines) > 0.07
    assert fmean(e.interval[0] <= truth <= e.interval[1] for e, truth in lines) >= 0.9
