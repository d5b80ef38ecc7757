"""A user function that would end the process fails its own job alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Candidate, attempt
from flashgraph.run import contained, driver, execution
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.contained import Escaped, escaped
from flashgraph.testing import settle
from flashgraph.testing.runs import LatencyModel
from tests.proof.oracles.small import Kept
from tests.run.kit import Virtually, of


class Odd(BaseException):
    """An exception that is no `Exception`."""


class Unspeakable(Exception):
    """An exception whose text does the given thing."""

    def __str__(self) -> str:
        return str(self.args[0]())


class Text:
    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    def __str__(self) -> str:
        return self._say()


async def exits() -> None:
    sys.exit(5)


async def in_a_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exits)


async def gathered() -> None:
    await asyncio.gather(exits(), asyncio.sleep(0))


async def in_a_task_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(exits())


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()


class Odder(type):
    """A class without a name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            sys.exit(6)
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Odder):
    """An exception of such a class."""


def nested(error: BaseException) -> BaseException:
    """A group within a group, deeper than Python calls functions."""
    for _ in range(3000):
        error = BaseExceptionGroup("group", [error])
    return error


def soon(act: Callable[[], Any]) -> Callable[[], Any]:
    """Make the event loop call a function, and wait until it has."""

    async def attempts() -> None:
        act()
        await asyncio.sleep(0.01)

    return attempts


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def when_done() -> None:
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.add_done_callback(lambda _: sys.exit(2))
    KEPT.append(task)


def when_readable() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    loop().add_reader(reader, lambda: (loop().remove_reader(reader), sys.exit(2)))


KEPT: list[Any] = []

CALLBACKS: Mapping[str, Callable[[], Any]] = {
    "call_soon": lambda: loop().call_soon(sys.exit),
    "call_later": lambda: loop().call_later(0.001, sys.exit, 3),
    "call_at": lambda: loop().call_at(loop().time(), sys.exit, 3),
    "call_soon_threadsafe": lambda: loop().call_soon_threadsafe(sys.exit),
    "an interrupt": lambda: loop().call_soon(raising(KeyboardInterrupt())),
    "a done callback": when_done,
    "a reader": when_readable,
    "a task that nobody awaits": lambda: KEPT.append(asyncio.ensure_future(exits())),
    "loop.stop": lambda: loop().call_soon(loop().stop),
}

ATTEMPTS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "exit": (lambda: exit(), "SystemExit"),
    "quit": (lambda: quit(0), "SystemExit"),
    "sys.exit": (lambda: sys.exit("bye"), "SystemExit: bye"),
    "an interrupt of its own": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "a base exception": (raising(Odd("odd")), "Odd: odd"),
    "a generator's exit": (raising(GeneratorExit()), "GeneratorExit"),
    "a group": (raising(BaseExceptionGroup("group", [ValueError("v"), Odd("odd")])), "Odd: odd"),
    "a text that exits": (raising(Unspeakable(lambda: sys.exit(4))), "Unspeakable: (its __str__ raised SystemExit)"),
    "a text that fails": (raising(Unspeakable(lambda: 1 / 0)), "Unspeakable: (its __str__ raised ZeroDivisionError)"),
    "a text without end": (
        raising(ValueError("x" * 30_000)),
        f"ValueError: {'x' * 20_000} [... 10000",
    ),
    "a class without a name": (raising(Nameless("odd")), "Nameless: odd"),
    "a group with a cancellation": (
        raising(BaseExceptionGroup("group", [asyncio.CancelledError(), ValueError("v")])),
        "ValueError: v",
    ),
    "a group that exits and is cancelled": (
        raising(BaseExceptionGroup("group", [asyncio.CancelledError(), SystemExit(3)])),
        "SystemExit: 3",
    ),
    "a deep group": (raising(nested(SystemExit(3))), "SystemExit: 3"),
    "a thread": (lambda: anyio.to_thread.run_sync(sys.exit, 3), "SystemExit: 3"),
    "a task group": (in_a_group, "SystemExit: 5"),
}
ON_ASYNCIO: Mapping[str, tuple[Callable[[], Any], str]] = {
    "gather": (gathered, "SystemExit: 5"),
    "asyncio's task group": (in_a_task_group, "SystemExit: 5"),
    "loop.stop": (stops_the_loop, "loop.stop() is not for a job to call"),
    "loop.close": (lambda: loop().close(), "loop.close() is not for a job to call"),
    "another task factory": (lambda: loop().set_task_factory(None), "loop.set_task_factory() is not for a job"),
    "an exception handler": (
        lambda: loop().set_exception_handler(lambda *_: sys.exit()),
        "loop.set_exception_handler() is not for a job",
    ),
}


