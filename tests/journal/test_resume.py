"""Resume runs: finished, stopped, failed and copied ones, with other budgets, and with other graphs."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.errors import DataError, ModelUnavailable
from flashgraph.llm.protocol import Message
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt, Candidate, Work
from flashgraph.run import events as ev
from flashgraph.run.journal import JournalError, Store
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK
from tests.journal.kit import SCENARIOS, Scenario, admitted, answers, here, next_loop, proven, rows, session, sound
from tests.run.endpoints import requests

SCHEDULES = pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
CYCLIC, GEPA = SCENARIOS["cyclic"], SCENARIOS["gepa"]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A path for a run, inside an empty folder."""
    return tmp_path / "one" / "run"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """Another one, for the same run undisturbed."""
    return tmp_path / "alone" / "run"


def after(seconds: float, what: str) -> Callable[[Run], Awaitable[None]]:
    """Return a function that stops a run in some way after ``seconds``."""

    async def act(run: Run) -> None:
        await anyio.sleep(seconds)
        getattr(run, what)()

    return act


# ---- budgets over sessions -------------------------------------------------------------------------------


def test_a_finished_run_goes_on_under_a_larger_budget(fresh: Path, alone: Path) -> None:
    """Two proposals and then two more give the same as four."""
    first = here(GEPA, fresh, schedule="lockstep", budget=fg.Budget(proposals=2))
    then = here(GEPA, fresh, schedule="lockstep")
    assert (first.status, then.status, then.sessions) == ("budget", "budget", 2)
    assert then.pools == here(GEPA, alone, schedule="lockstep").pools
    assert answers(fresh) == answers(alone)
    proven(fresh)


def test_a_finished_run_under_the_same_budget_does_nothing(fresh: Path) -> None:
    """Nothing is left to do, and nothing is paid."""
    first = here(GEPA, fresh, schedule="pipelined")
    paid = answers(fresh)
    then = here(GEPA, fresh, schedule="pipelined")
    assert (then.status, then.reason, then.pools, then.spent) == (first.status, first.reason, first.pools, first.spent)
    assert answers(fresh) == paid


@SCHEDULES
@pytest.mark.parametrize(
    "budget", [fg.Budget(calls=40), fg.Budget(tokens=22_000), fg.Budget(usd=0.05)], ids=["calls", "tokens", "usd"]
)
def test_budgets_hold_over_kills(schedule: str, budget: fg.Budget, fresh: Path) -> None:
    """I10: what all sessions pay together stays within the limit, lost replies included."""
    for number in (9, 14, 11, 17):
        session(SCENARIOS["large cyclic"], fresh, schedule=schedule, budget=budget, kill_at=number)
    done = session(SCENARIOS["large cyclic"], fresh, schedule=schedule, budget=budget).value
    assert done.status == "budget"
    assert answers(fresh).total() <= (budget.calls or 1000)
    assert done.spent.tokens <= (budget.tokens or 10**9)
    assert done.spent.usd <= (budget.usd or 10**9)
    # Each answer costs 0.001 USD.
    assert answers(fresh).total() * 0.001 <= (budget.usd or 10**9)
    proven(fresh)


@SCHEDULES
def test_seconds_are_those_of_all_sessions(schedule: str, fresh: Path) -> None:
    """Used-up time stays used up in every later session; more time lets the run continue."""
    first = here(CYCLIC, fresh, schedule=schedule, budget=fg.Budget(seconds=20))
    assert (first.status, first.seconds) == ("budget", 20.0)
    paid = answers(fresh)
    for _ in range(2):
        again = here(CYCLIC, fresh, schedule=schedule, budget=fg.Budget(seconds=20))
        assert (again.status, again.seconds) == ("budget", 20.0)
        # The tokens of cancelled replies are an estimate, which a later session does not have.
        assert attrs.evolve(again.spent, tokens=0) == attrs.evolve(first.spent, tokens=0)
        assert again.spent.tokens <= first.spent.tokens
        assert answers(fresh) == paid
    more = here(CYCLIC, fresh, schedule=schedule, budget=fg.Budget(seconds=30))
    assert more.seconds == 30.0
    assert answers(fresh).total() > paid.total()
    proven(fresh)


