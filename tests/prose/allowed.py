"""The findings that a file may still have."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["Allowances"]

FILE = Path(__file__).parent / "allowed.toml"
HEAD = "# Findings that each file still has: these numbers only fall (`python -m tests.prose --update`).\n"


@attrs.frozen
class Allowances:
    """By file, the findings that it still has; a file that is not named has none."""

    counts: Mapping[str, int]

    @classmethod
    def load(cls) -> Allowances:
        """Return the committed allowances."""
        return cls({name: int(count) for name, count in tomllib.loads(FILE.read_text()).items()})

    def save(self) -> None:
        """Write the allowances, one file a line so that edits of different files merge."""
        rows = [f'"{name}" = {count}\n' for name, count in sorted(self.counts.items())]
        FILE.write_text(HEAD + "".join(rows))

    def of(self, name: str) -> int:
        """Return the findings that a file may have."""
        return self.counts.get(name, 0)

    def lowered(self, found: Mapping[str, int], whole: bool) -> Allowances:
        """Return allowances that are at most the findings.

        A file that was not found keeps its allowance unless the `whole` project was checked.
        """
        left = {name: min(most, found.get(name, 0 if whole else most)) for name, most in self.counts.items()}
        return Allowances({name: most for name, most in left.items() if most})

    def problems(self, found: Mapping[str, int], whole: bool) -> list[str]:
        """Return a message for each file that has more findings than allowed, or fewer."""
        names = sorted({*found, *self.counts} if whole else found)
        counts = [(name, found.get(name, 0), self.of(name)) for name in names]
        return [
            f"{name}: {count} findings, {most} allowed.\n"
            + ("Fix: resolve those above" if count > most else f"Fix: python -m tests.prose --update {name}")
            for name, count, most in counts
            if count != most
        ]
