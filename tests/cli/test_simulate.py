"""``flashgraph simulate`` and ``flashgraph tune``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.cli import simulate, tune
from flashgraph.cli.forecasts import simulated
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.forecast import Simulation
from flashgraph.sim.measures import Forecast
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.sweep import Run
from flashgraph.sim.world import World

from .conftest import Cli

SHORT = ("simulate", "gepa", "--minutes", "1")


def test_a_forecast_in_words(cli: Cli) -> None:
    """A forecast has rates, the server, lag, cost, the bound and the queues."""
    ended = cli(*SHORT, "--profile", "gpt-4o-mini", "--target-score", "0.9")
    assert ended.code == 0
    for said in ("proposals", "64 slots", "lag at admission", "$0.", "0.9 not reached", "bound by: "):
        assert said in ended.out
    assert "select->rollout" in ended.out


def test_the_same_as_json(cli: Cli) -> None:
    found = json.loads(cli(*SHORT, "--json", "--limit", "16").out)
    assert found["servers"]["reflection+task"]["limit"] == 16
    assert found["per_minute"]["calls"] == found["calls"]
    assert found["seconds"] == 60


def test_a_run_that_does_nothing_fails(cli: Cli, tmp_path: Path) -> None:
    """As where the simulated world lacks a component that the graph's seed needs."""
    (tmp_path / "graph.py").write_text(
        "import flashgraph as fg\n"
        "from flashgraph.parts import Archive, Candidate, attempt\n"
        "graph = fg.Graph('mutating')\n"
        "pool = graph.pool('pool', Archive)\n"
        "@graph.source(rounds=1)\n"
        "def seed(ctx: fg.Draw) -> Candidate:\n"
        "    return Candidate({'mutation': ctx.task.seed['mutation']}, len(ctx.task.val))\n"
        "validate = graph.stage(attempt, name='validate', model='task')\n"
        "graph.edge(seed, validate, scatter=Candidate.work)\n"
        "graph.edge(validate, pool, gather=True)\n"
    )
    ended = cli("simulate", str(tmp_path / "graph.py"), "--minutes", "1")
    assert ended.code == 3
    assert "minute: 0.0 proposals" in ended.out
    assert "the simulated run did nothing: source 'seed' failed: KeyError: 'mutation'" in ended.err
    assert "--task FILE" in ended.err


def test_a_sweep_compares_schedules(cli: Cli, tmp_path: Path) -> None:
    """A sweep has a row for each combination in the given order, and a plot."""
    ended = cli(*SHORT, "--sweep", "window=1,4", "alpha=0.25,1", "-o", "plot.svg")
    assert ended.code == 0
    lines = [line.split()[:2] for line in ended.out.splitlines()]
    assert lines == [["window", "alpha"], ["1", "0.25"], ["1", "1"], ["4", "0.25"], ["4", "1"]]
    assert (tmp_path / "plot.svg").read_bytes().startswith(b"<?xml")


def test_seeds_and_json_of_a_sweep(cli: Cli) -> None:
    """Each seed is another simulated world."""
    found = json.loads(
        cli(*SHORT, "--sweep", "schedule=lockstep,pipelined", "--seeds", "2", "--seed", "5", "--json").out
    )
    assert [c["settings"]["schedule"] for c in found] == ["lockstep", "pipelined"]
    assert list(found[0]["forecasts"]) == ["5", "6"]
    assert found[0]["forecasts"]["5"]["calls"] < found[1]["forecasts"]["5"]["calls"]


def test_an_interrupt_prints_what_is_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C prints the finished combinations, with exit code 130."""

    @contextmanager
    def interrupted() -> Iterator[Run]:
        def run(simulations: Sequence[Simulation]) -> Iterator[tuple[int, Forecast]]:
            yield 0, simulated(simulations[0])
            raise KeyboardInterrupt

        yield run

    monkeypatch.setattr(simulate, "processes", interrupted)
    ended = cli(*SHORT, "--sweep", "window=1,2,4")
    assert ended.code == 130
    assert [line.split()[0] for line in ended.out.splitlines()] == ["window", "1"]
    assert "interrupted; the table holds what was finished" in ended.err


def test_an_interrupt_before_anything_was_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before any result prints a message and draws nothing."""

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "processes", interrupted)
    ended = cli(*SHORT, "--sweep", "window=1,2,4", "-o", "plot.svg")
    assert ended.code == 130
    assert ended.out == ""
    assert "nothing" in ended.err


