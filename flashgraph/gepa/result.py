"""A run's result as the `gepa` package's."""

from __future__ import annotations

from typing import Any

from gepa.core.result import GEPAResult

from flashgraph.errors import FlashgraphError
from flashgraph.run.events import JobEnded
from flashgraph.run.result import Result, ResultArtifact

__all__ = ["Optimized", "optimized"]

EVALUATING = ("baseline", "rollout", "trial", "validate", "measure")
"""The stages of the graph whose jobs are metric calls."""


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


def optimized(result: Result, run_dir: str | None, seed: int) -> Optimized:
    """Return a run's result as the package's."""
    held = [
        a for a in result.artifacts if a.pool.split(".")[-1] == "frontier" and not a.retracted and a.score is not None
    ]
    if result.best is None or not held:
        raise FlashgraphError(f"no candidate was admitted: {result.reason}")
    number = {artifact.id: index for index, artifact in enumerate(held)}
    best: dict[int, set[int]] = {}
    for sample in sorted({sample for artifact in held for sample in artifact.scores}):
        known = {number[a.id]: a.scores[sample] for a in held if sample in a.scores}
        best[sample] = {index for index, score in known.items() if score == max(known.values())}
    tried = sorted(e.at for e in result.events if isinstance(e, JobEnded) and e.stage.split(".")[-1] in EVALUATING)
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
