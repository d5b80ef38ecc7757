"""How strict the capacity rule of `check` is: rings that it refuses, and whether they really stall.

A ring is the worst case of a cycle.  Every item goes around as often as it may, each stage has one worker, and each
edge has a small queue.  See docs/explanation/deadlock.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import attrs

import flashgraph as fg
from flashgraph.graph.capacity import loop_capacity
from flashgraph.testing.explorer import Explored, explore
from flashgraph.testing.hand import plan_by_hand
from flashgraph.testing.tokens import Ledgered, Token
from tests.proof.recount import Recount

__all__ = ["Ring", "rings"]


def _always(token: Token) -> bool:
    return True


@attrs.frozen
class Ring:
    """A cycle of ``stages`` stages in which an item goes around ``times`` times.

    ``window`` rounds are open at once, and each becomes ``width`` items before the cycle.  The edges of the cycle have
    room for ``room`` items, the loop edge for ``loop``.
    """

    window: int
    width: int
    times: int
    stages: int
    room: int
    loop: int

    def graph(self, capacity: int | None = None) -> fg.Graph:
        """Return the ring; ``capacity`` is what its loop edge states, which `check` reads."""
        graph = fg.Graph("ring")
        pool = graph.pool("pool", Ledgered)

        @graph.source(reads=pool, rounds=self.window)
        def source(ctx: fg.Draw[Ledgered]) -> Token:
            return Token(ctx.emission, ctx.view.version)

        @graph.stage(fanout=self.width)
        def entry(token: Token) -> fg.Several[Token]:
            return fg.Several([token] * self.width)

        def passed(token: Token) -> Token:
            return token

        around = [graph.stage(passed, name=f"stage{i}", workers=1) for i in range(self.stages)]
        graph.edge(source, entry)
        graph.edge(entry, around[0])
        for one, next_ in pairwise(around):
            graph.edge(one, next_)
        graph.edge(around[-1], around[0], when=_always, loop=self.times, capacity=capacity)
        graph.edge(around[-1], pool, otherwise=True)
        return graph

    @property
    def back(self) -> str:
        return f"stage{self.stages - 1}->stage0"

    @property
    def needed(self) -> int:
        """Return the capacity that `check` asks for at the loop edge."""
        return loop_capacity(self.graph().spec, {"source": self.window})[self.back]

    @property
    def refused(self) -> bool:
        return self.loop < self.needed

    @property
    def holds(self) -> int:
        """Return how many items a full ring holds: in its queues, and one with each worker."""
        return self.loop + (self.stages - 1) * self.room + self.stages

    def explore(self, states: int = 5000) -> Explored:
        """Walk all interleavings, without the refusal of `check` and of the plan."""
        inner = {f"stage{i}->stage{i + 1}": self.room for i in range(self.stages - 1)}
        plan = plan_by_hand(self.graph(), fg.pipelined(self.window, focus=0.0), room={**inner, self.back: self.loop})
        return explore(plan, states=states, until_stall=True, oracle=Recount)


def rings(most: int) -> Iterator[Ring]:
    """Return all rings with at most ``most`` items whose loop edge has room for at most as many."""
    for window, width, times, stages, room in product((1, 2, 3), (1, 2, 3), (1, 2), (1, 2), (1, 2)):
        if window * width <= most and (stages > 1 or room == 1):
            for loop in range(1, window * width + 1):
                yield Ring(window, width, times, stages, room, loop)
