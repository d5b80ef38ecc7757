"""Successive halving: texts race over rungs of samples, and each rung drops the worse half (arXiv:1502.07943)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from flashgraph.graph.ports import Member
from flashgraph.parts.evaluation import Scored, Work
from flashgraph.tasks.task import least_score

__all__ = ["Finalists", "Race"]


@attrs.frozen
class Finalists:
    """The winners of a race."""

    texts: tuple[Mapping[str, str], ...]


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