def test_seconds_after_a_kill(fresh: Path) -> None:
    """A killed run resumes its clock where its journal ends."""
    session(CYCLIC, fresh, schedule="lockstep", budget=fg.Budget(seconds=30), kill_at=30)
    (at,) = rows(fresh, "SELECT max(at) FROM turns")[0]
    done = here(CYCLIC, fresh, schedule="lockstep", budget=fg.Budget(seconds=30))
    assert 0 < at < 30
    assert done.seconds == 30.0


# ---- stopped runs ----------------------------------------------------------------------------------------


@SCHEDULES
@pytest.mark.parametrize("seconds", [0.0, 3.0, 12.0, 25.0])
@pytest.mark.parametrize(("what", "status"), [("drain", "stopped"), ("stop", "cancelled")])
def test_stopped_runs_go_on(schedule: str, seconds: float, what: str, status: str, fresh: Path, alone: Path) -> None:
    """A drained run has lost nothing, a cancelled one its cancelled requests; both end as if they never stopped."""
    first = here(CYCLIC, fresh, schedule=schedule, act=after(seconds, what))
    assert first.status == status
    then = here(CYCLIC, fresh, schedule=schedule)
    undisturbed = here(CYCLIC, alone, schedule=schedule)
    assert then.status == undisturbed.status == "completed"
    if schedule == "lockstep":
        assert then.pools == undisturbed.pools
    if what == "drain":
        assert then.lost == 0
        assert schedule == "pipelined" or then.spent == undisturbed.spent
    proven(fresh)


@SCHEDULES
def test_stopped_while_a_grant_is_written_down(schedule: str, fresh: Path) -> None:
    """I13: a run that stops during the commit of a grant sends nothing, and later accounts do not count it."""

    async def act(run: Run) -> None:
        await anyio.sleep(3.0)
        keep = run.memory.keep

        def kept(turn: Any, machine: Any) -> Callable[[], Awaitable[None]]:
            durable = keep(turn, machine)

            async def wait() -> None:
                if durable is not None:
                    await durable()
                if turn.asked:
                    run.stop()

            return wait

        run.memory.keep = kept

    first = here(CYCLIC, fresh, schedule=schedule, act=act)
    assert (first.status, first.spent.calls) == ("cancelled", answers(fresh, "sent").total())
    then = here(CYCLIC, fresh, schedule=schedule)
    assert (then.status, then.spent.calls) == ("completed", answers(fresh, "sent").total())
    proven(fresh)


@SCHEDULES
@pytest.mark.parametrize("what", ["drain", "stop"])
def test_killed_while_it_was_stopping(schedule: str, what: str, fresh: Path, alone: Path) -> None:
    """An orderly stop that is interrupted equals a kill."""
    for number in (4, 11, 18):
        session(CYCLIC, fresh, schedule=schedule, act=after(6.0, what), kill_at=number)
        sound(fresh)
    then = here(CYCLIC, fresh, schedule=schedule)
    assert then.status == "completed"
    if schedule == "lockstep":
        assert then.pools == here(CYCLIC, alone, schedule=schedule).pools
    proven(fresh)


@SCHEDULES
def test_leaving_the_block_leaves_the_work(schedule: str, fresh: Path, alone: Path) -> None:
    """Work that is unfinished when the caller leaves is unfinished when the run resumes."""

    async def leave() -> None:
        models = dict.fromkeys(CYCLIC.roles, Failing(CYCLIC.roles["writer"], 10**6))
        async with fg.open_run(
            CYCLIC.graph(), CYCLIC.task, models=models, schedule=schedule, budget=CYCLIC.budget, folder=fresh,
            settle=settle,
        ) as run:  # fmt: skip
            async for event in run:
                if isinstance(event, ev.CallEnded) and event.call == 20:
                    break

    run_virtually(leave, backend=next_loop(fresh))
    then = here(CYCLIC, fresh, schedule=schedule, watched=False)  # with another name of the model
    assert then.status == "completed"
    if schedule == "lockstep":
        assert then.pools == here(CYCLIC, alone, schedule=schedule).pools


