"""`flashgraph.gepa`: the drop-in for `gepa.optimize`."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gepa
import gepa.api
import pytest
from gepa.utils import (
    MaxCandidateProposalsStopper,
    MaxMetricCallsStopper,
    NoImprovementStopper,
    ScoreThresholdStopper,
    TimeoutStopCondition,
)
from gepa.utils.stop_condition import CompositeStopper

import flashgraph as fg
from flashgraph.gepa import Optimized, install, optimize, uninstall
from flashgraph.gepa.adapters import _packed, _unpacked
from flashgraph.gepa.optimizing import PACKAGE, _limits, _model
from flashgraph.parts.clipping import clipped
from flashgraph.parts.evaluation import KEPT_CHARACTERS, Attempt
from flashgraph.run.events import Released

RULES = ("be brief", "cite", "use metres")
SEED = {"system": "Answer.", "style": "Plain."}
DATA = [{"needs": rule} for rule in RULES for _ in range(4)]


class Adapter:
    """A sample passes where the candidate has the rule that it needs; the feedback names the rule."""

    propose_new_texts: Any = None

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def evaluate(self, batch: Sequence[Any], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        self.batches.append(len(batch))
        self.threads.add(threading.get_ident())
        scores = [float(sample["needs"] in " ".join(candidate.values())) for sample in batch]
        return gepa.EvaluationBatch(
            outputs=[f"answer by {sample['needs']}" for sample in batch],
            scores=scores,
            trajectories=[{"rule": sample["needs"]} for sample in batch] if capture_traces else None,
            objective_scores=[{"brevity": 1.0} for _ in batch],
        )

    def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: Sequence[str]) -> Any:
        return {
            name: [
                {"Inputs": {"rule": trace["rule"]}, "Feedback": f"RULE {trace['rule']}"}
                for trace in evaluated.trajectories
            ]
            for name in components
        }


def reflect(prompt: str) -> str:
    """Add the first rule of the feedback that the instruction lacks."""
    text = prompt.split("```")[1].strip()
    for line in prompt.splitlines():
        if line.startswith("RULE ") and line[5:] not in text:
            return f"```\n{text} {line[5:]}\n```"
    return f"```\n{text}\n```"


def found(**options: Any) -> Any:
    given = {"adapter": Adapter(), "reflection_lm": reflect, "max_metric_calls": 400, **options}
    return optimize(SEED, DATA, DATA, **given)


def test_the_adapter_is_evaluated_by_sample_in_threads() -> None:
    """The best candidate has learned the rules, and the result is the package's."""
    adapter = Adapter()
    result = found(adapter=adapter)
    assert isinstance(result, gepa.GEPAResult)
    assert set(adapter.batches) == {1}
    assert threading.get_ident() not in adapter.threads
    assert result.candidates[0] == SEED
    assert result.parents[0] == [None]
    assert result.val_aggregate_scores[result.best_idx] == 1.0
    assert all(rule in " ".join(result.best_candidate.values()) for rule in RULES)
    # An evaluation counts when it starts; a few are cancelled before the adapter gets them.
    assert len(adapter.batches) <= result.total_metric_calls <= 400
    assert result.num_val_instances == len(DATA)
    assert result.discovery_eval_counts == sorted(result.discovery_eval_counts)
    assert result.to_dict()["best_idx"] == result.best_idx


def test_lockstep_is_the_package() -> None:
    """The same arguments give the same result, call for call."""
    ours, theirs = Adapter(), Adapter()
    options: dict[str, Any] = {"reflection_lm": reflect, "max_metric_calls": 150, "seed": 3}
    one = optimize(SEED, DATA, DATA, adapter=ours, schedule="lockstep", **options)
    other = gepa.optimize(SEED, DATA, DATA, adapter=theirs, **options)
    assert one.to_dict() == other.to_dict()
    assert ours.batches == theirs.batches


def test_the_prompt_is_the_packages() -> None:
    """Nested records are rendered as the package renders them, and a template of one's own is filled."""
    prompts: list[str] = []

    def reflection(prompt: str) -> str:
        prompts.append(prompt)
        return reflect(prompt)

    found(reflection_lm=reflection, max_metric_calls=60)
    assert prompts[0].startswith("I provided an assistant with the following instructions")
    assert "## Inputs\n### rule\n" in prompts[0]
    template = "Improve ```<curr_param>``` by\n<side_info>"
    found(reflection_lm=reflection, reflection_prompt_template=template, max_metric_calls=60)
    assert prompts[-1].startswith("Improve ```")


@pytest.mark.parametrize("whose", ["adapter", "argument"])
def test_a_proposer_of_ones_own(whose: str) -> None:
    """It gets the whole candidate, the records and the components."""
    seen: list[Any] = []

    def propose(candidate: Any, data: Any, components: Any) -> dict[str, str]:
        seen.append((candidate, data, components))
        return {name: candidate[name] + " " + data[name][0]["Feedback"].removeprefix("RULE ") for name in components}

    adapter = Adapter()
    options: dict[str, Any] = {"custom_candidate_proposer": propose}
    if whose == "adapter":
        adapter.propose_new_texts, options = propose, {}
    result = found(adapter=adapter, reflection_lm=None, **options)
    assert result.val_aggregate_scores[result.best_idx] == 1.0
    candidate, data, components = seen[0]
    assert candidate == SEED
    assert list(data) == components
    assert data[components[0]][0]["Inputs"]["rule"] in RULES


