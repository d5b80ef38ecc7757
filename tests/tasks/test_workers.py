"""A user's functions on the event loop, in threads and in processes."""

from __future__ import annotations

import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner

import flashgraph as fg
from flashgraph.cli import cli
from flashgraph.parts import Archive, Attempt, Candidate, Work
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.tasks import workers
from flashgraph.tasks.workers import is_async, run_in

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Odd(Exception):
    """An exception that can be pickled but not unpickled."""

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
    """A place is a thread of this process, another process, or the caller's own thread."""

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
    ("function", "message"),
    [(odd, "odd 1 2"), (leave, "7"), (lambda _: [][0], "list index out of range")],
)
def test_errors_come_back(backend: str, place: Any, function: Any, message: str) -> None:
    """Every error comes back, also an exception that cannot be pickled and `sys.exit`; the next call runs."""

    async def calls() -> tuple[str, int]:
        try:
            await run_in(place, 1, function, None)
        except BaseException as error:
            return str(error), await run_in(place, 1, whose, None)
        raise AssertionError("no error")

    text, process = anyio.run(calls, backend=backend)
    assert message in text
    assert (process == os.getpid()) is (place == "thread")


def test_a_thread_has_the_context_variables() -> None:
    name = contextvars.ContextVar("name", default="none")

    async def call() -> str:
        name.set("mine")
        found: str = await run_in("thread", 1, name.get)
        return found

    assert anyio.run(call) == "mine"


def test_threads_run_at_once_up_to_their_number() -> None:
    """Two calls meet at a barrier in two threads, which two scores on the event loop never could."""
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
    """A plain attempt runs in a thread, where the call blocks and returns the reply."""
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
    """The error names the function and the limit, and a thread that does not end delays nothing."""
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
    ("options", "message"),
    [
        ({"runs": "threads"}, "did you mean 'thread'"),
        ({"workers": 0}, "workers is 0; expected a whole number above 0"),
        ({"timeout": -1}, "timeout is -1; expected a number of seconds above 0"),
        ({"timeout": "5"}, "timeout is '5'"),
    ],
)
def test_mistakes(options: Any, message: str) -> None:
    with pytest.raises(fg.DataError, match=message):
        task(**options)


def test_what_is_async() -> None:
    class Later:
        async def __call__(self) -> None: ...

    async def later(number: int) -> None: ...

    assert [is_async(f) for f in (later, partial(later, 1), Later(), len, partial(len, []))] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("runs", ["thread", "process"])
def test_a_stage_runs_elsewhere(runs: Any) -> None:
    """The result flows on like that of any stage, and in a thread the stage may call its model."""
    graph = fg.Graph("elsewhere")
    seen = []

    pool = graph.pool("pool", Archive)

    @graph.source(rounds=1)
    def seed(ctx: fg.Draw) -> Candidate:
        return Candidate({"text": "t"}, 2)

    if runs == "process":

        @graph.stage(runs="process")
        def tried(work: Work) -> Attempt:
            return Attempt(work.index, 1.0, str(os.getpid()))

    else:

        @graph.stage(runs="thread", model="task")
        def tried(work: Work, ctx: fg.Context) -> Attempt:
            seen.append(threading.get_ident())
            llm: Any = ctx.llm
            return Attempt(work.index, float(llm("say yes").text == "yes"), "")

    graph.edge(seed, tried, scatter=Candidate.work)
    graph.edge(tried, pool, gather=True)
    result = fg.run(graph, task(), models=(lambda messages: "yes") if runs == "thread" else None)
    assert result.best is not None
    assert result.best.score == 1
    assert threading.get_ident() not in seen


def judged(runs: Any, *, plain: bool) -> fg.Task[Any, Any]:
    """Return a task whose score asks a judge whether the output is good."""
    good = "Is this good: {}"

    async def later(sample: str, output: str, llm: Any) -> fg.Score:
        return fg.Score(float((await llm(good.format(output), role="judge")).text == "yes"))

    def blocking(sample: str, output: str, llm: Any) -> fg.Score:
        return fg.Score(float(llm(good.format(output), role="judge").text == "yes"))

    samples = ["a", "b"]
    return fg.Task("j", samples, samples, samples, score=blocking if plain else later, runs=runs, roles=("judge",))


