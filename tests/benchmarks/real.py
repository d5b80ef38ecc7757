"""`make bench-real`: the embedded model on real tasks, compared with the `gepa` package on one server in equal time.

    python -m tests.benchmarks.real [--minutes 5] [--seeds 3] [--tasks tickets,symptoms] [--model local]

Each variant has the same minutes on the same server with the same number of slots, one after the other. Each champion
is then tried on the held-out test split, which no variant has seen.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio
import anyio.from_thread
import attrs
import click
import gepa
from gepa.strategies.proposal_sampling import IndependentSampling

import flashgraph as fg
from flashgraph.evidence import weigh
from flashgraph.graph.loading import load_task
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve_all

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = {"tickets": EXAMPLES / "tickets/task.py", "symptoms": EXAMPLES / "symptom2disease/task.py"}
VARIANTS = ("gepa", "gepa-4", "lockstep", "pipelined")
"""The package with one proposal at a time and with four, and flashgraph's schedules."""
TOKENS = 400


@attrs.frozen
class Found:
    """A variant's champion, its reported validation score, its proposals and its calls."""

    text: Mapping[str, str]
    reported: float
    proposals: int
    calls: int


class _Adapter:
    """The task as the package's adapter; ``workers`` requests at once."""

    propose_new_texts = None

    def __init__(self, task: fg.Task, model: Model, portal: Any, workers: int) -> None:
        self._task, self._model, self._portal, self._workers = task, model, portal, workers
        self.calls = 0

    async def _llm(self, messages: Any, **params: Any) -> fg.Reply:
        self.calls += 1
        sent = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return await self._model.complete(sent, params)

    def side_by_side(self, works: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
        async def together() -> list[Any]:
            found: dict[int, Any] = {}
            limit = anyio.CapacityLimiter(self._workers)

            async def one(index: int) -> None:
                async with limit:
                    found[index] = await works[index]()

            async with anyio.create_task_group() as tasks:
                for index in range(len(works)):
                    tasks.start_soon(one, index)
            return [found[index] for index in range(len(works))]

        return list(self._portal.call(together))

    async def attempt(self, candidate: Mapping[str, str], sample: Any) -> tuple[str, fg.Score]:
        output = await self._task.answer(candidate, sample, self._llm)
        return str(output), await self._task.judge(sample, output)

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[Any]]]) -> list[Any]:
        works = [partial(self.attempt, candidate, sample) for candidate, batch in items for sample in batch]
        tried = iter(self.side_by_side(works))
        found = []
        for _, batch in items:
            seen = [(sample, *next(tried)) for sample in batch]
            found.append(
                gepa.EvaluationBatch(
                    outputs=[output for _, output, _ in seen],
                    scores=[score.value for _, _, score in seen],
                    trajectories=[
                        {"Inputs": str(sample), "Generated Outputs": output, "Feedback": score.feedback}
                        for sample, output, score in seen
                    ],
                )
            )
        return found

    def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: list[str]) -> Any:
        return {name: list(evaluated.trajectories) for name in components}

    def reflect(self, prompt: Any) -> str:
        return self.batch_complete([prompt])[0]

    def batch_complete(self, prompts: Sequence[Any], **options: Any) -> list[str]:
        async def one(prompt: Any) -> str:
            text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            return (await self._llm(text, max_tokens=TOKENS)).text

        return [str(text) for text in self.side_by_side([partial(one, prompt) for prompt in prompts])]


class _Reflection:
    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    def __call__(self, prompt: Any) -> str:
        return self._adapter.reflect(prompt)

    def batch_complete(self, prompts: Sequence[Any], **options: Any) -> list[str]:
        return self._adapter.batch_complete(prompts, **options)


class _Silent:
    def log(self, message: str) -> None:
        pass


def package(task: fg.Task, model: Model, portal: Any, seconds: float, seed: int, proposals: int) -> Found:
    """Run the `gepa` package for that many seconds; return its champion at that moment."""
    adapter = _Adapter(task, model, portal, model.limit)
    began, counted = time.monotonic(), {"proposals": 0}
    last: list[Found] = []

    class Stop:
        def __call__(self, state: Any) -> bool:
            over = time.monotonic() - began >= seconds
            if not over or not last:
                means = [sum(scores.values()) / len(scores) for scores in state.prog_candidate_val_subscores]
                place = means.index(max(means))
                last[:] = [Found(state.program_candidates[place], means[place], counted["proposals"], adapter.calls)]
            return over

    class Count:
        def on_proposal_end(self, event: Any) -> None:
            counted["proposals"] += 1

    gepa.optimize(
        seed_candidate=dict(task.seed),
        trainset=list(task.train),
        valset=list(task.val),
        adapter=adapter,
        reflection_lm=_Reflection(adapter),
        stop_callbacks=[Stop()],
        callbacks=[Count()],
        seed=seed,
        logger=_Silent(),
        **({"sampling_strategy": IndependentSampling(proposals)} if proposals > 1 else {}),
    )
    return last[0]


