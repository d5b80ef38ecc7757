"""Where functions of the user's run: the event loop, threads and processes."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import flashgraph as fg
from flashgraph.tasks.workers import is_async, run_in

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Odd(Exception):
    """An exception that pickle cannot read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"odd {one} {two}")


def odd(_: Any) -> None:
    raise Odd(1, 2)


def leave(_: Any) -> None:
    sys.exit(7)


def whose(_: Any) -> int:
    return os.getpid()


def task(**options: Any) -> fg.Task[Any, Any]:
    return fg.Task("t", [1, 2], [1, 2], **{"score": lambda sample, output: fg.Score(1.0), **options})


@BACKENDS
def test_places(backend: str) -> None:
    """A thread of this process, another process, or the caller's own thread."""

    async def places() -> list[tuple[int, int]]:
        async def here(place: Any) -> tuple[int, int]:
            found: tuple[int, int] = await run_in(place, 2, lambda: (os.getpid(), threading.get_ident()))
            return found

        return [await here(place) for place in ("loop", "thread", "process")]

    loop, thread, process = anyio.run(places, backend=backend)
    assert loop == (os.getpid(), threading.get_ident())
    assert thread[0] == os.getpid()
    assert thread[1] != loop[1]
    assert process[0] != os.getpid()


@BACKENDS
@pytest.mark.parametrize("place", ["thread", "process"])
@pytest.mark.parametrize(
    ("function", "said"),
    [(odd, "odd 1 2"), (leave, "7"), (lambda _: [][0], "list index out of range")],
)
def test_errors_come_back(backend: str, place: Any, function: Any, said: str) -> None:
    """Also exceptions that cannot be pickled, and `sys.exit`; the next call runs."""

    async def calls() -> tuple[str, int]:
        try:
            await run_in(place, 1, function, None)
        except BaseException as error:
            return str(error), await run_in(place, 1, whose, None)
        raise AssertionError("no error")

    text, process = anyio.run(calls, backend=backend)
    assert said in text
    assert (process == os.getpid()) is (place == "thread")


def test_a_thread_has_the_context_variables() -> None:
    name = contextvars.ContextVar("name", default="none")

    async def call() -> str:
        name.set("mine")
        found: str = await run_in("thread", 1, name.get)
        return found

    assert anyio.run(call) == "mine"


def test_threads_run_at_once_up_to_their_number() -> None:
    """Two of two meet at a barrier, which a score on the event loop never would."""
    barrier = threading.Barrier(2, timeout=30)

    def score(sample: int, output: Any) -> fg.Score:
        barrier.wait()
        return fg.Score(1.0)

    async def both() -> list[float]:
        found: list[float] = []
        made = task(score=score, runs="thread", workers=2)

        async def one() -> None:
            found.append((await made.judge(1, "")).value)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        return found

    assert anyio.run(both) == [1.0, 1.0]


@BACKENDS
def test_a_plain_attempt_calls_the_model(backend: str) -> None:
    """In a thread, where the call blocks and returns the reply."""
    threads = set()

    def attempt(candidate: Mapping[str, str], sample: int, llm: Any) -> str:
        threads.add(threading.get_ident())
        return str(llm(f"{candidate['instruction']} {sample}").text)

    made = task(
        attempt=attempt, seed={"instruction": "double"}, score=lambda s, o: fg.Score(float(o == f"double {s}!"))
    )
    result = fg.run(
        "gepa", made, models=lambda messages: f"{messages[-1]['content']}!", budget=fg.Budget(evaluations=2),
        backend=backend,
    )  # fmt: skip
    assert result.best is not None
    assert result.best.score == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("runs", ["loop", "thread", "process"])
def test_scores_may_be_async_or_run_elsewhere(runs: Any) -> None:
    async def later(sample: int, output: Any) -> fg.Score:
        await anyio.lowlevel.checkpoint()
        return fg.Score(0.5)

    assert anyio.run(task(score=later, runs=runs).judge, 1, "") == fg.Score(0.5)
    assert anyio.run(task(score=lambda s, o: fg.Score(0.25), runs=runs).judge, 1, "") == fg.Score(0.25)


def test_a_time_limit() -> None:
    """It names the function and the limit; a thread that does not end holds nobody up."""
    over = threading.Event()

    def forever(sample: int, output: Any) -> fg.Score:
        over.wait(60)
        return fg.Score(1.0)

    try:
        with pytest.raises(TimeoutError, match=r"task 't': score took longer than 0\.01 s"):
            anyio.run(task(score=forever, runs="thread", timeout=0.01).judge, 1, "")
    finally:
        over.set()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runs": "threads"}, "did you mean 'thread'"),
        ({"workers": 0}, "workers is 0; expected a whole number above 0"),
        ({"timeout": -1}, "timeout is -1; expected a number of seconds above 0"),
        ({"timeout": "5"}, "timeout is '5'"),
    ],
)
def test_mistakes(options: Any, said: str) -> None:
    with pytest.raises(fg.DataError, match=said):
        task(**options)


def test_what_is_async() -> None:
    class Later:
        async def __call__(self) -> None: ...

    async def later(number: int) -> None: ...

    from functools import partial

    assert [is_async(f) for f in (later, partial(later, 1), Later(), len, partial(len, []))] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("runs", ["thread", "process"])
def test_a_stage_runs_elsewhere(runs: Any) -> None:
    """Its result flows on as of any stage; in a thread it may call its model."""
    graph = fg.Graph("elsewhere")
    seen = []

    from flashgraph.parts import Archive, Attempt, Candidate, Work

    pool = graph.pool("pool", Archive)

    @graph.source(rounds=1)
    def seed(at: fg.Draw) -> Candidate:
        return Candidate({"text": "t"}, 2)

    if runs == "process":

        @graph.stage(runs="process")
        def tried(work: Work) -> Attempt:
            return Attempt(work.index, 1.0, str(os.getpid()))

    else:

        @graph.stage(runs="thread", llm="task")
        def tried(work: Work, at: fg.Context) -> Attempt:
            seen.append(threading.get_ident())
            llm: Any = at.llm
            return Attempt(work.index, float(llm("say yes").text == "yes"), "")

    graph.edge(seed, tried, scatter=Candidate.work)
    graph.edge(tried, pool, gather=True)
    result = fg.run(graph, task(), models=(lambda messages: "yes") if runs == "thread" else None)
    assert result.best is not None
    assert result.best.score == 1
    assert threading.get_ident() not in seen