def graph() -> fg.Graph:
    """Return a graph that tries the seed on all samples."""
    made = fg.Graph("seed alone")
    archive = made.pool("archive", Archive)

    @made.source(rounds=1)
    def seed(ctx: fg.Draw[None]) -> Candidate:
        return Candidate(dict(ctx.task.seed), len(ctx.task.val))

    validate = made.stage(attempt, name="validate", model="task", counts="evaluations")
    made.edge(seed, validate, scatter=Candidate.work)
    made.edge(validate, archive, gather=True)
    return made


def task(act: Callable[[], Any], where: str = "attempt") -> fg.Task[Any, Any]:
    """Return a task whose first sample does ``act`` in its attempt, its score or its text."""

    async def tries(candidate: Mapping[str, str], sample: int, llm: Any) -> Any:
        await llm("a question")
        if sample == 0 and where == "attempt":
            made = act()
            if made is not None:
                await made
        return Text(act if sample == 0 and where == "text" else lambda: "fine")

    def score(sample: int, output: Any) -> fg.Score:
        if sample == 0 and where == "score":
            act()
        return fg.Score(0.5)

    return fg.Task("odd", train=[1], val=[0, 1, 2], attempt=tries, score=score)


def ran(made: fg.Task[Any, Any], virtually: Virtually) -> fg.Result:
    model = LatencyModel(2, lambda request: 1.0)

    async def run() -> fg.Result:
        return await fg.arun(graph(), made, models={"task": model}, settle=settle)

    result: fg.Result = virtually(run)
    return result


def expect_one_failed(result: fg.Result, said: str) -> None:
    assert (result.status, result.spent.evaluations) == ("completed", 3)
    failed = [e.reason for e in of(result, ev.JobEnded) if e.how == "failed"]
    assert len(failed) == 1
    assert failed[0].startswith(said)
    assert len(result.artifacts) == 1


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_that_would_end_the_process(name: str, virtually: Virtually) -> None:
    """An attempt that would end the process is one failed sample, with the reason."""
    act, said = ATTEMPTS[name]
    expect_one_failed(ran(task(act), virtually), said)


@pytest.mark.parametrize("where", ["score", "text"])
@pytest.mark.parametrize("name", ["exit", "sys.exit", "an interrupt of its own", "a base exception"])
def test_a_score_or_a_text_that_would(name: str, where: str, virtually: Virtually) -> None:
    """A score or text that would end the process is one failed sample too."""
    act, said = ATTEMPTS[name]
    expect_one_failed(ran(task(act, where), virtually), said)


@pytest.mark.parametrize("name", ON_ASYNCIO)
def test_what_only_asyncio_has(name: str) -> None:
    """Tasks that an attempt begins cannot end the process either: asyncio lets a SystemExit out of the event loop."""
    act, said = ON_ASYNCIO[name]
    expect_one_failed(fg.run(graph(), task(act), models={"task": lambda messages: "ok"}), said)


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_that_would_end_the_process(name: str) -> None:
    """A callback that would end the process is logged by asyncio, and nothing stops."""
    result = fg.run(graph(), task(soon(CALLBACKS[name])), models={"task": lambda messages: "ok"})
    assert (result.status, [e.how for e in of(result, ev.JobEnded)]) == ("completed", ["done"] * 4)
    KEPT.clear()


