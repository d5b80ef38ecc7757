"""The pool: an immutable playbook, changed by deltas, tags and merges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.ports import Artifact, PoolEvent
from flashgraph.parts.ace.budget import alone, fit, sections_of, tokens_of
from flashgraph.parts.ace.bullets import (
    Bullet,
    clean,
    clean_section,
    number_of,
    parse_bullets,
    render,
    same_section,
    slug,
)
from flashgraph.parts.ace.operations import Alike, Delta, Merged, Operation, PlaybookStart, RefusedOperation, Tags
from flashgraph.parts.ace.similarity import Similarity, lexical

__all__ = ["LOG", "Playbook", "read_playbook"]

LOG = 100
"""The number of refused operations, and of evicted bullets, in a playbook's logs."""


@attrs.frozen
class Playbook:
    """A playbook as ACE evolves it (arXiv 2510.04618, section 3), with the records that let changes come out of order.

    ``bullets`` are in order of admission. ``numbered`` is the highest number of any id so far; ids are given on
    admission and never reused. ``aliases`` maps ids that were merged away to the id that was kept. ``template`` holds
    the sections of the starting text, which stay without bullets. ``refused`` and ``evicted`` each keep the newest 100
    entries. ``trained`` counts the deltas.
    """

    bullets: tuple[Bullet, ...] = ()
    template: tuple[str, ...] = ()
    numbered: int = 0
    aliases: Mapping[str, str] = attrs.field(factory=dict)
    trained: int = 0
    refused: tuple[RefusedOperation, ...] = ()
    evicted: tuple[Bullet, ...] = ()
    budget_tokens: int = 80_000
    duplicate_at: float = 0.9
    newest: int | None = None
    """The admission that made this value, None before the first."""
    parents: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = "playbook") -> Playbook:
        """Return the playbook of a text. Raises `DataError` with the file (``name``) and line of a mistake."""
        bullets, sections = parse_bullets(text, name)
        return cls(bullets, sections, max((number_of(b.id) for b in bullets), default=0))

    def apply(self, event: PoolEvent[PlaybookStart | Tags | Delta | Merged]) -> Playbook:
        """Return the playbook after an admission; it is the same object if nothing changed.

        A start counts only as the first admission. Nothing is ever provisional here, so nothing is amended or
        retracted.
        """
        if event.kind != "admit":
            return self
        match event.value:
            case PlaybookStart():
                after = self._started(event.value)
            case Tags():
                after = self._tagged(event.value)
            case Delta():
                after = self._operated(event.value.operations, self.trained + 1)
            case Merged(ids, text, seen):
                after = self._operated((Operation.merge(ids, text, seen),), self.trained)
        return self if after is self else attrs.evolve(after, newest=event.artifact, parents=event.parents)

    @property
    def artifacts(self) -> Mapping[int, Artifact]:
        """The current playbook, under the number of its last change; older texts are not kept."""
        newest = self.best()
        return {} if newest is None else {newest.id: newest}

    def best(self) -> Artifact | None:
        """Return the current playbook: ``{"playbook": text}``."""
        return None if self.newest is None else Artifact(self.newest, {"playbook": self.text}, self.parents)

    def best_line(self) -> Playbook:
        """Return itself: there is only one line."""
        return self

    @cached_property
    def text(self) -> str:
        """The playbook as a model reads it."""
        return render(self.bullets, self.sections)

    @cached_property
    def tokens(self) -> int:
        """An upper estimate of the text's tokens, at four characters a token; see `budget.tokens_of`."""
        return tokens_of(self.bullets, self.template)

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections, in the order of the text."""
        return sections_of(self.bullets, self.template)

    @cached_property
    def by_id(self) -> Mapping[str, Bullet]:
        """The bullets by their ids."""
        return {bullet.id: bullet for bullet in self.bullets}

    def resolve(self, bullet: str) -> str | None:
        """Return the id that a bullet has now, after all merges; None if it was removed or never existed."""
        while bullet not in self.by_id:
            if bullet not in self.aliases:
                return None
            bullet = self.aliases[bullet]
        return bullet

    def bullets_text(self, ids: Iterable[str]) -> str:
        """Return the lines of these bullets, each once, in the given order; a merged bullet appears as its
        successor."""
        living = dict.fromkeys(self.resolve(bullet) for bullet in ids)
        return "\n".join(self.by_id[bullet].line for bullet in living if bullet is not None)

    def seen(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the digests of these bullets' texts, for an operation on them. Raises `KeyError` for a removed id."""
        return tuple(self.by_id[bullet].digest for bullet in ids)

    def conflicts(self, delta: Delta) -> bool:
        """Return whether the delta names a bullet that was removed or whose text its curator did not see."""
        return any(self._changed(operation) for operation in delta.operations)

    def duplicates(self, similarity: Similarity = lexical) -> tuple[tuple[str, ...], ...]:
        """Return groups of near-duplicates, as in ACE's bullet analyzer.

        Each bullet that is not in a group yet gathers the later ones whose similarity to it is at least
        ``duplicate_at``. The first id of a group is its oldest.
        """
        groups = []
        rest = list(self.bullets)
        while rest:
            first, *rest = rest
            scores = similarity(first.text, [bullet.text for bullet in rest], at_least=self.duplicate_at)
            alike = [bullet.id for bullet, score in zip(rest, scores, strict=True) if score >= self.duplicate_at]
            if alike:
                groups.append((first.id, *alike))
                rest = [bullet for bullet in rest if bullet.id not in alike]
        return tuple(groups)

    def alike(self, similarity: Similarity = lexical) -> tuple[Alike, ...]:
        """Return the `duplicates` with the texts and digests that a merge needs."""
        return tuple(
            Alike(ids, tuple(self.by_id[bullet].text for bullet in ids), self.seen(ids))
            for ids in self.duplicates(similarity)
        )

    def _started(self, start: PlaybookStart) -> Playbook:
        if self.newest is not None:
            return self
        first = Playbook.parse(start.text, start.name)
        return attrs.evolve(first, budget_tokens=start.budget_tokens, duplicate_at=start.duplicate_at)._fitted(())

    def _tagged(self, tags: Tags) -> Playbook:
        counts: dict[str, list[int]] = {}
        for bullet, tag in tags.counts:
            living = self.resolve(bullet)
            if living is not None and tag != "neutral":
                counts.setdefault(living, [0, 0])[tag == "harmful"] += 1
        after = tuple(b.counted(*counts[b.id]) if b.id in counts else b for b in self.bullets)
        return self if after == self.bullets else attrs.evolve(self, bullets=after)

    def _operated(self, operations: Iterable[Operation], trained: int) -> Playbook:
        now, new = attrs.evolve(self, trained=trained), set()
        for operation in operations:
            # Compare with the playbook before the delta, because a curator knows its own earlier operations. `now` only
            # holds their result.
            why = self._changed(operation) or now._impossible(operation)
            if why:
                now = attrs.evolve(now, refused=(*now.refused, RefusedOperation(operation, why))[-LOG:])
            elif operation.kind == "ADD":
                now = now._added(operation)
                new.add(now.bullets[-1].id)
            else:
                now = now._rewritten(operation)
        return now._fitted(new)

    def _changed(self, operation: Operation) -> str:
        """Return why an operation's bullets differ from those that its curator saw; empty if they do not."""
        if len(operation.ids) != len(operation.seen):
            return "it lacks the digests of the texts that its curator saw"
        for bullet, seen in zip(operation.ids, operation.seen, strict=True):
            if bullet not in self.by_id:
                return f"[{bullet}] was removed"
            if self.by_id[bullet].digest != seen:
                return f"[{bullet}] changed since"
        return ""

    def _impossible(self, operation: Operation) -> str:
        """Return why an operation cannot be applied to this playbook; empty if it can."""
        if operation.kind == "REFUSED":
            return operation.why
        for bullet in operation.ids:
            if bullet not in self.by_id:
                return f"[{bullet}] was removed by an earlier operation of the same curation"
        several = max(len(set(operation.ids)), 2)
        if len(operation.ids) != {"ADD": 0, "MERGE": several}.get(operation.kind, 1):
            return f"{operation.kind} with {len(operation.ids)} ids"
        if operation.kind == "REMOVE":
            return ""
        return self._unfit(operation)

    def _unfit(self, operation: Operation) -> str:
        """Return why an operation's text cannot be a bullet's; empty if it can."""
        text = clean(operation.text)
        if not text:
            return "its text is empty"
        needed = alone(self._written(operation))
        if needed > self.budget_tokens:
            return f"its {needed} tokens are more than the budget of {self.budget_tokens}"
        if operation.kind == "ADD":
            scores = lexical(text, [bullet.text for bullet in self.bullets], at_least=self.duplicate_at)
            for bullet, score in zip(self.bullets, scores, strict=True):
                if score >= self.duplicate_at:
                    return f"duplicate of [{bullet.id}]"
        return ""

    def _written(self, operation: Operation) -> Bullet:
        """Return the bullet that an ADD, UPDATE or MERGE produces."""
        text = clean(operation.text)
        if operation.kind == "ADD":
            section = self._section(operation.section)
            return Bullet(f"{slug(section)}-{self.numbered + 1:05}", section, text)
        first, *others = (self.by_id[bullet] for bullet in operation.ids)
        section = self._section(operation.section) if operation.section else first.section
        summed = first.counted(sum(b.helpful for b in others), sum(b.harmful for b in others))
        return attrs.evolve(summed, section=section, text=text)

    def _section(self, name: str) -> str:
        """Return the existing section that a name means, or a new one of that name."""
        wanted = clean_section(name)
        known = {same_section(section): section for section in self.sections}
        return known.get(same_section(wanted), wanted)

    def _added(self, operation: Operation) -> Playbook:
        bullet = self._written(operation)
        return attrs.evolve(self, bullets=(*self.bullets, bullet), numbered=self.numbered + 1)

    def _rewritten(self, operation: Operation) -> Playbook:
        """Return the playbook after an UPDATE, MERGE or REMOVE."""
        first, *others = operation.ids
        gone = set(operation.ids if operation.kind == "REMOVE" else others)
        bullets = tuple(self._written(operation) if b.id == first else b for b in self.bullets if b.id not in gone)
        return attrs.evolve(self, bullets=bullets, aliases={**self.aliases, **dict.fromkeys(others, first)})

    def _fitted(self, new: Iterable[str]) -> Playbook:
        """Return the playbook cut to its budget."""
        bullets, template, gone = fit(self.bullets, self.template, self.budget_tokens, frozenset(new))
        if len(bullets) == len(self.bullets) and template == self.template:
            return self
        return attrs.evolve(self, bullets=bullets, template=template, evicted=(*self.evicted, *gone)[-LOG:])


def read_playbook(path: str | Path) -> Playbook:
    """Return the playbook in a file. Raises `DataError` if it cannot be read, or with the line of a mistake."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: the playbook cannot be read: {error.strerror}.\nFix: give the path of a text file."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: found a byte that is not UTF-8 at {error.start}, expected a text file.\nFix: save it as UTF-8."
        ) from error
    return Playbook.parse(text, str(path))
