"""Who a run hands out: one that has proven better, and not the luckiest of many."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from statistics import fmean

import pytest

from flashgraph.evidence import Evidence
from flashgraph.graph.ports import Artifact
from flashgraph.policies.champion import Best, ChampionRule, Proven, Shown, Title, proven, the_best

Scores = Mapping[int, float]


def artifact(number: int, scores: Scores, of: int | None = None) -> Artifact:
    """One that was tried on these of so many samples."""
    mean = fmean(scores.values()) if scores else 0.0
    known = None if of is None else Evidence(len(scores), of, mean, mean, 0.0, (0.0, 1.0))
    return Artifact(number, {"text": str(number)}, (), mean, dict(scores), evidence=known)


class Told:
    """A rule that is told of artifacts as a pool is; the pool's own choice is the highest mean."""

    def __init__(self, rule: ChampionRule) -> None:
        self.rule, self.title, self.held = rule, Title(), dict[int, Artifact]()

    def next(self, changed: int) -> int | None:
        choice = max(self.held.values(), key=lambda a: a.score or 0.0, default=None)
        self.title = self.rule.next(self.title, self.held, choice, changed)
        return self.title.champion

    def put(self, number: int, scores: Scores, of: int | None = None) -> int | None:
        """Admit it, or give it more evidence."""
        self.held[number] = artifact(number, scores, of)
        return self.next(number)

    def drop(self, number: int) -> int | None:
        del self.held[number]
        return self.next(number)


def passing(count: int, of: int, start: int = 0) -> Scores:
    """``count`` passes among samples ``0 .. of - 1``, from ``start`` on."""
    return {s: float((s - start) % of < count) for s in range(of)}


def test_the_first_is_champion() -> None:
    """There is nobody else to hand out."""
    assert Told(Proven()).put(0, passing(3, 40)) == 0


def test_an_early_jump_is_accepted() -> None:
    """A first challenger that is right nearly everywhere needs no second look."""
    told = Told(Proven())
    told.put(0, passing(8, 40))
    assert told.put(1, passing(36, 40)) == 1


def test_a_challenger_that_is_no_better() -> None:
    """Equal on every sample, or worse."""
    told = Told(Proven(0.9))
    told.put(0, passing(20, 40))
    assert told.put(1, passing(20, 40)) == 0
    assert told.put(2, passing(10, 40)) == 0


def test_too_few_common_samples() -> None:
    """Whatever they say: fewer than ``least`` of a larger validation are no evidence; more of them are."""
    told = Told(Proven(least=10))
    told.put(0, dict.fromkeys(range(20), 0.0), of=40)
    few = dict.fromkeys(range(11, 31), 1.0)
    assert len(set(few) & set(range(20))) == 9
    assert told.put(1, few, of=40) == 0
    assert told.title.shown == {}
    assert told.put(1, dict.fromkeys(range(10, 31), 1.0), of=40) == 1


def test_of_a_small_validation_all_samples_are_enough() -> None:
    """There will never be more."""
    told = Told(Proven(least=30))
    told.put(0, passing(0, 12), of=12)
    assert told.put(1, passing(12, 12), of=12) == 1
    assert Told(Proven(least=30)).put(0, {}, of=12) is None


def test_a_handful_of_samples_proves_nothing() -> None:
    """The pool's own best is handed out: no champion is named."""
    told = Told(Proven())
    told.put(0, passing(0, 8), of=8)
    assert told.put(1, passing(8, 8), of=8) is None


def test_a_retracted_challenger_stands_in_nobodys_way() -> None:
    """What it showed is gone with it: others are not held to it."""
    told = Told(Proven(0.99, least=10))
    told.put(0, passing(10, 40), of=40)
    told.put(1, passing(14, 40), of=40)
    alone = told.title
    told.put(2, passing(15, 40), of=40)
    assert set(told.title.shown) == {1, 2}
    told.drop(2)
    assert told.title == alone


