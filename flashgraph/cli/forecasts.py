"""What ``simulate`` and ``tune`` share: their options, and simulations side by side in processes."""

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
    "Latencies of a role's server, or of one server for all of them: vllm (Qwen3-8B on one H100), gpt-4o-mini, api, "
    "or the folder of a run, from whose journal they are learned. May be given often."
)


def simulation_options(command: F) -> F:
    """What is simulated, without its seeds."""
    for option in (
        click.option(
            "--pass-rate",
            type=click.FloatRange(0, 1),
            default=0.5,
            show_default=True,
            help="With --task, or a graph that the simulated world does not fit: the share of attempts that pass.",
        ),
        click.option(
            "--limit", type=click.IntRange(min=1), help="Requests in flight at each server.  [default: the profile's]"
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
            "--task", metavar="FILE[:NAME]", help="A task, for the length of its prompts.  [default: a simulated world]"
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
    """The simulation that the options say; what is learned from journals is told on stderr."""
    from flashgraph.graph.loading import load_graph
    from flashgraph.sim.forecast import Simulation

    # Before any code of the user's runs, which may change the working directory: each process loads them anew.
    graph, task = absolute(graph), None if task is None else absolute(task)
    loaded = load_graph(graph)
    loaded.checked()
    roles = sorted({s.llm for s in loaded.spec.stages if s.llm is not None})
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
                f"no model role {role!r}; the graph calls {', '.join(roles)}", param_hint="'--profile'"
            )
        if not name:
            raise click.BadParameter(f"found '{role}=', expected a profile, e.g. {role}=vllm", param_hint="'--profile'")
        if name in PROFILES:
            found[role] = PROFILES[name]
            continue
        if not _is_run(name):
            raise DataError(
                f"profile {name!r}: neither a shipped one ({', '.join(PROFILES)}) nor the folder of a run.\n"
                f"Fix: {did_you_mean(name, list(PROFILES))}"
            )
        if name not in learned:
            learned[name] = _learned(name)
        # A role that the run did not call, as in a run of another graph, is taken to be like its first.
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
    """One simulation, in this process; ``progress`` is told the simulated seconds."""
    from flashgraph.sim.clock import run_virtually, settle
    from flashgraph.sim.forecast import forecast

    return run_virtually(partial(forecast, simulation, settle, progress=progress), "asyncio")


def _interrupt(number: int, frame: object) -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP are a Ctrl-C: what is there is said, and no process is left behind."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # nohup has SIGHUP ignored, which stays so.
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
    """A pool of processes, one a core, that carry simulations out; they are ended on the way out."""
    from multiprocessing import TimeoutError, get_context

    with interruptible():
        # Ctrl-C reaches the whole group of processes, and the parent decides what it means: they are deaf to it from
        # their first instruction on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # Forking would copy whatever threads and event loops the caller has.
            pool = get_context("spawn").Pool(os.cpu_count() or 1, initializer=_end_with_the_parent)
        finally:
            signal.signal(signal.SIGINT, before)

        def run(simulations: Sequence[Simulation]) -> Iterable[tuple[int, Forecast]]:
            found = pool.imap_unordered(_numbered, enumerate(simulations))
            while True:
                try:
                    yield found.next(timeout=0.5)
                except TimeoutError:
                    pass  # a signal that comes just before the wait does not wake it
                except StopIteration:
                    return

        with pool:
            yield run


def _end_with_the_parent() -> None:
    """Whose parent was killed would find nobody to tell: it ends at once, without a word."""
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
