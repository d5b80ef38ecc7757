"""The task of a DSPy program: its components are the instructions of its predictors."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import dspy
from dspy.adapters.chat_adapter import ChatAdapter
from dspy.teleprompt.gepa.gepa_flex_utils import enumerate_flex_submodules
from dspy.teleprompt.gepa.instruction_proposal import InstructionProposer
from dspy.utils.exceptions import AdapterParseError, LMError

from flashgraph.errors import DataError, UnusableReply, did_you_mean
from flashgraph.launch.seeding import texts_from
from flashgraph.parts.evaluation import Attempt
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Task
from flashgraph.tasks.trace import FEEDBACK, INPUTS, OUTPUT, Trace

__all__ = ["best_program", "program_task", "with_texts"]


@attrs.frozen
class _Example:
    """An example, and whether reflections see it."""

    example: Any
    index: int
    reflected: bool

    def __str__(self) -> str:
        return str(dict(self.example.inputs()))


@attrs.frozen
class _Answer:
    """A program's prediction, or the reason why there is none, with the call of each predictor that is reflected on."""

    prediction: Any
    failure: str = ""
    steps: Sequence[Any] = ()
    chosen: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.failure or str(self.prediction)


def program_task(
    program: Any,
    metric: Callable[..., Any],
    trainset: Sequence[Any],
    valset: Sequence[Any] | None = None,
    *,
    failure_score: float = 0.0,
    add_format_failure_as_feedback: bool = False,
    reflection_lm: Any = None,
    proposer: Callable[..., Mapping[str, str]] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    workers: int = 32,
    seed: int = 0,
) -> Task[Any, Any]:
    """Return a task of a DSPy program, for any algorithm; its components are the predictors' instructions.

    A program with ``aforward`` runs on the event loop.  Others run in up to ``workers`` threads.  DSPy's own models
    make the calls, so a run counts evaluations and not calls.  ``metric(gold, pred, trace, pred_name, pred_trace)`` is
    called once for a score, and for training examples again for each predictor's feedback.  A program that raises
    gets ``failure_score``; an error of a model fails the attempt.  With ``reflection_lm`` or ``proposer``, DSPy's
    instruction proposer or your own writes new instructions.

    Raises `DataError` for a program with `dspy.Flex` modules or without predictors.
    """
    if enumerate_flex_submodules(program):
        raise DataError(
            f"flashgraph.dspy: {type(program).__name__} has dspy.Flex modules, whose code only dspy.GEPA evolves.\n"
            "Fix: GEPA(..., schedule='lockstep')."
        )
    texts = {name: predictor.signature.instructions for name, predictor in program.named_predictors()}
    if not texts:
        raise DataError(
            f"flashgraph.dspy: {type(program).__name__} has no predictor; expected at least one.\n"
            "Fix: give its __init__ a dspy.Predict or the like."
        )

    def answered(built: Any, sample: _Example, trace: Trace, steps: Sequence[Any], got: Any) -> _Answer:
        if isinstance(got, LMError):
            raise got
        failed = isinstance(got, Exception)
        failure = f"{type(got).__name__}: {got}" if failed else ""
        if not sample.reflected:
            return _Answer(None if failed else got, failure)
        if isinstance(got, AdapterParseError) and add_format_failure_as_feedback:
            _note_format(trace, built, got)
        chosen = {} if failed else _chosen(built, steps, f"{seed} {sample.index}")
        for name, (_, inputs, outputs) in chosen.items():
            trace.record(name, _fields(inputs), _fields(outputs))
        return _Answer(None if failed else got, failure, tuple(steps), chosen)

    async def attempt(candidate: Mapping[str, str], sample: _Example, llm: Any, trace: Trace) -> _Answer:
        built, steps = with_texts(program, candidate), list[Any]()
        with dspy.context(trace=steps):
            try:
                got = await built.acall(**sample.example.inputs())
            except Exception as error:
                got = error
        return answered(built, sample, trace, steps, got)

    def attempt_in_thread(candidate: Mapping[str, str], sample: _Example, llm: Any, trace: Trace) -> _Answer:
        built, steps = with_texts(program, candidate), list[Any]()
        with dspy.context(trace=steps):
            try:
                got = built(**sample.example.inputs())
            except Exception as error:
                got = error
        return answered(built, sample, trace, steps, got)

    def score(sample: _Example, found: _Answer) -> Score:
        if found.failure:
            return Score(failure_score, found.failure)
        value, said, objectives = _judged(metric(sample.example, found.prediction, None, None, None))
        own = {}
        for name, step in found.chosen.items():
            own[name] = _judged(metric(sample.example, found.prediction, list(found.steps), name, [step]))[1]
        return Score(value, own or said, objectives)

    train = [_Example(example, index, True) for index, example in enumerate(trainset)]
    val = [_Example(example, i, False) for i, example in enumerate(trainset if valset is None else valset)]
    proposing = reflection_lm is not None or proposer is not None
    return Task(
        type(program).__name__, train, val, seed=texts, score=score, runs="thread", bounds=bounds, workers=workers,
        attempt=attempt if hasattr(program, "aforward") else attempt_in_thread,
        rewrite=_rewriting(reflection_lm, proposer or InstructionProposer()) if proposing else None,
    )  # fmt: skip


