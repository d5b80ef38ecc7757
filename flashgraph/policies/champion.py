"""The champion: the artifact that a run returns as its result, and the rules that decide when it changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Protocol

import attrs

from flashgraph.errors import Flaw
from flashgraph.evidence import HANDFUL, paired, quantile_of_t
from flashgraph.graph.ports import Artifact

__all__ = ["Best", "ChampionRule", "Proven", "Title", "proven", "settled", "the_best"]

Artifacts = Mapping[int, Artifact]
PRIOR_WEIGHT = 1
"""The weight of the prior, as a number of challengers."""
PRIOR_SPREAD = 0.2
"""Prior standard deviation of a challenger's true difference to the champion, in widths of the scores' bounds."""
MIN_SPREAD = 0.03
"""Least standard deviation of true differences, because challengers are never all alike."""
RECENT = 24
"""The number of newest challengers from which the prior is estimated."""


@attrs.frozen
class Shown:
    """A challenger compared with the champion, on their common samples.

    ``mean`` is the mean of the paired differences, ``noise`` its sampling variance, ``samples`` their number. ``prior``
    is the mean and variance of the difference that the challenger's lineage predicts; None without a prediction.
    Differences are in units of the width of the scores' bounds.
    """

    mean: float
    noise: float
    prior: tuple[float, float] | None = None
    samples: float = math.inf


@attrs.frozen
class Title:
    """The champion, and the comparisons of its challengers with it, by artifact."""

    champion: int | None = None
    shown: Mapping[int, Shown] = attrs.field(factory=dict)


class ChampionRule(Protocol):
    """A rule that chooses the champion."""

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title:
        """Return the new title after artifact ``changed`` was admitted, got evidence or was retracted.

        ``choice`` is the pool's own best artifact.
        """
        ...


def settled(rule: ChampionRule) -> ChampionRule:
    """Return the rule for a graph without a source of evidence, where complete artifacts get no more samples.

    An artifact that was released early keeps only the samples that it has. `Proven` then compares complete artifacts on
    at least `HANDFUL` samples, because a champion with fewer than ``least`` samples could never be replaced.
    """
    return attrs.evolve(rule, at_end=min(rule.least, HANDFUL)) if isinstance(rule, Proven) else rule


@attrs.frozen
class Best:
    """The pool's own choice is the champion, as in the published algorithms."""

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title:
        return title if title.champion is None else Title()

    def __str__(self) -> str:
        return "best"


