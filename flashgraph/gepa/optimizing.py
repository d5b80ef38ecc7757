"""`gepa.optimize`, with flashgraph's schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import gepa
from gepa.strategies.instruction_proposal import InstructionProposalSignature
from gepa.utils import stop_condition as stops

from flashgraph.api import run
from flashgraph.errors import DataError, FlashgraphError
from flashgraph.gepa.adapters import adapter_task, own_task, rewriting
from flashgraph.gepa.result import optimized
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.resolve import FORMS, FUNCTION_FILE
from flashgraph.run.budget import Budget
from flashgraph.tasks.workers import run_in

__all__ = ["install", "optimize"]

SELECTION = {"pareto": "pareto", "current_best": "best", "epsilon_greedy": "epsilon_greedy", "top_k_pareto": "top_k"}

PACKAGE = gepa.optimize
"""The package's own function, also after `install`."""

LOCKSTEP_ONLY: Mapping[str, Any] = {
    "batch_sampler": "epoch_shuffled",
    "callbacks": None,
    "reflection_strategy": None,
    "sampling_strategy": None,
    "selection_strategy": None,
    "use_mlflow": False,
    "use_wandb": False,
    "val_evaluation_policy": None,
}
"""Options that the package alone has, and the value that leaves each out."""

IGNORED = frozenset(
    (
        "cache_evaluation",
        "display_progress_bar",
        "logger",
        "mlflow_attach_existing",
        "mlflow_experiment_name",
        "mlflow_tracking_uri",
        "raise_on_exception",
        "tracking_key_prefix",
        "track_best_outputs",
        "use_cloudpickle",
        "wandb_api_key",
        "wandb_attach_existing",
        "wandb_init_kwargs",
    )
)
"""Options without a meaning here: equal texts are evaluated once anyway, and the run's journal keeps everything."""


def optimize(
    seed_candidate: dict[str, str],
    trainset: Any,
    valset: Any = None,
    adapter: Any = None,
    task_lm: Any = None,
    evaluator: Any = None,
    reflection_lm: Any = None,
    reflection_lm_kwargs: dict[str, Any] | None = None,
    candidate_selection_strategy: Any = "pareto",
    frontier_type: Any = "instance",
    skip_perfect_score: bool = True,
    reflection_minibatch_size: int | None = None,
    perfect_score: float = 1.0,
    reflection_prompt_template: str | dict[str, str] | None = None,
    custom_candidate_proposer: Any = None,
    module_selector: Any = "round_robin",
    use_merge: bool = False,
    max_merge_invocations: int = 5,
    merge_val_overlap_floor: int = 5,
    max_metric_calls: int | None = None,
    max_reflection_cost: float | None = None,
    stop_callbacks: Any = None,
    run_dir: str | None = None,
    seed: int = 0,
    acceptance_criterion: Any = "strict_improvement",
    *,
    schedule: Any = "pipelined",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    workers: int = 32,
    **options: Any,
) -> Any:
    """Optimize the texts of ``seed_candidate`` as `gepa.optimize` does, and return its `GEPAResult`.

    Three options are flashgraph's own.  ``schedule="lockstep"`` hands everything to the package.  With finite
    ``bounds`` of scores, a run gives up early on candidates that cannot pass.  An adapter evaluates at most ``workers``
    samples at once.  ``task_lm`` and ``reflection_lm`` may also be flashgraph's model strings.  ``run_dir`` holds the
    run's journal: a call with the same folder resumes the run.

    Raises what the package raises for wrong arguments, `DataError` for an option that only ``schedule="lockstep"`` has,
    and `FlashgraphError` for a run without any candidate.
    """
    own = ("schedule", "bounds", "workers", "options")
    given = {name: value for name, value in locals().items() if name not in (*own, "own")}
    if schedule == "lockstep":
        return PACKAGE(**given, **options)
    _check(given, options)
    template = reflection_prompt_template
    for text in template.values() if isinstance(template, dict) else [template]:
        InstructionProposalSignature.validate_prompt_template(text)
    train, val = _listed(trainset), _listed(trainset if valset is None else valset)
    if adapter is None:
        task = own_task(seed_candidate, train, val, evaluator, bounds, workers)
        task_model = _model(task_lm, {}, workers)
        task = attrs.evolve(task, rewrite=rewriting(None, template, custom_candidate_proposer))
    else:
        task = adapter_task(
            adapter, train, val, seed_candidate, template=template, proposer=custom_candidate_proposer,
            bounds=bounds, workers=workers,
        )  # fmt: skip
        task_model = FunctionModel(_unused, limit=workers)
    reflection: Any = FunctionModel(_unused)
    if reflection_lm is not None:
        reflection = _model(reflection_lm, reflection_lm_kwargs or {}, workers)
    limits, target, patience = _limits(stop_callbacks, max_metric_calls, max_reflection_cost)
    folder = None if run_dir is None else Path(run_dir)
    result = run(
        "gepa",
        task,
        models={"task": task_model, "reflection": reflection},
        schedule=schedule,
        seed=seed,
        budget=Budget(**limits),
        target_score=target,
        patience=patience,
        folder=folder,
        resume=folder is not None and (folder / "journal.db").exists(),
        params={
            "minibatch": reflection_minibatch_size or 3,
            "perfect_score": perfect_score if skip_perfect_score else None,
            "acceptance": acceptance_criterion,
            "components": module_selector,
            "frontier": frontier_type,
            "selection": SELECTION[candidate_selection_strategy],
            "merge": use_merge,
            "max_merge_invocations": max_merge_invocations,
            "merge_val_overlap_floor": merge_val_overlap_floor,
        },
    )
    return optimized(result, run_dir, seed)


