"""Adaptive concurrency limits compared with fixed ones, under virtual time: ``python -m tests.benchmarks.limits``.

With the argument ``learned``, print the table of limits that nobody has set. First come many equal requests to an API
that takes 64 at once and answers 429 to more, and to a server that queues them. Requests take 2 to 6 seconds; the first
minute is warm-up. Then come whole runs of GEPA on the simulated server, through the real client. The servers are an API
with a concurrency limit, APIs with a rate that they report or not, and vLLM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import mean

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.server import SimServer
from flashgraph.sim.world import World
from tests.run.endpoints import Server, of, ran, requests

from .linked import LinkedModel
from .peer import PEERS, measure_peer

__all__ = ["SERVERS", "Evolved", "Rates", "evolve"]

WARM = 60.0
MINUTES, WARM_MINUTES = 20.0, 2.0
WORLDS = (0, 1)


@attrs.frozen
class Rates:
    """A simulated server: its profile, how many it takes at once, its rates a minute, and whether it says them."""

    profile: str
    slots: int
    rpm: float | None = None
    tpm: float | None = None
    says: bool = False


SERVERS: Mapping[str, Rates] = {
    "API, 64 at once": Rates("api", 64),
    "API, 240 requests/min": Rates("api", 1000, rpm=240),
    "API, 240 requests/min, and says so": Rates("api", 1000, rpm=240, says=True),
    "API, 150,000 tokens/min": Rates("api", 1000, tpm=150_000),
    "API, 150,000 tokens/min, and says so": Rates("api", 1000, tpm=150_000, says=True),
    "vLLM, 128 slots": Rates("vllm", 128),
    "vLLM, 32 slots": Rates("vllm", 32),
}


@attrs.frozen
class Evolved:
    """The measures of a GEPA run: proposals a minute, the score, and more after the warm-up.

    ``use`` is the share of the server's capacity, or of its rate. The others are the share of cancelled requests, the
    share of 429s among the rest, and the numbers in flight and waiting.
    """

    proposals: float
    cancelled: float
    refused: float
    in_flight: float
    waiting: float
    longest: int
    use: float
    score: float


def evolve(
    rates: Rates,
    limits: Limits,
    schedule: str,
    *,
    world: int = 0,
    minutes: float = MINUTES,
    settings: Mapping[str, str] | None = None,
) -> Evolved:
    """Run GEPA for that many simulated minutes against such a server, under such a limit."""
    made, profile = World(seed=world), attrs.evolve(PROFILES[rates.profile], slots=rates.slots)
    server = SimServer(
        SimModel(profile, made.answer, seed=world),
        requests_per_minute=rates.rpm,
        tokens_per_minute=rates.tpm,
        says_rates=rates.says,
    )
    model = LinkedModel(
        "http://127.0.0.1", "sim", server=server, limits=limits, prioritises=profile.queues, timeout=1e6
    )
    flying, waiting, made_before = list[int](), list[int](), 0.0

    async def look() -> None:
        nonlocal made_before
        await anyio.sleep(WARM_MINUTES * 60 + 0.5)
        made_before = server.model.engine.tokens
        while True:
            flying.append(server.in_flight)
            waiting.append(server.model.engine.waiting)
            await anyio.sleep(1)

    async def run() -> fg.Result:
        models, budget = {"task": model, "reflection": model}, fg.Budget(seconds=minutes * 60)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            result = await fg.arun(
                "gepa",
                made.task(),
                models=models,
                schedule=schedule,
                settings=settings,
                budget=budget,
                settle=anyio.wait_all_tasks_blocked,
            )
            tasks.cancel_scope.cancel()
        return result

    result = run_virtually(run)
    assert result.best is not None
    ended = [event for event in of(result, ev.CallEnded) if event.at > WARM_MINUTES * 60]
    warm = [event for event in ended if event.how != "cancelled"]
    seconds = (minutes - WARM_MINUTES) * 60
    # The server counts only the prompt of a cancelled request.
    taken = [event for event in ended if event.how != "throttled"]
    if rates.rpm:
        use = len(taken) / (rates.rpm * seconds / 60)
    elif rates.tpm:
        tokens = sum(e.prompt_tokens + (e.completion_tokens if e.how == "done" else 0) for e in taken)
        use = tokens / (rates.tpm * seconds / 60)
    else:
        use = (server.model.engine.tokens - made_before) / (profile.capacity * seconds)
    return Evolved(
        proposals=result.spent.proposals / minutes,
        cancelled=1 - len(warm) / len(ended),
        refused=sum(event.how == "throttled" for event in warm) / len(warm),
        in_flight=sum(flying) / len(flying),
        waiting=sum(waiting) / len(waiting),
        longest=max(waiting),
        use=use,
        score=made.true_score(result.best.value["instruction"]),
    )


def gepa_row(name: str, limits: Limits, schedule: str, worlds: Sequence[Evolved]) -> str:
    """Return a line of the second table: means over the worlds."""
    cells = [
        f"{mean(found.proposals for found in worlds):.1f}",
        f"{mean(found.refused for found in worlds):.2%}",
        f"{mean(found.in_flight for found in worlds):.0f}",
        f"{mean(found.waiting for found in worlds):.1f} / {max(found.longest for found in worlds)}",
        f"{mean(found.use for found in worlds):.0%}",
        f"{mean(found.score for found in worlds):.2f}",
    ]
    return f"| {name} | {limits} | {schedule} | " + " | ".join(cells) + " |"


CANCELLING = {"validate->frontier.release": "fraction(0.1)", "validate->frontier.late": "cancel"}
"""Settings that end a validation when a tenth is answered, and cancel the rest."""


def learned_row(name: str, schedule: str, worlds: Sequence[Evolved]) -> str:
    """Return a line of the table of learned limits: means over the worlds, and the least use."""
    cells = [
        f"{mean(found.cancelled for found in worlds):.0%}",
        f"{mean(found.use for found in worlds):.0%} / {min(found.use for found in worlds):.0%}",
        f"{mean(found.in_flight for found in worlds):.0f}",
        f"{mean(found.waiting for found in worlds):.0f} / {max(found.longest for found in worlds)}",
        f"{mean(found.refused for found in worlds):.2%}",
    ]
    return f"| {name} | {schedule} | " + " | ".join(cells) + " |"


def learned(minutes: float = 10.0) -> None:
    """Print the table of limits that nobody has set, as for ``openai:``.

    GEPA runs with its defaults, and with most of its requests cancelled.
    """
    print(
        f"GEPA, {len(WORLDS)} worlds, {minutes:g} simulated minutes; all from minute {WARM_MINUTES:g} on\n\n"
        "| server | schedule | cancelled | use, mean / least | in flight | waiting in it, mean / most | 429 |\n"
        + "| --- " * 7
        + "|"
    )
    servers = ("vLLM, 128 slots", "vLLM, 32 slots", "API, 64 at once")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = [
            (
                name,
                schedule,
                [
                    pool.submit(
                        evolve, SERVERS[name], adaptive(), schedule, world=world, minutes=minutes, settings=settings
                    )
                    for world in WORLDS
                ],
            )
            for name in servers
            for schedule in ("throughput", "pipelined")
            for settings in (None, CANCELLING)
        ]
        for name, schedule, runs in found:
            print(learned_row(name, schedule, [run.result() for run in runs]), flush=True)


def cases() -> list[tuple[str, Limits, str]]:
    """Return each server with limits that suit it, and with some that a user might set."""
    return [
        ("API, 64 at once", fixed(32), "throughput"),
        ("API, 64 at once", adaptive(), "throughput"),
        ("API, 64 at once", adaptive(), "pipelined"),
        ("API, 240 requests/min", adaptive(), "throughput"),
        ("API, 240 requests/min", adaptive(rpm=240), "throughput"),
        ("API, 240 requests/min, and says so", adaptive(), "throughput"),
        ("API, 240 requests/min, and says so", adaptive(), "pipelined"),
        ("API, 150,000 tokens/min", adaptive(), "throughput"),
        ("API, 150,000 tokens/min", adaptive(tpm=150_000), "throughput"),
        ("API, 150,000 tokens/min, and says so", adaptive(), "throughput"),
        ("API, 150,000 tokens/min, and says so", adaptive(), "pipelined"),
        ("vLLM, 128 slots", fixed(128), "throughput"),
        ("vLLM, 128 slots", fixed(512), "throughput"),
        ("vLLM, 128 slots", adaptive(), "throughput"),
        ("vLLM, 128 slots", steered(), "throughput"),
        ("vLLM, 128 slots", steered(), "pipelined"),
        ("vLLM, 32 slots", fixed(128), "throughput"),
        ("vLLM, 32 slots", steered(), "throughput"),
    ]


def equal_requests(name: str, server: Server, count: int) -> str:
    """Return a line of the first table: how long that many requests took, and the endpoint's counts."""
    result = ran(requests(count), {"task": server})
    ends = of(result, ev.CallEnded)
    seconds = ends[-1].at
    warm = [event for event in ends if event.at > WARM]
    refused = sum(event.how == "throttled" for event in warm) / len(warm)
    used = [event.in_flight for event in of(result, ev.CallStarted) if WARM < event.at < seconds - 20]
    waits = f"{sum(server.waits) / len(server.waits):.1f}" if server.waits else "-"
    flight = f"{sum(used) / len(used):.0f} of {server.slots}"
    return f"| {name} | {seconds:.0f} | {flight} | {refused:.2%} | {waits} |"