@BACKENDS
@pytest.mark.parametrize(("runs", "plain"), [("loop", False), ("thread", True)])
def test_a_score_calls_a_judge(backend: str, runs: Any, plain: bool) -> None:
    """The judge's calls belong to the run, under their role."""
    prompts: list[str] = []

    def judge(messages: Any) -> str:
        prompts.append(messages[-1]["content"])
        return "yes"

    models = {"task": lambda messages: "fine", "reflection": lambda messages: "no", "judge": judge}
    result = fg.run("gepa", judged(runs, plain=plain), models=models, budget=fg.Budget(evaluations=2), backend=backend)
    assert result.best is not None
    assert result.best.score == 1
    assert prompts == ["Is this good: fine"] * 2
    assert result.spent.calls == 4


@BACKENDS
def test_a_request_goes_to_its_role_although_the_job_holds_a_slot_of_another(backend: str) -> None:
    """Also where the judge has one slot: its requests wait for that, and the limit of each model holds."""
    busy = {"task": 0, "judge": 0}
    most = dict(busy)

    def model(role: str, reply: str) -> fg.llm.FunctionModel:
        async def answer(messages: Any) -> str:
            busy[role] += 1
            most[role] = max(most[role], busy[role])
            await anyio.sleep(1)
            busy[role] -= 1
            return reply

        return fg.llm.FunctionModel(answer, limit=4 if role == "task" else 1)

    async def attempt(candidate: Any, sample: str, llm: Any) -> str:
        first = (await llm(sample, role="judge")).text
        own, last = await llm(sample), await llm(sample, role="judge")
        return f"{first}{own.text}{last.text}"

    data = list("abcdef")
    made = fg.Task("j", data, data, attempt=attempt, score=lambda s, o: fg.Score(float(o == "jtj")), roles=["judge"])
    models = {"task": model("task", "t"), "judge": model("judge", "j"), "reflection": lambda messages: ""}

    async def run() -> fg.Result:
        return await fg.arun("gepa", made, models=models, budget=fg.Budget(evaluations=6), settle=settle)

    result = run_virtually(run, backend)
    assert result.best is not None
    assert result.best.score == 1
    assert most["judge"] == 1
    assert most["task"] <= 4


@pytest.mark.parametrize(
    ("role", "models", "message"),
    [
        ("judge", {"task": len, "reflection": len}, "no model was given for judge"),
        ("jugde", {"task": lambda messages: "", "reflection": len, "judge": len}, "did you mean 'judge'"),
    ],
)
def test_roles_that_are_not_there(role: str, models: Any, message: str) -> None:
    async def score(sample: str, output: str, llm: Any) -> fg.Score:
        await llm("?", role=role)
        return fg.Score(0.0)

    made = fg.Task("j", ["a"], ["a"], score=score, roles=("judge",))
    if "judge" not in models:
        with pytest.raises(fg.DataError, match=message):
            fg.run("gepa", made, models=models, budget=fg.Budget(evaluations=1))
        return
    result = fg.run("gepa", made, models=models, budget=fg.Budget(evaluations=1))
    assert message in " ".join(str(getattr(event, "reason", "")) for event in result.events)


def test_models_stay_in_this_process() -> None:
    with pytest.raises(fg.DataError, match="runs='process' and score takes llm"):
        task(score=lambda sample, output, llm: fg.Score(1.0), runs="process")
    with pytest.raises(fg.DataError, match="score takes llm, but the stage that scores calls no model"):
        anyio.run(task(score=lambda sample, output, llm: fg.Score(1.0)).judge, 1, "")


