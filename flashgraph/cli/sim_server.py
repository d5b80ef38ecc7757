"""``flashgraph sim-server``: a simulated model server on this machine, for trying schedules and clients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from flashgraph.cli.failures import DONE
from flashgraph.cli.options import pairs
from flashgraph.text.terminal import say

if TYPE_CHECKING:
    from flashgraph.sim.server import SimServer

__all__ = ["command"]

HOST = "127.0.0.1"
OVER_ZERO = click.FloatRange(min=0, min_open=True)


@click.command("sim-server", short_help="Serve a simulated model on 127.0.0.1.")
@click.option("--profile", default="vllm", show_default=True, help="Speed and slots: vllm, api or gpt-4o-mini.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
@click.option("--speed", type=OVER_ZERO, default=1.0, show_default=True, help="Multiple of the profile's speed.")
@click.option("--slots", type=click.IntRange(min=1), help="Requests that run at once.  [default: the profile's]")
@click.option("--world", default=0, show_default=True, help="Seed of the simulated task that replies are about.")
@click.option("--seed", default=0, show_default=True, help="Seed of reply lengths and faults.")
@click.option("--name", default="sim", show_default=True, help="The model's name.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE",
    help="Share of requests that fail with 429, 500, stall, reset, cut, truncated or malformed. Repeatable.",
)
@click.option("--stall", type=OVER_ZERO, default=60.0, show_default=True, help="Seconds that a stall adds.")
@click.option("--rpm", type=OVER_ZERO, help="Requests per minute; further ones get a 429.  [default: no limit]")
@click.option("--tpm", type=OVER_ZERO, help="Tokens per minute.  [default: no limit]")
@click.option("--every", type=OVER_ZERO, default=5.0, show_default=True, help="Seconds between load reports.")
def command(port: int, speed: float, every: float, faults: tuple[str, ...], **options: object) -> int:
    """Serve a simulated model on 127.0.0.1, with OpenAI's protocol and vLLM's metrics.

    The profile sets the times: a larger batch slows each step, requests queue for a free slot, and reply lengths have a
    long tail. A client that disconnects frees its slot. --speed also shortens the seconds of --stall and the minutes of
    --rpm and --tpm. Load reports go to stderr.

    \b
    flashgraph sim-server --speed 10 &
    flashgraph run gepa --task examples/sim_world/task.py --model vllm:http://127.0.0.1:8000 --minutes 2
    """
    import anyio

    with_faults = {kind: _rate(kind, rate) for kind, rate in pairs(faults, "--fault", "429=0.01").items()}
    server = _server(speed, with_faults, **options)  # type: ignore[arg-type]  # click's, by their names
    try:
        anyio.run(partial(_serve, server, port, speed, every))
    except KeyboardInterrupt:
        say("ended", err=True)
    return DONE


def _rate(kind: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"found {kind}={text}, expected a share from 0 to 1", param_hint="'--fault'") from None


def _server(
    speed: float,
    faults: dict[str, float],
    profile: str,
    slots: int | None,
    world: int,
    seed: int,
    name: str,
    stall: float,
    rpm: float | None,
    tpm: float | None,
) -> SimServer:
    import attrs

    from flashgraph.sim.faults import Faults
    from flashgraph.sim.model import SimModel
    from flashgraph.sim.profiles import profile_named
    from flashgraph.sim.server import SimServer
    from flashgraph.sim.world import World

    timed = profile_named(profile).faster(speed)
    return SimServer(
        SimModel(attrs.evolve(timed, slots=slots or timed.slots), World(seed=world).answer, seed),
        name=name,
        faults=Faults(faults, seed),
        stall=stall / speed,
        requests_per_minute=rpm and rpm * speed,
        tokens_per_minute=tpm and tpm * speed,
    )


async def _serve(server: SimServer, port: int, speed: float, every: float) -> None:
    import anyio
    import anyio.abc

    from flashgraph.errors import DataError

    try:
        listener = await anyio.create_tcp_listener(local_host=HOST, local_port=port, backlog=4096)
    except OSError as error:
        raise DataError(
            f"cannot listen on port {port} of {HOST}: {error.strerror or error}.\nFix: --port 0, for any free port."
        ) from None
    profile = server.model.profile
    address = f"http://{HOST}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    say(
        f"simulated {profile.name} at {address}: {profile.slots} slots, {profile.capacity:,.0f} tokens/s when full\n"
        f"for flashgraph: --model vllm:{address}?limit={profile.slots}; Ctrl-C stops the server"
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_report_load, server, every)
        await server.serve(listener)


async def _report_load(server: SimServer, every: float) -> None:
    """Print a line about the load every ``every`` seconds, except while the server is idle."""
    import anyio

    engine, before = server.model.engine, 0.0
    while True:
        await anyio.sleep(every)
        if engine.tokens == before and not engine.running:
            continue
        held, rate, before = engine.held, (engine.tokens - before) / every, engine.tokens
        parts = [
            f"running {engine.running} of {engine.slots}",
            f"waiting {engine.waiting}",
            f"{rate:,.0f} tokens/s ({rate / server.model.profile.capacity:.0%})",
            f"answered {server.answered}",
            f"refused {server.refused}",
            f"aborted {server.finished['abort']}",
        ]
        if cache := server.model.profile.cache:
            parts.insert(3, f"cache {held / cache:.0%}")
        say(", ".join(parts), err=True)