def main() -> None:
    print("| limit | seconds | in flight | 429 | waiting in the server |\n| --- | --- | --- | --- | --- |")
    for limits in (fixed(32), fixed(128), adaptive()):
        print(equal_requests(f"API, {limits}", Server(64, limits), 3000), flush=True)
    for limits, slots, count in ((fixed(128), 90, 3000), (steered(), 90, 3000), (steered(), 300, 6000)):
        print(equal_requests(f"queueing server, {limits}", Server(slots, limits, queues=True), count), flush=True)
    print(
        f"\nGEPA, {len(WORLDS)} worlds, {MINUTES:g} simulated minutes, of which {WARM_MINUTES:g} are warm-up\n\n"
        "| server | limit | schedule | proposals/min | 429 | in flight | waiting in it, mean / most | use | score |\n"
        + "| --- " * 9
        + "|"
    )
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        peers = [
            pool.submit(measure_peer, world, PEERS["peer, defaults"], minutes=MINUTES, profile="api")
            for world in WORLDS
        ]
        found = [
            (*case, [pool.submit(evolve, SERVERS[case[0]], case[1], case[2], world=world) for world in WORLDS])
            for case in cases()
        ]
        for name, limits, schedule, runs in found:
            print(gepa_row(name, limits, schedule, [run.result() for run in runs]), flush=True)
        theirs = [peer.result() for peer in peers]
    proposals, score = mean(peer.proposals for peer in theirs) / MINUTES, mean(peer.final for peer in theirs)
    print(f"\nThe peer at its defaults, API: {proposals:.2f} proposals/min, score {score:.2f}")


if __name__ == "__main__":
    learned() if sys.argv[1:] == ["learned"] else main()