def test_the_held_out_test_asks_the_judge(tmp_path: Path) -> None:
    """The held-out test calls the judge, whose model the command line gives as ``--model judge=...``."""
    (tmp_path / "t.py").write_text(
        "import flashgraph as fg\n"
        "async def score(sample, output, llm):\n"
        "    return fg.Score(float((await llm(output, role='judge')).text == 'yes'))\n"
        "task = fg.Task('j', ['a', 'b'], ['a', 'b'], ['c'], score=score, roles=('judge',))\n"
        "def fine(messages): return 'fine'\n"
        "def judge(messages): return 'yes' if messages[-1]['content'] == 'fine' else 'no'\n"
    )
    file, out = str(tmp_path / "t.py"), tmp_path / "run"
    words = ["run", "gepa", "--task", file, "--model", f"{file}:fine", "--model", f"judge={file}:judge"]
    ended = CliRunner().invoke(cli, [*words, "--evaluations", "2", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert json.loads((out / "result.json").read_text())["test"]["best"]["score"] == 1.0


def test_a_program_does_not_disturb_its_worker() -> None:
    """A program that a score starts has no input, and what it prints is not taken as the score."""

    def score(sample: int, output: Any) -> fg.Score:
        os.write(1, b"printed\n")
        read = subprocess.run([sys.executable, "-c", "print(repr(input()))"], stderr=subprocess.PIPE, check=False)
        return fg.Score(float(b"EOFError" in read.stderr))

    async def twice() -> list[fg.Score]:
        return [await task(score=score, runs="process").judge(1, "") for _ in range(2)]

    assert anyio.run(twice) == [fg.Score(1.0)] * 2


def test_an_interrupt_does_not_end_a_score_in_a_process() -> None:
    """A terminal sends Ctrl-C to every process, and running scores have time to finish."""

    def score(sample: int, output: Any) -> fg.Score:
        os.kill(os.getpid(), signal.SIGINT)
        return fg.Score(1.0)

    assert anyio.run(task(score=score, runs="process").judge, 1, "") == fg.Score(1.0)


def test_a_process_that_ends_by_itself() -> None:
    with pytest.raises(RuntimeError, match="its process ended before it returned"):
        anyio.run(task(score=lambda sample, output: os._exit(3), runs="process").judge, 1, "")


@BACKENDS
@pytest.mark.parametrize("place", ["thread", "process"])
def test_the_time_limit_counts_from_the_start(backend: str, place: Any) -> None:
    """A call that waits for a free worker is not late."""

    async def calls() -> list[int]:
        found: list[int] = []
        limiter = workers._limiter(place, 1)
        await limiter.acquire_on_behalf_of("another call")

        async def one() -> None:
            found.append(await run_in(place, 1, whose, None, seconds=30))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            deadlines.append(anyio.current_effective_deadline())
            limiter.release_on_behalf_of("another call")
        return found

    deadlines: list[float] = []
    entered: list[float] = []
    before = workers._time_limit

    def noted(seconds: float | None) -> Any:
        entered.append(len(deadlines))
        return before(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_time_limit", noted)
        assert len(anyio.run(calls, backend=backend)) == 1
    assert entered == [1]  # the limit was set after the wait


@BACKENDS
@pytest.mark.parametrize("raised", [GeneratorExit, StopIteration, SystemExit, KeyboardInterrupt])
def test_what_a_thread_raises_is_one_failed_sample(backend: str, raised: type[BaseException]) -> None:
    """No such exception ends the run, whether an attempt, a score or a rewrite raises it."""

    def wrong(*_: Any) -> Any:
        raise raised

    parts: list[dict[str, Any]] = [{"attempt": wrong}, {"score": wrong, "runs": "thread"}]
    for part in parts:
        result = fg.run(
            "gepa", task(**part), models=lambda messages: "", budget=fg.Budget(evaluations=4), backend=backend
        )
        assert result.status == "failed"
        assert raised.__name__ in str(result.reason)
    made = task(rewrite=wrong, score=lambda sample, output: fg.Score(0.5))
    result = fg.run("gepa", made, models=lambda messages: "", budget=fg.Budget(proposals=2), backend=backend)
    assert result.best is not None
    assert result.best.score == 0.5


@BACKENDS
def test_a_thread_of_an_attempt_calls_the_model(backend: str) -> None:
    """An attempt may start threads of its own, as agent frameworks do."""

    def attempt(candidate: Mapping[str, str], sample: int, llm: Any) -> str:
        with ThreadPoolExecutor(1) as pool:
            return str(pool.submit(llm, "?").result().text)

    result = fg.run(
        "gepa", task(attempt=attempt, score=lambda s, o: fg.Score(float(o == "yes"))),
        models=lambda messages: "yes", budget=fg.Budget(evaluations=2), backend=backend,
    )  # fmt: skip
    assert result.best is not None
    assert result.best.score == 1
    assert result.spent.calls == 2


def test_no_thread_keeps_python_from_ending() -> None:
    """Python waits for threads that are not daemons, and a function in a thread may never return."""

    async def daemon() -> bool:
        return bool(await run_in("thread", 1, lambda: threading.current_thread().daemon))

    assert anyio.run(daemon)
