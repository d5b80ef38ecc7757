"""A simulated model: answers from a function, after the time that a profile's server would take under this load."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from flashgraph.llm.protocol import Message, Reply, Usage
from flashgraph.sim.profiles import Profile, profile_named

__all__ = ["Engine", "SimModel"]


class Engine:
    """Continuous batching: every running request gets one token a step, and a step's time grows with the batch.

    ``tokens`` counts what was generated, also for requests that were cut off; ``busy`` is requests times seconds.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.tokens = 0.0
        self.busy = 0.0
        self._steps = 0.0
        self._since = 0.0
        self._batch = 0
        self._running: list[tuple[float, int, anyio.Event]] = []
        self._gone: set[int] = set()
        self._next = 0
        self._changed = anyio.Event()

    async def generate(self, steps: float) -> None:
        """Return when the request has had ``steps`` decoding steps.  Cancelling it frees its slot at once."""
        self._advance()
        ticket, self._next = self._next, self._next + 1
        done = anyio.Event()
        heapq.heappush(self._running, (self._steps + steps, ticket, done))
        self._batch += 1
        self._changed.set()
        try:
            await done.wait()
        except BaseException:
            if not done.is_set():
                self._advance()
                self._gone.add(ticket)
                self._batch -= 1
                self._changed.set()
            raise

    def _advance(self) -> None:
        now = anyio.current_time()
        if self._batch:
            steps = (now - self._since) / self.profile.step_time(self._batch)
            self._steps += steps
            self.tokens += steps * self._batch
            self.busy += (now - self._since) * self._batch
        self._since = now

    async def serve(self) -> None:
        """Let time pass for the running requests; runs as long as the model is open."""
        self._since = anyio.current_time()
        while True:
            self._advance()
            # A step's rounding in floats must not keep a request that is due waiting for a zero-length sleep.
            while self._running and (self._running[0][1] in self._gone or self._running[0][0] <= self._steps + 1e-6):
                _, ticket, done = heapq.heappop(self._running)
                if ticket in self._gone:
                    self._gone.discard(ticket)
                    continue
                self._batch -= 1
                done.set()
            wait = math.inf
            if self._running:
                wait = (self._running[0][0] - self._steps) * self.profile.step_time(self._batch)
            self._changed = anyio.Event()
            with anyio.move_on_after(wait if math.isfinite(wait) else None):
                await self._changed.wait()


class SimModel:
    """A model of the protocol whose ``answer(messages)`` is a function and whose time is a `Profile`'s.

    Reply lengths are drawn from a stream keyed by the seed and the request, so they do not depend on the order of
    requests.  ``role`` chooses among the profile's measured lengths; several roles may share one ``engine``, of which
    one model that is open lets time pass.
    """

    def __init__(
        self,
        profile: Profile,
        answer: Callable[[Sequence[Message]], str] | None = None,
        seed: int = 0,
        *,
        role: str = "",
        engine: Engine | None = None,
    ) -> None:
        self.profile = profile
        self.engine = engine or Engine(profile)
        self._answer = answer or _echo
        self._seed = seed
        self._role = role

    @classmethod
    def of_profile(cls, name: str) -> SimModel:
        """What ``sim:NAME`` means: the profile's time, and answers that only repeat the question's last line."""
        return cls(profile_named(name))

    @property
    def name(self) -> str:
        return f"sim:{self.profile.name}"

    @property
    def limit(self) -> int:
        return self.profile.slots

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.engine.serve)
            yield
            tasks.cancel_scope.cancel()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        request = "\0".join(m["content"] for m in messages)
        key = hashlib.sha256(f"{self._seed}\0{request}".encode()).hexdigest()
        stream, profile = random.Random(key), self.profile
        drawn = profile.reply_tokens(stream, self._role)
        tokens = min(drawn, int(params.get("max_tokens") or drawn))
        prompt = profile.prompt_tokens(stream, len(request) // 4, self._role)
        if profile.latency:
            await anyio.sleep(profile.latency)
        await self.engine.generate(profile.steps(prompt, tokens))
        finish = "length" if tokens < drawn else "stop"
        return Reply(self._answer(messages), Usage(prompt, tokens), profile.cost(prompt, tokens), finish, self.name)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return self.profile.cost(prompt, completion)


def _echo(messages: Sequence[Message]) -> str:
    return (messages[-1]["content"].strip().splitlines() or [""])[-1]
