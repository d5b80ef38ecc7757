"""Choose the bullets to evict from a playbook that exceeds its budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from flashgraph.parts.ace.bullets import COUNT_LIMIT, Bullet, number_of

__all__ = ["CHARACTERS_A_TOKEN", "alone", "fit", "sections_of", "tokens_of"]

CHARACTERS_A_TOKEN = 4

_GAP = 2  # the line break and the blank line between two sections
_DIGITS = len(str(COUNT_LIMIT))


def sections_of(bullets: Sequence[Bullet], template: Sequence[str]) -> tuple[str, ...]:
    """Return the sections of a playbook: those of its first text, then the others by their first bullet."""
    return tuple(dict.fromkeys([*template, *(bullet.section for bullet in bullets)]))


def tokens_of(bullets: Sequence[Bullet], template: Sequence[str]) -> int:
    """Return an estimate of the rendered text's tokens, at four characters each.

    Every counter counts with its maximal number of digits. So tags never change a playbook's length or cause an
    eviction, and they commute.
    """
    sections = sections_of(bullets, template)
    return _tokens(sum(map(_header, sections)) + sum(map(_size, bullets)))


def alone(bullet: Bullet) -> int:
    """Return the tokens of a playbook with only this bullet."""
    return tokens_of([bullet], ())


def fit(
    bullets: Sequence[Bullet], template: Sequence[str], budget: int, new: Collection[str] = ()
) -> tuple[tuple[Bullet, ...], tuple[str, ...], tuple[Bullet, ...]]:
    """Return the bullets and the template that fit ``budget`` tokens, and the evicted bullets.

    The bullet with the lowest (helpful - harmful) goes first, the oldest among equals. After all old bullets go the
    template's empty headers, the last one first, and then the bullets in ``new``.
    """
    size = sum(map(_header, sections_of(bullets, template))) + sum(map(_size, bullets))
    if _tokens(size) <= budget:
        return tuple(bullets), tuple(template), ()
    left, kept = Counter(bullet.section for bullet in bullets), list(template)
    worst = sorted(bullets, key=lambda b: (b.id in new, b.worth, number_of(b.id)))
    gone: dict[str, Bullet] = {}
    for bullet in worst:
        if bullet.id in new:
            size, kept = _without_empty_headers(size, kept, left, budget)
        if _tokens(size) <= budget:
            break
        gone[bullet.id] = bullet
        left[bullet.section] -= 1
        size -= _size(bullet) + (0 if left[bullet.section] or bullet.section in kept else _header(bullet.section))
    size, kept = _without_empty_headers(size, kept, left, budget)
    return tuple(b for b in bullets if b.id not in gone), tuple(kept), tuple(gone.values())


def _without_empty_headers(size: int, template: list[str], left: Counter[str], budget: int) -> tuple[int, list[str]]:
    kept = list(template)
    for section in reversed(template):
        if _tokens(size) > budget and not left[section]:
            kept.remove(section)
            size -= _header(section)
    return size, kept


def _tokens(size: int) -> int:
    return -(-max(size - _GAP, 0) // CHARACTERS_A_TOKEN)


def _header(section: str) -> int:
    return len(f"## {section}") + _GAP


def _size(bullet: Bullet) -> int:
    digits = len(str(bullet.helpful)) + len(str(bullet.harmful))
    return 1 + len(bullet.line) + 2 * _DIGITS - digits
