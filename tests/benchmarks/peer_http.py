"""The peer over real HTTP compared with the peer by summed batches: ``python -m tests.benchmarks.peer_http``.

`tests.benchmarks.peer` runs each batch of the ``gepa`` package on the simulated engine under a virtual clock, and sums
their times. Here the same package calls the simulated server over HTTP from threads, as its users do. The server is
another process on the real clock, ``--speed`` times as fast as its profile. Requests and replies follow from the world
and the seed, so both runs send and receive the same; only times may differ.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs
import click
import gepa
import httpx
from gepa.strategies.proposal_sampling import IndependentSampling

from flashgraph.llm.protocol import Message, Reply, Usage
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.server import SimServer
from flashgraph.tasks.task import Llm
from tests.sim.serving import serving

from .measure import Measured, Point
from .peer import PEERS, Peer, _Adapter, _Reflection, _Server, _Silent, measure_peer
from .worlds import FAMILY, KindWorld

__all__ = ["Compared", "compare"]

R = TypeVar("R")
MODES = ("peer, defaults", "peer, 8 proposals at once")


@attrs.frozen
class Served:
    """Makes the server, in its process."""

    world: KindWorld
    profile: str
    seed: int
    speed: float

    def __call__(self) -> SimServer:
        return SimServer(SimModel(PROFILES[self.profile].faster(self.speed), self.world.answer, seed=self.seed))


class _OverHttp(_Server):
    """Batches over HTTP, ``workers`` threads at a time.

    ``now`` is the profile's seconds that they took, ``whole`` the seconds since the first one, with the peer's own
    work.
    """

    def __init__(self, url: str, world: KindWorld, profile: str, workers: int, seed: int, speed: float) -> None:
        super().__init__(world, profile, workers, seed)
        self._url, self._speed = url, speed
        limits = httpx.Limits(max_connections=self.workers, max_keepalive_connections=self.workers)
        self._client = httpx.Client(limits=limits, timeout=None, trust_env=False)
        self._pool = ThreadPoolExecutor(self.workers)
        self._counting = threading.Lock()
        self._began = time.perf_counter()

    @property
    def whole(self) -> float:
        return (time.perf_counter() - self._began) * self._speed

    def close(self) -> None:
        """End the threads and the connections."""
        self._pool.shutdown()
        self._client.close()

    def run(self, works: Sequence[Callable[[Llm], Awaitable[R]]]) -> list[R]:
        began = time.perf_counter()

        def one(work: Callable[[Llm], Awaitable[R]]) -> R:
            async def alone() -> R:
                return await work(self._asked)

            return asyncio.run(alone())

        found = list(self._pool.map(one, works))
        self.now += (time.perf_counter() - began) * self._speed
        return found

    async def _asked(self, messages: str | Sequence[Message], **params: Any) -> Reply:
        with self._counting:
            self.calls += 1
        sent = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        body = {"model": "sim", "messages": sent, **params}
        response = self._client.post(f"{self._url}/v1/chat/completions", json=body)
        response.raise_for_status()
        reply = response.json()
        usage = Usage(reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"])
        return Reply(reply["choices"][0]["message"]["content"], usage, 0.0, "stop", "sim")


@attrs.frozen
class Compared:
    """A mode of the peer by summed batches and over HTTP: its curve, and seconds with the peer's own work."""

    batches: Measured
    http: Sequence[Point]
    whole: float

    @property
    def same(self) -> int:
        """The number of iterations with the same calls, candidates and scores in both, from the first one on."""
        pairs = list(zip(self.batches.curve, self.http, strict=False))
        differs = [(a.calls, a.accepted, a.score) != (b.calls, b.accepted, b.score) for a, b in pairs]
        return differs.index(True) if True in differs else len(pairs)

    @property
    def slower(self) -> float:
        """The seconds until the last common iteration: over HTTP, divided by those of summed batches."""
        last = self.same - 1
        return self.http[last].at / self.batches.curve[last].at


def compare(world: KindWorld, peer: Peer, *, minutes: float, speed: float, profile: str = "vllm") -> Compared:
    """Run a mode of the peer on a world for that many simulated minutes, in both ways."""
    batches = measure_peer(world, peer, minutes=minutes, profile=profile)
    with serving(Served(world, profile, world.seed, speed)) as url:
        server = _OverHttp(url, world, profile, peer.workers, world.seed, speed)
        try:
            return Compared(batches, _curve(world, peer, server, minutes), server.whole)
        finally:
            server.close()


def _curve(world: KindWorld, peer: Peer, server: _Server, minutes: float) -> list[Point]:
    curve: list[Point] = []

    def stop(state: Any) -> bool:
        means = [sum(scores.values()) / len(scores) for scores in state.prog_candidate_val_subscores]
        place = means.index(max(means))
        true = world.true_score(state.program_candidates[place])
        if server.now <= minutes * 60:
            curve.append(Point(server.now, server.calls, 0.0, true, len(means), means[place]))
        return server.now >= minutes * 60

    parallel: Mapping[str, Any] = {}
    if peer.proposals > 1:
        parallel = {"sampling_strategy": IndependentSampling(peer.proposals)}
    gepa.optimize(
        seed_candidate=world.seed_candidate(),
        trainset=world.samples("train"),
        valset=world.samples("val"),
        adapter=_Adapter(world, server),
        reflection_lm=_Reflection(server),
        stop_callbacks=[stop],
        logger=_Silent(),
        **parallel,
    )
    return curve


@click.command()
@click.option("--kind", type=click.Choice(list(FAMILY)), default="rules", show_default=True)
@click.option("--world", default=0, show_default=True, help="The world's seed.")
@click.option("--minutes", default=20.0, show_default=True, help="Simulated minutes.")
@click.option("--speed", default=10.0, show_default=True, help="Multiple of the profile's speed.")
def main(kind: str, world: int, minutes: float, speed: float) -> None:
    """Compare the peer over HTTP with the peer by summed batches."""
    click.echo(
        f"{kind}, world {world}, {minutes:g} simulated minutes, over HTTP {speed:g} times as fast\n\n"
        "| mode | way | calls | accepted | true score at the end | same iterations | seconds to the last of them |\n"
        + "| --- " * 7
        + "|"
    )
    ends = []
    for name in MODES:
        found = compare(KindWorld(FAMILY[kind], world), PEERS[name], minutes=minutes, speed=speed)
        for way, curve in (("batches", found.batches.curve), ("HTTP", found.http)):
            end, last, same = curve[-1], curve[found.same - 1], f"{found.same} of {len(curve)}"
            click.echo(
                f"| {name} | {way} | {end.calls} | {end.accepted - 1} | {end.score:.2f} | {same} | {last.at:.0f} |"
            )
        ends.append(f"{name}: {found.slower - 1:+.1%} over HTTP; {found.whole:.0f} s with the peer's own work")
    click.echo("\n" + "\n".join(ends))


if __name__ == "__main__":
    main()
