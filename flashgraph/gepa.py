"""`gepa.optimize` on flashgraph's scheduler: change one import, and the calls overlap.

    from flashgraph.gepa import optimize        # was: from gepa import optimize

The extra ``gepa`` installs the `gepa` package (0.1.4), whose adapters, templates and results are used as they are.
``schedule="lockstep"`` is the package itself.  Other schedules run flashgraph's GEPA graph.  It asks the adapter for
one sample at a time, in threads, and decides before the slowest sample is in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import attrs

from flashgraph.api import run
from flashgraph.errors import DataError, FlashgraphError
from flashgraph.extras import require
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.resolve import FORMS
from flashgraph.parts.evaluation import Attempt
from flashgraph.run.budget import Budget
from flashgraph.run.events import JobEnded
from flashgraph.run.result import Result, ResultArtifact
from flashgraph.tasks.task import Score, Task
from flashgraph.tasks.trace import FEEDBACK, Trace

require("gepa", "flashgraph.gepa")

import gepa  # noqa: E402
from gepa.core.result import GEPAResult  # noqa: E402
from gepa.strategies.instruction_proposal import InstructionProposalSignature  # noqa: E402
from gepa.utils import stop_condition as stops  # noqa: E402

__all__ = ["Optimized", "adapter_task", "install", "optimize"]

PACKED = "JSON"
"""The heading of a record that is more than texts under headings."""

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


class Optimized(GEPAResult[Any, Any]):  # type: ignore[misc]  # the package has no types
    """The package's result.  ``run`` is flashgraph's own; ``best_idx`` is its champion.

    ``val_aggregate_scores`` are means for candidates that were tried on all samples, and estimates for others. Paired
    comparisons choose the champion, so another candidate may have a greater estimate.
    """

    run: Result
    champion: int

    @property
    def best_idx(self) -> int:
        return self.champion


@attrs.frozen
class _Evaluated:
    """An adapter's output and score for one sample."""

    output: Any
    score: float
    feedback: str
    objectives: Mapping[str, float]

    def __str__(self) -> str:
        return str(self.output)


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
        task = _own_task(seed_candidate, train, val, evaluator, bounds, workers)
        task_model = _model(task_lm, {}, workers)
        task = attrs.evolve(task, rewrite=_rewriting(None, template, custom_candidate_proposer))
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
    return _optimized(result, run_dir, seed)


def install() -> None:
    """Let `gepa.optimize` be flashgraph's `optimize`, for libraries that call it themselves."""
    gepa.optimize = optimize


def adapter_task(
    adapter: Any,
    trainset: Sequence[Any],
    valset: Sequence[Any],
    seed_candidate: Mapping[str, str],
    *,
    template: str | Mapping[str, str] | None = None,
    proposer: Callable[..., Mapping[str, str]] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    workers: int = 32,
) -> Task[Any, Any]:
    """Return a task that evaluates samples with an adapter of the `gepa` package, for any algorithm.

    The adapter gets one sample at a time, from up to ``workers`` threads at once.  It makes its own model calls, so a
    run with such a task counts evaluations and not calls.  Its reflective records fill ``template``, as in the package,
    or go to its own ``propose_new_texts`` or to ``proposer``.
    """

    def attempt(candidate: Mapping[str, str], sample: Any, llm: Any, trace: Trace) -> _Evaluated:
        found = adapter.evaluate([sample], dict(candidate), capture_traces=True)
        said = ""
        for component, records in adapter.make_reflective_dataset(dict(candidate), found, list(candidate)).items():
            for record in records:
                trace.add(component, _packed(record))
                said = str(record.get(FEEDBACK, said)) if isinstance(record, Mapping) else said
        objectives = (found.objective_scores or [{}])[0] or {}
        return _Evaluated(found.outputs[0], float(found.scores[0]), said, objectives)

    def score(sample: Any, found: _Evaluated) -> Score:
        return Score(found.score, found.feedback, found.objectives)

    return Task(
        type(adapter).__name__, trainset, valset, seed=seed_candidate, attempt=attempt, score=score, bounds=bounds,
        workers=workers, rewrite=_rewriting(getattr(adapter, "propose_new_texts", None), template, proposer),
    )  # fmt: skip


def _own_task(
    seed: Mapping[str, str], train: Sequence[Any], val: Sequence[Any], evaluator: Any, bounds: Any, workers: int
) -> Task[Any, Any]:
    """Return the task of the package's `DefaultAdapter`, whose calls are the run's own."""
    from gepa.adapters.default_adapter.default_adapter import ContainsAnswerEvaluator

    judge = evaluator or ContainsAnswerEvaluator()

    async def attempt(candidate: Mapping[str, str], sample: Any, llm: Any, trace: Trace) -> str:
        system = {"role": "system", "content": next(iter(candidate.values()))}
        text = str((await llm([system, {"role": "user", "content": f"{sample['input']}"}])).text)
        trace.record(next(iter(candidate)), sample["input"], text)
        return text

    def score(sample: Any, text: str) -> Score:
        found = judge(sample, text)
        return Score(found.score, found.feedback, found.objective_scores or {})

    return Task("gepa", train, val, seed=seed, attempt=attempt, score=score, bounds=bounds, workers=workers)