@attrs.frozen
class Proven:
    """A challenger becomes champion if its probability of being better, on common samples, is at least ``confidence``.

    That probability is a posterior (empirical Bayes, normal prior).  The prior of the paired difference comes from the
    evidence of the challenger's lineage (`Evidence.prior`).  If there is no such prior, it is estimated from the
    champion's newest challengers.  The fewer the samples, the closer the posterior is to the prior, so that the
    luckiest of many challengers does not win. If the prior is right, at most a share of ``1 - confidence`` of the
    changes is expected to be for the worse.  Source: Efron, Large-Scale Inference, 2010, chapter 5, Bayesian false
    discovery rate.

    A challenger without a lineage prior must also pass a one-sided t test at that confidence on the common samples.  A
    challenger that is no better passes with probability at most ``1 - confidence``, even on three samples.  A
    challenger with a lineage prior must be ahead by at least one standard error.  In both cases challenger and champion
    must have at least ``least`` common samples, or all samples.
    """

    confidence: float = 0.9
    least: int = 30
    at_end: int | None = None
    """The least number of common samples of two artifacts that get no more evidence; None for ``least`` (see
    `settled`).
    """

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title:
        if choice is None or not choice.scores or (choice.evidence is not None and choice.evidence.of < HANDFUL):
            return Title()  # there are no scores per sample to compare, or too few for any test
        champion = artifacts.get(title.champion) if title.champion is not None else None
        if champion is None or not champion.scores:
            return Title(choice.id)
        challenger = artifacts.get(changed)
        if challenger is None:  # retracted: its comparison must not stay in the prior
            title = attrs.evolve(title, shown={i: shown for i, shown in title.shown.items() if i != changed})
        for other in artifacts.values() if changed == champion.id else () if challenger is None else (challenger,):
            title = self._against(title, champion, other)
        there = (i for i in title.shown if i in artifacts)
        best = max(there, key=lambda i: self.probability(title, i), default=None)
        if best is not None and self.probability(title, best) >= self.confidence:
            fresh = Title(best)
            for other in artifacts.values():
                fresh = self._against(fresh, artifacts[best], other)
            return fresh
        return title

    def _against(self, title: Title, champion: Artifact, challenger: Artifact) -> Title:
        common = [s for s in challenger.scores if s in champion.scores]
        least = self.least if self.at_end is None or champion.provisional or challenger.provisional else self.at_end
        enough = max(1, min(least, _size(champion), _size(challenger)))  # a failed program has no scores at all
        if challenger.id == champion.id or len(common) < enough:
            return title
        mine, theirs, prior = challenger.evidence, champion.evidence, None
        unit = 1.0 if theirs is None else theirs.unit
        mean, noise = paired([(challenger.scores[s] - champion.scores[s]) / unit for s in common])
        if mine is not None and mine.prior is not None and theirs is not None:
            prior = (mine.prior[0] - theirs.estimate) / unit, (mine.prior[1] + theirs.variance) / unit**2
        return attrs.evolve(title, shown={**title.shown, challenger.id: Shown(mean, noise, prior, len(common))})

    def probability(self, title: Title, challenger: int) -> float:
        """Return the probability that a challenger in ``title.shown`` is better than the champion.

        The probability is 0 if the challenger is not ahead by enough standard errors.
        """
        shown = title.shown[challenger]
        centre, spread = shown.prior or _others(title)
        ahead = 1.0 if shown.prior is not None else max(1.0, NormalDist().inv_cdf(self.confidence))
        if shown.mean < quantile_of_t(ahead, shown.samples - 1) * math.sqrt(shown.noise):
            return 0.0
        weight = spread / (spread + shown.noise)
        return NormalDist().cdf((centre + weight * (shown.mean - centre)) / math.sqrt(weight * shown.noise))

    def flaw(self) -> Flaw | None:
        if not isinstance(self.confidence, float | int) or not 0.5 <= self.confidence < 1:
            return Flaw(f"proven({self.confidence!r})", "a confidence from 0.5, and below 1", "proven(0.8)")
        if not isinstance(self.least, int) or self.least < 1:
            return Flaw(f"proven(..., least={self.least!r})", "a whole number from 1", "proven(0.8, least=30)")
        return None

    def __str__(self) -> str:
        return f"proven({self.confidence:g}, least={self.least})"


def _others(title: Title) -> tuple[float, float]:
    """Return mean and variance of the newest challengers' true differences, by the method of moments."""
    others = [title.shown[i] for i in sorted(title.shown)[-RECENT:]]
    centre = sum(o.mean for o in others) / (PRIOR_WEIGHT + len(others))
    spread = PRIOR_WEIGHT * PRIOR_SPREAD**2 + sum((o.mean - centre) ** 2 - o.noise for o in others)
    return centre, max(MIN_SPREAD**2, spread / (PRIOR_WEIGHT + len(others)))


def _size(artifact: Artifact) -> int:
    """Return the number of samples that an artifact can be tried on."""
    return artifact.evidence.of if artifact.evidence is not None else len(artifact.scores)


def the_best() -> ChampionRule:
    """Make the artifact that the pool calls its best the champion."""
    return Best()


def proven(confidence: float = 0.9, *, least: int = 30) -> ChampionRule:
    """Change the champion only to an artifact that is better at ``confidence``, on ``least`` or more common samples."""
    return Proven(confidence, least)
