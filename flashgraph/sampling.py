"""Drawing minibatches: GEPA's epoch sampler as an immutable cursor for sources."""

from __future__ import annotations

import random
from collections import Counter

import attrs

__all__ = ["Epochs"]


@attrs.frozen
class Epochs:
    """The training ids of the current epoch, shuffled and padded to whole minibatches.

    Ids are shuffled once an epoch; the last minibatch is filled up with the least used ids (GEPA's
    ``epoch_shuffled`` sampler).
    """

    epoch: int = -1
    ids: tuple[int, ...] = ()

    def next(self, emission: int, minibatch: int, size: int, stream: random.Random) -> tuple[tuple[int, ...], Epochs]:
        """The ids of minibatch number ``emission`` out of ``size`` samples, and the cursor after it.

        A minibatch larger than the training set holds some samples more than once.
        """
        base = emission * minibatch
        epoch = base // len(self.ids) if self.ids else 0
        cursor = self if epoch <= self.epoch else Epochs(epoch, _shuffled(minibatch, size, stream))
        start = base % len(cursor.ids)
        return cursor.ids[start : start + minibatch], cursor


def _shuffled(minibatch: int, size: int, stream: random.Random) -> tuple[int, ...]:
    ids = list(range(size))
    stream.shuffle(ids)
    used = Counter(ids)
    while len(ids) % minibatch:
        # The published sampler takes the last of the least used, in the order of the shuffle.
        least = used.most_common()[-1][0]
        ids.append(least)
        used[least] += 1
    return tuple(ids)
