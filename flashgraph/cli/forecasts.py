"""The options that ``simulate`` and ``tune`` share, and a pool of processes for simulations."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashgraph.cli.options import absolute, models_by_role, pairs, schedule_option, set_option
from flashgraph.text.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flashgraph.sim.forecast import Simulation
    from flashgraph.sim.measures import Forecast
    from flashgraph.sim.profiles import Profile
    from flashgraph.sim.sweep import Run

__all__ = ["interruptible", "processes", "simulated", "simulation_of", "simulation_options"]

F = TypeVar("F", bound=Callable[..., Any])

PROFILES_HELP = (
    "Latencies of the server of one role, or of one server for all roles: vllm (Qwen3-8B on one H100), gpt-4o-mini, "
    "api, or the folder of a run, whose journal they are learned from. Repeatable."
)


def simulation_options(command: F) -> F:
    """Add the options that describe a simulation, except its seeds."""
    for option in (
        click.option(
            "--pass-rate",
            type=click.FloatRange(0, 1),
            default=0.5,
            show_default=True,
            help="Share of attempts that pass, with --task or for a graph that does not evolve prompts.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            help="Concurrency limit of each server, in requests.  [default: the profile's]",
        ),
        click.option(
            "--minutes",
            type=click.FloatRange(min=0, min_open=True),
            default=20.0,
            show_default=True,
            help="Simulated minutes.",
        ),
        set_option,
        schedule_option,
        click.option(
            "--task", metavar="FILE[:NAME]", help="A task, for its prompt lengths.  [default: a simulated world]"
        ),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            metavar="[ROLE=]PROFILE",
            default=("vllm",),
            show_default=True,
            help=PROFILES_HELP,
        ),
        click.argument("graph"),
    ):
        command = option(command)
    return command


def simulation_of(
    graph: str,
    profiles: Sequence[str],
    task: str | None,
    schedule: str,
    settings: Sequence[str],
    minutes: float,
    limit: int | None,
    pass_rate: float,
    seed: int,
) -> Simulation:
    """Return the simulation that the options describe; print notes about learned profiles on stderr."""
    from flashgraph.graph.loading import load_graph, load_task
    from flashgraph.launch.arguments import roles_of
    from flashgraph.sim.forecast import Simulation

    # Resolve paths before the user's code runs, because it may change the working directory: each process loads the
    # files again.
    graph, task = absolute(graph), None if task is None else absolute(task)
    loaded = load_graph(graph)
    loaded.checked()
    roles = loaded.spec.roles if task is None else roles_of(loaded.spec, load_task(task))
    return Simulation(
        graph=graph,
        profiles=_profiles(profiles, roles),
        schedule=schedule,
        minutes=minutes,
        seed=seed,
        limit=limit,
        task=task,
        pass_rate=pass_rate,
    ).with_settings(pairs(settings))


def _profiles(texts: Sequence[str], roles: Sequence[str]) -> Mapping[str, Profile]:
    from flashgraph.errors import DataError, did_you_mean
    from flashgraph.sim.profiles import PROFILES

    found: dict[str, Profile] = {}
    learned: dict[str, Mapping[str, Profile]] = {}
    for role, name in models_by_role(texts, roles, "--profile").items():
        if role not in roles:
            raise click.BadParameter(
                f"found the role {role!r}, expected one of the graph: {', '.join(roles)}", param_hint="'--profile'"
            )
        if not name:
            raise click.BadParameter(f"found '{role}=', expected a profile, e.g. {role}=vllm", param_hint="'--profile'")
        if name in PROFILES:
            found[role] = PROFILES[name]
            continue
        if not _is_run(name):
            raise DataError(
                f"profile {name!r}: expected a shipped profile ({', '.join(PROFILES)}) or the folder of a run.\n"
                f"Fix: {did_you_mean(name, list(PROFILES))}"
            )
        if name not in learned:
            learned[name] = _learned(name)
        # The run may be of another graph: a role that it did not call gets the profile of its first role.
        found[role] = learned[name].get(role) or next(iter(learned[name].values()))
    return found


def _is_run(name: str) -> bool:
    from flashgraph.run.journal.folders import RUNS

    return os.sep in name or Path(name).exists() or (RUNS / name).exists()


def _learned(name: str) -> Mapping[str, Profile]:
    from flashgraph.errors import DataError
    from flashgraph.llm.resolve import resolve
    from flashgraph.run.journal.reading import StoredRun
    from flashgraph.sim.learned import learn

    with StoredRun.open(name) as run:
        models = run.header.order.get("models") or {}

        def limit_of(role: str) -> int | None:
            try:
                return resolve(models[role]).limit if role in models else None
            except (DataError, ImportError):
                return None

        found = learn(run, limit_of)
    for note in found.notes:
        say(f"learned from {name}: {note}", err=True)
    return found.profiles


def simulated(simulation: Simulation, progress: Callable[[float], None] = lambda seconds: None) -> Forecast:
    """Run one simulation in this process; ``progress`` receives the simulated seconds."""
    from flashgraph.sim.clock import run_virtually, settle
    from flashgraph.sim.forecast import forecast

    return run_virtually(partial(forecast, simulation, settle, progress=progress), "asyncio")


def _interrupt(number: int, frame: object) -> None:
    # A shell starts background jobs with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, so that the command prints its results and ends its processes."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Under nohup SIGHUP is ignored, and must stay ignored.
    before = {name: signal.getsignal(name) for name in names if signal.getsignal(name) is not signal.SIG_IGN}
    for name in before:
        signal.signal(name, _interrupt)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def processes() -> Iterator[Run]:
    """Yield a function that runs simulations in a pool of processes, one per core; end the pool afterwards."""
    from multiprocessing import TimeoutError, get_context

    with interruptible():
        # Ctrl-C reaches the whole process group, but only the parent handles it: the children inherit SIGINT ignored.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # "fork" would copy the caller's threads and event loops.
            pool = get_context("spawn").Pool(os.cpu_count() or 1, initializer=_end_with_the_parent)
        finally:
            signal.signal(signal.SIGINT, before)

        def run(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
            found = pool.imap_unordered(_numbered, enumerate(simulations))
            while True:
                try:
                    yield found.next(timeout=0.5)
                except TimeoutError:
                    pass  # poll, because a signal that arrives just before a wait does not interrupt it
                except StopIteration:
                    return

        with pool:
            yield run


def _end_with_the_parent() -> None:
    """Exit silently when the parent process dies, because nobody would read the result."""
    from multiprocessing import parent_process
    from threading import Thread

    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _numbered(numbered: tuple[int, Simulation]) -> tuple[int, Forecast]:
    number, simulation = numbered
    return number, simulated(simulation)