@SCHEDULES
def test_a_block_that_is_cancelled(schedule: str, fresh: Path) -> None:
    """A cancelled block ends like one that was left, not like a kill; its account has the cancelled requests."""

    async def cancelled() -> None:
        models = dict.fromkeys(CYCLIC.roles, Failing(CYCLIC.roles["writer"], 10**6))
        with anyio.move_on_after(5.5) as scope:
            async with fg.open_run(
                CYCLIC.graph(), CYCLIC.task, models=models, schedule=schedule, budget=CYCLIC.budget, folder=fresh,
                settle=settle,
            ) as run:  # fmt: skip
                await run.wait()
        assert scope.cancelled_caught
        with fg.StoredRun.open(fresh) as stored:
            assert (stored.status, stored.reason) == ("cancelled", "the run was stopped")
            assert json.loads(rows(fresh, "SELECT * FROM account")[0][1]) == run.machine.ledger.settled

    run_virtually(cancelled, backend=next_loop(fresh))
    assert here(CYCLIC, fresh, schedule=schedule, watched=False).status == "completed"


class Failing:
    """A model that answers some requests, each after a second, and then has an outage."""

    name = "model"
    limit = 4

    def __init__(self, answer: Callable[[Sequence[Message]], str], good: float) -> None:
        self._answer, self._good = answer, good
        self.paid: Counter[str] = Counter()

    def open(self) -> Any:
        return nullcontext()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        await anyio.sleep(1.0)
        if self._good <= 0:
            raise ModelUnavailable("the model is down")
        self._good -= 1
        self.paid[str(messages)] += 1
        return fg.Reply(self._answer(messages), fg.Usage(1, 1), 0.0)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.0


@SCHEDULES
@pytest.mark.parametrize("good", range(0, 34, 3))
def test_a_run_whose_model_was_down_goes_on(schedule: str, good: int, fresh: Path, alone: Path) -> None:
    """A run fails with the model's message, and resumes to the undisturbed result once the model is back.

    Replies that arrived as the outage began are not paid again.
    """
    graph, answer = CYCLIC.graph(), CYCLIC.roles["writer"]
    down, up, whole = (Failing(answer, number) for number in (good, 10**6, 10**6))

    def go(model: Failing, folder: Path, resume: bool) -> fg.Result:
        options: Any = {"schedule": schedule, "settle": settle, "folder": folder, "resume": resume}
        run = partial(fg.arun, graph, CYCLIC.task, models={"writer": model, "judge": model}, **options)
        return run_virtually(partial(run, budget=CYCLIC.budget), backend=next_loop(folder))

    first = go(down, fresh, False)
    assert (first.status, first.reason) == ("failed", "the model is down")
    then, undisturbed = go(up, fresh, True), go(whole, alone, False)
    assert then.status == undisturbed.status == "completed"
    assert not down.paid & up.paid, "a reply was paid again"
    if schedule == "lockstep":
        assert [(a.value, a.score) for a in then.artifacts] == [(a.value, a.score) for a in undisturbed.artifacts]
        assert down.paid + up.paid == whole.paid


def test_a_stage_that_keeps_failing_is_repaired(fresh: Path) -> None:
    """Twenty failures in a row stop the run; with a repaired stage it resumes, and pays no reply again."""
    paid: Counter[str] = Counter()

    def model(messages: Sequence[Message]) -> str:
        paid[messages[-1]["content"]] += 1
        return "1.0"

    def build(broken: bool) -> fg.Graph:
        graph = fg.Graph("failing")
        archive = graph.pool("archive", Archive)

        @graph.source(rounds=30)
        def pick(ctx: fg.Draw[None]) -> Candidate:
            return Candidate({"text": str(ctx.emission)}, 1)

        judge = graph.stage(name="judge", model="judge")(_broken if broken else _mended)
        graph.edge(pick, judge, scatter=Candidate.work)
        graph.edge(judge, archive, gather=True)
        return graph

    options: dict[str, Any] = {"models": {"judge": model}, "folder": fresh, "schedule": fg.pipelined(30)}
    first = fg.run(build(True), TASK, budget=fg.Budget(calls=100), **options)
    assert first.status == "failed"
    assert "20 times in a row" in first.reason
    then = fg.run(build(False), TASK, budget=fg.Budget(calls=100), resume=True, accept_changes=True, **options)
    assert then.status == "completed"
    assert max(paid.values()) == 1


