"""The items of GEPA's graph, the states of its sources, and two decisions on batches of attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from flashgraph.graph.ports import Group
from flashgraph.parts.evaluation import Attempt, Candidate, Work, reachable
from flashgraph.parts.sampling import Epochs, RoundRobin

__all__ = ["Child", "Minibatch", "Minibatches", "Proposal", "SamplesSent", "Turns", "settled", "solved"]


@attrs.frozen
class Minibatch:
    """A parent with a minibatch of training samples, and the components that its child rewrites."""

    text: dict[str, str]
    batch: tuple[int, ...]
    parent: int
    components: tuple[str, ...]

    def work(self) -> list[Work]:
        """Return one piece of work for each sample."""
        return [Work(self.text, "train", index) for index in self.batch]


@attrs.frozen
class Minibatches:
    """Several minibatches, with their parents, drawn from one view of the frontier."""

    batches: tuple[Minibatch, ...]


@attrs.frozen
class Proposal:
    """A child, the samples of its trial, and the sum of scores that it must exceed (or reach, if ``reaching``)."""

    text: dict[str, str]
    split: str
    batch: tuple[int, ...]
    to_beat: float
    reaching: bool
    bounds: tuple[float, float]
    rewritten: tuple[str, ...] = ()

    def work(self) -> list[Work]:
        """Return one piece of work for each sample."""
        return [Work(self.text, self.split, index) for index in self.batch]

    def passes(self, reached: float) -> bool:
        """Return whether a child with this sum of scores passes its trial."""
        return reached > self.to_beat or (self.reaching and reached == self.to_beat)


@attrs.frozen
class Child(Candidate):
    """A candidate that passed its trial, and the components in which it differs from its parent."""

    rewritten: tuple[str, ...] = ()


@attrs.frozen
class Turns:
    """The position in the epoch's minibatches, and the next component of each candidate."""

    epochs: Epochs = attrs.field(factory=Epochs)
    components: RoundRobin = attrs.field(factory=RoundRobin)


@attrs.frozen
class SamplesSent:
    """For each artifact id, the number of validation samples that it was sent to."""

    samples: Mapping[int, int] = attrs.field(factory=dict)


def solved(seen: Sequence[Attempt], score: float | None) -> bool:
    """Return whether all attempts score at least ``score``; None means the task's greatest score, if it has one."""
    return all(a.passed if score is None else a.score >= score for a in seen)


def settled(batch: Group[Proposal, Attempt]) -> bool:
    """Return whether the trials that are still open can no longer change the gate's decision."""
    least, most = reachable(batch, batch.origin.bounds)
    return batch.origin.passes(least) or not batch.origin.passes(most)
