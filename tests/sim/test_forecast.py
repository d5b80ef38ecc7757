"""Forecasts: the real scheduler on simulated servers, and its measures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.forecast import Simulation, expanded, forecast
from flashgraph.sim.measures import Forecast
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES, Lengths
from flashgraph.sim.scene import Scene
from flashgraph.sim.world import World

VLLM = {"task": PROFILES["vllm"], "reflection": PROFILES["vllm"]}
SMALL = World(seed=1, train=30, val=12)


def foreseen(backend: str = "asyncio", scene: Scene | None = None, **options: Any) -> Forecast:
    simulation = Simulation(**{"graph": "gepa", "profiles": VLLM, "minutes": 3.0, **options})
    return run_virtually(partial(forecast, simulation, settle, scene), backend)


def test_a_forecast_is_the_run_itself() -> None:
    """A forecast has the same figures as a whole run under virtual time on the same world and server."""
    found = foreseen(scene=Scene.of_world(SMALL), seed=1)
    model = SimModel(PROFILES["vllm"], SMALL.answer, seed=1)

    async def run() -> fg.Result:
        models: dict[str, Any] = {"task": model, "reflection": model}
        return await fg.arun(
            "gepa", SMALL.task(), models=models, seed=1, budget=fg.Budget(seconds=180), settle=settle
        )  # fmt: skip

    result = run_virtually(run, "asyncio")
    spent = result.spent
    assert (found.calls, found.proposals, found.evaluations) == (spent.calls, spent.proposals, spent.evaluations)
    assert found.accepted == sum(not a.retracted for a in result.artifacts)
    assert sum(found.lags.values()) == len(result.artifacts)
    assert found.use == pytest.approx(model.engine.tokens / (model.profile.capacity * 180))
    assert found.servers["reflection+task"].running == pytest.approx(model.engine.busy / 180)


def test_both_backends_foresee_the_same() -> None:
    """A forecast depends only on its seeds, not on the backend (I14)."""
    scene = Scene.of_world(SMALL)
    assert foreseen(scene=scene) == foreseen("trio", scene=scene)
    assert foreseen(scene=scene) != foreseen(scene=scene, seed=2)


def test_the_bound_of_a_run_is_named() -> None:
    """A forecast names the bound of a run: the schedule, the window, a stage's workers, or the server."""
    scene = Scene.of_world(SMALL)
    bounds = {
        "schedule": foreseen(scene=scene, schedule="lockstep"),
        "window": foreseen(scene=scene, settings={"window": "2"}),
        "workers of validate": foreseen(scene=scene, settings={"validate.workers": "1"}),
        "server": foreseen(scene=scene, settings={"window": "32"}, limit=8),
    }
    assert {name: found.bound.startswith(name) for name, found in bounds.items()} == dict.fromkeys(bounds, True)
    server = bounds["server"].servers["reflection+task"]
    assert (server.limit, server.most_running) == (8, 8)
    assert server.waiting > 1 > bounds["window"].servers["reflection+task"].waiting
    assert all(lag == 0 for lag in bounds["schedule"].lags)


def test_roles_with_servers_of_their_own() -> None:
    """Unequal profiles are two servers, each with its own capacity and prices."""
    found = foreseen(
        scene=Scene.of_world(SMALL), profiles={"task": PROFILES["vllm"], "reflection": PROFILES["gpt-4o-mini"]}
    )
    assert {name: s.profile for name, s in found.servers.items()} == {"reflection": "gpt-4o-mini", "task": "vllm"}
    assert 0 < found.usd < found.tokens * 0.6e-6


def test_lengths_by_role() -> None:
    """Lengths measured for a role replace the profile's own."""
    measured = attrs.evolve(
        PROFILES["gpt-4o-mini"], roles={"task": Lengths((100,), (10,)), "reflection": Lengths((1000,), (500,))}
    )
    found = foreseen(scene=Scene.of_world(SMALL), profiles={"task": measured, "reflection": measured}, minutes=1)
    done = found.prompt_tokens / 100  # a reflection counts as ten
    reflections = (found.reply_tokens - 10 * done) / 400
    assert reflections == pytest.approx(round(reflections))
    assert found.usd == pytest.approx(found.prompt_tokens * 0.15e-6 + found.reply_tokens * 0.6e-6)


