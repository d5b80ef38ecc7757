"""The champion: which artifact a run hands out, and on how much evidence it changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Protocol

import attrs

from flashgraph.errors import Flaw
from flashgraph.evidence import HANDFUL, paired
from flashgraph.graph.ports import Artifact

__all__ = ["Best", "ChampionRule", "Proven", "Title", "proven", "the_best"]

Artifacts = Mapping[int, Artifact]
PRIOR_WEIGHT = 1
"""Challengers that the prior counts for."""
PRIOR_SPREAD = 0.2
"""Of a first challenger's true difference to the champion."""
MIN_SPREAD = 0.03
"""Challengers are never all alike."""
RECENT = 24
"""Challengers that the prior is estimated from, the newest."""


@attrs.frozen
class Shown:
    """A challenger beside the champion: the mean of their paired differences, its sampling variance, and what the
    challenger's line led to expect of the difference (a mean and a variance), where that is known.  All are in units of
    the width of the scores' bounds.  ``samples`` is the number of the differences."""

    mean: float
    noise: float
    prior: tuple[float, float] | None = None
    samples: float = math.inf


@attrs.frozen
class Title:
    """The champion, and what its challengers have shown, by artifact."""

    champion: int | None = None
    shown: Mapping[int, Shown] = attrs.field(factory=dict)


class ChampionRule(Protocol):
    """Says who is champion after artifact ``changed`` was admitted, given evidence or retracted."""

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title: ...


@attrs.frozen
class Best:
    """The pool's own choice, as the published algorithms have it."""

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title:
        return title if title.champion is None else Title()

    def __str__(self) -> str:
        return "best"


@attrs.frozen
class Proven:
    """A challenger that is better than the champion on common samples with probability ``confidence`` or more.

    The paired difference is drawn towards what the challenger's line leads to expect (`Evidence.prior`), or without a
    line towards what the champion's newest challengers showed, as far as the samples say little (empirical Bayes with a
    normal prior).  So the luckiest of many does not win: as far as the prior holds, the expected share of changes for
    the worse is at most ``1 - confidence`` (Bayesian false discovery rate: Efron, Large-Scale Inference, 2010, chapter
    5).  On the common samples themselves a challenger without a line must pass a one-sided t test at that confidence:
    one that is no better is accepted with probability ``1 - confidence`` at most, on three samples too.  With a line it
    must be ahead by a standard error.  Both must have been tried on ``least`` common samples, or on all that there are.
    """

    confidence: float = 0.9
    least: int = 30

    def next(self, title: Title, artifacts: Artifacts, choice: Artifact | None, changed: int) -> Title:
        if choice is None or not choice.scores or (choice.evidence is not None and choice.evidence.of < HANDFUL):
            return Title()  # nothing to compare sample by sample, or too little for any test
        champion = artifacts.get(title.champion) if title.champion is not None else None
        if champion is None or not champion.scores:
            return Title(choice.id)
        challenger = artifacts.get(changed)
        if challenger is None:  # retracted: what it showed was not worth keeping
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
        enough = max(1, min(self.least, _size(champion), _size(challenger)))  # a failed program has no scores at all
        if challenger.id == champion.id or len(common) < enough:
            return title
        mine, theirs, prior = challenger.evidence, champion.evidence, None
        unit = 1.0 if theirs is None else theirs.unit
        mean, noise = paired([(challenger.scores[s] - champion.scores[s]) / unit for s in common])
        if mine is not None and mine.prior is not None and theirs is not None:
            prior = (mine.prior[0] - theirs.estimate) / unit, (mine.prior[1] + theirs.variance) / unit**2
        return attrs.evolve(title, shown={**title.shown, challenger.id: Shown(mean, noise, prior, len(common))})

    def probability(self, title: Title, challenger: int) -> float:
        """Return the probability that a challenger in ``title.shown`` is better than the champion; 0 where it is not
        ahead by enough standard errors."""
        shown = title.shown[challenger]
        centre, spread = shown.prior or _others(title)
        ahead = 1.0 if shown.prior is not None else max(1.0, NormalDist().inv_cdf(self.confidence))
        if shown.mean < _of_t(ahead, shown.samples - 1) * math.sqrt(shown.noise):
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
    """The mean and the variance of the true differences of the newest challengers, by the method of moments."""
    others = [title.shown[i] for i in sorted(title.shown)[-RECENT:]]
    centre = sum(o.mean for o in others) / (PRIOR_WEIGHT + len(others))
    spread = PRIOR_WEIGHT * PRIOR_SPREAD**2 + sum((o.mean - centre) ** 2 - o.noise for o in others)
    return centre, max(MIN_SPREAD**2, spread / (PRIOR_WEIGHT + len(others)))


def _of_t(z: float, degrees: float) -> float:
    """The quantile of Student's t that belongs to one of the normal distribution, by its expansion (Abramowitz and
    Stegun, 1964, 26.7.5); infinite for a single difference, which has no variance."""
    if degrees < 1:
        return math.inf
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def _size(artifact: Artifact) -> int:
    """The number of samples that an artifact can be tried on."""
    return artifact.evidence.of if artifact.evidence is not None else len(artifact.scores)


def the_best() -> ChampionRule:
    """The artifact that the pool calls its best."""
    return Best()


def proven(confidence: float = 0.9, *, least: int = 30) -> ChampionRule:
    """The artifact that has proven better than the champion before it, at ``confidence``, on ``least`` common samples
    or more."""
    return Proven(confidence, least)
