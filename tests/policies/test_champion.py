"""The champion is an artifact that has proven better, and not the luckiest of many."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from statistics import fmean

import pytest

from flashgraph.evidence import Evidence
from flashgraph.graph.ports import Artifact
from flashgraph.policies.champion import Best, ChampionRule, Proven, Shown, Title, proven, settled, the_best

Scores = Mapping[int, float]


def artifact(number: int, scores: Scores, of: int | None = None) -> Artifact:
    """Return an artifact with these scores of ``of`` samples."""
    mean = fmean(scores.values()) if scores else 0.0
    known = None if of is None else Evidence(len(scores), of, mean, mean, 0.0, (0.0, 1.0))
    return Artifact(number, {"text": str(number)}, (), mean, dict(scores), evidence=known)


class Challenged:
    """A rule that sees artifacts as a pool's rule does; the pool's own choice has the highest mean."""

    def __init__(self, rule: ChampionRule) -> None:
        self.rule, self.title, self.held = rule, Title(), dict[int, Artifact]()

    def next(self, changed: int) -> int | None:
        choice = max(self.held.values(), key=lambda a: a.score or 0.0, default=None)
        self.title = self.rule.next(self.title, self.held, choice, changed)
        return self.title.champion

    def put(self, number: int, scores: Scores, of: int | None = None) -> int | None:
        """Admit an artifact, or give it more evidence; return the champion."""
        self.held[number] = artifact(number, scores, of)
        return self.next(number)

    def drop(self, number: int) -> int | None:
        del self.held[number]
        return self.next(number)


def passing(count: int, of: int, start: int = 0) -> Scores:
    """Return scores of samples ``0 .. of - 1``: ``count`` of them pass, from sample ``start`` on."""
    return {s: float((s - start) % of < count) for s in range(of)}


def test_the_first_is_champion() -> None:
    """The first artifact becomes champion without a test."""
    assert Challenged(Proven()).put(0, passing(3, 40)) == 0


def test_an_early_jump_is_accepted() -> None:
    """A first challenger that passes nearly everywhere becomes champion at once."""
    rivals = Challenged(Proven())
    rivals.put(0, passing(8, 40))
    assert rivals.put(1, passing(36, 40)) == 1


def test_a_challenger_that_is_no_better() -> None:
    """A challenger that is equal on every sample, or worse, does not become champion."""
    rivals = Challenged(Proven(0.9))
    rivals.put(0, passing(20, 40))
    assert rivals.put(1, passing(20, 40)) == 0
    assert rivals.put(2, passing(10, 40)) == 0


def test_too_few_common_samples() -> None:
    """Fewer than ``least`` common samples of a larger validation are not compared; more of them are."""
    rivals = Challenged(Proven(least=10))
    rivals.put(0, dict.fromkeys(range(20), 0.0), of=40)
    few = dict.fromkeys(range(11, 31), 1.0)
    assert len(set(few) & set(range(20))) == 9
    assert rivals.put(1, few, of=40) == 0
    assert rivals.title.shown == {}
    assert rivals.put(1, dict.fromkeys(range(10, 31), 1.0), of=40) == 1


def test_of_a_small_validation_all_samples_are_enough() -> None:
    """``least`` is at most the size of the validation."""
    rivals = Challenged(Proven(least=30))
    rivals.put(0, passing(0, 12), of=12)
    assert rivals.put(1, passing(12, 12), of=12) == 1
    assert Challenged(Proven(least=30)).put(0, {}, of=12) is None


def test_a_handful_of_samples_proves_nothing() -> None:
    """With a handful of samples no champion is named, and the pool's own best is handed out."""
    rivals = Challenged(Proven())
    rivals.put(0, passing(0, 8), of=8)
    assert rivals.put(1, passing(8, 8), of=8) is None


def test_a_retracted_challenger_is_forgotten() -> None:
    """The comparison of a retracted challenger is forgotten."""
    rivals = Challenged(Proven(0.99, least=10))
    rivals.put(0, passing(10, 40), of=40)
    rivals.put(1, passing(14, 40), of=40)
    alone = rivals.title
    rivals.put(2, passing(15, 40), of=40)
    assert set(rivals.title.shown) == {1, 2}
    rivals.drop(2)
    assert rivals.title == alone