def test_the_score_of_the_world_is_followed() -> None:
    """The score rises over time, and a target has the moment at which it was first reached."""
    found = foreseen(minutes=5)
    assert found.score is not None
    assert found.score > found.curve[0].score
    first = found.reached(found.score)
    assert first is not None
    assert first.seconds <= 300
    assert found.reached(1.1) is None


@pytest.mark.parametrize("graph", ["ace", "combee", "combee:ace_graph"])
def test_other_graphs_of_prompts(graph: str) -> None:
    """Graphs of prompts run on the world, or on stand-ins, and admit artifacts."""
    spec = load_graph(graph).spec
    profiles = {s.model: PROFILES["vllm"] for s in spec.stages if s.model}
    found = foreseen(graph=graph, profiles=profiles, minutes=2)
    assert found.calls > 50
    assert found.accepted > 3


def test_a_graph_of_ones_own_is_judged_too() -> None:
    """The artifacts of `examples/beam` are candidates without named texts, and are scored too."""
    beam = str(Path(__file__).parents[2] / "examples" / "beam" / "beam.py")
    found = foreseen(graph=beam, minutes=5)
    assert found.score is not None
    assert found.score > found.curve[0].score > 0


def test_artifacts_without_texts_have_no_score() -> None:
    """Artifacts without texts have no score, but still a forecast."""
    truth = Scene.of_world(SMALL).truth
    assert truth is not None
    assert truth(("no", "texts")) is None
    assert truth({"instruction": "R1!"}) == SMALL.true_score("R1!")


def test_a_users_task_with_stand_ins(tmp_path: Path) -> None:
    """A user's task keeps its real prompts, and the pass rate of its stand-in answers changes what is accepted."""
    (tmp_path / "task.py").write_text(
        "import flashgraph as fg\n"
        "task = fg.Task('mine', train=[f'{n} a long question ' * 200 for n in range(9)], val=list('abcdefghi'),\n"
        "    score=lambda sample, output: 1 / 0)\n"
    )
    task = str(tmp_path / "task.py")
    half, none = foreseen(task=task), foreseen(task=task, pass_rate=0)
    assert half.prompt_tokens / half.calls > 100
    assert half.accepted > none.accepted == 1
    assert half.score is None


def test_graphs_that_run_code_are_refused() -> None:
    """A graph that runs code is refused, because a sandbox takes real time."""
    with pytest.raises(fg.DataError, match=r"runs code \(it uses the resource sandbox\), which takes real time"):
        foreseen(graph="islands", profiles={"proposer": PROFILES["vllm"]})


def test_a_role_needs_a_profile() -> None:
    with pytest.raises(fg.DataError, match="calls the model 'reflection', which has no profile"):
        foreseen(profiles={"task": PROFILES["vllm"]})


def test_short_names() -> None:
    """``alpha`` and ``workers`` stand for the settings of all edges and stages that they apply to."""
    spec = load_graph("gepa").spec
    early = ("baseline", "validate", "measure")
    halves = {f"{name}->frontier.release": "fraction(0.5)" for name in early}
    assert expanded(spec, {"alpha": "0.5", "window": "3"}) == {**halves, "window": "3"}
    calling = ("baseline", "rollout", "propose", "trial", "validate", "measure", "rebase")
    assert expanded(spec, {"workers": "4"}) == {f"{name}.workers": "4" for name in calling}
    with pytest.raises(fg.DataError, match="has no edge to a pool with a release"):
        expanded(load_graph("ace").spec, {"alpha": "0.5"})


def test_schedule_and_limit_are_settings_too() -> None:
    """The schedule and the limit are settings, so that a sweep can vary them."""
    base = Simulation("gepa", VLLM)
    changed = base.with_settings({"schedule": "lockstep", "limit": "16", "window": "4"})
    assert (changed.schedule, changed.limit, changed.settings) == ("lockstep", 16, {"window": "4"})
    with pytest.raises(fg.DataError, match="limit=0; expected a whole number"):
        base.with_settings({"limit": "0"})