@pytest.mark.parametrize("all_", [True, False], ids=["all tasks", "all but its own"])
def test_a_job_that_cancels_the_run(all_: bool, tmp_path: Path) -> None:
    """A job that cancels the run ends it with a reason; the resumed run completes its work."""
    fails = [True]

    async def attempts() -> None:
        if fails.pop():
            fails.append(False)
            for one in asyncio.all_tasks():
                if all_ or one is not asyncio.current_task():
                    one.cancel()
            await asyncio.sleep(1)
        fails.append(False)

    made = task(attempts)
    with pytest.raises(FlashgraphError, match="the run was cancelled by a function that it called"):
        fg.run(graph(), made, models={"task": lambda messages: "ok"}, folder=tmp_path / "run")
    result = fg.run(graph(), made, models={"task": lambda messages: "ok"}, folder=tmp_path / "run", resume=True)
    assert (result.status, len(result.artifacts)) == ("completed", 1)
    assert dict(result.artifacts[0].scores) == {0: 0.5, 1: 0.5, 2: 0.5}


@pytest.mark.parametrize("act", [sys.exit, raising(KeyboardInterrupt()), raising(Odd("odd"))], ids=range(3))
def test_a_hook_that_would_end_the_process(act: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """A hook that would end the process is dropped, and the run continues."""
    calls: list[Any] = []

    def hook(event: Any) -> None:
        calls.append(event)
        act()

    result = fg.run(graph(), task(lambda: None), models={"task": lambda messages: "ok"}, on_event=hook)
    assert (result.status, len(calls), len(result.artifacts)) == ("completed", 1, 1)
    assert "on_event raised and is not called again" in caplog.text


@pytest.mark.parametrize("where", ["plain stage", "stage", "source", "edge", "pool"])
def test_functions_that_are_no_coroutines(where: str, virtually: Virtually) -> None:
    """Synchronous stages fail their items, and functions of edges theirs; a source or a pool fails the run with a
    reason.
    """

    def act(here: str) -> None:
        if here == where:
            sys.exit(7)

    class Pool(Kept):
        def apply(self, event: fg.PoolEvent[Any]) -> Kept:
            act("pool")
            return super().apply(event)

    made = fg.Graph("plain")
    pool = made.pool("pool", Pool)

    @made.source(rounds=2)
    def emit(ctx: fg.Draw[None]) -> int:
        act("source")
        return ctx.emission

    @made.stage
    def plain(number: int) -> int:
        act("plain stage")
        return number

    @made.stage
    def other(number: int, ctx: fg.Context) -> int:
        act("stage")
        return number

    def takes(number: int) -> bool:
        act("edge")
        return True

    made.edge(emit, plain, when=takes)
    made.edge(plain, other)
    made.edge(other, pool)

    async def run() -> fg.Result:
        return await fg.arun(made, task(lambda: None), models={}, settle=settle)

    if where == "pool":
        with pytest.raises(Escaped, match="SystemExit: 7"):
            virtually(run)
        return
    result: fg.Result = virtually(run)
    assert result.judged().status == "failed"
    assert "SystemExit: 7" in result.judged().reason


def test_a_real_interrupt_goes_on() -> None:
    """A KeyboardInterrupt of a signal handler passes through, as Python, asyncio and trio raise it."""
    for file in ("asyncio.runners", "trio._core._ki"):
        handled: dict[str, Any] = {"__name__": file}
        exec("def handler(): raise KeyboardInterrupt", handled)
        with pytest.raises(KeyboardInterrupt) as raised:
            handled["handler"]()
        assert escaped(raised.value) is None
    # An error raised in C, as by `signal.default_int_handler`, has no statement that raises.
    import signal

    with pytest.raises(KeyboardInterrupt) as raised:
        signal.default_int_handler(signal.SIGINT, None)
    assert escaped(raised.value) is None
    with pytest.raises(KeyboardInterrupt) as raised:
        raising(KeyboardInterrupt())()
    assert isinstance(escaped(raised.value), Escaped)
    assert escaped(BaseExceptionGroup("both", [SystemExit(), asyncio.CancelledError()])) is None


def test_the_event_loop_is_left_as_it_was() -> None:
    """The event loop has its own task factory and ``stop`` again, also after two runs at once."""

    async def runs() -> None:
        loop = asyncio.get_running_loop()
        stop, models = loop.stop, {"task": lambda messages: "ok"}
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(lambda: fg.arun(graph(), task(lambda: None), models=models))
        assert loop.stop == stop
        assert loop.get_task_factory() is None
        assert not {"stop", "close", "call_soon", "call_at", "add_reader"} & set(vars(loop))

    asyncio.run(runs())


def test_a_task_factory_of_the_users_own_stays() -> None:
    """Under a user's task factory jobs are contained, but not the tasks that they begin."""

    async def runs() -> None:
        begun: list[Any] = []

        def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
            begun.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(factory)
        result = await fg.arun(graph(), task(ATTEMPTS["sys.exit"][0]), models={"task": lambda messages: "ok"})
        expect_one_failed(result, "SystemExit: bye")
        assert asyncio.get_running_loop().get_task_factory() is factory
        assert len(begun) > 3

    asyncio.run(runs())


# ---- jobs that do not end -------------------------------------------------------------------------------


async def stubborn() -> None:
    while True:
        with contextlib.suppress(BaseException):
            await anyio.sleep(0.001)


async def two_stubborn_ones() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stubborn)
        tasks.start_soon(stubborn)


