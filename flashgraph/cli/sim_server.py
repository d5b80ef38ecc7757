"""``flashgraph sim-server``: a simulated model server on this machine, to try schedules and clients against."""

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


@click.command("sim-server")
@click.option("--profile", default="vllm", show_default=True, help="Speed and slots: vllm, api or gpt-4o-mini.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--speed", type=OVER_ZERO, default=1.0, show_default=True, help="So many times as fast as the profile.")
@click.option("--slots", type=click.IntRange(min=1), help="Requests that run at once.  [default: the profile's]")
@click.option("--world", default=0, show_default=True, help="The task world that it answers in.")
@click.option("--seed", default=0, show_default=True, help="Lengths of replies and faults follow from it.")
@click.option("--name", default="sim", show_default=True, help="The model's name.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE",
    help="A share of requests that fail: 429, 500, stall, reset, cut, truncated, malformed. May be given often.",
)
@click.option("--stall", type=OVER_ZERO, default=60.0, show_default=True, help="Seconds by which a stall is late.")
@click.option("--rpm", type=OVER_ZERO, help="Requests a minute; more are answered 429.  [default: no limit]")
@click.option("--tpm", type=OVER_ZERO, help="Tokens a minute.  [default: no limit]")
@click.option("--every", type=OVER_ZERO, default=5.0, show_default=True, help="Seconds between lines about the load.")
def command(port: int, speed: float, every: float, faults: tuple[str, ...], **options: object) -> int:
    """Serve a simulated model on 127.0.0.1, with OpenAI's protocol and vLLM's metrics.

    Times are the profile's: a batch that grows slows each step, what finds no slot waits, replies have a long tail. A
    client that hangs up frees its slot. Seconds of --stall, and minutes of --rpm and --tpm, are the profile's too:
    --speed shortens them. The line about the load goes to stderr.

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
            f"port {port} of {HOST} cannot be listened on ({error.strerror or error}).\nFix: --port 0 takes a free one."
        ) from None
    profile = server.model.profile
    address = f"http://{HOST}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    say(
        f"simulated {profile.name} at {address}: {profile.slots} slots, {profile.capacity:,.0f} tokens/s when full\n"
        f"for flashgraph: --model vllm:{address}?limit={profile.slots}; Ctrl-C ends it"
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell_load, server, every)
        await server.serve(listener)


async def _tell_load(server: SimServer, every: float) -> None:
    """A line about the load whenever there is or has been some since the last one."""
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
