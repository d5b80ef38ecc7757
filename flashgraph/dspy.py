"""`dspy.GEPA` on flashgraph's scheduler: change one name, and the examples overlap.

    from flashgraph.dspy import GEPA        # was: from dspy import GEPA

The extra ``dspy`` installs DSPy, whose programs, metrics and results are used as they are.  One attempt is one example
through the program, so the run decides about single examples and not about batches.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from flashgraph.api import run
from flashgraph.errors import DataError, UnusableReply, did_you_mean
from flashgraph.extras import require
from flashgraph.gepa.optimizing import SELECTION
from flashgraph.gepa.result import optimized
from flashgraph.llm.function import FunctionModel
from flashgraph.parts.evaluation import Attempt
from flashgraph.run.budget import Budget
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.result import Result
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Task
from flashgraph.tasks.trace import FEEDBACK, INPUTS, OUTPUT, Trace
from flashgraph.tasks.workers import run_in

require("dspy", "flashgraph.dspy")

import dspy  # noqa: E402 - after `require`, as all imports of the library
from dspy.adapters.chat_adapter import ChatAdapter  # noqa: E402
from dspy.teleprompt.gepa.gepa import AUTO_RUN_SETTINGS, DspyGEPAResult  # noqa: E402
from dspy.teleprompt.gepa.gepa_flex_utils import enumerate_flex_submodules  # noqa: E402
from dspy.teleprompt.gepa.instruction_proposal import InstructionProposer  # noqa: E402
from dspy.utils.exceptions import AdapterParseError, LMError  # noqa: E402

__all__ = ["GEPA", "Detailed", "program_task"]

OPTIMIZERS = ("gepa", "combee")

LOCKSTEP_ONLY = ("code_proposer", "track_best_outputs", "use_mlflow", "use_wandb")
"""Arguments that `dspy.GEPA` alone has."""

PASSED_ON = ("acceptance_criterion", "merge_val_overlap_floor")
"""The entries of ``gepa_kwargs`` with a meaning here."""


class Detailed(DspyGEPAResult):  # type: ignore[misc]  # the package has no types
    """DSPy's detailed results.  ``run`` is flashgraph's own; ``best_idx`` is its champion."""

    run: Result
    champion: int

    @property
    def best_idx(self) -> int:
        return self.champion


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


class GEPA(dspy.GEPA):  # type: ignore[misc]  # the package has no types
    """`dspy.GEPA` with its constructor, metric and results, on flashgraph's scheduler.

    Three arguments are flashgraph's own.  ``schedule="lockstep"`` is `dspy.GEPA` itself.  ``optimizer="combee"``
    reflects on shares of a minibatch.  With finite ``bounds`` of scores, a run gives up early on weak candidates.  At
    most ``num_threads`` examples run at once.

    Raises what `dspy.GEPA` raises for wrong arguments, and `DataError` for those that only ``schedule="lockstep"`` has.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        schedule: Any = "pipelined",
        optimizer: str = "gepa",
        bounds: tuple[float, float] = (-math.inf, math.inf),
        **arguments: Any,
    ) -> None:
        super().__init__(metric, **arguments)
        self.schedule = schedule
        self.optimizer = optimizer
        self.bounds = bounds
        if optimizer not in OPTIMIZERS:
            raise DataError(
                f"flashgraph.dspy.GEPA(optimizer={optimizer!r}): expected one of {', '.join(OPTIMIZERS)}.\n"
                f"Fix: {did_you_mean(str(optimizer), OPTIMIZERS)}"
            )
        if optimizer == "combee" and self.reflection_lm is None:
            raise DataError("flashgraph.dspy.GEPA(optimizer='combee'): found no reflection_lm.\nFix: reflection_lm=LM.")
        if not self._is_package:
            self._refuse(arguments)

    @property
    def _is_package(self) -> bool:
        return bool(self.schedule == "lockstep" and self.optimizer == "gepa")

    def _refuse(self, arguments: Mapping[str, Any]) -> None:
        """Raise `DataError` for an argument that has no meaning on this scheduler."""
        other = [name for name in LOCKSTEP_ONLY if arguments.get(name)]
        other += [f"gepa_kwargs[{name!r}]" for name in self.gepa_kwargs if name not in PASSED_ON]
        if self.component_selector not in ("round_robin", "all"):
            other.append("component_selector")
        if self.candidate_selection_strategy not in SELECTION:
            other.append("candidate_selection_strategy")
        if self.optimizer == "combee" and self.custom_instruction_proposer is not None:
            other.append("instruction_proposer")
        if other:
            raise DataError(
                f"flashgraph.dspy.GEPA({other[0]}=...): the {self.optimizer} optimizer has no such option.\n"
                "Fix: schedule='lockstep' with optimizer='gepa', which is dspy.GEPA itself, or leave it out."
            )

    def compile(self, student: Any, *, trainset: Any, teacher: Any = None, valset: Any = None) -> Any:
        """Return a copy of ``student`` with the best instructions; with ``track_stats``, also ``detailed_results``.

        It works inside a running event loop too, and then blocks that loop.  ``log_dir`` holds the run's journal: a
        second call with the same folder resumes the run.  Raises `DataError` for a program with `dspy.Flex` modules.
        """
        if self._is_package:
            return super().compile(student, trainset=trainset, teacher=teacher, valset=valset)
        assert trainset, "Trainset must be provided and non-empty"
        assert teacher is None, "Teacher is not supported in DspyGEPA yet."
        threads = self.num_threads or dspy.settings.num_threads
        task = program_task(
            student, self.metric_fn, trainset, valset,
            failure_score=self.failure_score, add_format_failure_as_feedback=self.add_format_failure_as_feedback,
            reflection_lm=self.reflection_lm, proposer=self.custom_instruction_proposer, bounds=self.bounds,
            workers=threads, seed=self.seed or 0,
        )  # fmt: skip
        if self.optimizer == "combee":
            task = attrs.evolve(task, rewrite=None)
        result = _anywhere(partial(self._run, task, threads, self._metric_calls(task, len(trainset), valset)))
        found = optimized(result, self.log_dir, self.seed or 0)
        compiled = _built(student, found.best_candidate)
        compiled._compiled = True
        if self.track_stats:
            compiled.detailed_results = _detailed(found, student)
        return compiled

    def _run(self, task: Task[Any, Any], threads: int, most: int) -> Result:
        folder = None if self.log_dir is None else Path(self.log_dir)
        params = {
            "minibatch": self.reflection_minibatch_size,
            "perfect_score": self.perfect_score if self.skip_perfect_score else None,
            "acceptance": self.gepa_kwargs.get("acceptance_criterion", "strict_improvement"),
            "components": self.component_selector,
            "selection": SELECTION[self.candidate_selection_strategy],
            "merge": self.use_merge,
            "max_merge_invocations": self.max_merge_invocations,
            "merge_val_overlap_floor": self.gepa_kwargs.get("merge_val_overlap_floor", 5),
        }
        prefix = "" if self.optimizer == "gepa" else "gepa."
        return run(
            self.optimizer,
            task,
            models={
                "task": FunctionModel(_unused, limit=threads),
                "reflection": FunctionModel(_asking(self.reflection_lm)),
            },
            schedule=self.schedule,
            seed=self.seed or 0,
            budget=Budget(evaluations=most),
            folder=folder,
            resume=folder is not None and (folder / JOURNAL).exists(),
            params={prefix + name: value for name, value in params.items()},
        )

    def _metric_calls(self, task: Task[Any, Any], train: int, valset: Any) -> int:
        """Return the budget, as `dspy.GEPA` works it out."""
        if self.auto is not None:
            candidates = AUTO_RUN_SETTINGS[self.auto]["n"]
            return int(self.auto_budget(len(task.seed), candidates, len(task.val)))
        if self.max_full_evals is not None:
            return int(self.max_full_evals) * (train + (0 if valset is None else len(valset)))
        return int(self.max_metric_calls)


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
        built, steps = _built(program, candidate), list[Any]()
        with dspy.context(trace=steps):
            try:
                got = await built.acall(**sample.example.inputs())
            except Exception as error:
                got = error
        return answered(built, sample, trace, steps, got)

    def attempt_in_thread(candidate: Mapping[str, str], sample: _Example, llm: Any, trace: Trace) -> _Answer:
        built, steps = _built(program, candidate), list[Any]()
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


def _built(program: Any, texts: Mapping[str, str]) -> Any:
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


async def _unused(messages: Any) -> str:
    raise DataError(
        "flashgraph.dspy: the program makes its own calls.\nFix: set its model with dspy.configure(lm=...)."
    )


def _asking(lm: Any) -> Callable[[Any], Any]:
    """Return a DSPy model as a function of messages, called in a thread."""
    if lm is None:
        return _unused

    async def ask(messages: Any) -> str:
        (first, *_) = await run_in("thread", 32, partial(lm, messages=list(messages)))
        return str(first["text"] if isinstance(first, Mapping) else first)

    return ask


def _anywhere(call: Callable[[], Result]) -> Result:
    """Call, in a thread if this one runs an event loop; DSPy's settings go along."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, call).result()


def _detailed(found: Any, student: Any) -> Detailed:
    """Return DSPy's results of a run."""

    class Builder:
        build_program = staticmethod(partial(_built, student))

    made = Detailed(**vars(DspyGEPAResult.from_gepa_result(found, Builder)))
    object.__setattr__(made, "run", found.run)
    object.__setattr__(made, "champion", found.champion)
    return made
