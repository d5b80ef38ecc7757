"""Playbooks for tests: admissions like those of a run, and generated histories of events."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from hypothesis import strategies as st

from flashgraph.graph.ports import PoolEvent
from flashgraph.parts.ace import Delta, Merged, Operation, Playbook, PlaybookStart, Tag, Tags
from flashgraph.run.pools import PoolState

Event = PlaybookStart | Tags | Delta | Merged

TEXT = """\
## RULES
[rule-00001] helpful=3 harmful=0 :: Check the unit before you compare amounts.
[rule-00002] helpful=0 harmful=2 :: Round the result to whole dollars.

## CODES
[code-00004] helpful=1 harmful=1 :: Refunds go to queue alpha,
  except those over 500, which go to beta."""


def admitted(events: Iterable[Event], first: Playbook | None = None) -> Playbook:
    """Return the playbook after these events, numbered and compared as in a run."""
    state = PoolState("playbook", Playbook() if first is None else first)
    for event in events:
        state.admit(event, (), frozenset(), False, 0, 0.0)
    value: Playbook = state.value
    return value


def started(text: str = TEXT, budget_tokens: int = 80_000, duplicate_at: float = 0.9) -> Playbook:
    return admitted([PlaybookStart(text, budget_tokens, duplicate_at)])


def curated(playbook: Playbook, *operations: Operation, sample: int = 0) -> Playbook:
    return admitted([Delta(sample, "", operations)], playbook)


def contents(playbook: Playbook) -> list[tuple[str, str, int, int]]:
    """Return a playbook's content, without the ids."""
    return sorted((b.section, b.text, b.helpful, b.harmful) for b in playbook.bullets)


@attrs.frozen
class Step:
    """A recipe for an event on a known playbook: its numbers choose among all ids so far."""

    kind: str
    which: tuple[int, ...]
    text: str
    section: str
    tag: Tag
    fresh: bool

    def event(self, ever: list[str], playbook: Playbook, sample: int) -> Event:
        ids = tuple(dict.fromkeys(ever[i % len(ever)] for i in self.which)) if ever else ("none-00000",)
        seen = tuple(playbook.by_id[i].digest if self.fresh and i in playbook.by_id else "0" * 16 for i in ids)
        match self.kind:
            case "tags":
                return Tags(tuple((i, self.tag) for i in ids))
            case "merged":
                return Merged(ids, self.text, seen)
            case "add":
                operation = Operation.add(self.section, self.text)
            case "update":
                operation = Operation.update(ids[0], self.text, seen[0])
            case "merge":
                operation = Operation.merge(ids, self.text, seen, self.section)
            case "remove":
                operation = Operation.remove(ids[0], seen[0])
            case _:
                operation = Operation.refused(self.text, "unreadable")
        return Delta(sample, "", (operation, Operation.add(self.section, f"{self.text} {sample}")))


WORDS = st.sampled_from(["check", "the", "unit", "round", "never", "sum", "queue", "alpha", "tax\nnet", "500"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
SECTIONS = st.sampled_from(["RULES", "rules", "Tips & Tricks", "tips_and_tricks", "", "Ünïcode"])
TAGS: st.SearchStrategy[Tag] = st.sampled_from(["helpful", "harmful", "neutral"])
KINDS = st.sampled_from(["add", "add", "update", "merge", "merged", "remove", "tags", "refused"])
STEPS = st.builds(
    Step, KINDS, st.lists(st.integers(0, 50), min_size=1, max_size=3).map(tuple), TEXTS, SECTIONS, TAGS, st.booleans()
)


def history(steps: list[Step], first: Playbook) -> list[tuple[Event, Playbook]]:
    """Return each event with the playbook after it."""
    now, ever = first, list(first.by_id)
    past = []
    for sample, step in enumerate(steps):
        event = step.event(ever, now, sample)
        now = admitted_after(now, event, sample + 1)
        ever += [i for i in now.by_id if i not in ever]
        past.append((event, now))
    return past


def admitted_after(playbook: Playbook, event: Event, artifact: int) -> Playbook:
    return playbook.apply(PoolEvent("admit", artifact, event))
