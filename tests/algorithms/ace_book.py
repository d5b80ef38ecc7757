"""A playbook as plain, mutable data, to compare the pool with: no digests, no logs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any


class Book:
    """``bullets`` are in order of admission; ``alias`` maps ids that were merged away to those that stayed."""

    def __init__(self, text: str, budget: int) -> None:
        self.budget = budget
        self.bullets: list[dict[str, Any]] = []
        self.template: list[str] = []
        self.alias: dict[str, str] = {}
        self.trained = 0
        self.refused = 0
        self.evicted: list[str] = []
        for line in text.splitlines():
            if line.startswith("## "):
                self.template.append(line[3:])
            elif found := re.match(r"\[(\S+)\] helpful=(\d+) harmful=(\d+) :: (.*)", line):
                counts = {"helpful": int(found[2]), "harmful": int(found[3])}
                self.bullets.append({"id": found[1], "section": self.template[-1], "text": found[4], **counts})
        self.numbered = max((int(b["id"][-5:]) for b in self.bullets), default=0)
        self.shrink([])

    def state(self) -> Any:
        """Return everything, to be compared."""
        bullets = [tuple(b[k] for k in ("id", "section", "text", "helpful", "harmful")) for b in self.bullets]
        return (
            bullets,
            list(self.template),
            dict(self.alias),
            self.numbered,
            self.trained,
            self.refused,
            list(self.evicted),
        )

    # ---- reading -----------------------------------------------------------------------------------------

    def bullet(self, name: str) -> dict[str, Any]:
        return next(b for b in self.bullets if b["id"] == name)

    def resolved(self, name: str) -> str | None:
        """Return the current id of an id, or None if it has none."""
        living = {b["id"] for b in self.bullets}
        while name not in living and name in self.alias:
            name = self.alias[name]
        return name if name in living else None

    def living(self, names: Sequence[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            now = self.resolved(name)
            if now is not None and now not in found:
                found.append(now)
        return found

    def line(self, name: str) -> str:
        bullet = self.bullet(name)
        return self.shown(bullet, str(bullet["helpful"]), str(bullet["harmful"]))

    def shown(self, bullet: dict[str, Any], helpful: str, harmful: str) -> str:
        text = bullet["text"].replace("\n", "\n  ")
        return f"[{bullet['id']}] helpful={helpful} harmful={harmful} :: {text}"

    def sections(self) -> list[str]:
        return list(dict.fromkeys([*self.template, *(b["section"] for b in self.bullets)]))

    def text(self, counted: bool = True) -> str:
        """Return the text that models read; without ``counted``, with the longest counters, for its length."""
        blocks = []
        for section in self.sections():
            lines = [
                self.line(b["id"]) if counted else self.shown(b, "999999", "999999")
                for b in self.bullets
                if b["section"] == section
            ]
            blocks.append("\n".join([f"## {section}", *lines]))
        return "\n\n".join(blocks)

    def tokens(self) -> int:
        return math.ceil(len(self.text(counted=False)) / 4)

    def duplicates(self) -> list[list[str]]:
        """Return greedy groups of lines with the same meaning."""
        groups: dict[str, list[str]] = {}
        for bullet in self.bullets:
            groups.setdefault(same(bullet["text"]), []).append(bullet["id"])
        return [ids for ids in groups.values() if len(ids) > 1]

    # ---- changing ----------------------------------------------------------------------------------------

    def tag(self, tags: Sequence[tuple[str, str]]) -> bool:
        """Count tags; return False if nothing changed."""
        changed = False
        for name, tag in tags:
            now = self.resolved(name)
            if now is not None and tag in ("helpful", "harmful"):
                self.bullet(now)[tag] += 1
                changed = True
        return changed

    def edit(self, operations: Sequence[Any], trained: int) -> None:
        """Apply a curator's operations. Ids mean what they meant to the curator, before its first operation."""
        self.trained = trained
        meant = {name: self.resolved(name) for operation in operations for name in names(operation)}
        new: list[str] = []
        for operation in operations:
            self.refused += not self.carried_out(operation, meant, new)
        self.shrink(new)

    def carried_out(self, operation: Any, meant: dict[str, str | None], new: list[str]) -> bool:
        kind = operation.get("type") if isinstance(operation, dict) else None
        ids = list(dict.fromkeys(meant[name] for name in names(operation)))
        text = operation.get("content", "").strip() if isinstance(operation, dict) else ""
        if kind in ("REMOVE", "DELETE"):
            return len(ids) == 1 and self.removed(ids[0])
        if kind not in ("ADD", "UPDATE", "MERGE") or not text:
            return False
        if kind == "ADD":
            return self.added(operation.get("section", ""), text, new)
        if len(ids) < 2 if kind == "MERGE" else len(ids) != 1:
            return False
        if any(name is None or name not in [b["id"] for b in self.bullets] for name in ids):
            return False
        return self.joined([str(name) for name in ids], text, operation.get("section", "") if kind == "MERGE" else "")

    def removed(self, name: str | None) -> bool:
        before = len(self.bullets)
        self.bullets = [b for b in self.bullets if b["id"] != name]
        return len(self.bullets) < before

    def added(self, section: str, text: str, new: list[str]) -> bool:
        section = self.section(section)
        name = f"{slug(section)}-{self.numbered + 1:05}"
        bullet = {"id": name, "section": section, "text": text, "helpful": 0, "harmful": 0}
        if any(same(text) == same(b["text"]) for b in self.bullets) or self.too_long(bullet):
            return False
        self.bullets.append(bullet)
        self.numbered += 1
        new.append(name)
        return True

    def joined(self, ids: list[str], text: str, section: str) -> bool:
        """Apply an UPDATE of one bullet or a MERGE of several."""
        first, *others = (self.bullet(name) for name in ids)
        changed = {**first, "text": text, "section": self.section(section) if section else first["section"]}
        for other in others:
            changed["helpful"] += other["helpful"]
            changed["harmful"] += other["harmful"]
        if self.too_long(changed):
            return False
        first.update(changed)
        self.bullets = [b for b in self.bullets if b["id"] not in ids[1:]]
        self.alias.update(dict.fromkeys(ids[1:], ids[0]))
        return True

    def section(self, name: str) -> str:
        shown = " ".join(name.replace("_", " ").upper().split()) or "OTHERS"
        return next((s for s in self.sections() if plain(s) == plain(shown)), shown)

    def too_long(self, bullet: dict[str, Any]) -> bool:
        """Return whether a bullet alone exceeds the budget."""
        alone = f"## {bullet['section']}\n{self.shown(bullet, '999999', '999999')}"
        return math.ceil(len(alone) / 4) > self.budget

    def shrink(self, new: list[str]) -> None:
        """Evict the least helpful old bullet first, the oldest of equals; then empty headers, then new bullets."""
        while self.tokens() > self.budget:
            old = [b for b in self.bullets if b["id"] not in new]
            empty = [s for s in self.template if all(b["section"] != s for b in self.bullets)]
            if old or not empty:
                if not self.bullets:
                    return
                worst = min(old or self.bullets, key=lambda b: (b["helpful"] - b["harmful"], int(b["id"][-5:])))
                self.evicted.append(worst["id"])
                self.bullets.remove(worst)
            else:
                self.template.remove(empty[-1])


def names(operation: Any) -> list[str]:
    """Return the ids in an operation, as written."""
    if not isinstance(operation, dict):
        return []
    return [*operation.get("source_ids", ()), *([operation["bullet_id"]] if "bullet_id" in operation else [])]


def same(text: str) -> str:
    """Return a key that is equal for texts with the same meaning."""
    return " ".join(text.casefold().split()).rstrip(".!; ")


def plain(section: str) -> str:
    return " ".join(section.casefold().replace("&", "and").split())


def slug(section: str) -> str:
    words = re.findall(r"[a-z]+", section.lower())
    return words[0][:4] if len(words) == 1 else "".join(word[0] for word in words)
