"""All interleavings of a tiny run: races are enumerated, not sampled.

`explore` walks depth first over everything that can happen next, from the first turn to every end.  When paths meet in
states that decide alike from then on (`flashgraph.testing.signatures.signature`), only one is continued; the number of
interleavings stays exact.  It checks the state after every step, and the log of every path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import attrs

from flashgraph.run.budget import Budget
from flashgraph.run.plan import Plan
from flashgraph.run.turns import Turn
from flashgraph.testing.hand import Hand, Oracle
from flashgraph.testing.invariants import Watch
from flashgraph.testing.log import InvariantViolation, Stalled
from flashgraph.testing.moves import Move
from flashgraph.testing.signatures import signature

__all__ = ["Explored", "explore"]

Path = tuple[tuple[Move, ...], ...]


@attrs.frozen
class Explored:
    """The coverage of a walk.

    ``states`` counts states that decide differently, ``ends`` those in which the run was over, and ``steps`` the steps
    between them.  ``interleavings`` counts the paths from the first state to an end.  ``whole`` is False if the bound
    ended the walk.  ``stall`` is the path to the first state with open work in which nothing can happen, if one was
    found.
    """

    states: int
    ends: int
    steps: int
    interleavings: int
    events: int
    whole: bool
    stall: Path | None = None

    def __str__(self) -> str:
        return (
            f"{self.states:,} states, {self.steps:,} steps, {self.interleavings:,} interleavings"
            f"{'' if self.whole else ', stopped at the bound'}"
        )


@attrs.frozen
class _Fork:
    """A step to try: the path to its state, with the turns that led there, and the state's name."""

    path: Path
    turns: tuple[Turn, ...]
    state: bytes
    moves: tuple[Move, ...]
    faults: int
    """The number of faults left after it."""


@attrs.define
class _Walk:
    plan: Plan
    budget: Budget
    states: int
    together: int
    faults: int
    until_stall: bool
    drained: bool
    oracle: Callable[[], Oracle] | None
    into: dict[bytes, list[bytes]] = attrs.field(factory=dict)
    """By state, the states that one step leads to."""
    ends: set[bytes] = attrs.field(factory=set)
    events: int = 0
    stall: Path | None = None
    whole: bool = True

    def begin(self) -> Hand:
        return Hand(self.plan, budget=self.budget, watched=False, oracle=self.oracle)

    def again(self, turns: Sequence[Turn]) -> Hand:
        hand = self.begin()
        hand.retrace(turns)
        return hand

    def name(self, hand: Hand, faults: int) -> bytes:
        """Return a state's name: a hash of the machine's signature, the replies to its jobs, and the faults left."""
        jobs = sorted(hand.replies().items())
        places = tuple((place, replies) for place, (_, replies) in enumerate(jobs))
        return hashlib.sha256(repr((signature(hand.machine), places, faults)).encode()).digest()[:16]

    def choices(self, hand: Hand, faults: int) -> Iterator[tuple[tuple[Move, ...], int]]:
        moves = hand.moves()
        if self.drained and moves and hand.machine.snapshot().draining is None:
            yield (Move("drain"),), faults  # first, or a bounded walk would drain only states near its end
        for count in range(1, self.together + 1):
            for chosen in combinations(moves, count):
                if len({m.number for m in chosen}) == count and (count == 1 or all(m.kind != "timer" for m in chosen)):
                    yield chosen, faults
        if faults:
            for fault in hand.faults():
                yield (fault,), faults - 1

    def check_log(self, hand: Hand, path: Path) -> None:
        self.events += len(hand.events)
        watch = Watch(self.plan, self.budget)
        try:
            for event in hand.events:
                watch.see(event)
            if hand.over:
                watch.ended()
        except InvariantViolation as error:
            error.add_note(f"\nThe path there: {list(path)!r}")
            raise

    def go(self) -> bytes:
        """Visit the states in depth-first order, and return the name of the first state."""
        hand = self.begin()
        first = self.name(hand, self.faults)
        self.into[first] = []
        open_ = self.arrive((), first, hand, self.faults)
        at: Path | None = ()
        while open_ and len(self.into) < self.states and not (self.until_stall and self.stall):
            fork = open_.pop()
            if at != fork.path:  # continuing from the last step's state needs no second run
                hand = self.again(fork.turns)
            at = (*fork.path, fork.moves)
            try:
                hand.play(*fork.moves)
            except Stalled:
                self.stall, at = self.stall or at, None
                continue
            except Exception as error:
                error.add_note(f"\nThe path there: {list(at)!r}")
                raise
            new = self.name(hand, fork.faults)
            if new == fork.state:  # a timer that changed nothing
                continue
            self.into[fork.state].append(new)
            if new in self.into:
                self.check_log(hand, at)
            else:
                self.into[new] = []
                open_ += self.arrive(at, new, hand, fork.faults)
        self.whole = not open_
        return first

    def arrive(self, path: Path, state: bytes, hand: Hand, faults: int) -> list[_Fork]:
        """Return the steps to try from a new state, last first."""
        if hand.over:
            self.ends.add(state)
            self.check_log(hand, path)
        turns = tuple(hand.path)
        return [_Fork(path, turns, state, moves, left) for moves, left in self.choices(hand, faults)][::-1]

    def ways(self, first: bytes) -> int:
        """Return the number of paths from the first state to an end."""
        known: dict[bytes, int] = {}
        stack = [first]
        while stack:
            name = stack[-1]
            missing = [n for n in self.into[name] if n not in known]
            if missing:
                stack += missing
                continue
            known[name] = (name in self.ends) + sum(known[n] for n in self.into[name])
            stack.pop()
        return known[first]


def explore(
    plan: Plan,
    *,
    budget: Budget | None = None,
    states: int = 20_000,
    together: int = 1,
    faults: int = 0,
    until_stall: bool = False,
    drained: bool = False,
    oracle: Callable[[], Oracle] | None = None,
) -> Explored:
    """Walk all interleavings of a run by hand, up to ``states`` different states.

    Up to ``together`` things happen at one moment, and up to ``faults`` jobs and requests of a path fail.  With
    ``drained`` the run is also drained at every moment.  Stages must return the same for the same item whenever they
    run.  ``oracle`` is that of `Hand`.  A stall is reported, not raised, for callers that expect one; with
    ``until_stall`` the walk ends at the first stall.

    Raises `InvariantViolation` for any other violation, with the path there.
    """
    walk = _Walk(plan, budget or Budget(), states, together, faults, until_stall, drained, oracle)
    first = walk.go()
    steps = sum(map(len, walk.into.values()))
    ways = walk.ways(first)
    return Explored(len(walk.into), len(walk.ends), steps, ways, walk.events, walk.whole, walk.stall)