def test_without_an_adapter() -> None:
    """The model answers the default task, whose calls are the run's own."""

    def answer(messages: Any) -> str:
        return "blue" if "colour" in messages[0]["content"] else "?"

    data = [{"input": f"sky {n}", "additional_context": {"hint": "colour"}, "answer": "blue"} for n in range(5)]
    result = optimize(
        {"system": "Answer."}, data, task_lm=answer, reflection_lm=lambda prompt: "```\nSay the colour.\n```",
        max_metric_calls=100,
    )  # fmt: skip
    assert result.best_candidate == {"system": "Say the colour."}
    assert result.run.spent.calls > 0


def test_a_run_dir_is_resumed(tmp_path: Path) -> None:
    one = found(run_dir=str(tmp_path / "run"), max_metric_calls=40)
    two = found(run_dir=str(tmp_path / "run"), max_metric_calls=400)
    assert two.candidates[: len(one.candidates)] == one.candidates
    assert two.total_metric_calls > one.total_metric_calls


@pytest.mark.parametrize(
    ("stop", "status", "cause"),
    [
        (MaxMetricCallsStopper(30), "budget", "evaluations"),
        (MaxCandidateProposalsStopper(2), "budget", "proposals"),
        ([ScoreThresholdStopper(0.2), MaxMetricCallsStopper(900)], "stopped", "target"),
        ([NoImprovementStopper(3), MaxMetricCallsStopper(900)], "stopped", "patience"),
        (CompositeStopper(MaxMetricCallsStopper(30), NoImprovementStopper(99)), "budget", "evaluations"),
    ],
)
def test_stop_conditions(stop: Any, status: str, cause: str) -> None:
    result = found(
        stop_callbacks=stop,
        max_metric_calls=None,
        reflection_lm=reflect if cause != "patience" else lambda p: "```\nno\n```",
    )
    assert (result.run.status, str(result.run.cause)) == (status, cause)


def test_a_time_limit() -> None:
    """It becomes the budget's seconds; other conditions keep their places."""
    stop = CompositeStopper(TimeoutStopCondition(7), ScoreThresholdStopper(0.5))
    assert _limits({"stop_callbacks": stop, "max_metric_calls": 9, "max_reflection_cost": 1.5}) == (
        {"evaluations": 9, "usd": 1.5, "seconds": 7},
        0.5,
        None,
    )


def test_the_arguments_are_the_packages() -> None:
    """In the same order, so that a call by position means the same; flashgraph's own come last, by name alone."""
    theirs = inspect.signature(PACKAGE).parameters
    ours = inspect.signature(optimize).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert {name: p.default for name, p in ours.items() if name in theirs} == {n: p.default for n, p in theirs.items()}
    assert set(ours) - set(theirs) == {"schedule", "bounds", "workers"}
    result = optimize(
        SEED, DATA, DATA, Adapter(), None, None, reflect, None, "current_best", "instance", False, "epoch_shuffled", 4,
        max_metric_calls=60,
    )  # fmt: skip
    sizes = {e.size for e in result.run.events if isinstance(e, Released) and e.edge == "rollout->propose"}
    assert sizes == {4}


class Never:
    def __call__(self, state: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_metric_calls": None}, ValueError, "must provide at least one of stop_callbacks"),
        ({"reflection_lm": None}, AssertionError, "reflection_lm was not provided"),
        ({"adapter": None}, AssertionError, "requires a task LM"),
        ({"task_lm": "x"}, AssertionError, "does not require task_lm"),
        ({"candidate_selection_strategy": "best"}, ValueError, "Unknown candidate_selector strategy: best"),
        ({"candidate_selection_strategy": 3}, TypeError, "must be one of 'pareto'.*select_candidate_idx"),
        ({"acceptance_criterion": "any"}, ValueError, "Unknown acceptance_criterion: any"),
        ({"acceptance_criterion": Never()}, TypeError, "must be one of 'strict_improvement'.*should_accept"),
        ({"batch_sampler": Never(), "reflection_minibatch_size": 3}, AssertionError, "only accepted if batch_sampler"),
        ({"batch_sampler": Never()}, fg.DataError, "batch_sampler=.*schedule='lockstep'"),
        ({"reflection_strategy": Never(), "max_reflection_cost": 1.0}, ValueError, "does not expose total_cost"),
        ({"module_selector": "one"}, AssertionError, "Unknown module_selector strategy: one"),
        ({"reflection_prompt_template": "x"}, ValueError, "Missing placeholder"),
        ({"callbacks": [Never()]}, fg.DataError, "callbacks=.*schedule='lockstep'"),
        ({"module_selector": Never()}, fg.DataError, "module_selector=.*schedule='lockstep'"),
        ({"stop_callbacks": Never()}, fg.DataError, "Never is not known here"),
        (
            {"adapter": None, "task_lm": "gpt-4o", "max_reflection_cost": 1.0},
            fg.DataError,
            "max_reflection_cost=.*schedule='lockstep'",
        ),
        ({"max_metric_cals": 3}, TypeError, "unexpected keyword argument 'max_metric_cals'"),
    ],
)
def test_mistakes(options: Any, error: Any, message: str) -> None:
    """Wrong arguments raise the package's errors; options of the package alone name the way out."""
    with pytest.raises(error, match=f"(?s){message}"):
        found(**options)
    with pytest.raises(ValueError, match="at least one component"):
        optimize({}, DATA, adapter=Adapter(), reflection_lm=reflect, max_metric_calls=1)