def test_the_luckiest_of_many_is_not_accepted() -> None:
    """The same margin wins against a champion whose challengers really differ, and not after many that were all as good
    as it: then it is what chance gives the best of them."""
    stream = random.Random(7)

    def noisy(good: float) -> Scores:
        return {s: float(stream.random() < good) for s in range(40)}

    base = noisy(0.5)
    lucky = {s: 1.0 if s in [s for s in base if base[s] == 0.0][:6] else y for s, y in base.items()}
    alone = Told(Proven(0.9))
    alone.put(0, base)
    assert alone.put(1, lucky) == 1
    crowded = Told(Proven(0.9))
    crowded.put(0, base)
    twins = [{**base, s: 1.0 - base[s], s + 1: 1.0 - base[s + 1]} for s in range(0, 40, 2)]
    for number, scores in enumerate([*twins, *twins], 1):
        assert crowded.put(number, scores) == 0, number
    rule = Proven(0.9)
    before = rule.probability(crowded.title, 1)
    crowded.put(99, lucky)
    after = rule.probability(Title(0, {1: crowded.title.shown.get(99, Shown(0.15, 0.01))}), 1)
    many = rule.probability(Title(0, {**crowded.title.shown, 99: Shown(0.15, 0.01)}), 99)
    assert before < 0.9
    assert many < after


@pytest.mark.parametrize("confidence", [0.75, 0.9, 0.95])
@pytest.mark.parametrize("samples", [3, 4, 5, 10, 30])
def test_one_that_is_no_better_is_seldom_accepted(samples: int, confidence: float) -> None:
    """On simulated truths, at any difficulty and on few samples too: a few differences that agree are not certain."""
    runs, accepted, rule = 250, 0, Proven(confidence, least=samples)
    for seed in range(runs):
        stream = random.Random(f"{seed} {samples}")
        told, good = Told(rule), stream.uniform(0.1, 0.9)
        for number in range(2):
            told.put(number, {s: float(stream.random() < good) for s in range(samples)}, of=max(samples, 10))
        accepted += told.title.champion == 1
    assert accepted / runs <= 1 - confidence + 2 * math.sqrt(confidence * (1 - confidence) / runs)


def changes(rule: Proven, spread: float, drift: float, runs: int) -> tuple[int, int]:
    """How often the champion changes in so many runs of twelve challengers with 100 samples, and how often to one whose
    true score is lower by more than 0.03.  Challengers are children of the champion."""
    all_, worse = 0, 0
    for seed in range(runs):
        stream = random.Random(f"{seed} {spread} {drift}")
        told, champion, truth = Told(rule), 0, {0: stream.uniform(0.2, 0.7)}
        for number in range(13):
            good = truth.setdefault(number, min(1.0, max(0.0, truth[champion] + stream.gauss(drift, spread))))
            new = told.put(number, {s: float(stream.random() < good) for s in range(100)}, of=100)
            assert new is not None
            all_ += new != champion
            worse += truth[new] < truth[champion] - 0.03
            champion = new
    return all_, worse


@pytest.mark.parametrize(("spread", "drift"), [(0.02, 0.0), (0.1, 0.0), (0.2, 0.0), (0.1, -0.1)])
def test_a_champion_seldom_falls(spread: float, drift: float) -> None:
    """Of its changes at most one in ten is for the worse, whether challengers hardly differ, differ much, or are worse
    on average."""
    all_, worse = changes(Proven(0.9), spread, drift, 40)
    assert all_ > 0
    assert worse <= 0.1 * all_


def test_a_line_that_leads_to_expect_less_needs_more() -> None:
    """The same paired difference: expected of one line, a surprise of the other."""
    rule = Proven(0.9)
    expected, surprising = Shown(0.1, 0.01, (0.1, 0.002)), Shown(0.1, 0.01, (-0.1, 0.002))
    assert rule.probability(Title(0, {1: expected}), 1) > 0.9 > rule.probability(Title(0, {1: surprising}), 1)


