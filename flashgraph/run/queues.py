"""The bounded queue of an edge: ordered, with the late members behind everything else."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import Any

from flashgraph.graph.spec import QueueRule
from flashgraph.policies.order import fifo
from flashgraph.run.items import Item

__all__ = ["EdgeQueue"]


class EdgeQueue:
    """The items that wait on an edge.

    ``held`` counts items under repair, which keep their room in the queue.  On a scattering edge ``opened`` counts
    groups with waiting members, which keep theirs too.  ``changes`` counts the operations that may change the head.
    """

    def __init__(self, capacity: float, order: QueueRule) -> None:
        self.capacity = capacity
        self.held = 0
        self.opened = 0
        self.changes = 0
        self._order = None if order == fifo() else order
        self._entries: deque[tuple[bool, Any, int, Item]] = deque()
        """In the order in which they leave.  Only a push compares the user's keys, because it may be refused."""
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries) - len(self._gone) + self.held + self.opened

    @property
    def waiting(self) -> int:
        """The number of items that could be taken now."""
        return len(self._entries) - len(self._gone)

    @property
    def full(self) -> bool:
        return len(self._entries) - len(self._gone) + self.held + self.opened >= self.capacity

    def push(self, item: Item) -> None:
        """Add an item.

        Raises the errors of the order's key function and of comparing keys; the queue is then unchanged.
        """
        key = None if self._order is None else self._order.key(item.value, item.version)
        entry = (item.late, key, item.id, item)
        self.changes += 1
        if not self._entries or self._entries[-1] < entry:
            self._entries.append(entry)
        else:
            insort(self._entries, entry)

    def items(self) -> list[Item]:
        """Return the items in the order in which they leave."""
        return [entry[3] for entry in self._entries if entry[2] not in self._gone]

    def head(self) -> Item | None:
        """Return the item that leaves next; None if there is none."""
        while self._entries and self._entries[0][2] in self._gone:
            self._gone.discard(self._entries.popleft()[2])
        return self._entries[0][3] if self._entries else None

    def pop(self) -> Item:
        """Take the head."""
        item = self.head()
        assert item is not None
        self.changes += 1
        self._entries.popleft()
        return item

    def remove(self, item: Item) -> None:
        """Remove ``item``, wherever it is in the queue."""
        self.changes += 1
        self._gone.add(item.id)

    def demote(self, item: Item) -> None:
        """Move ``item``, which has just become late, behind those that are not."""
        self.changes += 1
        place = next(place for place, entry in enumerate(self._entries) if entry[3] is item)
        entry = (True, *self._entries[place][1:])
        del self._entries[place]
        try:
            insort(self._entries, entry)
        except Exception:  # among late items, its key is compared with other keys than at its push
            self._entries.append(entry)
