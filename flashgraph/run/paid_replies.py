"""Replies that were paid in an earlier session, and the keys that requests are known by."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.llm.protocol import Message, Reply

__all__ = ["PaidReplies", "request_key"]


def request_key(role: str, messages: Sequence[Message], params: Mapping[str, Any]) -> str:
    """Return a key for the content of a request: equal requests of one role have equal keys."""
    content = json.dumps([role, list(map(dict, messages)), dict(params)], sort_keys=True, default=repr)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class PaidReplies:
    """The replies that interrupted jobs have had: a job that asks the same again is given them, in their order."""

    def __init__(self) -> None:
        self._replies: dict[tuple[int, str], deque[Reply]] = {}

    def add(self, job: int, key: str, reply: Reply) -> None:
        """Keep a reply to the request ``key`` of a job."""
        self._replies.setdefault((job, key), deque()).append(reply)

    def take(self, job: int, key: str) -> Reply | None:
        """Return the next reply to this request of a job, if one has been paid."""
        replies = self._replies.get((job, key))
        return replies.popleft() if replies else None
