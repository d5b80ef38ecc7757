"""The values that a playbook admits: a start, tags, deltas of operations, merges of near-duplicates."""

from __future__ import annotations

from typing import Literal

import attrs

from flashgraph.errors import DataError
from flashgraph.parts.ace.bullets import parse_bullets

__all__ = ["Alike", "Delta", "Merged", "Operation", "PlaybookStart", "RefusedOperation", "Tag", "Tags"]

Tag = Literal["helpful", "harmful", "neutral"]


@attrs.frozen
class Operation:
    """One change of a playbook, requested by a curator.

    ``ids`` are the bullets that it changes. ``seen`` holds for each id the digest of the text that the curator saw. If
    a text has changed by the time the operation is applied, the operation is refused. The kind ``REFUSED`` stands for
    an unreadable operation: ``text`` is the original, ``why`` the reason.

    One class serves all kinds, so that a run can store it without knowing more.
    """

    kind: Literal["ADD", "UPDATE", "MERGE", "REMOVE", "REFUSED"]
    text: str = ""
    section: str = ""
    ids: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def add(cls, section: str, text: str) -> Operation:
        """Return the operation that adds a bullet; it gets its id when it is admitted."""
        return cls("ADD", text, section)

    @classmethod
    def update(cls, bullet: str, text: str, seen: str) -> Operation:
        """Return the operation that replaces a bullet's text; its counters stay."""
        return cls("UPDATE", text, "", (bullet,), (seen,))

    @classmethod
    def merge(cls, bullets: tuple[str, ...], text: str, seen: tuple[str, ...], section: str = "") -> Operation:
        """Return the operation that merges bullets; the first keeps its id, and its section unless one is given."""
        return cls("MERGE", text, section, bullets, seen)

    @classmethod
    def remove(cls, bullet: str, seen: str) -> Operation:
        """Return the operation that removes a bullet."""
        return cls("REMOVE", "", "", (bullet,), (seen,))

    @classmethod
    def refused(cls, raw: str, why: str) -> Operation:
        """Return a record of an unreadable operation, which changes nothing."""
        return cls("REFUSED", raw, why=why)


@attrs.frozen
class RefusedOperation:
    """An operation that changed no bullet, and the reason."""

    operation: Operation
    why: str


@attrs.frozen
class Delta:
    """One curation: the index of its training sample, its reflection, and its operations.

    It counts as one trained sample, also without operations.
    """

    sample: int
    reflection: str
    operations: tuple[Operation, ...] = ()


@attrs.frozen
class Tags:
    """A reflection's tags of the bullets that were used: pairs of id and tag, to be counted."""

    counts: tuple[tuple[str, Tag], ...]


@attrs.frozen
class Alike:
    """Near-duplicate bullets for a model to merge: their ids, their texts, and the digests of the texts."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    seen: tuple[str, ...]


@attrs.frozen
class Merged:
    """The one text that a model made of near-duplicates; ``seen`` holds the digests of the merged texts."""

    ids: tuple[str, ...]
    text: str
    seen: tuple[str, ...]


@attrs.frozen
class PlaybookStart:
    """The playbook to start from, and its settings; the first admission of a run.

    ``budget_tokens`` bounds the text, at four characters a token. A new bullet is refused if its lexical similarity to
    an old one is at least ``duplicate_at``. ``name`` is the file of ``text``, for messages.

    Raises `DataError` if the text is no playbook or a setting is out of range, so that the pool never has to.
    """

    text: str
    budget_tokens: int = 80_000
    duplicate_at: float = 0.9
    name: str = "playbook"

    def __attrs_post_init__(self) -> None:
        if self.budget_tokens < 1:
            raise DataError(
                f"{self.name}: budget_tokens: found {self.budget_tokens!r}, expected a whole number from 1.\n"
                "Fix: e.g. budget_tokens=80_000."
            )
        if not 0 < self.duplicate_at <= 1:
            raise DataError(
                f"{self.name}: duplicate_at: found {self.duplicate_at!r}, expected a number over 0 and up to 1.\n"
                "Fix: e.g. duplicate_at=0.9, or duplicate_at=1 to refuse equal texts alone."
            )
        parse_bullets(self.text, self.name)
