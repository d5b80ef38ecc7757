"""A simulated inference engine: continuous batching on the injected clock, with a queue for requests beyond its
slots."""

from __future__ import annotations

import heapq
import math

import anyio
import attrs

from flashgraph.sim.profiles import Profile

__all__ = ["Engine"]

ROUNDING = 1e-6
"""In steps. Without it, a rounding error could make a request that is due wait for a sleep of zero length."""


@attrs.define(eq=False)
class _Request:
    """``end`` is the engine's step at which the request is done, known once it has a slot."""

    steps: float
    prompt: int
    done: anyio.Event = attrs.field(factory=anyio.Event)
    end: float | None = None
    gone: bool = False


class Engine:
    """Every running request gets one token a step, and a step takes longer the more requests run.

    Requests beyond ``slots`` (by default the profile's) wait for one: the lowest ``priority`` first, and the oldest
    among equals. The batch works on prompts too, at `Profile.prefill` tokens a step.

    ``tokens`` counts generated tokens, also those of cancelled requests; ``busy`` is requests times seconds.
    """

    def __init__(self, profile: Profile, slots: int | None = None) -> None:
        self.profile = profile
        self.slots = profile.slots if slots is None else slots
        self.tokens = 0.0
        self.busy = 0.0
        self.running = 0
        self.waiting = 0
        self._steps = 0.0
        self._since = 0.0
        self._arrivals = 0
        # Both keep requests that have ended until they reach the front.
        self._batch: list[tuple[float, int, _Request]] = []
        self._queue: list[tuple[float, int, _Request]] = []
        self._sleep: anyio.CancelScope | None = None
        """Lasts until the next request is done, while time passes."""

    @property
    def held(self) -> float:
        """The tokens that the running requests hold in memory: their prompts, and the generated tokens so far."""
        self._advance()
        left = sum(request.prompt + request.steps - (end - self._steps) for end, _, request in self._live())
        return max(0.0, left)

    def _live(self) -> list[tuple[float, int, _Request]]:
        return [entry for entry in self._batch if not entry[2].gone]

    async def generate(self, steps: float, *, prompt: int = 0, priority: float = 0) -> None:
        """Return when the request has had ``steps`` decoding steps.

        Cancelling frees its slot, or its place in the queue, at once.
        """
        self._advance()
        request = _Request(steps, prompt)
        self._arrivals += 1
        heapq.heappush(self._queue, (priority, self._arrivals, request))
        self.waiting += 1
        self._fill()
        try:
            await request.done.wait()
        except BaseException:
            if not request.done.is_set():
                self._abort(request)
            raise

    def _abort(self, request: _Request) -> None:
        self._advance()
        request.gone = True
        if request.end is None:
            self.waiting -= 1
        else:
            self.running -= 1
            self._fill()

    def _fill(self) -> None:
        """Give free slots to waiting requests."""
        while self.running < self.slots and self._queue:
            _, arrival, request = heapq.heappop(self._queue)
            if request.gone:
                continue
            request.end = self._steps + request.steps
            heapq.heappush(self._batch, (request.end, arrival, request))
            self.waiting -= 1
            self.running += 1
        if self._sleep is not None:
            # Move the deadline instead of cancelling: otherwise every arrival would wake `serve` for nothing.
            self._sleep.deadline = self._due()

    def _due(self) -> float:
        """Return when the next running request is done, if none arrives or leaves until then."""
        while self._batch and self._batch[0][2].gone:
            heapq.heappop(self._batch)
        if not self._batch:
            return math.inf
        return self._since + (self._batch[0][0] - self._steps) * self.profile.step_time(self.running)

    def _advance(self) -> None:
        now = anyio.current_time()
        if self.running:
            steps = (now - self._since) / self.profile.step_time(self.running)
            self._steps += steps
            self.tokens += steps * self.running
            self.busy += (now - self._since) * self.running
        self._since = now

    async def serve(self) -> None:
        """Let time pass for the running requests, for as long as this runs."""
        self._since = anyio.current_time()
        never = anyio.Event()
        while True:
            self._advance()
            while self._batch and (self._batch[0][2].gone or self._batch[0][0] <= self._steps + ROUNDING):
                _, _, request = heapq.heappop(self._batch)
                if not request.gone:
                    self.running -= 1
                    request.done.set()
            self._fill()
            try:
                with anyio.CancelScope(deadline=self._due()) as self._sleep:
                    await never.wait()
            finally:
                self._sleep = None
