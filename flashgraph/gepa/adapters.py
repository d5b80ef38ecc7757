"""Tasks of the `gepa` package's adapters and evaluators."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from gepa.strategies.instruction_proposal import InstructionProposalSignature

from flashgraph.parts.clipping import clipped
from flashgraph.parts.evaluation import KEPT_CHARACTERS, Attempt
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Task
from flashgraph.tasks.trace import FEEDBACK, Trace
from flashgraph.tasks.workers import run_in

__all__ = ["adapter_task", "own_task", "rewriting"]

PACKED = "JSON"
"""The heading of a record that is more than texts under headings."""

THREADS = 32
"""The most proposers that run at once."""


@attrs.frozen
class _Evaluated:
    """An adapter's output and score for one sample."""

    output: Any
    score: float
    feedback: str
    objectives: Mapping[str, float]

    def __str__(self) -> str:
        return str(self.output)


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
        workers=workers, rewrite=rewriting(getattr(adapter, "propose_new_texts", None), template, proposer),
    )  # fmt: skip


def own_task(
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


def rewriting(own: Any, template: Any, proposer: Any) -> Callable[..., Any]:
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
            found: Mapping[str, str] = await run_in("thread", THREADS, chosen, dict(candidate), data, list(components))
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
    """Return a record as texts, which a journal can keep.

    The longest texts of a long record are clipped, so that the result can be read back.
    """
    if isinstance(record, Mapping) and all(isinstance(text, str) for text in record.values()):
        return record
    most = KEPT_CHARACTERS
    try:
        while len(text := json.dumps(_shortened(record, most), default=str)) > KEPT_CHARACTERS and most > SHORTEST:
            most //= 2
    except (TypeError, ValueError, RecursionError):  # a circle, or keys that are no texts
        return {"Record": str(record)}
    return {PACKED: text} if len(text) <= KEPT_CHARACTERS else {"Record": text}


SHORTEST = 40
"""Characters that are kept of each text of a record."""


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _shortened(part, most) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(part, most) for part in value]
    return clipped(value, most) if isinstance(value, str) else value


def _unpacked(record: Mapping[str, str], attempt: Attempt) -> Any:
    if set(record) == {PACKED}:
        return json.loads(record[PACKED])
    return record if FEEDBACK in record else {**record, FEEDBACK: attempt.feedback}
