"""`gepa.optimize`, with flashgraph's schedules."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial, wraps
from pathlib import Path
from types import FunctionType, ModuleType
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
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.tasks.workers import run_in

__all__ = ["Installed", "install", "optimize", "uninstall"]

SELECTION = {"pareto": "pareto", "current_best": "best", "epsilon_greedy": "epsilon_greedy", "top_k_pareto": "top_k"}

PACKAGE = gepa.optimize
"""The package's own function, also after `install`."""

STRATEGIES: Mapping[str, tuple[str, Collection[str], str, type[Exception]]] = {
    "candidate_selection_strategy": ("candidate_selector strategy", SELECTION, "select_candidate_idx", ValueError),
    "module_selector": ("module_selector strategy", ("round_robin", "all"), "__call__", AssertionError),
    "acceptance_criterion": (
        "acceptance_criterion", ("strict_improvement", "improvement_or_equal"), "should_accept", ValueError,
    ),
}  # fmt: skip
"""Each strategy with a name: the package's word for it, its names, its method, and the error for an unknown name."""

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


def optimize(
    *args: Any,
    schedule: Any = "pipelined",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    workers: int = 32,
    **options: Any,
) -> Any:
    """Optimize texts as `gepa.optimize` does, with its arguments, and return its `GEPAResult`.

    Three options are flashgraph's own.  ``schedule="lockstep"`` hands everything to the package.  With finite
    ``bounds`` of scores, a run gives up early on candidates that cannot pass.  An adapter evaluates at most ``workers``
    samples at once.  ``task_lm`` and ``reflection_lm`` may also be flashgraph's model strings.  ``run_dir`` holds the
    run's journal: a call with the same folder resumes the run.  Options for logs and caches have no effect,
    because the journal keeps everything and equal texts are evaluated once.

    Raises what the package raises for wrong arguments, `DataError` for an option that only ``schedule="lockstep"`` has,
    and `FlashgraphError` for a run without any candidate.
    """
    if schedule == "lockstep":
        return PACKAGE(*args, **options)
    bound = inspect.signature(PACKAGE).bind(*args, **options)
    bound.apply_defaults()
    given = bound.arguments
    _check(given)
    template, proposer = given["reflection_prompt_template"], given["custom_candidate_proposer"]
    for text in template.values() if isinstance(template, dict) else [template]:
        InstructionProposalSignature.validate_prompt_template(text)
    seed_candidate, valset = given["seed_candidate"], given["valset"]
    train = _listed(given["trainset"])
    val = train if valset is None else _listed(valset)
    if given["adapter"] is None:
        task = own_task(seed_candidate, train, val, given["evaluator"], bounds, workers)
        task = attrs.evolve(task, rewrite=rewriting(None, template, proposer))
        task_model = _model(given["task_lm"], {}, workers)
    else:
        task = adapter_task(
            given["adapter"], train, val, seed_candidate, template=template, proposer=proposer, bounds=bounds,
            workers=workers,
        )  # fmt: skip
        task_model = FunctionModel(_unused, limit=workers)
    reflection: Any = FunctionModel(_unused)
    if given["reflection_lm"] is not None:
        reflection = _model(given["reflection_lm"], given["reflection_lm_kwargs"] or {}, workers)
    limits, target, patience = _limits(given)
    run_dir = given["run_dir"]
    result = run(
        "gepa",
        task,
        models={"task": task_model, "reflection": reflection},
        schedule=schedule,
        seed=given["seed"],
        budget=Budget(**limits),
        target_score=target,
        patience=patience,
        folder=run_dir,
        resume=run_dir is not None and (Path(run_dir) / JOURNAL).exists(),
        params={
            "minibatch": given["reflection_minibatch_size"] or 3,
            "perfect_score": given["perfect_score"] if given["skip_perfect_score"] else None,
            "acceptance": given["acceptance_criterion"],
            "components": given["module_selector"],
            "frontier": given["frontier_type"],
            "selection": SELECTION[given["candidate_selection_strategy"]],
            "merge": given["use_merge"],
            "max_merge_invocations": given["max_merge_invocations"],
            "merge_val_overlap_floor": given["merge_val_overlap_floor"],
        },
    )
    return optimized(result, run_dir, given["seed"])


