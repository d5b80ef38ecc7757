"""`dspy.GEPA` with flashgraph's schedules."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import dspy
from dspy.teleprompt.gepa.gepa import AUTO_RUN_SETTINGS, DspyGEPAResult

from flashgraph.api import run
from flashgraph.dspy.programs import program_task, with_texts
from flashgraph.errors import DataError, did_you_mean
from flashgraph.gepa.optimizing import SELECTION
from flashgraph.gepa.result import optimized
from flashgraph.llm.function import FunctionModel
from flashgraph.run.budget import Budget
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.result import Result
from flashgraph.tasks.task import Task
from flashgraph.tasks.workers import run_in

__all__ = ["GEPA", "Detailed"]

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
        compiled = with_texts(student, found.best_candidate)
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
        build_program = staticmethod(partial(with_texts, student))

    made = Detailed(**vars(DspyGEPAResult.from_gepa_result(found, Builder)))
    object.__setattr__(made, "run", found.run)
    object.__setattr__(made, "champion", found.champion)
    return made
