"""Races of texts over samples: by successive halving (arXiv:1502.07943), or by a paired t-test (arXiv:2504.16005)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist, fmean

import attrs

from flashgraph.evidence import paired, quantile_of_t
from flashgraph.graph.contexts import Context
from flashgraph.graph.ports import Member, Several
from flashgraph.parts.evaluation import Candidate, Scored, Work
from flashgraph.tasks.task import least_score

__all__ = ["Finalists", "PairedRace", "Race", "promoted"]


@attrs.frozen
class Finalists:
    """The winners of a race."""

    texts: tuple[Mapping[str, str], ...]


def promoted(last: Finalists, ctx: Context) -> Several[Candidate]:
    """Make a candidate of each winner."""
    return Several([Candidate(text, len(ctx.task.val)) for text in last.texts])


@attrs.frozen
class Race:
    """The prompts that are left, their sums of scores, and the rungs to come."""

    texts: tuple[Mapping[str, str], ...]
    sums: tuple[float, ...]
    rungs: tuple[tuple[int, ...], ...]
    width: int

    def work(self) -> list[Work]:
        """Return one piece of work for each prompt and sample of this rung, the first prompt's first."""
        return [Work(text, "train", index) for text in self.texts for index in self.rungs[0]]

    def halved(self, members: Sequence[Member[Scored]], bounds: tuple[float, float]) -> Race | Finalists:
        """Return the half that scores better after this rung, or the finalists.

        ``members`` are in the order of `work`; a failed one has the least score within ``bounds``.  The race ends at
        ``width`` texts, or after its last rung.  Of equally good texts the first is better.
        """
        scores = [least_score(bounds) if m.value is None else m.value.score for m in members]
        size, places = len(self.rungs[0]), range(len(self.texts))
        sums = [self.sums[i] + sum(scores[i * size : (i + 1) * size]) for i in places]
        ranked = sorted(places, key=lambda i: (-sums[i], i))
        left = sorted(ranked[: max(self.width, (len(sums) + 1) // 2)])
        if len(left) in (self.width, len(sums)) or len(self.rungs) == 1:
            return Finalists(tuple(self.texts[i] for i in sorted(ranked[: self.width])))
        return Race(tuple(self.texts[i] for i in left), tuple(sums[i] for i in left), self.rungs[1:], self.width)


@attrs.frozen
class PairedRace:
    """The texts that are left, their scores less the price of their length, and the blocks to come."""

    texts: tuple[Mapping[str, str], ...]
    scores: tuple[tuple[float, ...], ...]
    blocks: tuple[tuple[int, ...], ...]
    width: int
    alpha: float
    price: float

    @classmethod
    def of(
        cls,
        texts: Iterable[Mapping[str, str]],
        blocks: Sequence[tuple[int, ...]],
        width: int,
        alpha: float,
        price: float,
    ) -> PairedRace:
        """Return a race at its start; ``price`` is that of one word, and ``alpha`` the level of the test."""
        every = tuple(texts)
        return cls(every, ((),) * len(every), tuple(blocks), width, alpha, price)

    def work(self) -> list[Work]:
        """Return one piece of work for each text and sample of this block, the first text's first."""
        return [Work(text, "train", index) for text in self.texts for index in self.blocks[0]]

    def compared(self, members: Sequence[Member[Scored]], bounds: tuple[float, float]) -> PairedRace | Finalists:
        """Return the texts that are left after this block, or the finalists.

        A text is dropped when at least ``width`` others are better by a one-sided paired t-test.  The race ends at
        ``width`` texts, or after its last block, and then the best means win.  ``members`` are in the order of `work`;
        a failed one has the least score within ``bounds``.
        """
        found = [least_score(bounds) if m.value is None else m.value.score for m in members]
        size, places = len(self.blocks[0]), range(len(self.texts))
        prices = [self.price * sum(len(part.split()) for part in text.values()) for text in self.texts]
        new = [tuple(score - prices[i] for score in found[i * size : (i + 1) * size]) for i in places]
        scores = [(*self.scores[i], *new[i]) for i in places]
        left = [i for i in places if sum(self._beats(scores[j], scores[i]) for j in places if j != i) < self.width]
        if len(left) <= self.width or len(self.blocks) == 1:
            best = sorted(left, key=lambda i: (-fmean(scores[i]), i))[: self.width]
            return Finalists(tuple(self.texts[i] for i in sorted(best)))
        kept = tuple(self.texts[i] for i in left), tuple(scores[i] for i in left)
        return attrs.evolve(self, texts=kept[0], scores=kept[1], blocks=self.blocks[1:])

    def _beats(self, one: Sequence[float], other: Sequence[float]) -> bool:
        mean, noise = paired([a - b for a, b in zip(one, other, strict=True)])
        least = quantile_of_t(NormalDist().inv_cdf(1 - self.alpha), len(one) - 1)
        return mean > least * math.sqrt(noise)