async def shielded() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def at_its_end() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        await shielded()


async def in_a_thread() -> None:
    # Not shorter than the grace, whatever the machine is busy with.
    await anyio.to_thread.run_sync(OVER.wait)


async def left_behind() -> None:
    asyncio.get_running_loop().create_task(stubborn())
    await anyio.sleep_forever()


OVER: Any = None


STUBBORN = [
    stubborn, two_stubborn_ones, shielded, at_its_end, in_a_thread, left_behind,
    lambda: asyncio.gather(stubborn(), stubborn()), lambda: asyncio.shield(stubborn()),
]  # fmt: skip
NAMES = ["swallows", "two swallow", "shielded", "at its end", "thread", "left behind", "gather", "asyncio.shield"]


@pytest.mark.parametrize("act", STUBBORN, ids=NAMES)
@pytest.mark.parametrize("outside", [False, True], ids=["stopped", "cancelled from outside"])
def test_a_job_that_does_not_end(
    act: Callable[[], Any], outside: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that does not end is abandoned after the grace and named with its line. The run ends with its result, and
    the event loop closes.
    """
    global OVER
    import threading

    OVER = threading.Event()
    for module in (driver, execution, contained):
        monkeypatch.setattr(module, "GRACE", 0.05)
    begun = anyio.Event()
    result: list[fg.Result] = []

    async def tries() -> None:
        begun.set()
        await act()

    async def runs() -> None:
        try:
            async with fg.open_run(graph(), task(tries), models={"task": lambda messages: "ok"}) as run:
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                if not outside:
                    run.stop("enough")
                    result.append(await run.wait())
                    assert all("stage 'validate'" in named and __file__ in named for named in run.abandoned)
        finally:
            await contained.swept(0.05)

    try:
        asyncio.run(runs())
    finally:
        OVER.set()
    if not outside:
        assert (result[0].status, result[0].reason) == ("cancelled", "enough")
        ended = sorted(e.job for e in of(result[0], ev.JobEnded))
        assert ended == [e.job for e in of(result[0], ev.JobStarted)]
    # These two end with their job, and leave a task behind that does not.
    if act not in (left_behind, STUBBORN[-1]):
        assert outside or Cause.ABANDONED in {e.cause for e in of(result[0], ev.JobEnded)}
        assert "is abandoned; it stands at" in caplog.text
        assert __file__ in caplog.text


def test_a_job_whose_group_went_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose group was released without it is abandoned too: it would hold its worker forever."""
    monkeypatch.setattr(execution, "GRACE", 0.05)
    made = fg.Graph("late")
    archive = made.pool("archive", Archive)

    @made.source(rounds=1)
    def seed(ctx: fg.Draw[None]) -> Candidate:
        return Candidate(dict(ctx.task.seed), len(ctx.task.val))

    validate = made.stage(attempt, name="validate", model="task")
    made.edge(seed, validate, scatter=Candidate.work)
    made.edge(validate, archive, gather=True, release=fg.fraction(0.6), late="cancel")
    result = fg.run(made, task(stubborn), models={"task": lambda messages: "ok"}, schedule=fg.pipelined(1))
    assert (result.status, len(result.artifacts)) == ("completed", 1)
    assert [e.how for e in of(result, ev.JobEnded)].count("cancelled") == 1