def _rewriting(own: Any, template: Any, proposer: Any) -> Callable[..., Any]:
    """Return the `Task.rewrite` of the package: a proposer's texts, or a prompt of its template for each component."""
    if own is not None and proposer is not None:
        raise ValueError(
            "Cannot provide both adapter.propose_new_texts and custom_candidate_proposer. "
            "Please use only one custom proposal method."
        )
    chosen = own or proposer

    async def rewrite(
        llm: Any, candidate: Mapping[str, str], components: Sequence[str], attempts: Sequence[Attempt]
    ) -> Mapping[str, str]:
        data = {name: [_unpacked(r, a) for a in attempts for r in a.records.get(name, ())] for name in components}
        if chosen is not None:
            found: Mapping[str, str] = await anyio.to_thread.run_sync(chosen, dict(candidate), data, list(components))
            return found
        new = {}
        for name in components:
            prompt = InstructionProposalSignature.prompt_renderer(
                {
                    "current_instruction_doc": candidate[name],
                    "dataset_with_feedback": data[name],
                    "prompt_template": template.get(name) if isinstance(template, Mapping) else template,
                }
            )
            reply = (await llm(prompt)).usable()
            new[name] = InstructionProposalSignature.output_extractor(reply)["new_instruction"]
        return new

    return rewrite


def _packed(record: Any) -> Mapping[str, str]:
    """Return a record as texts, which a journal can keep."""
    if isinstance(record, Mapping) and all(isinstance(text, str) for text in record.values()):
        return record
    return {PACKED: json.dumps(record, default=str)}


def _unpacked(record: Mapping[str, str], attempt: Attempt) -> Any:
    if set(record) == {PACKED}:
        return json.loads(record[PACKED])
    return record if FEEDBACK in record else {**record, FEEDBACK: attempt.feedback}


async def _unused(messages: Any) -> str:
    raise FlashgraphError("the adapter makes its own calls, and there is no reflection_lm")


def _model(given: Any, sampling: Mapping[str, Any], workers: int) -> Any:
    """Return flashgraph's model for one of the package: a LiteLLM name, or a function that blocks."""
    if isinstance(given, str):
        known = given.partition(":")[0].partition("?")[0] in FORMS
        return given if known or given.endswith(".py") else f"litellm:{given}"

    async def ask(messages: Any) -> str:
        one = len(messages) == 1 and messages[0]["role"] == "user"
        prompt = messages[0]["content"] if one else list(messages)
        return str(await anyio.to_thread.run_sync(lambda: given(prompt, **sampling)))

    async def chat(messages: Any) -> str:
        return str(await anyio.to_thread.run_sync(lambda: given(list(messages))))

    return FunctionModel(ask if sampling or _takes_prompts(given) else chat, limit=workers)


def _takes_prompts(function: Any) -> bool:
    """Return whether a function is a reflection model, which gets a prompt, and no chat model."""
    import inspect

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


def _optimized(result: Result, run_dir: str | None, seed: int) -> Optimized:
    """Return a run's result as the package's."""
    held = [a for a in result.artifacts if a.pool == "frontier" and not a.retracted and a.score is not None]
    if result.best is None or not held:
        raise FlashgraphError(f"no candidate was admitted: {result.reason}")
    number = {artifact.id: index for index, artifact in enumerate(held)}
    best: dict[int, set[int]] = {}
    for sample in sorted({sample for artifact in held for sample in artifact.scores}):
        known = {number[a.id]: a.scores[sample] for a in held if sample in a.scores}
        best[sample] = {index for index, score in known.items() if score == max(known.values())}
    tried = sorted(e.at for e in result.events if isinstance(e, JobEnded) and e.stage in EVALUATING)
    made = Optimized(
        candidates=[dict(a.value) for a in held],
        parents=[[number.get(parent) for parent in a.parents] or [None] for a in held],
        val_aggregate_scores=[_average(a) for a in held],
        val_subscores=[dict(a.scores) for a in held],
        per_val_instance_best_candidates=best,
        discovery_eval_counts=[sum(at <= a.at for at in tried) for a in held],
        total_metric_calls=result.spent.evaluations,
        num_full_val_evals=sum(a.evidence is None or a.evidence.complete for a in held),
        run_dir=run_dir,
        seed=seed,
    )
    object.__setattr__(made, "run", result)
    object.__setattr__(made, "champion", number[result.best.id])
    return made


def _average(artifact: ResultArtifact) -> float:
    """Return the mean of an artifact's scores if it was tried on all samples, else its estimate."""
    known = artifact.evidence
    return float(artifact.score or 0.0) if known is None or not known.complete else float(known.mean)


EVALUATING = ("baseline", "rollout", "trial", "validate", "measure")
"""The stages of the graph whose jobs are metric calls."""