def install() -> None:
    """Let `gepa.optimize` be flashgraph's `optimize`, for libraries that call it themselves."""
    gepa.optimize = optimize


async def _unused(messages: Any) -> str:
    raise FlashgraphError("the adapter makes its own calls, and there is no reflection_lm")


def _model(given: Any, sampling: Mapping[str, Any], workers: int) -> Any:
    """Return flashgraph's model for one of the package: a LiteLLM name, or a function that blocks."""
    if isinstance(given, str):
        known = given.partition(":")[0].partition("?")[0] in FORMS
        return given if known or FUNCTION_FILE.fullmatch(given) else f"litellm:{given}"

    async def ask(messages: Any) -> Any:
        one = len(messages) == 1 and messages[0]["role"] == "user"
        prompt = messages[0]["content"] if one else list(messages)
        return await run_in("thread", workers, partial(given, prompt, **sampling))

    async def chat(messages: Any) -> Any:
        return await run_in("thread", workers, given, list(messages))

    return FunctionModel(ask if sampling or _takes_prompts(given) else chat, limit=workers)


def _takes_prompts(function: Any) -> bool:
    """Return whether a function is a reflection model, which gets a prompt, and no chat model."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return True
    return not names or names[0] != "messages"


def _check(given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise as the package does for wrong arguments, and `DataError` for options that lockstep alone has."""
    if not given["seed_candidate"]:
        raise ValueError("seed_candidate must contain at least one component text.")
    if given["adapter"] is None and given["task_lm"] is None:
        raise AssertionError(
            "Since no adapter is provided, GEPA requires a task LM to be provided. Please set the `task_lm` parameter."
        )
    for name in ("task_lm", "evaluator"):
        if given["adapter"] is not None and given[name] is not None:
            raise AssertionError(f"Since an adapter is provided, GEPA does not require {name}. Please set it to None.")
    proposer = given["custom_candidate_proposer"] or getattr(given["adapter"], "propose_new_texts", None)
    if proposer is None and given["reflection_lm"] is None and options.get("reflection_strategy") is None:
        raise AssertionError("reflection_lm was not provided, and nothing else proposes new texts.")
    named = {"candidate_selection_strategy": SELECTION, "module_selector": ("round_robin", "all")}
    for name, known in named.items():
        if given[name] not in known and isinstance(given[name], str):
            kind = ValueError if name == "candidate_selection_strategy" else AssertionError
            raise kind(f"Unknown {name}: {given[name]}. Supported: {', '.join(map(repr, known))}")
    for name in options:
        if name not in LOCKSTEP_ONLY and name not in IGNORED:
            raise TypeError(f"optimize() got an unexpected keyword argument {name!r}")
    own = {name: given[name] for name in (*named, "acceptance_criterion")}
    other = [name for name, value in own.items() if not isinstance(value, str)]
    absent = {name: (value, "full_eval") for name, value in LOCKSTEP_ONLY.items()}
    other += [name for name, value in options.items() if name in absent and value not in absent[name]]
    if other:
        raise DataError(
            f"flashgraph.gepa.optimize({other[0]}=...): the pipelined schedule has no such option.\n"
            "Fix: schedule='lockstep', which is the gepa package itself, or leave it out."
        )


def _limits(
    given: Any, metric_calls: int | None, cost: float | None
) -> tuple[dict[str, Any], float | None, int | None]:
    """Return the budget, the target score and the patience that stop conditions of the package stand for."""
    limits: dict[str, Any] = {"evaluations": metric_calls, "usd": cost}
    target: float | None = None
    patience: int | None = None
    stoppers = [] if given is None else list(given) if isinstance(given, Sequence) else [given]
    while stoppers:
        match stoppers.pop(0):
            case stops.MaxMetricCallsStopper(max_metric_calls=most):
                limits["evaluations"] = most
            case stops.MaxCandidateProposalsStopper(max_proposals=most):
                limits["proposals"] = most
            case stops.MaxReflectionCostStopper(max_reflection_cost_usd=most):
                limits["usd"] = most
            case stops.TimeoutStopCondition(timeout_seconds=most):
                limits["seconds"] = most
            case stops.ScoreThresholdStopper(threshold=score):
                target = score
            case stops.NoImprovementStopper(max_iterations_without_improvement=most):
                patience = most
            case stops.SignalStopper():
                pass  # Ctrl-C ends every run, and what it has found is kept
            case stops.CompositeStopper(mode="any", stoppers=several):
                stoppers.extend(several)
            case other:
                raise DataError(
                    f"flashgraph.gepa.optimize(stop_callbacks=...): {type(other).__name__} is not known here.\n"
                    "Fix: schedule='lockstep', or a stop condition of gepa.utils."
                )
    if all(limit is None for limit in limits.values()) and target is None and patience is None:
        raise ValueError(
            "The user must provide at least one of stop_callbacks, max_metric_calls, or max_reflection_cost to specify "
            "a stopping condition."
        )
    return limits, target, patience


def _listed(data: Any) -> list[Any]:
    """Return the samples of a list, or of a loader of the package."""
    return data.fetch(list(data.all_ids())) if hasattr(data, "all_ids") else list(data)