async def _broken(work: Work, ctx: fg.Context) -> Attempt:
    await ctx.llm(f"{work.text['text']} {work.index}")
    raise ValueError("broken")


async def _mended(work: Work, ctx: fg.Context) -> Attempt:
    reply = await ctx.llm(f"{work.text['text']} {work.index}")
    return Attempt(work.index, float(reply.text), reply.text)


# ---- what is served again --------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", range(1, 7))
def test_equal_requests_are_served_in_their_order(stop_after: int, fresh: Path) -> None:
    """A stage that sends equal requests, in sequence and concurrently, gets each stored reply once."""
    count = 0

    def model(messages: Sequence[Message]) -> str:
        nonlocal count
        count += 1
        return str(count)

    graph = fg.Graph("equal")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=1)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": "x"}, 1)

    @graph.stage(model="judge")
    async def judge(work: Work, ctx: fg.Context) -> Attempt:
        said = [(await ctx.llm("same")).text for _ in range(3)]

        async def ask() -> None:
            said.append((await ctx.llm("same")).text)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        return Attempt(work.index, 1.0, " ".join(sorted(said)))

    graph.edge(pick, judge, scatter=Candidate.work)
    graph.edge(judge, archive, gather=True)

    async def go(resume: bool) -> fg.Result:
        async with fg.open_run(graph, TASK, models={"judge": model}, folder=fresh, resume=resume) as run:
            answered = 0
            async for event in run:
                answered += isinstance(event, ev.CallEnded)
                if not resume and answered == stop_after:
                    run.stop()
            return run.result

    anyio.run(go, False, backend=next_loop(fresh))
    done = anyio.run(go, True, backend=next_loop(fresh))
    assert done.status == "completed"
    kept = [text for (text,) in rows(fresh, "SELECT how FROM calls")]
    assert kept.count("done") == 6
    assert 6 <= count <= len(kept)


# ---- odd values ------------------------------------------------------------------------------------------


def odd(reply: str, value: Any, folder: Path, **options: Any) -> fg.Result:
    """Run a stage that makes ``value`` out of a reply."""
    graph = fg.Graph("odd")
    archive = graph.pool("archive", Archive)

    @graph.source(rounds=2)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": str(ctx.emission)}, 1)

    @graph.stage(model="judge")
    async def judge(work: Work, ctx: fg.Context) -> Attempt:
        text = (await ctx.llm(work.text["text"])).text
        made: Attempt = Attempt(work.index, 1.0, text) if work.text["text"] == "0" else value(text)
        return made

    graph.edge(pick, judge, scatter=Candidate.work)
    graph.edge(judge, archive, gather=True)
    models = {"judge": lambda messages: reply}
    return fg.run(graph, TASK, models=models, schedule="lockstep", folder=folder, **options)


@pytest.mark.parametrize("reply", ["cut \ud83d", "\udc00" * 300, "\x00", "\u2028 \U0001f600"])
def test_texts_that_are_none(reply: str, fresh: Path) -> None:
    """A lone surrogate, NUL and others are stored unchanged, also in the reason of a failure that quotes them."""

    def fails(text: str) -> Any:
        raise ValueError(text)

    first = odd(reply, fails, fresh)
    assert first.status == "completed"
    sound(fresh)
    then = odd(reply, fails, fresh, resume=True)
    assert then.artifacts == first.artifacts
    assert rows(fresh, "SELECT count(*) FROM failures") == [(1,)]


