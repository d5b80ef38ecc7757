"""A pool in a run: its value at each version that may still be read, and the log of its changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError, described
from flashgraph.graph.ports import Artifact, Change, PoolEvent
from flashgraph.policies.champion import ChampionRule, Title, the_best
from flashgraph.tasks.task import Task

__all__ = ["PoolRecord", "PoolState", "for_task"]


def for_task(value: Any, task: Task[Any, Any] | None) -> Any:
    """Return a pool's value at version 0, made for the task where the pool has a ``for_task``."""
    make = getattr(value, "for_task", None)
    return make(task) if task is not None and callable(make) else value


@attrs.define
class PoolRecord:
    """The scheduler's record of an admitted artifact, beside the pool's own.

    ``settled`` is the first version with complete evidence for it: infinity while it is provisional.
    """

    artifact: int
    version: int
    lag: int
    provisional: bool
    retracted: bool
    lineage: frozenset[tuple[str, int]]
    at: float
    last: Artifact
    settled: float
    value: Any = None
    """The admitted value, while it is provisional."""


class PoolState:
    """A pool's versions.  Admissions are serial, and each one that changes the pool raises `version` by one."""

    def __init__(self, name: str, value: Any, rule: ChampionRule | None = None) -> None:
        self.name = name
        self.version = 0
        self.best: Artifact | None = None
        """The champion: of the artifacts that the value holds, the one that the schedule's rule hands out."""
        self._rule = rule or the_best()
        self.title = Title()
        """The champion rule's record of the champion."""
        self.records: dict[int, PoolRecord] = {}
        self._views: dict[int, Any] = {0: value}
        self._forgotten = 0
        """No version before this one has a view."""
        self._log: list[Change] = []

    @property
    def value(self) -> Any:
        return self._views[self.version]

    @property
    def kept(self) -> tuple[int, ...]:
        """The versions that may still be read, oldest first."""
        return tuple(self._views)

    def view(self, version: int) -> Any:
        return self._views[version]

    def changes(self, since: int) -> tuple[Change, ...]:
        """Return the changes after version ``since``, oldest first."""
        return tuple(self._log[since:])

    def forget_before(self, version: int) -> None:
        """Drop the values before a version, which nothing can read; the log stays."""
        until = min(version, self.version)
        for old in range(self._forgotten, until):
            del self._views[old]
        self._forgotten = max(self._forgotten, until)

    def admit(
        self,
        value: Any,
        parents: tuple[int, ...],
        lineage: frozenset[tuple[str, int]],
        partial: bool,
        lag: int,
        at: float,
    ) -> Change | None:
        """Admit ``value`` as a new artifact and return the change; None if the pool did not change."""
        artifact = len(self.records)
        before = self.value
        after = self._apply(PoolEvent("admit", artifact, value, parents, partial))
        if after is before or after == before:
            return None
        known = after.artifacts.get(artifact)
        shown = known if known is not None else Artifact(artifact, value, parents, provisional=partial)
        change = self._advance(after, "admitted", shown, artifact)
        self.records[artifact] = PoolRecord(
            artifact,
            self.version,
            lag,
            partial,
            False,
            # With complete evidence, its descendants no longer depend on its ancestors.
            frozenset({(self.name, artifact)}) | (lineage if partial else frozenset()),
            at,
            shown,
            math.inf if partial else self.version,
            value if partial else None,
        )
        for old, gone in before.artifacts.items():
            if gone.score is None and old not in after.artifacts and old in self.records:
                self._forget_value(old)
        return change

    def _forget_value(self, artifact: int) -> None:
        """Drop the value of an artifact without score that no view holds: a long run makes thousands of them."""
        record = self.records[artifact]
        record.last = attrs.evolve(record.last, value=None)
        change = self._log[record.version - 1]
        self._log[record.version - 1] = attrs.evolve(change, artifact=record.last)

    def amend(self, artifact: int, value: Any, parents: tuple[int, ...]) -> Change:
        """Give the pool the full evidence for a provisional artifact, which it confirms or retracts."""
        record = self.records[artifact]
        after = self._apply(PoolEvent("amend", artifact, value, parents, False))
        record.provisional, record.settled, record.value = False, self.version + 1, None
        known = after.artifacts.get(artifact)
        if known is None:
            record.retracted = True
            return self._advance(after, "retracted", record.last)
        record.last = known
        record.lineage = frozenset({(self.name, artifact)})
        return self._advance(after, "confirmed", known)

    def evidence(self, artifact: int, value: Any, partial: bool = False) -> Change | None:
        """Add evidence to an artifact that the pool holds and return the change; None if the pool did not change.

        ``partial`` says that the rest of the group is still to come.
        """
        record, before = self.records.get(artifact), self.value
        if record is None or artifact not in before.artifacts:
            return None
        after = self._apply(PoolEvent("evidence", artifact, value, (), partial))
        if after is before or after == before or artifact not in after.artifacts:
            return None
        record.last = after.artifacts[artifact]
        return self._advance(after, "evidence", record.last)

    def retract(self, artifact: int) -> Change:
        """Retract a provisional artifact whose evidence will never be complete."""
        record = self.records[artifact]
        record.provisional, record.settled, record.retracted = False, self.version + 1, True
        return self._advance(self._apply(PoolEvent("retract", artifact, record.value, ())), "retracted", record.last)

    def _apply(self, event: PoolEvent[Any]) -> Any:
        before, said = self.value, f"pool {self.name!r}: apply({event.kind} artifact {event.artifact})"
        held = event.artifact in before.artifacts
        try:
            after = before.apply(event)
        except Exception as error:
            raise FlashgraphError(
                f"{said} raised {described(error)}.\nFix: a pool's apply must accept every event of its type."
            ) from error
        if not isinstance(getattr(after, "artifacts", None), Mapping):
            raise FlashgraphError(
                f"{said} returned {after!r:.200}; expected the pool's next value, with its artifacts.\n"
                "Fix: return attrs.evolve(self, ...), or self where nothing changes."
            )
        # The cheapest sign of a change in place; `check_pool` compares the whole value.
        if (event.artifact in before.artifacts) != held:
            raise FlashgraphError(
                f"{said} changed the value it was called on, which is the view of version {self.version}: it "
                f"{'had' if held else 'did not have'} that artifact before.\n"
                "Fix: return a new value, attrs.evolve(self, artifacts={**self.artifacts, ...}), and leave self alone."
            )
        return after

    def narrowed(self) -> Any:
        """Return the newest value with its best line alone; the whole value of a pool without a ``best_line``."""
        if not hasattr(self.value, "best_line"):
            return self.value
        try:
            line = self.value.best_line()
        except Exception as error:
            raise FlashgraphError(
                f"pool {self.name!r}: best_line() raised {described(error)}.\n"
                "Fix: return a pool of this class with the best artifact alone, or self."
            ) from error
        return line

    def _choice(self, value: Any, newest: int) -> Artifact | None:
        """Return a value's `best`: one of its artifacts up to number ``newest``, or None."""
        try:
            chosen: Artifact | None = value.best()
        except Exception as error:
            raise FlashgraphError(
                f"pool {self.name!r}: best() raised {described(error)}.\n"
                "Fix: return one of self.artifacts.values(), or None where there is none."
            ) from error
        own = isinstance(chosen, Artifact) and chosen.id <= newest and chosen.id in value.artifacts
        if chosen is None or own:
            return chosen
        raise FlashgraphError(
            f"pool {self.name!r}: best() returned {chosen!r}; expected one of its artifacts, or None.\n"
            "Fix: return one of self.artifacts.values(), under the numbers that the events have (event.artifact)."
        )

    def _advance(self, after: Any, kind: Any, artifact: Artifact, newest: int | None = None) -> Change:
        choice = self._choice(after, len(self.records) - 1 if newest is None else newest)
        if getattr(after, "own_champion", False):  # nothing to compare on common samples
            self.title = Title()
        else:
            self.title = self._rule.next(self.title, after.artifacts, choice, artifact.id)
        self.best = after.artifacts.get(self.title.champion) if self.title.champion is not None else choice
        self.version += 1
        self._views[self.version] = after
        change = Change(self.version, kind, artifact)
        self._log.append(change)
        return change