def _signature() -> inspect.Signature:
    """Return the package's parameters, and behind them flashgraph's own."""
    own = [p for p in inspect.signature(optimize).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return inspect.Signature([*inspect.signature(PACKAGE).parameters.values(), *own])


optimize.__signature__ = _signature()  # type: ignore[attr-defined]  # `help` and editors read it


class Installed(AbstractContextManager["Installed"]):
    """The state after `install`; as a context manager it calls `uninstall` at its end."""

    def __exit__(self, *raised: object) -> None:
        uninstall()


def install(schedule: Any = "pipelined", **own: Any) -> Installed:
    """Let `gepa.optimize` be flashgraph's `optimize`, for libraries that call it themselves.

    It replaces the function in every loaded module that holds it, so the order of imports does not matter.
    ``schedule`` and ``own`` (``bounds``, ``workers``) hold for calls that do not give them.  A second `install`
    replaces the first.  ``with install(...):`` puts the package's function back at the end, as `uninstall` does.

    Raises TypeError for an option that is not flashgraph's own.
    """
    if unknown := sorted(set(own) - {"bounds", "workers"}):
        raise TypeError(
            f"flashgraph.gepa.install({unknown[0]}=...): expected schedule, bounds or workers.\n"
            f"Fix: give {unknown[0]} to the call of gepa.optimize."
        )

    @wraps(optimize)
    def installed(*args: Any, **options: Any) -> Any:
        return optimize(*args, **{"schedule": schedule, **own, **options})

    installed.__flashgraph__ = True  # type: ignore[attr-defined]  # `_replace` knows an earlier one by it
    _replace(installed)
    return Installed()


def uninstall() -> None:
    """Put the package's own `gepa.optimize` back; without an `install` before it, nothing changes."""
    _replace(PACKAGE)


def _replace(function: Callable[..., Any]) -> None:
    """Replace `gepa.optimize` in every module that holds it, under any name.

    Flashgraph's own modules keep theirs: lockstep calls `PACKAGE`.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "flashgraph" or not isinstance(module, ModuleType):
            continue
        for key, value in list(vars(module).items()):
            if value is PACKAGE or (isinstance(value, FunctionType) and getattr(value, "__flashgraph__", False)):
                setattr(module, key, function)


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


def _check(given: Mapping[str, Any]) -> None:
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
    if proposer is None and given["reflection_lm"] is None and given["reflection_strategy"] is None:
        raise AssertionError("reflection_lm was not provided, and nothing else proposes new texts.")
    _check_strategies(given)
    other = [name for name in STRATEGIES if not isinstance(given[name], str)]
    other += [name for name, value in LOCKSTEP_ONLY.items() if given[name] not in (value, "full_eval")]
    if given["adapter"] is None and given["max_reflection_cost"] is not None:
        other.append("max_reflection_cost")  # a budget of money counts the task's calls too
    if other:
        raise DataError(
            f"flashgraph.gepa.optimize({other[0]}=...): the pipelined schedule has no such option.\n"
            "Fix: schedule='lockstep', which is the gepa package itself, or leave it out."
        )


def _check_strategies(given: Mapping[str, Any]) -> None:
    """Raise as the package does for unknown names, objects of the wrong kind and pairs that exclude each other."""
    for name, (shown, known, method, kind) in STRATEGIES.items():
        value = given[name]
        if isinstance(value, str) and value not in known:
            raise kind(f"Unknown {shown}: {value}. Supported strategies: {', '.join(map(repr, known))}")
        if not isinstance(value, str) and not hasattr(value, method):
            raise TypeError(f"{name} must be one of {', '.join(map(repr, known))}, or an object with {method}.")
    if given["batch_sampler"] != "epoch_shuffled" and given["reflection_minibatch_size"] is not None:
        raise AssertionError("reflection_minibatch_size only accepted if batch_sampler is 'epoch_shuffled'")
    strategy = given["reflection_strategy"]
    if strategy is not None and given["max_reflection_cost"] is not None and not hasattr(strategy, "total_cost"):
        raise ValueError("max_reflection_cost is set but reflection_strategy does not expose total_cost")


def _limits(given: Mapping[str, Any]) -> tuple[dict[str, Any], float | None, int | None]:
    """Return the budget, the target score and the patience that the stop conditions of a call stand for."""
    limits: dict[str, Any] = {"evaluations": given["max_metric_calls"], "usd": given["max_reflection_cost"]}
    target: float | None = None
    patience: int | None = None
    stop = given["stop_callbacks"]
    stoppers = [] if stop is None else list(stop) if isinstance(stop, Sequence) else [stop]
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
