"""`Progress` counts hand-made events and runs; the frame has tests of its own."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.loading import load_graph
from flashgraph.observe.progress import Progress
from flashgraph.run import events as ev


@pytest.fixture
def progress() -> Progress:
    return Progress(load_graph("gepa").spec, fg.Budget(proposals=10, seconds=90))


def created(item: int, edge: str, group: int | None = None) -> ev.Created:
    return ev.Created(0.0, item, edge, 0, (), group, None, {}, frozenset())


def admitted(artifact: int, score: float, *, provisional: bool = False, lag: int = 0) -> ev.Admitted:
    return ev.Admitted(61.0, "frontier", artifact + 1, artifact, 9, lag, provisional, (), score)


def test_items_wait_until_a_worker_takes_them_up(progress: Progress) -> None:
    """Waiting, working, done and failed items of a stage are counted."""
    progress.on_event(created(1, "select->rollout", group=0))
    progress.on_event(created(2, "select->rollout", group=0))
    rollout = progress.stages["rollout"]
    assert len(rollout.waiting) == 2
    progress.on_event(ev.JobStarted(1.0, 7, "rollout", 1, 1, 0))
    assert (len(rollout.waiting), rollout.working) == (1, 1)
    progress.on_event(ev.Ended(2.0, 2, "cancelled"))
    progress.on_event(ev.JobEnded(3.0, 7, "rollout", "done", 2.0))
    assert (len(rollout.waiting), rollout.working, rollout.done, rollout.failed) == (0, 0, 1, 0)
    assert progress.spent["evaluations"] == 1


def test_members_that_wait_for_their_group_wait_for_no_worker(progress: Progress) -> None:
    """Members that wait for their group wait for no worker; the released group waits as one item."""
    progress.on_event(created(1, "rollout->propose", group=0))
    assert not progress.stages["propose"].waiting
    progress.on_event(created(2, "rollout->propose"))
    progress.on_event(ev.Queued(1.0, 2, "rollout->propose", 1))
    assert progress.stages["propose"].waiting == {2}


def test_an_item_comes_back_from_its_repair(progress: Progress) -> None:
    """An item that returns from its repair waits for its stage again."""
    progress.on_event(created(1, "gate->validate"))
    progress.on_event(ev.JobStarted(1.0, 3, "rebase", 1, 1, 2))
    assert not progress.stages["validate"].waiting
    progress.on_event(ev.JobEnded(2.0, 3, "rebase", "done", 1.0))
    progress.on_event(ev.Queued(2.0, 1, "gate->validate", 1))
    assert progress.stages["validate"].waiting == {1}


def test_rates_are_of_the_last_minute(progress: Progress) -> None:
    """A rate counts the last minute; a shorter run is scaled up."""
    stage = progress.stages["gate"]
    for at in (1.0, 10.0, 70.0):
        stage.ended("done", at)
    assert stage.rate(90.0) == 1.0
    stage.ended("done", 91.0)
    assert stage.rate(91.0) == 2.0


def champion(artifact: int | None, score: float | None, known: Evidence | None = None, **more: bool) -> ev.Event:
    return ev.ChampionChanged(61.0, "frontier", 1, artifact, score, known, more.get("provisional", False))


def test_a_champion_is_news_once_it_is_confirmed(progress: Progress) -> None:
    """A champion is news once it is confirmed; a provisional one, a lucky score and a retraction are not."""
    assert progress.on_event(admitted(0, 0.5, provisional=True)) is None
    assert progress.best_text == "none yet"
    assert progress.on_event(champion(0, 0.5, provisional=True)) is None
    assert progress.best == 0.5
    assert progress.on_event(ev.Confirmed(61.0, "frontier", 2, 0, 0.25)) is None
    assert progress.on_event(champion(0, 0.25)) == "1:01 best 0.250"
    assert progress.on_event(admitted(1, 0.9)) is None
    assert progress.best == 0.25
    assert progress.on_event(ev.Retracted(62.0, "frontier", 4, 1)) is None
    assert progress.on_event(champion(2, 0.75)) == "1:01 best 0.750, was 0.250"
    assert progress.accepted == 1
    progress.on_event(champion(None, None))
    assert progress.best_text == "none yet"


def test_the_news_say_what_a_score_rests_on(progress: Progress) -> None:
    """More evidence for the same champion changes the line of the best and makes no news."""
    known = weigh(dict.fromkeys(range(30), 0.5), 100)
    assert progress.on_event(champion(0, 0.5, known)) == f"1:01 best {known}"
    more = weigh(dict.fromkeys(range(60), 0.5), 100)
    assert progress.on_event(champion(0, 0.5, more)) is None
    assert progress.best_text == str(more)
    assert progress.best_text.startswith("0.50 (60 of 100, 0.")


def test_calls_add_up(progress: Progress) -> None:
    """Calls, tokens and money of ended calls add up; calls in flight are counted."""
    for call in (0, 1):
        progress.on_event(ev.CallStarted(0.0, call, 0, "task", "tiny", call + 1))
    progress.on_event(ev.CallEnded(1.0, 0, 0, "task", "done", 7, 3, 0.5, 1.0))
    progress.on_event(ev.CallEnded(1.0, 1, 0, "task", "failed", 0, 0, None, 1.0))
    progress.on_event(ev.CallStarted(1.0, 2, 0, "task", "tiny", 1))
    assert progress.spent | {"calls": 2, "tokens": 10, "usd": 0.5} == progress.spent
    assert progress.in_flight == 1


def test_a_call_that_an_earlier_session_made(progress: Progress) -> None:
    """The end of a call from an earlier session counts its cost, although its start was not seen."""
    progress.on_event(ev.CallEnded(1.0, 5, 0, "task", "lost", 7, 0, None, 0.0, estimated=True))
    assert (progress.in_flight, progress.endpoints) == (0, {})
    assert progress.spent | {"calls": 1, "tokens": 7} == progress.spent


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_whole_run_leaves_nothing_open(schedule: str) -> None:
    """After a whole run nothing is open, and the counts equal the result's."""
    progress = Progress(load_graph("gepa").spec, fg.Budget(proposals=5))

    async def attempt(candidate: object, sample: int, llm: fg.Llm) -> str:
        return (await llm(str(sample))).text

    task = fg.Task("t", range(6), range(6), attempt=attempt, score=lambda s, o: fg.Score(s % 2))
    result = fg.run(
        "gepa",
        task,
        models={"task": lambda messages: "x", "reflection": lambda messages: "```\nnew\n```"},
        schedule=schedule,
        budget=fg.Budget(proposals=5),
        on_event=lambda event: void(progress.on_event(event)),
    )
    assert not any(stage.working for stage in progress.stages.values())
    # A proposal beyond the budget is parked with its round.
    assert {name for name, stage in progress.stages.items() if stage.waiting} <= {"propose"}
    assert progress.in_flight == 0
    assert progress.best == (result.best.score if result.best else None)
    assert progress.accepted == sum(not a.retracted for a in result.artifacts)
    spent = result.spent
    counted = (spent.proposals, spent.evaluations, spent.calls)
    assert counted == tuple(progress.spent[n] for n in ("proposals", "evaluations", "calls"))