async def ours(task: fg.Task, model: Model, schedule: str, seconds: float, seed: int) -> Found:
    models = {"task": _Open(model), "reflection": _Open(model)}
    budget = fg.Budget(seconds=seconds)
    result = await fg.arun("gepa", task, models=models, schedule=schedule, seed=seed, budget=budget)
    best = result.best
    if best is None:
        return Found(task.seed, 0.0, result.spent.proposals, result.spent.calls)
    reported = best.score if best.evidence is None else best.evidence.estimate
    return Found(best.value, reported or 0.0, result.spent.proposals, result.spent.calls)


class _Open:
    """A model that is already open, for several runs one after the other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.limit = model.name, model.limit

    def open(self) -> Any:
        return _nothing()

    async def complete(self, messages: Any, params: Any) -> fg.Reply:
        return await self._model.complete(messages, params)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return self._model.worst_cost(prompt, completion)


class _nothing:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


async def held_out(task: fg.Task, model: Model, texts: Sequence[Mapping[str, str]]) -> list[Any]:
    """Return the evidence of each text on the test split; equal texts are tried once."""
    known: dict[tuple[str, ...], Any] = {}
    for text in texts:
        key = tuple(text.values())
        if key in known:
            continue
        scores: dict[int, float] = {}
        limit = anyio.CapacityLimiter(model.limit)

        async def one(
            index: int,
            text: Mapping[str, str] = text,
            into: dict[int, float] = scores,
            limit: anyio.CapacityLimiter = limit,
        ) -> None:
            async def llm(messages: Any, **params: Any) -> fg.Reply:
                return await model.complete(messages, params)

            async with limit:
                sample = task.test[index]
                into[index] = (await task.judge(sample, await task.answer(text, sample, llm))).value

        async with anyio.create_task_group() as tasks:
            for index in range(len(task.test)):
                tasks.start_soon(one, index)
        known[key] = weigh(scores, len(task.test), bounds=task.bounds)
    return [known[tuple(text.values())] for text in texts]


async def measured(names: Sequence[str], variants: Sequence[str], seeds: int, seconds: float, spec: str) -> None:
    model = resolve_all({"task": spec})["task"]
    async with model.open(), anyio.from_thread.BlockingPortal() as portal:
        for name in names:
            task = load_task(TASKS[name])
            found: dict[str, list[Found]] = {}
            for seed in range(seeds):
                for variant in variants:
                    if variant in ("lockstep", "pipelined"):
                        one = await ours(task, model, variant, seconds, seed)
                    else:
                        proposals = 4 if variant == "gepa-4" else 1
                        work = partial(package, task, model, portal, seconds, seed, proposals)
                        one = await anyio.to_thread.run_sync(work)
                    found.setdefault(variant, []).append(one)
                    click.echo(f"{name} seed {seed} {variant}: {one.proposals} proposals, {one.calls} calls", err=True)
            for variant in variants:
                runs = found[variant]
                tests = await held_out(task, model, [run.text for run in runs])
                shown = ", ".join(f"{t.estimate:.2f} ({t.interval[0]:.2f} to {t.interval[1]:.2f})" for t in tests)
                counts = f"{fmean(r.proposals for r in runs):.0f} | {fmean(r.calls for r in runs):.0f}"
                scores = f"{fmean(r.reported for r in runs):.2f} | {shown} | {fmean(t.estimate for t in tests):.2f}"
                click.echo(f"| {name} | {variant} | {counts} | {scores} |")


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="Of each run.")
@click.option("--seeds", default=3, show_default=True, help="Runs of each variant and task.")
@click.option("--tasks", default="tickets,symptoms", show_default=True, help=f"Of {', '.join(TASKS)}.")
@click.option("--variants", default=",".join(VARIANTS), show_default=True, help="Which to run.")
@click.option("--model", default="local", show_default=True, help="A model string, for both roles.")
def main(minutes: float, seeds: int, tasks: str, variants: str, model: str) -> None:
    """Measure every variant on every task and seed, and print a table."""
    click.echo("| task | variant | proposals | calls | reported | held-out test, each seed | mean |")
    click.echo("| --- " * 7 + "|")
    anyio.run(measured, tasks.split(","), variants.split(","), seeds, minutes * 60, model)


if __name__ == "__main__":
    main()
