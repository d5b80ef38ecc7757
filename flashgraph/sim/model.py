"""A simulated model: answers from a function, after the time that a profile's server would take under this load."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from flashgraph.llm.protocol import Message, Reply, Usage, text_in
from flashgraph.sim.engine import Engine
from flashgraph.sim.profiles import Profile, profile_named

__all__ = ["SimModel"]


class SimModel:
    """A model of the protocol: ``answer(messages)`` is a function, and its time is a `Profile`'s.

    Reply lengths are drawn from a stream keyed by the seed and the request, so they do not depend on the order of
    requests. ``role`` chooses among the profile's measured lengths. Several roles may share one ``engine``; one open
    model among them lets its time pass.
    """

    cacheable = False
    """A reply costs only time, and the simulation has to include that time."""

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
        """Return the model of ``sim:NAME``: the profile's time, and answers that repeat the question's last line."""
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
        request = "\0".join(map(text_in, messages))
        key = hashlib.sha256(f"{self._seed}\0{request}".encode()).hexdigest()
        stream, profile = random.Random(key), self.profile
        drawn = profile.reply_tokens(stream, self._role)
        tokens = min(drawn, int(params.get("max_tokens") or drawn))
        prompt = profile.prompt_tokens(stream, len(request) // 4, self._role)
        if profile.latency:
            await anyio.sleep(profile.latency)
        await self.engine.generate(
            profile.steps(prompt, tokens), prompt=prompt, priority=float(params.get("priority") or 0)
        )
        finish = "length" if tokens < drawn else "stop"
        return Reply(self._answer(messages), Usage(prompt, tokens), profile.cost(prompt, tokens), finish, self.name)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return self.profile.cost(prompt, completion)


def _echo(messages: Sequence[Message]) -> str:
    return (text_in(messages[-1]).strip().splitlines() or [""])[-1]
