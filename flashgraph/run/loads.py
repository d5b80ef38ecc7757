"""Asks the servers how full they are, for the limits that follow what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import anyio

from flashgraph.llm.protocol import Load, Model
from flashgraph.run.machine import Machine
from flashgraph.run.turns import Measured

__all__ = ["Loads", "reading"]

ANSWER_SECONDS = 5.0
"""How long a server may take to say how full it is."""

READING_SECONDS = 1.0
"""How often a server is asked how full it is."""

_log = logging.getLogger("flashgraph")


async def reading(model: Model) -> Load | None:
    """Return how full the server of a model says it is; None if it does not say, in `ANSWER_SECONDS`."""
    ask = getattr(model, "load", None)
    if ask is None:
        return None
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            load: Load | None = await ask()
            return load
    except Exception as error:  # whatever a user's model does: its run continues without the reading
        _log.info("%s does not say how full it is: %s: %s", model.name, type(error).__name__, error)
        return None


class Loads:
    """The readings of servers since the last turn; ``wake`` tells the driver to take them."""

    def __init__(
        self,
        machine: Machine,
        models: Mapping[str, Model],
        endpoints: Mapping[str, Model],
        *,
        elapsed: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._models = models
        self._endpoints = endpoints
        self._elapsed = elapsed
        self._wake = wake
        self._measured: dict[str, Measured] = {}
        self._watching = anyio.CancelScope()

    def measured(self) -> tuple[Measured, ...]:
        """Take the readings since the last turn, by name."""
        return tuple([self._measured.pop(name) for name in sorted(self._measured)])

    def end(self) -> None:
        """Ask no more."""
        self._watching.cancel()

    async def watch(self) -> None:
        """Ask the servers how full they are, those whose limits follow it, for as long as the run lasts."""
        with self._watching:
            async with anyio.create_task_group() as tasks:
                for name, endpoint in self._machine.slots.endpoints.items():
                    if endpoint.limits.reads:
                        tasks.start_soon(self._read, name)

    async def _read(self, name: str) -> None:
        plan = self._machine.plan
        roles = (role for role, service in plan.endpoints.items() if name in plan.services[service])
        model = self._endpoints.get(name) or self._models[next(roles)]
        while True:
            await anyio.sleep(READING_SECONDS)
            load = await reading(model)
            endpoint = self._machine.slots.endpoints[name]
            if endpoint.limits.read(endpoint.level, endpoint.used, load, self._elapsed()) != endpoint.level:
                self._measured[name] = Measured(name, load)
                self._wake()
