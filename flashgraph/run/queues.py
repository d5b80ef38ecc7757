"""The bounded queue of an edge: ordered, with the late members behind everything else."""

from __future__ import annotations

import heapq
from typing import Any

from flashgraph.policies.order import QueueOrder, fifo
from flashgraph.run.items import Item

__all__ = ["EdgeQueue"]


class EdgeQueue:
    """Items waiting on an edge.

    ``held`` counts items that are out for repair and keep their place meanwhile; on a scattering edge ``opened``
    counts groups of which members still wait, which keep their place too.  ``changes`` counts what may have changed
    the head.
    """

    def __init__(self, capacity: float, order: QueueOrder) -> None:
        self.capacity = capacity
        self.held = 0
        self.opened = 0
        self.changes = 0
        self._order = None if order == fifo() else order
        self._heap: list[tuple[bool, Any, int, Item]] = []
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._heap) - len(self._gone) + self.held + self.opened

    @property
    def waiting(self) -> int:
        """Items that could be taken now."""
        return len(self._heap) - len(self._gone)

    @property
    def full(self) -> bool:
        return len(self._heap) - len(self._gone) + self.held + self.opened >= self.capacity

    def push(self, item: Item) -> None:
        """Raises what the order's key function raises, or TypeError for keys that do not compare; the queue is then
        as it was."""
        key = None if self._order is None else self._order.key(item.value, item.version)
        entry = (item.late, key, item.id, item)
        self.changes += 1
        try:
            heapq.heappush(self._heap, entry)
        except Exception:
            self._heap = [e for e in self._heap if e[3] is not item]
            heapq.heapify(self._heap)
            raise

    def head(self) -> Item | None:
        """The item that leaves next."""
        while self._heap and self._heap[0][2] in self._gone:
            self._gone.discard(heapq.heappop(self._heap)[2])
        return self._heap[0][3] if self._heap else None

    def pop(self) -> Item:
        """Take the head."""
        item = self.head()
        assert item is not None
        self.changes += 1
        heapq.heappop(self._heap)
        return item

    def remove(self, item: Item) -> None:
        """Take ``item`` out, wherever it stands."""
        self.changes += 1
        self._gone.add(item.id)

    def demote(self, item: Item) -> None:
        """Move ``item``, which has just become late, behind the others."""
        self.changes += 1
        place = next(place for place, entry in enumerate(self._heap) if entry[3] is item)
        self._heap[place] = (True, *self._heap[place][1:])
        heapq.heapify(self._heap)