def best_program(program: Any, source: str | Path | Mapping[str, str]) -> Any:
    """Return a copy of a DSPy program with the best instructions of a run, ready for its own `save`.

    ``source`` is the run's folder or name, a ``best.json``, a JSON file of texts by predictor, or these texts.  A
    predictor without a text keeps its instructions.

    Raises `DataError` for a run without a champion, and for a text of a predictor that the program does not have.
    """
    texts = dict(source) if isinstance(source, Mapping) else texts_from(source)
    own = {name: predictor.signature.instructions for name, predictor in program.named_predictors()}
    if unknown := [name for name in texts if name not in own]:
        raise DataError(
            f"best_program: found a text of {unknown[0]!r}, but {type(program).__name__} has the predictors "
            f"{', '.join(own)}.\nFix: {did_you_mean(unknown[0], list(own))}"
        )
    return with_texts(program, {**own, **texts})


def with_texts(program: Any, texts: Mapping[str, str]) -> Any:
    """Return a deep copy of a program with these instructions."""
    built = program.deepcopy()
    for name, predictor in built.named_predictors():
        predictor.signature = predictor.signature.with_instructions(texts[name])
    return built


def _chosen(built: Any, steps: Sequence[Any], seed: str) -> dict[str, Any]:
    """Return one call of each predictor that was called, drawn at random as DSPy draws it."""
    found = {}
    for name, predictor in built.named_predictors():
        own = [step for step in steps if step[0] is predictor]
        own = own or [step for step in steps if step[0].signature.equals(predictor.signature)]
        if own:
            found[name] = random.Random(f"{seed} {name}").choice(own)
    return found


def _note_format(trace: Trace, built: Any, error: Any) -> None:
    """Note a reply that DSPy could not parse, with the form that it expects."""
    for name, predictor in built.named_predictors():
        if predictor.signature.equals(error.signature):
            form = "".join(f"{m['role']}: {m['content']}\n" for m in ChatAdapter().format(predictor.signature, [], {}))
            raw = f"The output could not be parsed. The model's raw response was:\n```\n{error.lm_response}\n```"
            trace.record(name, "", raw, f"Your output failed to parse. Follow this structure:\n{form}")
            return


def _fields(values: Any) -> str:
    return json.dumps({name: str(value) for name, value in values.items()}, ensure_ascii=False)


def _read(text: str) -> Any:
    """Return the fields of a record; a text that was clipped stays a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _judged(given: Any) -> tuple[float, str, Mapping[str, float]]:
    """Return the score, the feedback and the objectives in a metric's result."""
    if not hasattr(given, "feedback") and not (isinstance(given, Mapping) and "feedback" in given):
        value = float(given.score if isinstance(given, dspy.Prediction) else given)
        return value, f"This trajectory got a score of {given}.", {}
    said = given["feedback"]
    said = f"This trajectory got a score of {given['score']}." if said is None else said
    return float(given["score"]), str(said), dict(given.get("objective_scores", None) or {})


def _rewriting(lm: Any, proposer: Callable[..., Mapping[str, str]]) -> Callable[..., Any]:
    """Return the `Task.rewrite` that asks an instruction proposer of DSPy."""

    def rewrite(
        llm: Any, candidate: Mapping[str, str], components: Sequence[str], attempts: Sequence[Attempt]
    ) -> Mapping[str, str]:
        data = {}
        for name in components:
            records = [(record, attempt) for attempt in attempts for record in attempt.records.get(name, ())]
            if records:
                data[name] = [
                    {
                        INPUTS: _read(record[INPUTS]),
                        OUTPUT: _read(record[OUTPUT]),
                        FEEDBACK: record.get(FEEDBACK) or attempt.by_component.get(name, attempt.feedback),
                    }
                    for record, attempt in records
                ]
        if not data:
            raise UnusableReply("no attempt of the minibatch called the predictor that is rewritten")
        try:
            with dspy.context(lm=lm or dspy.settings.lm):
                return proposer(
                    candidate=dict(candidate), reflective_dataset=data, components_to_update=list(components)
                )
        except (AdapterParseError, ValueError) as error:
            raise UnusableReply(f"the instruction proposer failed: {error}") from error

    return rewrite
