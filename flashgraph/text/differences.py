"""Unified diffs of texts that a model may have written, in bounded time.

`difflib` takes minutes for 80 kB of lines that both texts repeat many times.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence

__all__ = ["unified", "words"]

MOST_STEPS = 3_000_000
"""The most steps of `difflib`: about half a second."""


def unified(before: str, after: str, names: tuple[str, str] = ("", ""), context: int = 2) -> list[str]:
    """Return the lines of a unified diff, without line ends; empty if the texts are equal.

    If `difflib` could take too long, the diff shows everything from the first to the last difference as one change.
    """
    one, other = before.splitlines(), after.splitlines()
    if one == other:
        return []
    if _steps(one, other) <= MOST_STEPS:
        return list(difflib.unified_diff(one, other, *names, n=context, lineterm=""))
    return list(_one_change(one, other, names, context))


def _steps(one: Sequence[str], other: Sequence[str]) -> int:
    """Return a bound on the steps of `difflib`: it visits all pairs of equal lines once per matching block."""
    mine, theirs = Counter(one), Counter(other)
    pairs = sum(count * theirs[line] for line, count in mine.items())
    return (pairs + len(one)) * min(len(one), len(other))


def _one_change(one: Sequence[str], other: Sequence[str], names: tuple[str, str], context: int) -> Iterator[str]:
    shorter = min(len(one), len(other))
    first = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    same = next((i for i in range(shorter - first) if one[-1 - i] != other[-1 - i]), shorter - first)
    begin, tail = max(0, first - context), min(context, same)
    ends = [len(lines) - same for lines in (one, other)]
    sizes = [end + tail - begin for end in ends]
    yield f"--- {names[0]}"
    yield f"+++ {names[1]}"
    mine, theirs = (f"{begin + (size > 0)},{size}" for size in sizes)  # an empty range names the line before it
    yield f"@@ -{mine} +{theirs} @@"
    yield from (f" {line}" for line in one[begin:first])
    yield from (f"-{line}" for line in one[first : ends[0]])
    yield from (f"+{line}" for line in other[first : ends[1]])
    yield from (f" {line}" for line in one[ends[0] : ends[0] + tail])


def words(before: str, after: str, most: int = 160) -> str:
    """Return the words that differ, ``[-old-] {+new+}``, in at most ``most`` characters; empty if none differ."""
    one, other = before.split(), after.split()
    if _steps(one, other) > MOST_STEPS:
        return f"{len(one):,} words became {len(other):,}"
    found = []
    for how, i, k, j, n in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if how != "equal":
            gone, new = " ".join(one[i:k]), " ".join(other[j:n])
            found.append(" ".join([*([f"[-{gone}-]"] if gone else []), *([f"{{+{new}+}}"] if new else [])]))
    text = " ... ".join(found)
    return text if len(text) <= most else text[: most - 3] + "..."
