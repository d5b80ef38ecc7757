"""Evidence: what a score rests on, and estimates that hold when only some samples were tried and many candidates were.

Two things mislead a plain mean.  *Which samples were tried*: a candidate is tried on a random part of each *stratum*
(samples that still tell candidates apart, and samples that recent candidates all passed).  `Evidence.mean` weights each
stratum by its size (stratified sampling) and corrects the scores of a *control*, the parent's, by the mean difference
seen in each stratum (difference estimator).  Both are unbiased whatever the control is (Cochran, Sampling Techniques,
1977, sections 5.3 and 7.1; Saerndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 6.3).

*Which candidate was chosen*: the best of many is also the luckiest.  `Evidence.estimate` draws the mean towards what
the parent and its other children lead to expect, as far as the samples say little (empirical Bayes: Efron and Morris,
1975).  A posterior mean needs no further correction for the choice (Dawid, 1994).

*Which samples there are*: all artifacts of a run are tried on one draw of samples, so a part of a parent's luck is its
child's too.  Only what a child does beside its parent's mean is news of it (`anchor`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

import attrs

__all__ = ["Drift", "Evidence", "anchor", "paired", "sampling_variance", "unit_of", "weigh"]

LEVEL = 0.95
"""Of the intervals."""
HANDFUL = 10
"""Samples below which a score is what it is: a prior would outweigh them, and nothing can be proven on them."""


@attrs.frozen
class Evidence:
    """What a score rests on.

    ``tried`` of ``of`` samples were tried; ``failed`` of those could not be scored and count as the least score.
    ``mean`` is the unbiased estimate of the mean over all samples; beside a control it may lie outside of the
    scores' bounds by chance, because a mean that is cut to them is biased.  ``estimate`` is the expected score,
    within the bounds and corrected for the choice of the best among many, and ``variance`` its variance on these
    samples.  ``interval`` holds the expected score on unseen samples of the same kind at confidence ``level``.
    ``prior`` is what the line led to expect before the artifact was tried: a mean and a variance.  ``unit`` is the
    width of the scores' bounds, 1 where it is infinite.
    """

    tried: int
    of: int
    mean: float
    estimate: float
    variance: float
    interval: tuple[float, float]
    failed: int = 0
    prior: tuple[float, float] | None = None
    level: float = LEVEL
    unit: float = 1.0

    @property
    def complete(self) -> bool:
        """Whether all samples were tried."""
        return self.tried >= self.of

    def __str__(self) -> str:
        low, high = self.interval
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.estimate:.2f} ({self.tried} of {self.of}{failed}, {low:.2f} to {high:.2f})"


@attrs.frozen
class Drift:
    """How children do beside their parents: the mean of true differences, and their variance, in units of the width
    of the scores' bounds."""

    mean: float = 0.0
    variance: float = 0.01

    @classmethod
    def of(cls, seen: Sequence[tuple[float, float]]) -> Drift:
        """From (difference, its sampling variance) of several children: the method of moments, with a prior that
        counts as `PRIOR_CHILDREN` children."""
        if not seen:
            return cls()
        weight = PRIOR_CHILDREN + len(seen)
        mean = sum(d for d, _ in seen) / weight
        spread = sum((d - mean) ** 2 - v for d, v in seen) + PRIOR_CHILDREN * cls().variance
        return cls(mean, max(LEAST_VARIANCE, spread / weight))


PRIOR_CHILDREN = 5
LEAST_VARIANCE = 0.001
"""Of true differences: children are never all alike."""
FEW_CHILDREN = 3
"""Below which they say nothing of their parent."""
DRIFT_SPREAD = 0.02
"""The standard deviation of the mean difference of a root's children, before any was tried."""
INHERITED = 0.5
"""The share of a parent's luck that its child has too: both are tried on one draw of samples, but replies are new.

Chosen on simulated worlds. On lines of descent of its test, the best of twelve generations is said to be 0.07 better
than it is at 0, 0.03 at 0.5, and 0.05 worse at 0.8 (tests/test_evidence.py)."""


def anchor(parent: Evidence) -> float:
    """What a child would have as its mean that is as good as its parent: luck makes it more than the estimate."""
    return parent.estimate + INHERITED * (parent.mean - parent.estimate)