def test_the_luckiest_of_many_is_not_accepted() -> None:
    """A margin that wins alone does not win after many challengers that were as good as the champion."""
    stream = random.Random(7)

    def noisy(good: float) -> Scores:
        return {s: float(stream.random() < good) for s in range(40)}

    base = noisy(0.5)
    lucky = {s: 1.0 if s in [s for s in base if base[s] == 0.0][:6] else y for s, y in base.items()}
    alone = Challenged(Proven(0.9))
    alone.put(0, base)
    assert alone.put(1, lucky) == 1
    crowded = Challenged(Proven(0.9))
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
    """An equal challenger is accepted with probability 1 - confidence at most, at any difficulty and on few samples."""
    runs, accepted, rule = 250, 0, Proven(confidence, least=samples)
    for seed in range(runs):
        stream = random.Random(f"{seed} {samples}")
        rivals, good = Challenged(rule), stream.uniform(0.1, 0.9)
        for number in range(2):
            rivals.put(number, {s: float(stream.random() < good) for s in range(samples)}, of=max(samples, 10))
        accepted += rivals.title.champion == 1
    assert accepted / runs <= 1 - confidence + 2 * math.sqrt(confidence * (1 - confidence) / runs)


def changes(rule: Proven, spread: float, drift: float, runs: int) -> tuple[int, int]:
    """Return how often the champion changes in ``runs`` runs, and how often to a true score that is lower by over 0.03.
    Each run has twelve challengers, children of the champion, with 100 samples."""
    all_, worse = 0, 0
    for seed in range(runs):
        stream = random.Random(f"{seed} {spread} {drift}")
        rivals, champion, truth = Challenged(rule), 0, {0: stream.uniform(0.2, 0.7)}
        for number in range(13):
            good = truth.setdefault(number, min(1.0, max(0.0, truth[champion] + stream.gauss(drift, spread))))
            new = rivals.put(number, {s: float(stream.random() < good) for s in range(100)}, of=100)
            assert new is not None
            all_ += new != champion
            worse += truth[new] < truth[champion] - 0.03
            champion = new
    return all_, worse


@pytest.mark.parametrize(("spread", "drift"), [(0.02, 0.0), (0.1, 0.0), (0.2, 0.0), (0.1, -0.1)])
def test_a_champion_seldom_falls(spread: float, drift: float) -> None:
    """At most one change in ten is for the worse, whether challengers differ little, differ much, or are worse on
    average."""
    all_, worse = changes(Proven(0.9), spread, drift, 40)
    assert all_ > 0
    assert worse <= 0.1 * all_


def test_a_line_that_predicts_less_needs_more() -> None:
    """The same paired difference proves more for a line that predicts it than for one that predicts a loss."""
    rule = Proven(0.9)
    expected, surprising = Shown(0.1, 0.01, (0.1, 0.002)), Shown(0.1, 0.01, (-0.1, 0.002))
    assert rule.probability(Title(0, {1: expected}), 1) > 0.9 > rule.probability(Title(0, {1: surprising}), 1)


def test_evidence_for_the_champion_updates_all_comparisons() -> None:
    """New evidence for the champion compares all its challengers again, on all common samples."""
    rivals = Challenged(Proven(least=10))
    rivals.put(0, dict.fromkeys(range(20), 1.0), of=40)
    assert rivals.put(1, {**dict.fromkeys(range(20), 1.0), **dict.fromkeys(range(20, 40), 1.0)}, of=40) == 0
    everywhere = {**dict.fromkeys(range(20), 1.0), **dict.fromkeys(range(20, 40), 0.0)}
    assert rivals.put(0, everywhere, of=40) == 1


def test_the_new_champion_is_compared_with_all() -> None:
    """A new champion is compared with every artifact, also with one that shared too few samples with the old one."""
    rivals = Challenged(Proven(least=10))
    rivals.put(0, dict.fromkeys(range(20), 0.0), of=40)
    rivals.put(1, dict.fromkeys(range(20, 40), 1.0), of=40)
    assert rivals.put(2, dict.fromkeys(range(40), 0.2), of=40) in (1, 2)
    assert set(rivals.title.shown) <= {0, 1, 2} - {rivals.title.champion}
    assert rivals.title.shown