def test_more_evidence_for_the_champion_is_for_all_comparisons() -> None:
    """What its challengers showed is compared anew: one that was not better on the first samples is on all of them."""
    told = Told(Proven(least=10))
    told.put(0, dict.fromkeys(range(20), 1.0), of=40)
    assert told.put(1, {**dict.fromkeys(range(20), 1.0), **dict.fromkeys(range(20, 40), 1.0)}, of=40) == 0
    everywhere = {**dict.fromkeys(range(20), 1.0), **dict.fromkeys(range(20, 40), 0.0)}
    assert told.put(0, everywhere, of=40) == 1


def test_the_new_champion_is_compared_with_all() -> None:
    """Among them one that had not beaten the old one, for want of common samples."""
    told = Told(Proven(least=10))
    told.put(0, dict.fromkeys(range(20), 0.0), of=40)
    told.put(1, dict.fromkeys(range(20, 40), 1.0), of=40)
    assert told.put(2, dict.fromkeys(range(40), 0.2), of=40) in (1, 2)
    assert set(told.title.shown) <= {0, 1, 2} - {told.title.champion}
    assert told.title.shown


def test_a_champion_that_is_retracted() -> None:
    """The pool's own choice takes its place."""
    told = Told(Proven())
    told.put(0, passing(10, 40))
    told.put(1, passing(38, 40))
    told.put(2, passing(12, 40))
    assert told.title.champion == 1
    assert told.drop(1) == 2
    assert told.drop(2) == 0
    assert told.drop(0) is None


def test_a_challenger_that_is_retracted() -> None:
    """It never becomes champion, however good it was."""
    told = Told(Proven(0.999, least=10))
    told.put(0, passing(10, 40))
    told.put(1, {s: y if s % 4 else 1.0 for s, y in passing(10, 40).items()})
    assert told.title.champion == 0
    told.drop(1)
    assert told.put(2, passing(11, 40)) == 0


def test_artifacts_without_scores_are_the_pools_own_choice() -> None:
    """There is nothing to compare sample by sample: a harness that failed, a pool that keeps no scores."""
    told = Told(Proven())
    told.held[0] = Artifact(0, "text", (), 0.5)
    assert told.next(0) is None
    told.put(1, passing(40, 40))
    assert told.title.champion == 1


@pytest.mark.parametrize("confidence", [0.75, 0.9])
def test_the_share_of_changes_for_the_worse(confidence: float) -> None:
    """At most one less the confidence, over many runs of challengers that are as often worse as better."""
    stream = random.Random(f"{confidence}")
    changes = worse = 0
    for _ in range(30):
        told = Told(Proven(confidence))
        true = {0: 0.5}
        easy = [stream.random() for _ in range(60)]
        told.put(0, {s: float(u < 0.5) for s, u in enumerate(easy)})
        for number in range(1, 25):
            before = told.title.champion
            assert before is not None
            true[number] = min(0.95, max(0.05, stream.gauss(true[before], 0.08)))
            drawn = {
                s: float((u if stream.random() < 0.7 else stream.random()) < true[number]) for s, u in enumerate(easy)
            }
            after = told.put(number, drawn)
            assert after is not None
            changes += after != before
            worse += after != before and true[after] < true[before]
    assert changes > 30
    assert worse / changes <= 1 - confidence


@pytest.mark.parametrize("score", [0.4, None])
def test_the_best_is_the_pools_own_choice(score: float | None) -> None:
    """As the published algorithms have it: on any evidence, and without memory."""
    rule, best = the_best(), Artifact(3, "text", (), score)
    assert rule.next(Title(), {3: best}, best, 3) == Title()
    assert rule.next(Title(1), {3: best}, best, 3) == Title()
    assert (str(rule), rule) == ("best", Best())


def test_rules_say_their_numbers() -> None:
    """The header of a run has them."""
    assert proven(0.9) == Proven(0.9)
    assert str(Proven(0.9, 12)) == "proven(0.9, least=12)"
