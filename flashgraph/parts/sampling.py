"""Immutable cursors for sources: minibatches by epochs, components by round robin."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import attrs

from flashgraph.graph.ports import Artifact

__all__ = ["Epochs", "RoundRobin"]


@attrs.frozen
class Epochs:
    """The training ids of the current epoch, shuffled and padded to whole minibatches.

    Ids are shuffled once an epoch; the last minibatch is filled up with the least used ids (GEPA's ``epoch_shuffled``
    sampler).
    """

    epoch: int = -1
    ids: tuple[int, ...] = ()

    def next(
        self, emission: int, minibatch: int, size: int, stream: random.Random, *, further: int = 0
    ) -> tuple[tuple[int, ...], Epochs]:
        """Return the ids of minibatch number ``emission`` out of ``size`` samples, and the cursor after it.

        ``further`` counts the minibatches that this emission has already drawn; they follow each other within the epoch
        and wrap around its end. A minibatch larger than the training set holds some samples more than once.
        """
        base = emission * minibatch
        epoch = base // len(self.ids) if self.ids else 0
        cursor = self if epoch <= self.epoch else Epochs(epoch, _shuffled(minibatch, size, stream))
        start = (base + further * minibatch) % len(cursor.ids)
        return cursor.ids[start : start + minibatch], cursor


def _shuffled(minibatch: int, size: int, stream: random.Random) -> tuple[int, ...]:
    ids = list(range(size))
    stream.shuffle(ids)
    used = Counter(ids)
    while len(ids) % minibatch:
        # The published sampler takes the last of the least used ids, in the order of the shuffle.
        least = used.most_common()[-1][0]
        ids.append(least)
        used[least] += 1
    return tuple(ids)


@attrs.frozen
class RoundRobin:
    """For each artifact, the position of the component that is rewritten next (GEPA's ``round_robin``)."""

    places: Mapping[int, int] = attrs.field(factory=dict)

    def joined(self, artifacts: Mapping[int, Artifact]) -> RoundRobin:
        """Return the cursor with new artifacts added; each starts at the furthest position of its parents."""
        places = dict(self.places)
        for artifact in artifacts.values():
            if artifact.id not in places:
                places[artifact.id] = max((places.get(p, 0) for p in artifact.parents), default=0)
        return RoundRobin(places)

    def next(self, artifact: int, size: int) -> tuple[int, RoundRobin]:
        """Return the next position, out of ``size``, of the artifact, and the cursor after it."""
        place = self.places.get(artifact, 0)
        return place, RoundRobin({**self.places, artifact: (place + 1) % size})