def test_a_champion_that_is_retracted() -> None:
    """The pool's own choice replaces a retracted champion."""
    rivals = Challenged(Proven())
    rivals.put(0, passing(10, 40))
    rivals.put(1, passing(38, 40))
    rivals.put(2, passing(12, 40))
    assert rivals.title.champion == 1
    assert rivals.drop(1) == 2
    assert rivals.drop(2) == 0
    assert rivals.drop(0) is None


def test_a_challenger_that_is_retracted() -> None:
    """A retracted challenger never becomes champion."""
    rivals = Challenged(Proven(0.999, least=10))
    rivals.put(0, passing(10, 40))
    rivals.put(1, {s: y if s % 4 else 1.0 for s, y in passing(10, 40).items()})
    assert rivals.title.champion == 0
    rivals.drop(1)
    assert rivals.put(2, passing(11, 40)) == 0


def test_artifacts_without_scores_are_the_pools_own_choice() -> None:
    """Without sample scores no champion is named: a harness that failed, or a pool that keeps none."""
    rivals = Challenged(Proven())
    rivals.held[0] = Artifact(0, "text", (), 0.5)
    assert rivals.next(0) is None
    rivals.put(1, passing(40, 40))
    assert rivals.title.champion == 1


@pytest.mark.parametrize("confidence", [0.75, 0.9])
def test_the_share_of_changes_for_the_worse(confidence: float) -> None:
    """It is at most 1 - confidence, over many runs whose challengers are as often worse as better."""
    stream = random.Random(f"{confidence}")
    changes = worse = 0
    for _ in range(30):
        rivals = Challenged(Proven(confidence))
        true = {0: 0.5}
        easy = [stream.random() for _ in range(60)]
        rivals.put(0, {s: float(u < 0.5) for s, u in enumerate(easy)})
        for number in range(1, 25):
            before = rivals.title.champion
            assert before is not None
            true[number] = min(0.95, max(0.05, stream.gauss(true[before], 0.08)))
            drawn = {
                s: float((u if stream.random() < 0.7 else stream.random()) < true[number]) for s, u in enumerate(easy)
            }
            after = rivals.put(number, drawn)
            assert after is not None
            changes += after != before
            worse += after != before and true[after] < true[before]
    assert changes > 30
    assert worse / changes <= 1 - confidence


@pytest.mark.parametrize("score", [0.4, None])
def test_the_best_is_the_pools_own_choice(score: float | None) -> None:
    """The rule of the published algorithms keeps no champion of its own."""
    rule, best = the_best(), Artifact(3, "text", (), score)
    assert rule.next(Title(), {3: best}, best, 3) == Title()
    assert rule.next(Title(1), {3: best}, best, 3) == Title()
    assert (str(rule), rule) == ("best", Best())


def test_text_of_rules_has_their_numbers() -> None:
    """The text of a rule has its numbers: the header of a run stores it."""
    assert proven(0.9) == Proven(0.9)
    assert str(Proven(0.9, 12)) == "proven(0.9, least=12)"


def test_a_champion_without_further_evidence_is_replaced() -> None:
    """Where no more evidence comes, the samples that complete artifacts share decide, if they are ten or more."""
    few, all_of_them = dict.fromkeys(range(15), 0.0), dict.fromkeys(range(40), 1.0)
    for rule, champion in ((proven(), 0), (settled(proven()), 1)):
        rivals = Challenged(rule)
        rivals.put(0, few, of=40)
        assert rivals.put(1, all_of_them, of=40) == champion
    rivals = Challenged(settled(proven()))
    rivals.put(0, dict(list(few.items())[:9]), of=40)
    assert rivals.put(1, all_of_them, of=40) == 0
    assert settled(the_best()) == the_best()


def test_equals_on_few_samples_seldom_win() -> None:
    """Of challengers that are no better than a champion with 12 samples, at most a tenth of the changes are allowed."""
    won = 0
    for seed in range(400):
        stream = random.Random(seed)
        rivals = Challenged(settled(proven()))
        rivals.put(0, {s: float(stream.random() < 0.5) for s in range(12)}, of=40)
        won += rivals.put(1, {s: float(stream.random() < 0.5) for s in range(40)}, of=40) == 1
    assert won <= 40
