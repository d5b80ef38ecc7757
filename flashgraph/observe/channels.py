"""Tracks for the lines between two layers: no two lines share a segment, and few cross."""

from __future__ import annotations

from itertools import combinations

import attrs
import networkx as nx

from flashgraph.observe.layers import AFTER, Strand

__all__ = ["NEAR", "TRACK", "channel"]

TRACK = 0.15
"""The space between parallel lines of a channel."""

NEAR = 0.06
"""Two lines that are nearer than this look like one."""


@attrs.define(eq=False)
class _Stretch:
    """A part of a piece on one track: the positions where it leaves the track before and after it."""

    piece: Strand
    before: list[float]
    after: list[float]

    @property
    def low(self) -> float:
        return min(self.before + self.after)

    @property
    def high(self) -> float:
        return max(self.before + self.after)

    def spans(self, at: float) -> bool:
        return self.low - NEAR < at < self.high + NEAR

    def meets(self, other: _Stretch) -> bool:
        return self.low - NEAR < other.high and other.low - NEAR < self.high


def channel(pieces: list[Strand]) -> tuple[int, dict[Strand, list[tuple[int, float]]]]:
    """Return the number of tracks, and for each piece that is not straight its corners: (track, where it leaves it).

    A piece has one corner pair on a track.  Where two pieces swap places it has two tracks, because each would have to
    be before the other.
    """
    stretches = []
    for piece in pieces:
        if piece.start.side == piece.end.side or abs(piece.start.at - piece.end.at) > 1e-6:
            ends = {side: [end.at for end in piece.ends if end.side == side] for side in (-1, 1)}
            stretches.append(_Stretch(piece, ends[AFTER], ends[-AFTER]))  # a cell's far side is before the channel
    taken = [end.at for piece in pieces for end in piece.ends]
    order = _ordered(stretches, taken)
    tracks: list[list[_Stretch]] = []
    level: dict[int, int] = {}
    for stretch in nx.lexicographical_topological_sort(order, key=lambda s: stretches.index(s)):
        first = max((level[id(other)] + 1 for other in order.predecessors(stretch)), default=0)
        while first < len(tracks) and any(stretch.meets(other) for other in tracks[first]):
            first += 1
        tracks += [[]] if first == len(tracks) else []
        tracks[first].append(stretch)
        level[id(stretch)] = first
    corners: dict[Strand, list[tuple[int, float]]] = {}
    for stretch in stretches:
        corners.setdefault(stretch.piece, [])
        at = [(level[id(stretch)], y) for y in (*stretch.before, *stretch.after)]
        corners[stretch.piece] += at
    for piece, found in corners.items():
        if piece.start.side != AFTER and piece.end.side == AFTER:  # its start is after the channel
            found.reverse()
    return len(tracks), corners


def _ordered(stretches: list[_Stretch], taken: list[float]) -> nx.DiGraph:
    """Return the order of stretches: required where lines would lie on each other, else for few crossings."""
    while True:
        order = nx.DiGraph()
        order.add_nodes_from(stretches)
        for one in stretches:
            for two in stretches:
                if one is not two and any(abs(a - b) < NEAR for a in one.before for b in two.after):
                    if one.piece is not two.piece:
                        order.add_edge(one, two)
                elif one.piece is two.piece and stretches.index(one) < stretches.index(two):
                    order.add_edge(one, two)
        try:
            cycle = nx.find_cycle(order)
        except nx.NetworkXNoCycle:
            break
        _split(stretches, next(one for one, _ in cycle if one.before and one.after), taken)
    wishes: list[tuple[int, int, _Stretch, _Stretch]] = []
    for one, two in combinations(stretches, 2):
        if one.meets(two):
            gain = _crossings(one, two) - _crossings(two, one)
            wishes.append((-abs(gain), len(wishes), *((two, one) if gain > 0 else (one, two))))
    for gain, _, one, two in sorted(wishes, key=lambda w: w[:2]):
        if gain and not nx.has_path(order, two, one):
            order.add_edge(one, two)
    return order


def _split(stretches: list[_Stretch], stretch: _Stretch, taken: list[float]) -> None:
    """Give a stretch two tracks with a part between them where no other line is."""
    low, high = min(stretch.low, *taken) - 0.2, max(stretch.high, *taken) + 0.2
    middle = (stretch.low + stretch.high) / 2
    free = [low + k * NEAR / 2 for k in range(int((high - low) / NEAR * 2) + 1)]
    free = [at for at in free if all(abs(at - other) >= NEAR * 1.5 for other in taken)]
    at = min(free, key=lambda y: abs(y - middle))
    taken.append(at)
    k = stretches.index(stretch)
    stretches[k : k + 1] = [
        _Stretch(stretch.piece, stretch.before, [at]), _Stretch(stretch.piece, [at], stretch.after),
    ]  # fmt: skip


def _crossings(one: _Stretch, two: _Stretch) -> int:
    """Return the crossings of two stretches if ``one`` has the first track."""
    return sum(one.spans(at) for at in two.before) + sum(two.spans(at) for at in one.after)
