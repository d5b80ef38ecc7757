"""Where each open item is.

An item is in one place at a time:

- outbox: a result or a released group that has no room on its edge yet.
- queued: in the queue of its edge.
- held: out for repair.
- member: waiting for a worker in an opened group.
- running: with the job that works on it.
- gathered: waiting in its group for the release.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from flashgraph.policies.order import fifo
from flashgraph.run.items import Item
from flashgraph.run.plan import EdgePlan
from flashgraph.run.queues import EdgeQueue

__all__ = ["ItemPlaces", "Place"]

Place = Literal["outbox", "queued", "held", "member", "running", "gathered"]


class ItemPlaces:
    """The open items of one run, and the queues that they wait in."""

    def __init__(self, edges: Collection[EdgePlan]) -> None:
        self.items: dict[int, Item] = {}
        """By number, in the order in which they were made."""
        self.queues = {e.name: EdgeQueue(e.capacity, e.order) for e in edges}
        """By edge."""
        self.members = {e.name: EdgeQueue(math.inf, fifo()) for e in edges if e.scatter}
        """By scattering edge, the members of opened groups that no worker has taken up."""
        self.of: dict[int, Place] = {}
        """By the number of an open item, its place."""

    def add(self, item: Item) -> None:
        """Take up an item that was just made."""
        self.items[item.id] = item
        self.of[item.id] = "outbox"

    def remove(self, item: Item) -> Place | None:
        """Remove an item that ends and return where it was; None if it has ended before."""
        if self.items.pop(item.id, None) is None:
            return None
        place = self.of.pop(item.id)
        if place == "queued":
            self.queues[item.edge].remove(item)
        elif place == "held":
            self.queues[item.edge].held -= 1
        elif place == "member":
            self.members[item.edge].remove(item)
        return place

    def queue(self, item: Item) -> int:
        """Put an item into the queue of its edge and return the queue's length.

        Raises what the order of the queue raises; the queue is then as before.
        """
        queue = self.queues[item.edge]
        queue.push(item)
        self.of[item.id] = "queued"
        return len(queue)

    def take(self, item: Item, hold: bool = False) -> int:
        """Take the head out of its queue and return the queue's length; with ``hold`` it keeps its room there."""
        queue = self.queues[item.edge]
        assert queue.pop() is item
        if hold:
            queue.held += 1
        self.of[item.id] = "held" if hold else "running"
        return len(queue)

    def give_back(self, item: Item) -> None:
        """End the hold of an item, which may be queued again."""
        self.queues[item.edge].held -= 1
        self.of[item.id] = "outbox"

    def wait_as_member(self, item: Item) -> None:
        """Let a new member of an opened group wait for a worker."""
        self.of[item.id] = "member"
        self.members[item.edge].push(item)

    def take_member(self, item: Item) -> None:
        """Take the head of the members out, to run."""
        assert self.members[item.edge].pop() is item
        self.of[item.id] = "running"

    def gather(self, item: Item) -> None:
        """Let an item wait in its group for the release."""
        self.of[item.id] = "gathered"

    def demote(self, item: Item) -> None:
        """Move an item that has just become late behind the others of its queue, if it is in one."""
        place = self.of[item.id]
        if place == "queued":
            self.queues[item.edge].demote(item)
        elif place == "member":
            self.members[item.edge].demote(item)
