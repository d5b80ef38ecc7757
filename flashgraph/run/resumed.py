"""What a run is resumed from: the moment, the sources' states, what to start again, and replies that are paid."""

from __future__ import annotations

import hashlib
import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from flashgraph.llm.protocol import Message, Reply
from flashgraph.run.jobs import Command
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity

__all__ = ["Resumed", "Served", "request_key"]


def request_key(role: str, messages: Sequence[Message], params: Mapping[str, Any]) -> str:
    """Names a request by its content: equal requests of one role have equal keys."""
    content = json.dumps([role, list(map(dict, messages)), dict(params)], sort_keys=True, default=repr)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class Served:
    """Replies that interrupted jobs have had: who asks the same again is given them, in their order."""

    def __init__(self) -> None:
        self._replies: dict[tuple[int, str], deque[Reply]] = {}

    def add(self, job: int, key: str, reply: Reply) -> None:
        self._replies.setdefault((job, key), deque()).append(reply)

    def take(self, job: int, key: str) -> Reply | None:
        """The next reply for this request of a job, if it has been paid."""
        replies = self._replies.get((job, key))
        return replies.popleft() if replies else None


@attrs.frozen
class Resumed:
    """``at`` is the run's clock; ``commands`` start the jobs that were interrupted."""

    at: float
    stream: random.Random
    cursors: Mapping[str, Any]
    commands: tuple[Command, ...] = ()
    served: Served = attrs.field(factory=Served)
    reopen: Mapping[str, float] | None = None
    """The limits under which the run goes on."""
    capacity: Capacity | None = None
    """What it can do at once from now on."""
    tested: Mapping[str, float] = attrs.field(factory=dict)
    """What held-out tests have spent that the account does not have yet."""

    @classmethod
    def fresh(cls, machine: Machine) -> Resumed:
        """The beginning of a run."""
        cursors = {name: source.cursor for name, source in machine.plan.sources.items()}
        return cls(0.0, random.Random(machine.seed), cursors)