def test_a_value_that_cannot_be_kept_stops_the_run(fresh: Path) -> None:
    """The error names the value and the fix; the run resumes once the stage is repaired."""
    first = odd("x", lambda text: Attempt(0, 1.0, object()), fresh)  # type: ignore[arg-type]
    assert first.status == "failed"
    assert "builtins.object cannot be stored with the run" in first.reason
    assert "Fix: annotate the stage" in first.reason
    sound(fresh)
    then = odd("x", lambda text: Attempt(0, 1.0, "mended"), fresh, resume=True, accept_changes=True)
    assert then.status == "completed"
    assert len(then.artifacts) == 2
    assert rows(fresh, "SELECT count(*) FROM calls WHERE how = 'done'") == [(2,)]


# ---- who sees what ---------------------------------------------------------------------------------------


def test_events_of_earlier_sessions(fresh: Path) -> None:
    """The result has the events of all sessions; a hook gets the new ones only."""
    session(GEPA, fresh, schedule="pipelined", kill_at=40)
    told = admitted(fresh)
    seen = (fresh.parent / "seen").read_text().splitlines()
    done = here(GEPA, fresh, schedule="pipelined")
    all_seen = (fresh.parent / "seen").read_text().splitlines()
    assert len(all_seen) == len(set(all_seen))
    assert len(admitted(fresh)) >= len(told)
    assert done.sessions == 2
    assert all_seen[: len(seen)] == seen


@pytest.mark.parametrize("virtual", [True, False])
def test_nobody_sees_what_is_not_durable(virtual: bool, fresh: Path) -> None:
    """When a hook gets an admission, another process can read it in the journal, however slow the disk is."""
    heard: list[bool] = []

    def slow(store: Store) -> None:
        commit = store._commit

        def later(batches: Any) -> None:
            time.sleep(0.02)
            commit(batches)

        store._commit = later  # type: ignore[method-assign]

    def hook(event: ev.Event) -> None:
        if isinstance(event, ev.Admitted | ev.Confirmed | ev.Retracted):
            heard.append((event.pool, event.version) in {row[1:3] for row in admitted(fresh)})

    here(GEPA, fresh, on_store=slow, virtual=virtual, schedule="pipelined", on_event=hook)
    assert len(heard) >= 4
    assert all(heard)


def test_a_copy_goes_on_elsewhere(fresh: Path, alone: Path) -> None:
    """A copy of a run's folder can be resumed, and so can the original."""
    session(CYCLIC, fresh, schedule="lockstep", kill_at=30)
    alone.parent.mkdir()
    shutil.copytree(fresh, alone)
    assert here(CYCLIC, alone, schedule="lockstep").pools == here(CYCLIC, fresh, schedule="lockstep").pools


@SCHEDULES
@pytest.mark.parametrize("number", range(4))
def test_another_event_loop(number: int, schedule: str, fresh: Path, alone: Path) -> None:
    """Trio resumes what asyncio began, and the reverse; undisturbed runs are equal on both."""
    first = next_loop(fresh)
    session(CYCLIC, fresh, schedule=schedule, kill_at=30)
    assert next_loop(fresh) != first
    done = session(CYCLIC, fresh, schedule=schedule).value
    proven(fresh)
    if schedule == "lockstep":
        assert done.pools == here(CYCLIC, alone, schedule=schedule).pools


def test_killed_before_it_began(fresh: Path) -> None:
    """A run that was killed before its header was stored is started from scratch, whatever its folder contains."""
    assert session(GEPA, fresh, schedule="lockstep", kill_inside=1).killed
    with pytest.raises(JournalError, match="killed before it began"):
        here(GEPA, fresh, schedule="lockstep", resume=True)
    assert here(GEPA, fresh, schedule="lockstep", resume=False).status == "budget"
    with pytest.raises(JournalError, match="a journal exists already"):
        here(GEPA, fresh, schedule="lockstep", resume=False)


