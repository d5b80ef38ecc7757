"""Shorten a candidate: drop the sentences that seem to lower the score, judged over all candidates of the pool.

Reflection and merges mostly add text. A shortened candidate needs no call of a model: it costs its evaluations alone.
A Bayesian linear regression over the newest artifacts gives each sentence an effect on the score. The effects share a
mean, so the regression also learns whether more text is worse here. Only sentences with a negative expected effect may
go. Which of them go in one draw is decided by Thompson sampling.

    Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.1
"""

from __future__ import annotations

import math
import random
import re
import zlib
from collections.abc import Collection, Mapping, Sequence

import attrs

from flashgraph.evidence import unit_of
from flashgraph.graph.ports import Artifact

__all__ = ["Pruned", "Prunings", "effects", "sentences"]

NEWEST = 48
"""The newest artifacts that the effects are estimated from; the time of a draw grows with its cube."""
EFFECT = 0.05
"""The prior standard deviation of a sentence's effect, as a share of the width of the scores' bounds."""
MISFIT = 0.03
"""The standard deviation that a sum of effects leaves unexplained, as a share of that width."""
COMMON = 0.03
"""The prior standard deviation of the mean of all effects, as a share of that width: is more text worse here?"""
LEAST = 3
"""The sentences of a candidate, at least, that is shortened."""
DRAWS = 8
"""Draws in search of a text that was not tried yet."""
TRIED_ON = 8
"""The validation samples of a trial."""
SHARE = 0.34
"""The share of a candidate's sentences that one draw drops at most."""

_SENTENCE = re.compile(r".*?(?:(?:(?<!\d)\.|[!?])(?=\s)|\n|$)\s*", re.DOTALL)

Sentence = tuple[str, str]
"""A component's name and one of its sentences, without the white space around it."""


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text, each with the white space behind it; joined they are the text."""
    return [piece for piece in _SENTENCE.findall(text) if piece]


@attrs.frozen
class Pruned:
    """A shortened text, the samples of its trial, and its parent's sum of scores on them, which it must reach."""

    text: dict[str, str]
    parent: int
    samples: tuple[int, ...]
    to_reach: float


@attrs.frozen
class Prunings:
    """The memory of a source of shortened texts: the checksums of the texts that it made."""

    made: frozenset[int] = frozenset()

    def draw(
        self, artifacts: Mapping[int, Artifact], parent: Artifact, bounds: tuple[float, float], stream: random.Random
    ) -> tuple[Pruned | None, Prunings]:
        """Return a new shortened text of ``parent``, or None if none was found, and the memory after it.

        ``bounds`` are those of the scores.
        """
        pieces = {name: sentences(text) for name, text in parent.value.items()}
        flat = [(name, i, (name, p.strip())) for name, those in pieces.items() for i, p in enumerate(those)]
        if len(flat) < LEAST or not parent.scores:
            return None, self
        known = {_checksum(a.value) for a in artifacts.values()} | self.made
        found = effects(artifacts, [s for _, _, s in flat], unit_of(bounds))
        harmful = [(name, i, found[s]) for name, i, s in flat if found[s][0] < 0]
        for _ in range(DRAWS):
            drawn = sorted((stream.gauss(*effect), name, i) for name, i, effect in harmful)
            gone = {(name, i) for effect, name, i in drawn[: max(1, int(SHARE * len(flat)))] if effect < 0}
            text = {n: _without(those, {i for name, i in gone if name == n}) for n, those in pieces.items()}
            mark = _checksum(text)
            if not gone or mark in known or not all(t.strip() for t in text.values()):
                continue
            samples = _subsample(parent.scores, stream)
            to_reach = sum(parent.scores[s] for s in samples)
            return Pruned(text, parent.id, samples, to_reach), Prunings(self.made | {mark})
        return None, self


def effects(
    artifacts: Mapping[int, Artifact], wanted: Sequence[Sentence], unit: float
) -> dict[Sentence, tuple[float, float]]:
    """Return the posterior mean and standard deviation of each wanted sentence's effect on the score.

    The score of an artifact is modelled as the sum of the effects of its sentences. Its noise falls with the number of
    its samples.
    """
    rows = [a for a in artifacts.values() if a.evidence is not None and a.scores][-NEWEST:]
    stated = [{(n, p.strip()) for n, text in a.value.items() for p in sentences(text)} for a in rows]
    own, shared = (EFFECT * unit) ** 2, (COMMON * unit) ** 2
    prior = own + shared
    if not rows:
        return dict.fromkeys(wanted, (0.0, math.sqrt(prior)))
    means = [a.evidence.mean if a.evidence is not None else 0.0 for a in rows]
    centre = sum(means) / len(means)
    noise = [MISFIT**2 + 0.25 / len(a.scores) for a in rows]
    covariance = [
        [unit**2 + own * len(one & other) + shared * len(one) * len(other) for other in stated[: i + 1]]
        for i, one in enumerate(stated)
    ]
    for i, extra in enumerate(noise):
        covariance[i][i] += unit**2 * extra
    root = _cholesky(covariance)
    white = _solved(root, [m - centre for m in means])
    found = {}
    for sentence in set(wanted):
        column = _solved(root, [own * (sentence in lines) + shared * len(lines) for lines in stated])
        mean = sum(a * b for a, b in zip(column, white, strict=True))
        found[sentence] = mean, math.sqrt(max(0.0, prior - sum(c * c for c in column)))
    return found


def _without(pieces: Sequence[str], gone: Collection[int]) -> str:
    """Return the text without some of its sentences; a text that loses none stays as it is."""
    return "".join(p for i, p in enumerate(pieces) if i not in gone).rstrip() if gone else "".join(pieces)


def _cholesky(lower: list[list[float]]) -> list[list[float]]:
    """Return the Cholesky factor of a symmetric positive definite matrix, given its lower half."""
    root: list[list[float]] = []
    for i, row in enumerate(lower):
        made: list[float] = []
        for j in range(i):
            made.append((row[j] - sum(a * b for a, b in zip(made, root[j], strict=False))) / root[j][j])
        made.append(math.sqrt(row[i] - sum(a * a for a in made)))
        root.append(made)
    return root


def _solved(root: list[list[float]], right: Sequence[float]) -> list[float]:
    """Return the solution of a lower triangular system."""
    found: list[float] = []
    for row, value in zip(root, right, strict=True):
        found.append((value - sum(a * b for a, b in zip(row, found, strict=False))) / row[-1])
    return found


def _subsample(scores: Mapping[int, float], stream: random.Random) -> tuple[int, ...]:
    """Return samples of a trial: as many below the parent's mean as at least at it, as far as there are."""
    mean = sum(scores.values()) / len(scores)
    low, high = [s for s in scores if scores[s] < mean], [s for s in scores if scores[s] >= mean]
    fewer = stream.sample(low, min(len(low), TRIED_ON // 2))
    more = stream.sample(high, min(len(high), TRIED_ON - len(fewer)))
    return tuple(sorted(fewer + more))


def _checksum(text: Mapping[str, str]) -> int:
    return zlib.crc32(repr([(n, " ".join(t.split())) for n, t in text.items()]).encode())