@pytest.mark.parametrize("command", ["sweep", "tune", "one"])
@pytest.mark.parametrize(
    ("number", "ctrl_c"),
    [(signal.SIGINT, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_IGN)],
)
def test_a_signal_ends_it_with_a_line(
    command: str, number: signal.Signals, ctrl_c: signal.Handlers, tmp_path: Path
) -> None:
    """Every signal ends the command with one line, the exit code of an interrupt and no process left.

    Ctrl-C reaches the whole process group, as from a terminal. Background jobs ignore SIGINT, but SIGTERM ends them.
    """
    arguments = {
        "sweep": ["simulate", "gepa", "--minutes", "600", "--seeds", "4"],
        "tune": ["tune", "gepa", "--minutes", "600"],
        "one": ["simulate", "gepa", "--minutes", "600"],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, ctrl_c),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "simulating\n"
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    # The pipe ends when the last process that could write to it has exited.
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("interrupted")


STARTED = """
import sys
from flashgraph.cli import forecasts, main, simulate, tune

def told(function):
    def call(*arguments, **options):
        print("simulating", flush=True)
        return function(*arguments, **options)
    return call

if __name__ == "__main__":
    simulate.simulated = told(simulate.simulated)
    from flashgraph.sim import sweep, tune as search
    sweep.swept = search.swept = told(sweep.swept)
    main()
"""
"""The command line; it prints a line when the simulations start."""


