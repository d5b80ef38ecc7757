"""Evidence: the samples that a score rests on, and estimates that correct for partial samples and many candidates.

A plain mean misleads in three ways.

*Only some samples were tried.* Samples are in *strata*: those that still tell candidates apart, and those that all
recent candidates passed. A candidate is tried on a random part of each stratum. `Evidence.mean` weights each stratum by
its size (stratified sampling). With a *control* (the scores of the parent), it adds the mean difference in each stratum
to the control's mean (difference estimator). Both are unbiased for any control.

    Cochran, Sampling Techniques, 1977, sections 5.3 and 7.1
    Saerndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 6.3

*The candidate was chosen.* The best of many candidates is also the luckiest. `Evidence.estimate` shrinks the mean
towards the value that the parent and its other children predict; fewer samples shrink it more (empirical Bayes: Efron
and Morris, 1975). A posterior mean needs no further correction for the choice (Dawid, 1994).

*All candidates share one draw of samples.* A child therefore inherits part of its parent's luck. Only the difference
from the parent's mean is new information about the child (`anchor`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

import attrs

__all__ = ["Drift", "Evidence", "anchor", "paired", "quantile_of_t", "sampling_variance", "unit_of", "weigh"]

LEVEL = 0.95
"""The confidence level of intervals."""
HANDFUL = 10
"""With fewer samples the estimate is their mean, because a prior would outweigh so few."""


@attrs.frozen
class Evidence:
    """The samples behind a score, and the estimates made from them.

    ``tried`` of ``of`` samples were tried; ``failed`` of those could not be scored and count as the least score.
    ``mean`` is the unbiased estimate of the mean over all samples. With a control it may lie outside the scores' bounds
    by chance; clipping would bias it. ``estimate`` is the expected score, within the bounds and corrected for the
    choice of the best among many; ``variance`` is its variance on these samples. ``interval`` holds the expected score
    on unseen samples of the same kind, at confidence ``level``. ``prior`` is the mean and variance that the parent
    predicted before the artifact was tried. ``unit`` is the width of the scores' bounds, or 1 if it is infinite.
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
    """The true difference between children and their parents: its mean and variance, in units of the scores' width."""

    mean: float = 0.0
    variance: float = 0.01

    @classmethod
    def of(cls, seen: Sequence[tuple[float, float]]) -> Drift:
        """Estimate the drift from each child's difference and the sampling variance of that difference.

        Uses the method of moments, with a prior that counts as `PRIOR_CHILDREN` children.
        """
        if not seen:
            return cls()
        weight = PRIOR_CHILDREN + len(seen)
        mean = sum(d for d, _ in seen) / weight
        spread = sum((d - mean) ** 2 - v for d, v in seen) + PRIOR_CHILDREN * cls().variance
        return cls(mean, max(LEAST_VARIANCE, spread / weight))


PRIOR_CHILDREN = 5
LEAST_VARIANCE = 0.001
"""The least variance of true differences; it is positive because children always differ."""
FEW_CHILDREN = 3
"""The number of children needed to correct their root's mean."""
DRIFT_SPREAD = 0.02
"""The prior standard deviation of the mean difference of a root's children."""
INHERITED = 0.5
"""The share of a parent's luck that its child inherits: they share the draw of samples, but not the replies.

Chosen on simulated worlds. tests/test_evidence.py simulates lines of descent and reports the best of twelve
generations. A share of 0 makes that score 0.07 too high, 0.5 makes it 0.03 too high, and 0.8 makes it 0.05 too low.
"""


def anchor(parent: Evidence) -> float:
    """Return the expected mean of a child as good as its parent.

    It lies between the parent's estimate and the parent's mean, because the child inherits part of the parent's luck.
    """
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
    """Return the evidence of an artifact; ``scores`` holds the tried ones of the samples ``0 .. of - 1``.

    ``control`` predicts a score for every sample; ``strata`` gives the stratum of every sample, 0 if it is missing.
    Within a stratum the tried samples must be a random part. With a ``parent``, and at least `HANDFUL` samples, the
    estimate shrinks towards the parent's estimate plus the ``drift`` of children. Without a parent, the artifact's own
    ``children`` correct for its luck; each gives its mean and the sampling variance of its difference. Scores lie
    within ``bounds``.
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
    """Return the expected luck in a root's mean.

    Children passed a trial, so on average they are seldom worse than a root without luck. The children's mean
    difference is modelled as their drift minus the root's luck, both normal.
    """
    worse = mean - fmean(m for m, _ in children)
    spread = sum(Drift().variance * unit**2 + v for _, v in children) / len(children) ** 2
    return max(0.0, worse) * noise / (noise + (DRIFT_SPREAD * unit) ** 2 + spread)


def unit_of(bounds: tuple[float, float]) -> float:
    """Return the width of the bounds, the scale of scores; 1 if it is not finite."""
    width = bounds[1] - bounds[0]
    return width if math.isfinite(width) and width > 0 else 1.0


def sampling_variance(scores: Mapping[int, float], control: Mapping[int, float] | None, unit: float = 1.0) -> float:
    """Return the sampling variance of the mean score, or of the mean difference to a control."""
    values = [y - control[s] for s, y in scores.items() if s in control] if control else list(scores.values())
    return _variance(values, unit) / max(1, len(values))


def _mean(
    scores: Mapping[int, float],
    of: int,
    control: Mapping[int, float] | None,
    strata: Mapping[int, int] | None,
    unit: float,
) -> tuple[float, float]:
    """Return the estimated mean over all samples, and its variance from trying only some."""
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
        # A stratum without tried samples gets the mean difference of the others.
        mean += share * (fmean(guess[s] for s in samples) + fmean(over or everything or [0.0]))
        if len(over) < len(samples):
            own = _variance(over if len(over) > 3 else everything, unit)
            variance += share**2 * (1 - len(over) / len(samples)) * own / max(len(over), 1)
    return mean, variance


def _interval(mean: float, variance: float, tried: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return Wilson's interval (1927) for the sample count with this variance; without finite bounds, a normal one."""
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
    """Return the sample variance; with fewer than two values, the variance of a fair coin."""
    if len(values) < 2:
        return 0.25 * unit**2
    mean = fmean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """Return the mean of paired differences, and its sampling variance.

    The variance includes one extra difference of each sign (Agresti and Min, 2005, on matched pairs). Without them, a
    few equal differences would look certain.
    """
    padded = [*differences, 1.0, -1.0]
    return fmean(differences), _variance(padded) / len(padded)


def quantile_of_t(z: float, degrees: float) -> float:
    """Return the quantile of Student's t for the normal quantile ``z`` (Abramowitz and Stegun, 1964, 26.7.5).

    It is infinite for a single difference, which has no variance.
    """
    if degrees < 1:
        return math.inf
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2