def weigh(
    scores: Mapping[int, float],
    of: int,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    failed: int = 0,
    control: Mapping[int, float] | None = None,
    strata: Mapping[int, int] | None = None,
    parent: Evidence | None = None,
    drift: Drift | None = None,
    children: Sequence[tuple[float, float]] = (),
) -> Evidence:
    """Weigh the ``scores`` of those of the samples ``0 .. of - 1`` that were tried.

    ``control`` predicts a score for every sample; ``strata`` names the stratum of every sample, 0 where it is missing.
    Within a stratum the tried samples must be a random part.  With a ``parent``, and at least `HANDFUL` samples, the
    estimate is drawn towards its estimate plus the ``drift`` of children.  Without one, ``children`` say how lucky it
    was itself: the mean of each, and the sampling variance of its difference.  Scores lie within ``bounds``.
    """
    known = control if control is not None and len(control) >= of else None
    unit = unit_of(bounds)
    mean, design = _mean(scores, of, known, strata, unit)
    noise = sampling_variance(scores, known, unit)
    estimate, variance, prior = mean, design, None
    if parent is not None and known is not None and of >= HANDFUL:
        drift = drift or Drift()
        spread = drift.variance * unit**2
        weight = spread / (spread + noise)
        prior = parent.estimate + drift.mean * unit, spread + parent.variance
        expected = anchor(parent) + drift.mean * unit
        estimate, variance = prior[0] + (mean - expected) * weight, weight * noise
    elif of >= HANDFUL and len(children) >= FEW_CHILDREN:
        estimate -= _luck(mean, _variance(list(scores.values()), unit) / len(scores), children, unit)
    estimate = min(max(estimate, bounds[0]), bounds[1])
    interval = _interval(estimate, variance + _variance(list(scores.values()), unit) / of, len(scores), bounds)
    return Evidence(len(scores), of, mean, estimate, variance, interval, failed, prior, unit=unit)


def _luck(mean: float, noise: float, children: Sequence[tuple[float, float]], unit: float) -> float:
    """How much of a root's mean was luck: its children passed a trial, so they are seldom worse on average.

    The mean difference of children is their drift less the root's luck, both normal; this is the expected luck.
    """
    worse = mean - fmean(m for m, _ in children)
    spread = sum(Drift().variance * unit**2 + v for _, v in children) / len(children) ** 2
    return max(0.0, worse) * noise / (noise + (DRIFT_SPREAD * unit) ** 2 + spread)


def unit_of(bounds: tuple[float, float]) -> float:
    """The width of the bounds, in which scores are large or small; 1 where it is not finite."""
    width = bounds[1] - bounds[0]
    return width if math.isfinite(width) and width > 0 else 1.0


def sampling_variance(scores: Mapping[int, float], control: Mapping[int, float] | None, unit: float = 1.0) -> float:
    """The variance of the mean score, or of the mean difference to a control, of so many samples of a population."""
    values = [y - control[s] for s, y in scores.items() if s in control] if control else list(scores.values())
    return _variance(values, unit) / max(1, len(values))


def _mean(
    scores: Mapping[int, float],
    of: int,
    control: Mapping[int, float] | None,
    strata: Mapping[int, int] | None,
    unit: float,
) -> tuple[float, float]:
    """The estimated mean over all samples, and the variance that comes of trying only some."""
    if len(scores) >= of:
        return sum(scores.values()) / len(scores), 0.0
    guess = control or dict.fromkeys(range(of), 0.0)
    named: dict[int, list[int]] = {}
    for sample in range(of):
        named.setdefault(strata.get(sample, 0) if strata else 0, []).append(sample)
    everything = [y - guess[s] for s, y in scores.items()]
    mean = variance = 0.0
    for samples in named.values():
        share, over = len(samples) / of, [scores[s] - guess[s] for s in samples if s in scores]
        # A stratum that was never tried is taken to differ from its control as the others do.
        mean += share * (fmean(guess[s] for s in samples) + fmean(over or everything or [0.0]))
        if len(over) < len(samples):
            own = _variance(over if len(over) > 3 else everything, unit)
            variance += share**2 * (1 - len(over) / len(samples)) * own / max(len(over), 1)
    return mean, variance


def _interval(mean: float, variance: float, tried: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """Wilson's interval (1927) for as many samples as would give this variance; a plain one without finite bounds."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    low, width = bounds[0], bounds[1] - bounds[0]
    if not math.isfinite(width):
        return mean - z * math.sqrt(variance), mean + z * math.sqrt(variance)
    share = (mean - low) / width
    worth = float(tried)
    if 0 < share < 1 and variance > 0:
        worth = max(1.0, share * (1 - share) * width**2 / variance)
    centre = (share + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z / (1 + z * z / worth) * math.sqrt(share * (1 - share) / worth + z * z / (4 * worth**2))
    return low + width * max(0.0, centre - half), low + width * min(1.0, centre + half)


def _variance(values: Sequence[float], unit: float = 1.0) -> float:
    """The sample variance; that of a coin where fewer than two values tell nothing of it."""
    if len(values) < 2:
        return 0.25 * unit**2
    mean = fmean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences, and its sampling variance.

    One difference of each sign is added for the variance, so that a few that agree are not taken for certain (Agresti
    and Min, 2005, on matched pairs).
    """
    padded = [*differences, 1.0, -1.0]
    return fmean(differences), _variance(padded) / len(padded)
