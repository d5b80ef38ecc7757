"""Reference model of the champion rules, computed from the differences between challengers and the champion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import attrs

from flashgraph.graph.ports import Artifact
from flashgraph.policies import champion as numbers
from flashgraph.policies.champion import Best, ChampionRule, Proven

__all__ = ["Throne"]


def _spread(differences: Sequence[float]) -> float:
    """Return the sampling variance of the mean, with one more difference of each sign."""
    padded = [*differences, 1.0, -1.0]
    mean = sum(padded) / len(padded)
    return sum((d - mean) ** 2 for d in padded) / (len(padded) - 1) / len(padded)


def _size(artifact: Artifact) -> int:
    return len(artifact.scores) if artifact.evidence is None else artifact.evidence.of


@attrs.define
class Throne:
    """The champion under a rule, and by challenger its differences to it on common samples."""

    rule: ChampionRule
    champion: int | None = None
    shown: dict[int, list[float]] = attrs.field(factory=dict)

    def after(self, held: Mapping[int, Artifact], choice: Artifact | None, changed: int) -> int | None:
        """Return the champion's number after ``changed`` has changed; artifacts have no evidence."""
        own = None if choice is None else choice.id
        if isinstance(self.rule, Best):
            return own
        if choice is None or not choice.scores:
            self.champion, self.shown = None, {}
            return own
        before = held.get(self.champion) if self.champion is not None else None
        if before is None or not before.scores:
            self.champion, self.shown = own, {}
            return own
        for other in held.values():
            if changed in (other.id, before.id):
                self._show(before, other)
        if changed not in held:
            self.shown.pop(changed, None)
        best = max((number for number in self.shown if number in held), key=self._better, default=None)
        if best is not None and self._better(best) >= self._rule.confidence:
            self.champion, self.shown = best, {}
            for other in held.values():
                self._show(held[best], other)
        return self.champion

    @property
    def _rule(self) -> Proven:
        assert isinstance(self.rule, Proven)
        return self.rule

    def _show(self, champion: Artifact, other: Artifact) -> None:
        common = champion.scores.keys() & other.scores.keys()
        enough = min(self._rule.least, _size(champion), _size(other))
        if other.id != champion.id and common and len(common) >= enough:
            self.shown[other.id] = [other.scores[s] - champion.scores[s] for s in sorted(common)]

    def _better(self, number: int) -> float:
        """Return the probability that a challenger is better, shrunk towards the newest challengers."""
        mean, noise = self._mean(number), _spread(self.shown[number])
        if mean < self._ahead(len(self.shown[number])) * math.sqrt(noise):
            return 0.0
        newest = sorted(self.shown)[-numbers.RECENT :]
        counted = numbers.PRIOR_WEIGHT + len(newest)
        centre = sum(self._mean(other) for other in newest) / counted
        true = sum((self._mean(other) - centre) ** 2 - _spread(self.shown[other]) for other in newest)
        prior = max(numbers.MIN_SPREAD**2, (numbers.PRIOR_WEIGHT * numbers.PRIOR_SPREAD**2 + true) / counted)
        # The posterior of a normal mean: precisions add up.
        precision = 1 / prior + 1 / noise
        posterior = (centre / prior + mean / noise) / precision
        return (1 + math.erf(posterior * math.sqrt(precision / 2))) / 2

    def _ahead(self, samples: int) -> float:
        """Return the lead that a challenger needs, in standard errors: a quantile of Student's t, expanded."""
        if samples < 2:
            return math.inf
        z = max(1.0, NormalDist().inv_cdf(self._rule.confidence))
        n = samples - 1
        return z * (1 + (z * z + 1) / (4 * n) + (5 * z**4 + 16 * z * z + 3) / (96 * n * n))

    def _mean(self, number: int) -> float:
        return sum(self.shown[number]) / len(self.shown[number])