def test_a_missing_folder(fresh: Path) -> None:
    """Resuming a missing folder is an error."""
    with pytest.raises(JournalError, match="no such journal"):
        here(GEPA, fresh, schedule="lockstep", resume=True)


# ---- changed graphs --------------------------------------------------------------------------------------


def variant(
    *, words: str = "judge", stage: str = "judge", rounds: int = 3, size: int = 2, item: type = Candidate, **edge: Any
) -> Callable[[], fg.Graph]:
    """Return a graph that can be changed in one place."""

    def build() -> fg.Graph:
        graph = fg.Graph("variant")
        archive = graph.pool("archive", Archive)

        def pick(ctx: fg.Draw[None]) -> Any:
            return item({"text": str(ctx.emission)}, size)

        pick.__annotations__["return"] = item
        first = graph.source(name="pick", rounds=rounds)(pick)
        judge = graph.stage(name=stage, model="judge")({"judge": _judge, "assess": _assess}[words])

        def scatter(value: Any) -> list[Work]:
            return [Work(value.text, "val", 0) for _ in range(value.size)]

        scatter.__annotations__["value"] = item
        graph.edge(first, judge, scatter=scatter)
        graph.edge(judge, archive, gather=True, **edge)
        return graph

    return build


async def _judge(work: Work, ctx: fg.Context) -> Attempt:
    reply = await ctx.llm(f"judge {work.text['text']}")
    return Attempt(work.index, 1.0, reply.text)


async def _assess(work: Work, ctx: fg.Context) -> Attempt:
    reply = await ctx.llm(f"assess {work.text['text']}")
    return Attempt(work.index, 1.0, reply.text)


@attrs.frozen
class Aimed:
    """Like a `Candidate`, with another field."""

    text: Mapping[str, str]
    size: int
    aim: str = ""


def of(make: Callable[[], fg.Graph]) -> Scenario:
    return Scenario("variant", make, TASK, {"judge": lambda messages: "ok"}, fg.Budget(calls=1000))


def begun_run(folder: Path, **options: Any) -> None:
    session(of(variant()), folder, kill_at=13, **{"schedule": "pipelined", **options})
    assert len(admitted(folder)) < 3


def test_a_changed_function_needs_leave(fresh: Path) -> None:
    """A changed prompt is named; once accepted, finished work is kept, and new work uses the new prompt."""
    begun_run(fresh)
    with pytest.raises(DataError, match="function of judge") as caught:
        here(of(variant(words="assess")), fresh, schedule="pipelined")
    assert "--accept-changes" in str(caught.value)
    done = here(of(variant(words="assess")), fresh, schedule="pipelined", accept_changes=True)
    assert done.status == "completed"
    with_words = Counter(text.split()[0] for text in messages(fresh))
    assert set(with_words) == {"judge", "assess"}


def messages(folder: Path) -> list[str]:
    """Return the messages of all calls."""
    texts = {name: zlib.decompress(data).decode() for name, data in rows(folder, "SELECT hash, data FROM payloads")}
    listed = rows(folder, "SELECT messages FROM calls WHERE how = 'done'")
    return [texts[name] for (text,) in listed for _, name in json.loads(text)]


def test_a_changed_policy_needs_leave(fresh: Path) -> None:
    """A changed policy must be accepted; if the replay then diverges, the error names the policy."""
    begun_run(fresh)
    late = variant(release=fg.fraction(0.5), late="cancel")
    with pytest.raises(DataError, match=r"judge->archive.release"):
        here(of(late), fresh, schedule="pipelined")
    with pytest.raises(DataError, match=r"window: 8 -> 1") as caught:
        here(of(variant()), fresh, schedule=fg.pipelined(1), accept_changes=True)
    assert "decides otherwise with these changes" in str(caught.value)
    assert here(of(variant()), fresh, schedule="pipelined").status == "completed"