def void(_: object) -> None:
    return None


def test_failures_are_news_at_the_first_the_tenth_and_the_hundredth(progress: Progress) -> None:
    """A cause of failures is news ever more seldom; each cause of a stage counts apart."""
    said = []
    for job in range(101):
        progress.on_event(ev.JobStarted(1.0, job, "rollout", None, 1, 0))
        said.append(progress.on_event(ev.JobEnded(2.0, job, "rollout", "failed", 1.0, reason="no reply\nmore")))
    news = [line for line in said if line]
    assert news == [
        "0:02 rollout failed: no reply",
        "0:02 rollout failed 10 times: no reply",
        "0:02 rollout failed 100 times: no reply",
    ]
    progress.on_event(ev.JobStarted(3.0, 200, "rollout", None, 1, 0))
    assert (
        progress.on_event(ev.JobEnded(3.0, 200, "rollout", "failed", 1.0, reason="late")) == "0:03 rollout failed: late"
    )


def test_the_tokens_of_cancelled_work_are_lost(progress: Progress) -> None:
    """Tokens count for the stage; those of cancelled requests, and of done requests of cancelled jobs, are lost."""
    for job in (0, 1):
        progress.on_event(ev.JobStarted(0.0, job, "rollout", None, 1, 0))
    for call, job, how in ((0, 0, "done"), (1, 1, "done"), (2, 1, "cancelled")):
        progress.on_event(ev.CallStarted(0.0, call, job, "task", "tiny", 1))
        progress.on_event(ev.CallEnded(1.0, call, job, "task", how, 7, 3, None, 1.0))  # type: ignore[arg-type]
    progress.on_event(ev.JobEnded(1.0, 0, "rollout", "done", 1.0))
    progress.on_event(ev.JobEnded(1.0, 1, "rollout", "cancelled", 1.0))
    stage = progress.stages["rollout"]
    assert (stage.tokens, stage.lost, stage.cancelled) == (30, 20, 1)