def test_workers_of_a_parent_that_was_killed_end_without_a_word(tmp_path: Path) -> None:
    """Worker processes exit silently when their parent is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, "simulate", "gepa", "--minutes", "2", "--seeds", "4"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "simulating\n"
    process.kill()
    # The pipe ends when the last worker has exited.
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo terminal")
def test_a_long_simulation_shows_how_far_it_is(tmp_path: Path) -> None:
    """A progress bar appears only on a terminal; the output is the same."""
    command = [sys.executable, "-m", "flashgraph", *SHORT, "--json"]
    plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert plain.stderr == ""
    leader, follower = os.openpty()
    shown = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, text=True, check=True)
    os.close(follower)
    said = os.read(leader, 1 << 20).decode()
    os.close(leader)
    assert shown.stdout == plain.stdout
    assert "simulating" in said
    assert len(set(re.findall(r"(\d+)%", said))) > 10


def test_a_profile_from_a_journal(cli: Cli, tmp_path: Path) -> None:
    """A learned profile is described on stderr; its server has the slots that the run needed."""
    world = World(seed=2, val=20)
    model = SimModel(PROFILES["vllm"], world.answer, seed=2)

    async def run() -> fg.Result:
        models: dict[str, Any] = {"task": model, "reflection": model}
        budget = fg.Budget(seconds=240)
        return await fg.arun(
            "gepa", world.task(), models=models, budget=budget, settle=settle, folder=tmp_path / "runs" / "mine"
        )  # fmt: skip

    run_virtually(run, "asyncio")
    for name in ("mine", "runs/mine"):
        ended = cli("simulate", "gepa", "--minutes", "1", "--profile", name, "--json")
        assert ended.code == 0
        assert f"learned from {name}: sim:vllm: " in ended.err
    (server,) = json.loads(ended.out)["servers"].values()
    assert server["profile"] == "sim:vllm"
    assert 20 < server["limit"] <= 128


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("simulate", "gepa", "--profile", "vlm"), 1, "did you mean 'vllm'"),
        (("simulate", "gepa", "--profile", "judge=vllm"), 2, "found the role 'judge', expected one of the graph"),
        (("simulate", "gepa", "--set", "windo=3"), 1, "did you mean 'window'"),
        (("simulate", "gepa", "--sweep", "window"), 2, "expected NAME=V,V"),
        (("simulate", "gepa", "window=3"), 2, "--sweep window=3"),
        (("simulate", "gepa", "--profile", "task="), 2, "e.g. task=vllm"),
        (
            ("simulate", "gepa", "--profile", "task=vllm", "--profile", "task=api"),
            2,
            "'--profile': found two models for the role",
        ),
        (("simulate", "gepa", "--sweep", "window=3,4", "window=8"), 2, "e.g. window=3,4,8"),
        (("simulate", "gepa", "-o", "nowhere/plot.svg"), 2, "no folder 'nowhere'"),
        (("simulate", "gepa", "--sweep", "windo=3,4"), 1, "did you mean 'window'"),
        (("simulate", "gepa", "-o", "plot.pdf"), 2, "ends in .svg or .png"),
        (("simulate", "islands"), 1, "takes real time"),
        (("simulate", "meta_harness"), 1, "runs code"),
        (("tune", "gepa", "--schedule", "lockstep"), 1, "no settings to tune"),
        (("tune", "islands"), 1, "takes real time"),
        (("tune", "ace", "--minutes", "0.2"), 1, "has no true scores to reach"),
        (
            ("tune", "ace", "--set", "window=4", "--set", "focus=0", "--set", "control=balanced"),
            1,
            "expected one to search",
        ),
    ],
)
def test_mistakes(cli: Cli, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each mistake gets one message without a traceback."""
    ended = cli(*arguments)
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_sweeps_last_mistake_is_reported_first(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the last combination is reported before any simulation."""
    monkeypatch.setattr(simulate, "processes", None)
    ended = cli(*SHORT, "--sweep", "window=1,2,4", "alpha=0.25,7")
    assert ended.code == 1
    assert "fraction(7), expected a share" in ended.err


def test_a_missing_matplotlib_is_reported_first(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing matplotlib is reported before any simulation."""
    monkeypatch.setattr(simulate, "processes", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = cli(*SHORT, "--sweep", "window=1,2", "-o", "plot.svg")
    assert ended.code == 1
    assert "pip install 'flashgraph[draw]'" in ended.err


def test_a_target_without_scores(cli: Cli) -> None:
    """A graph without a simulated world cannot reach a target, and the output says so."""
    assert "0.5 cannot be reached" in cli("simulate", "ace", "--minutes", "0.2", "--target-score", "0.5").out


def test_a_graph_of_ones_own(cli: Cli) -> None:
    """A graph file works as with `run`."""
    beam = Path(fg.__file__).parents[1] / "examples" / "beam" / "beam.py"
    ended = cli("simulate", str(beam), "--minutes", "1")
    assert ended.code == 0
    assert "rollout->vary" in ended.out


def test_commas_inside_of_a_policy() -> None:
    """A comma in parentheses belongs to the value."""
    assert simulate.sweep_of(("validate->frontier.stale=discard(4),repair(rebase, above=2)",)) == {
        "validate->frontier.stale": ("discard(4)", "repair(rebase, above=2)")
    }


FIXED = ("--set", "window=4", "--set", "focus=0", "--set", "control=drain_first", "--seeds", "1", "--minutes", "1")


def test_tune_gives_options_to_paste(cli: Cli) -> None:
    """`tune` does not search settings that are given, and prints options that `run` accepts."""
    fixed = ("--set", "alpha=1", "--set", "focus=0", "--set", "control=drain_first", "--seeds", "1", "--minutes", "1")
    ended = cli("tune", "gepa", "--goal", "throughput", *fixed)
    assert ended.code == 0
    assert "--set 'validate->frontier.release=fraction(1)'" in ended.out
    assert "--set window=" in ended.out
    assert "proposals/min" in ended.out
    assert "of 1 seed" in ended.out


def test_tune_as_json(cli: Cli) -> None:
    """A better setting is among the options."""
    found = json.loads(cli("tune", "gepa", "--goal", "cost", *FIXED, "--target-score", "0.15", "--json").out)
    assert (found["target"], found["unit"]) == (0.15, "tokens to 0.15")
    assert set(found["options"]) >= {"window", "focus", "control"}
    free = ("--set", "focus=0", "--set", "control=drain_first", "--set", "alpha=1", "--seeds", "1", "--minutes", "1")
    found = json.loads(cli("tune", "gepa", "--goal", "throughput", *free, "--json").out)
    assert found["better"] is True
    assert {"window", "focus", "control", "validate->frontier.release"} <= set(found["options"])


def test_tune_interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt before the final comparison gives no recommendation."""

    @contextmanager
    def interrupted() -> Iterator[Run]:
        def run(simulations: Sequence[Simulation]) -> Iterator[tuple[int, Forecast]]:
            yield 0, simulated(simulations[0])
            raise KeyboardInterrupt

        yield run

    monkeypatch.setattr(tune, "processes", interrupted)
    ended = cli("tune", "gepa", "--minutes", "1")
    assert ended.code == 130
    assert "no recommendation" in ended.err
