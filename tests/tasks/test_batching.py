"""Programs that only take batches, and several attempts at one sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt, _mean
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually


def score(sample: int, output: Any) -> fg.Score:
    return fg.Score(float(output == sample))


def task(attempt_batch: Callable[..., Any], **more: Any) -> fg.Task[Any, Any]:
    return fg.Task("batches", range(3), range(5), score=score, attempt_batch=attempt_batch, **more)


async def echo(*messages: Any, **params: Any) -> fg.Reply:
    await anyio.sleep(1)
    return fg.Reply(str(messages[0]))


def answers(of: fg.Task[Any, Any], samples: Sequence[int], **texts: str) -> list[Any]:
    """Return the outputs, or exceptions, of attempts that start together."""
    found: dict[int, Any] = {}

    async def one(sample: int) -> None:
        try:
            found[sample] = await of.answer(texts or {"a": "b"}, sample, echo)
        except Exception as error:
            found[sample] = error

    async def all_() -> list[Any]:
        async with anyio.create_task_group() as tasks:
            for sample in samples:
                tasks.start_soon(one, sample)
        return [found[sample] for sample in samples]

    return run_virtually(all_)


@pytest.mark.parametrize("plain", [False, True])
def test_attempts_that_start_together_are_one_call(plain: bool) -> None:
    """Each gets its own output; an exception among the outputs fails its own attempt alone."""
    calls: list[list[int]] = []

    def outputs(candidate: Any, samples: Sequence[int], llm: Any) -> list[Any]:
        calls.append(list(samples))
        return [ValueError("odd one") if sample == 3 else sample * 10 for sample in samples]

    async def waits(candidate: Any, samples: Sequence[int], llm: Any) -> list[Any]:
        await llm("x")
        return outputs(candidate, samples, llm)

    found = answers(task(outputs if plain else waits), range(5)) if not plain else anyio.run(_threads, task(outputs))
    assert [str(one) for one in found] == ["0", "10", "20", "odd one", "40"]
    assert [sorted(call) for call in calls] == [[0, 1, 2, 3, 4]]


async def _threads(of: fg.Task[Any, Any]) -> list[Any]:
    found: dict[int, Any] = {}

    async def one(sample: int) -> None:
        try:
            found[sample] = await of.answer({"a": "b"}, sample, echo)
        except ValueError as error:
            found[sample] = error

    async with anyio.create_task_group() as tasks:
        for sample in range(5):
            tasks.start_soon(one, sample)
    return [found[sample] for sample in range(5)]


@pytest.mark.parametrize("wrong", [[1], "12345", None, iter([1, 2])])
def test_another_number_of_outputs_fails_the_batch(wrong: Any) -> None:
    found = answers(task(lambda candidate, samples, llm: wrong, workers=4), [1, 2])
    assert all("attempt_batch returned" in str(error) for error in found)


def test_the_others_go_on_if_the_first_is_cancelled() -> None:
    """They make the call again, without it."""
    calls: list[list[int]] = []

    async def slow(candidate: Any, samples: Sequence[int], llm: Any) -> Sequence[int]:
        calls.append(list(samples))
        await anyio.sleep(10)
        return samples

    async def run() -> list[int]:
        of, found = task(slow), []

        async def one(sample: int) -> None:
            found.append(await of.answer({"a": "b"}, sample, echo))

        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def leading() -> None:
                with first:
                    await one(0)

            tasks.start_soon(leading)
            for sample in (1, 2):
                tasks.start_soon(one, sample)
            await anyio.sleep(1)
            first.cancel()  # trio may have started another one first; then its batch continues
        return sorted(found)

    assert run_virtually(run) == [1, 2]
    assert {1, 2} <= set(calls[-1])


def _failed(result: fg.Result) -> int:
    return sum(isinstance(event, ev.JobEnded) and event.how == "failed" for event in result.events)


def test_a_budget_parks_every_attempt_of_a_batch(tmp_path: Path) -> None:
    """A stage whose batch met the limit runs again after a resume, and none of its samples has failed."""

    async def program(candidate: Any, samples: Sequence[int], llm: Any) -> list[int]:
        return [int((await llm(str(sample))).text) for sample in samples]

    models: Any = {"task": lambda m: m[-1]["content"], "reflection": lambda m: "```\nnew\n```"}
    folder = tmp_path / "run"
    first = fg.run("gepa", task(program), models=models, budget=fg.Budget(calls=3), folder=folder)
    assert (first.status, _failed(first)) == ("budget", 0)
    last = fg.run("gepa", task(program), models=models, budget=fg.Budget(calls=40), folder=folder, resume=True)
    assert last.best is not None
    assert (last.best.score, _failed(last)) == (1.0, 0)


def test_a_run_of_batches_uses_all_slots() -> None:
    """Each sample's call has a slot of its own, and budgets and journals see the calls."""
    peak = [0, 0]

    async def model(messages: Any) -> str:
        peak[0] += 1
        peak[1] = max(peak)
        await anyio.sleep(1)
        peak[0] -= 1
        return str(messages[-1]["content"])

    async def program(candidate: Any, samples: Sequence[int], llm: Any) -> list[int]:
        outputs = dict.fromkeys(samples, -1)

        async def one(sample: int) -> None:
            outputs[sample] = int((await llm(str(sample))).text)

        async with anyio.create_task_group() as tasks:
            for sample in samples:
                tasks.start_soon(one, sample)
        return [outputs[sample] for sample in samples]

    models: Any = {"task": model, "reflection": lambda messages: "```\nnew\n```"}
    batches = attrs.evolve(task(program), bounds=(0.0, 2.0))  # so that no answer is perfect, which would end the run
    budget = fg.Budget(proposals=2, seconds=600)
    result = run_virtually(lambda: fg.arun("gepa", batches, models=models, budget=budget))
    assert result.best is not None
    assert result.best.score == 1.0
    assert peak[1] >= 5


def test_the_mean_of_noisy_attempts() -> None:
    """A reflection sees the worst attempt; one perfect attempt of three is not a perfect sample."""
    turns = iter([1, 0, 1] * 200)
    noisy: fg.Task[Any, Any] = fg.Task(
        "noisy", [7], [7], repeats=3, attempt=lambda *_: 7 * next(turns), score=score, workers=1
    )
    result = fg.run("gepa", noisy, models={"task": lambda _: "", "reflection": lambda _: "```\nx\n```"},
                    budget=fg.Budget(evaluations=4), schedule="lockstep")  # fmt: skip
    assert result.best is not None
    assert result.best.score == pytest.approx(2 / 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_a_mean_is_within_its_scores(scores: list[float]) -> None:
    mean = _mean([Attempt(0, score, f"{score}", objectives={"speed": score}) for score in scores])
    assert min(scores) <= mean.score <= max(scores)
    assert (mean.output, mean.objectives) == (f"{min(scores)}", {"speed": mean.score})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"repeats": 0}, "repeats is 0"),
        ({"repeats": 1.5}, "repeats is 1.5; expected a whole number"),
        ({"attempt_batch": "x"}, "attempt_batch is not callable"),
        ({"attempt": print, "attempt_batch": print}, "it has attempt and attempt_batch"),
    ],
)
def test_wrong_parts_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(fg.DataError, match=message):
        fg.Task("wrong", [1], [1], score=score, **wrong)