def is_ours(function: Any) -> bool:
    """Return whether a function is flashgraph's; `install` replaces every name for the package's, also here."""
    return hasattr(function, "__flashgraph__")


@pytest.fixture
def caller() -> Iterator[ModuleType]:
    """A library that has taken the function under a name of its own, before `install`."""
    module = ModuleType("caller")
    module.search = gepa.optimize  # type: ignore[attr-defined]
    sys.modules["caller"] = module
    yield module
    uninstall()
    del sys.modules["caller"]


OPTIONS: dict[str, Any] = {"adapter": Adapter(), "reflection_lm": reflect, "max_metric_calls": 60}


def test_install(caller: ModuleType) -> None:
    """Libraries that call `gepa.optimize` get flashgraph's, wherever they took it from; lockstep is the package."""
    install()
    assert gepa.optimize is gepa.api.optimize is caller.search
    assert isinstance(caller.search(SEED, DATA, **OPTIONS), Optimized)
    assert not isinstance(gepa.optimize(SEED, DATA, schedule="lockstep", **OPTIONS), Optimized)
    install("lockstep", workers=4)
    assert not isinstance(gepa.api.optimize(SEED, DATA, **OPTIONS), Optimized)
    assert isinstance(gepa.optimize(SEED, DATA, schedule="pipelined", **OPTIONS), Optimized)
    uninstall()
    uninstall()
    assert gepa.optimize is gepa.api.optimize is caller.search
    assert not is_ours(gepa.optimize)


def test_install_for_a_while(caller: ModuleType) -> None:
    """At the end of the block the package's function is back, also after an error."""
    with install("throughput"):
        assert is_ours(caller.search)
    assert not any(map(is_ours, (gepa.optimize, gepa.api.optimize, caller.search)))
    with pytest.raises(KeyError), install():
        raise KeyError(gepa.optimize)
    with pytest.raises(TypeError, match=r"install\(seed=\.\.\.\): expected schedule, bounds or workers"):
        install(seed=3)
    assert not is_ours(gepa.optimize)


@pytest.mark.parametrize("graph", ["gepa", "combee", "opro", "evoprompt", "self_refine"])
def test_an_adapter_serves_every_algorithm(graph: str) -> None:
    """`Task.from_gepa_adapter` is a task like any other, and without a ``valset`` the training set decides."""
    task = fg.Task.from_gepa_adapter(Adapter(), DATA, seed_candidate={"system": "Answer."}, bounds=(0, 1))
    assert list(task.val) == DATA
    answer = "```\nbe brief, cite\n```"
    result = fg.run(graph, task, models=lambda m: answer, budget=fg.Budget(evaluations=120, proposals=12))
    assert result.best is not None
    assert result.spent.evaluations > 0


@pytest.mark.parametrize(
    "record",
    [
        {"Feedback": "f", "Inputs": {"document": "z" * 100_000, "page": 7}},
        {"Feedback": "f", "Inputs": [str(n) for n in range(30_000)]},
        {"Feedback": "f", "Inputs": {(1, 2): 3}},
    ],
)
def test_long_and_odd_records_are_kept_in_part(record: Any) -> None:
    """A journal keeps 20,000 characters of a record, and what it keeps can still be read."""
    kept = _packed(record)
    assert all(isinstance(text, str) for text in kept.values())
    short = {name: clipped(text, KEPT_CHARACTERS) for name, text in kept.items()}
    shown = _unpacked(short, Attempt(0, 0.5, "", "f"))
    assert shown["Feedback"] == "f"
    assert len(str(shown)) < KEPT_CHARACTERS + 1000


def test_a_reflection_without_a_text_is_no_candidate() -> None:
    """None is not taken as the text "None", and `GeneratorExit` ends one proposal and not the run."""

    def raises(prompt: str) -> Any:
        raise GeneratorExit

    for lm in (lambda prompt: None, raises):
        result = found(reflection_lm=lm, max_metric_calls=30)
        assert [list(candidate.values()) for candidate in result.candidates] == [list(SEED.values())]


def test_strings_of_models() -> None:
    """A function in a file is flashgraph's own; other names are LiteLLM's."""
    assert _model("models.py:answer", {}, 1) == "models.py:answer"
    assert _model("gpt-4o", {}, 1) == "litellm:gpt-4o"