@pytest.mark.parametrize("limit", [1, 2, 9])
@SCHEDULES
def test_another_server(schedule: str, limit: int, fresh: Path) -> None:
    """Another concurrency limit, and the worker counts that follow from it, are not a change of the graph.

    Over sessions of different width the replay is the same.
    """
    scenario = SCENARIOS["large cyclic"]
    for number, width in enumerate((4, limit, 3)):
        session(scenario, fresh, schedule=schedule, limit=width, kill_at=60 + 9 * number, watched=False)
    done = session(scenario, fresh, schedule=schedule, limit=limit, watched=False).value
    assert (done.status, done.sessions) == ("completed", 4)
    proven(fresh)


@attrs.define(eq=False)
class Costs:
    """A model whose requests each cost a given amount."""

    name: str
    usd: float
    limit: int = 8

    def open(self) -> Any:
        return nullcontext()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        await anyio.sleep(0.001)
        return fg.Reply("ok", fg.Usage(1, 1), self.usd)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return self.usd


def test_another_model_is_paid_from_the_budget(fresh: Path) -> None:
    """A session uses the prices of its own model, even while the earlier one is open for another role."""
    free, dear = Costs("free", 0.0), Costs("dear", 1.0)
    options: dict[str, Any] = {"schedule": fg.pipelined(8, focus=0.0), "folder": fresh}
    graph = requests(20, ("task", "reflection"))
    fg.run(graph, TASK, models={"task": free, "reflection": free}, budget=fg.Budget(calls=3), **options)
    models = {"task": dear, "reflection": free}
    done = fg.run(graph, TASK, models=models, budget=fg.Budget(usd=3.0), resume=True, **options)
    assert (done.status, done.reason, done.spent.usd) == ("budget", "no usd left", 3.0)


def test_another_number_of_workers(fresh: Path) -> None:
    """The number of workers is not a change of the graph, and need not be accepted."""
    begun_run(fresh, settings={"judge.workers": 1})
    done = here(of(variant()), fresh, schedule="pipelined", settings={"judge.workers": 9})
    assert done.status == "completed"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (variant(stage="grade"), "pick->grade: (none) -> edge, scatter"),
        (variant(item=Aimed), "pick: source Candidate, reads None -> source Aimed, reads None"),
    ],
    ids=["node", "item type"],
)
def test_another_topology_is_refused(make: Callable[[], fg.Graph], said: str, fresh: Path) -> None:
    """The error shows the difference; the run is unharmed."""
    begun_run(fresh)
    with pytest.raises(DataError, match="the graph has changed") as caught:
        here(of(make), fresh, schedule="pipelined", accept_changes=True)
    assert said in str(caught.value)
    assert here(of(variant()), fresh, schedule="pipelined").status == "completed"


def test_an_item_with_other_fields_is_refused(fresh: Path) -> None:
    """A class of the same name with another field is refused."""
    begun_run(fresh)
    other = attrs.make_class(
        "Candidate", {"text": attrs.field(type=Mapping[str, str]), "size": attrs.field(type=float)}
    )
    with pytest.raises(DataError, match=r"type Candidate: text: Mapping\[str, str\], size: int -> .* size: float"):
        here(of(variant(item=other)), fresh, schedule="pipelined", accept_changes=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 5}, "seed: 0 -> 5"),
        ({"params": {"minibatch": 4}}, "parameter minibatch: 3 -> 4"),
    ],
)
def test_another_seed_or_parameter_is_refused(options: Mapping[str, Any], said: str, fresh: Path) -> None:
    """Seed and parameters decide what is drawn, so a change would make another run."""
    session(GEPA, fresh, schedule="lockstep", kill_at=20)
    with pytest.raises(DataError, match=said):
        here(GEPA, fresh, schedule="lockstep", accept_changes=True, **options)


def test_another_schedule(fresh: Path) -> None:
    """A lockstep run cannot be resumed as pipelined."""
    session(GEPA, fresh, schedule="lockstep", kill_at=40)
    with pytest.raises(DataError, match="schedule: serial -> overlapping"):
        here(GEPA, fresh, schedule="pipelined")
    with pytest.raises(DataError, match="decides otherwise with these changes"):
        here(GEPA, fresh, schedule="pipelined", accept_changes=True)
