"""Slots of the endpoints: how many requests are out, and which waiting work gets the next free one."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from flashgraph.run.jobs import Call

__all__ = ["Slots"]


class Slots:
    """``used`` counts, by endpoint, requests in flight and slots that started jobs hold for their first request."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.used = dict.fromkeys(limits, 0)
        self.in_flight = dict.fromkeys(limits, 0)
        self._waiting: dict[str, list[tuple[Any, int, Call]]] = {e: [] for e in limits}
        self._entry: dict[int, Any] = {}

    def free(self, endpoint: str) -> int:
        return self.limits[endpoint] - self.used[endpoint]

    def wait(self, call: Call, rank: Any) -> None:
        """Queue ``call``, or move it to ``rank`` if it waits already."""
        self._entry[call.id] = rank
        heapq.heappush(self._waiting[call.endpoint], (rank, call.id, call))

    def withdraw(self, call: Call) -> None:
        self._entry.pop(call.id, None)

    def is_waiting(self, call: Call) -> bool:
        return call.id in self._entry

    def first(self, endpoint: str) -> tuple[Any, Call] | None:
        """The waiting call that goes next, with its rank."""
        heap = self._waiting[endpoint]
        while heap and self._entry.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return (heap[0][0], heap[0][2]) if heap else None
