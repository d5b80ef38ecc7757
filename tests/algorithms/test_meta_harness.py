"""Meta-Harness when rounds overlap, with bad input, and end to end in the real sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph, load_task
from flashgraph.llm.protocol import Message
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.parts.meta_harness import FEW_SHOT, NO_MEMORY, HarnessArchive
from flashgraph.run import events as ev
from flashgraph.run.heldout import held_out
from flashgraph.run.plan import Plan
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.invariants import check_invariants
from tests.algorithms.test_meta_harness_lockstep import facts_in
from tests.parts.meta_harness.real import needs_confinement
from tests.parts.meta_harness.stand_in import StandInSandbox
from tests.parts.meta_harness.worlds import Sample, World, digest

TICKETS = Path(__file__).parents[2] / "examples" / "tickets" / "harness.py"


@attrs.frozen
class Finished:
    result: fg.Result
    plan: Plan
    archive: HarnessArchive
    proposer: ScriptedModel


class SlowModel(ScriptedModel):
    """Takes one to thirty seconds, by the request and not by the order of requests."""

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        await anyio.sleep((1.0, 2.0, 7.0, 30.0)[digest(messages) % 4])
        return await super().complete(messages, params)


def run(
    world: World,
    backend: str = "trio",
    stop_after: int | None = None,
    task: fg.Task[Any, Any] | None = None,
    **options: Any,
) -> Finished:
    """Run under virtual time, and stop after this many admissions."""

    def propose(messages: Sequence[Message]) -> str:
        prompt = messages[0]["content"]
        found = re.search(r"This is iteration (\d+)", prompt)
        assert found is not None
        return world.written(int(found[1]), len(messages) // 2 + 1, facts_in(prompt))

    proposer = SlowModel(propose, limit=8)
    task_model = SlowModel(lambda m: world.reply(m[-1]["content"]), limit=8)

    async def watched() -> Finished:
        async with fg.open_run(
            "meta_harness",
            task or world.task(),
            models={"proposer": proposer, "task": task_model},
            resources={"sandbox": StandInSandbox()},
            settle=settle,
            **{"budget": fg.Budget(proposals=12), **options},
        ) as run:
            admitted = 0
            async for event in run:
                admitted += isinstance(event, ev.Admitted)
                if admitted == stop_after:
                    run.stop()
            return Finished(run.result, run.machine.plan, run.machine.pools["archive"].value, proposer)

    return run_virtually(watched, backend=backend)


@pytest.mark.parametrize("number", [0, 6, 15, 21, 28])
@pytest.mark.parametrize("schedule", [fg.pipelined(), fg.pipelined(window=3, focus=1.0), fg.lockstep()])
def test_invariants_hold(number: int, schedule: fg.Schedule) -> None:
    """I1 to I10 hold, every proposed program is in the archive, and every iteration has its record."""
    done = run(World(number), schedule=schedule)
    assert done.result.status == "budget", done.result.reason
    check_invariants(done.result.events, done.plan, fg.Budget(proposals=12))
    entries = done.archive.entries.values()
    assert len(entries) == len(done.result.artifacts)
    assert {e.origin for e in entries if e.origin.startswith("iteration")} == {f"iteration {n}" for n in range(1, 13)}
    assert not any(e.status == "provisional" for e in entries)
    identities = [e.identity for e in entries if e.identity and e.status != "duplicate"]
    assert len(identities) == len(set(identities))


def test_the_same_seed_gives_the_same_events() -> None:
    """Both event loops give the same events (I14)."""
    one, other = (run(World(28), backend, schedule="pipelined") for backend in ("trio", "asyncio"))
    assert one.result.events == other.result.events


def test_provisional_programs_are_seen_and_confirmed() -> None:
    """With an early release, a program is archived on a quarter of its predictions, and confirmed later.

    Proposers see it as provisional until then.
    """
    early = {"predict->archive.release": fg.fraction(0.25), "predict->archive.late": "amend"}
    done = run(World(28), schedule="pipelined", settings=early, params={"overlap": 8})
    provisional = [e for e in done.result.events if isinstance(e, ev.Admitted) and e.provisional]
    confirmed = [e for e in done.result.events if isinstance(e, ev.Confirmed)]
    assert {e.artifact for e in provisional} == {e.artifact for e in confirmed}
    assert provisional
    assert any("; provisional" in c.messages[0]["content"] for c in done.proposer.calls)


def test_clear_losers_are_stopped() -> None:
    """A candidate that cannot reach a frontier is cancelled, and the frontiers equal those without cancelling."""
    runs = [run(World(n), schedule="pipelined", params={"overlap": 8}) for n in (0, 6, 15, 16, 21, 28)]
    stopped = [e for done in runs for e in done.archive.entries.values() if e.status == "stopped"]
    assert stopped
    assert all("on no frontier" in e.reason and len(e.predictions) < e.size for e in stopped)
    for done in runs:
        check_invariants(done.result.events, done.plan, fg.Budget(proposals=12))


@pytest.mark.parametrize("overlap", [1, 3])
def test_no_more_iterations_are_open_than_overlap(overlap: int) -> None:
    """A wider window of the schedule does not open more iterations."""
    budget = fg.Budget(proposals=24)  # pays for a window of three
    done = run(World(28), schedule="pipelined", params={"overlap": overlap}, budget=budget)
    open_rounds: set[int] = set()
    most = 0
    for event in done.result.events:
        if isinstance(event, ev.Emitted) and event.source == "iterate":
            open_rounds.add(event.round)
        elif isinstance(event, ev.RoundEnded):
            open_rounds.discard(event.round)
        most = max(most, len(open_rounds))
    assert most == overlap


@pytest.mark.parametrize("schedule", [fg.pipelined(1), fg.pipelined(4), fg.lockstep()])
def test_a_seed_that_is_a_baseline_is_tried_once(schedule: fg.Schedule) -> None:
    """A seed that differs from a baseline in comments and layout is tried once, and the search does not wait for a
    second."""
    world = World(28)
    task = attrs.evolve(world.task(), seed={"program": f"# mine\n{NO_MEMORY}\n\n"})
    done = run(world, schedule=schedule, task=task)
    assert [e.origin for e in done.archive.entries.values()][:2] == ["baseline seed", "baseline few_shot"]
    assert done.result.spent.proposals == 12


def test_equal_programs_of_overlapping_iterations_are_evaluated_once() -> None:
    """An equal program of an overlapping iteration waits in no queue of evaluations."""
    done = run(World(28), schedule="pipelined", params={"overlap": 6}, budget=fg.Budget(proposals=48))
    scored = [e.identity for e in done.archive.entries.values() if e.predictions]
    assert len(set(scored)) == len(scored)


def test_an_overlap_of_nothing_is_refused() -> None:
    """An overlap of 0 is refused, because such a run would start no iteration."""
    with pytest.raises(fg.DataError, match="parameter overlap=0: must be >= 1"):
        run(World(28), schedule="pipelined", params={"overlap": 0})


def test_lag_is_recorded_and_stale_programs_are_kept() -> None:
    """A program whose archive has changed since is evaluated nevertheless."""
    done = run(World(28), schedule="pipelined", params={"overlap": 6}, budget=fg.Budget(proposals=48))
    late = [e for e in done.archive.entries.values() if e.lag > 0]
    assert any(e.status == "scored" for e in late)
    assert not [e for e in done.result.events if isinstance(e, ev.Ended) and e.how == "discarded"]


def test_parents_are_the_entries_that_were_read() -> None:
    """READ and FAILURES make a parent of an entry; listing does not."""
    done = run(World(28), schedule="lockstep")
    assert any(e.parents for e in done.archive.entries.values())
    for entry in done.archive.entries.values():
        assert all(parent < entry.id for parent in entry.parents)


@pytest.mark.parametrize("admissions", [1, 6, 13])
def test_a_stopped_run_is_resumed(tmp_path: Path, admissions: int) -> None:
    """The archive returns from the journal, and the end equals that of a run without a stop."""
    options: dict[str, Any] = {"schedule": "lockstep", "budget": fg.Budget(proposals=6)}
    first = run(World(28), **options, folder=tmp_path / "run", stop_after=admissions)
    assert first.result.status == "cancelled"
    again = run(World(28), **options, folder=tmp_path / "run", resume=True)
    whole = run(World(28), **options)
    assert again.archive == whole.archive
    assert len(first.archive.entries) < len(whole.archive.entries)
    assert len(again.proposer.calls) <= len(whole.proposer.calls)


def test_the_graph_passes_its_checks() -> None:
    """The graph passes its checks, and its held-out test uses the stage of its validation."""
    graph = load_graph("meta_harness")
    assert not graph.check()
    assert graph.spec.tests == "predict"


def never(messages: Sequence[Message]) -> str:
    raise AssertionError("a model was called")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": {"program": "x = 1"}}, "its seed program cannot be a harness: it defines no class MemorySystem"),
        ({"train": ["no answer"]}, "train sample 0 ('no answer') has no answer"),
        ({"train": [Sample("b", "train", 0, "red")]}, "the val split of data set 'b' is empty"),
    ],
)
@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_bad_input_costs_nothing(changes: dict[str, Any], message: str, schedule: str) -> None:
    """The run ends with an error that names the thing, before any model is called."""
    task = attrs.evolve(
        World(1).task(), **{"train": [Sample("a", "train", 0, "red")], "val": [Sample("a", "val", 0, "red")], **changes}
    )
    result = fg.run(
        "meta_harness",
        task,
        models={"proposer": never, "task": never},
        schedule=schedule,
        budget=fg.Budget(proposals=2),
        resources={"sandbox": StandInSandbox()},
    )
    assert result.status == "failed"
    assert message in result.reason
    assert "Fix:" in result.reason
    assert result.spent.calls == 0


# ---- from end to end -------------------------------------------------------------------------------------

LEARNED = '''"""Remembers the rules that the feedback names."""

import json


class MemorySystem:
    def __init__(self, llm):
        self.llm = llm
        self.rules = []

    def learn_from_batch(self, batch):
        self.rules = sorted({example["feedback"].split("Rule: ")[1] for example in batch})

    def predict(self, input):
        return self.llm("\\n".join(self.rules) + "\\nTicket: " + input).strip(), {}

    def get_state(self):
        return json.dumps(self.rules)

    def set_state(self, state):
        self.rules = json.loads(state)
'''
ESCAPING = LEARNED.replace("return self.llm(", "open('/etc/passwd').read(); return self.llm(")
LAST_TURN = f"```python\n{LEARNED}```\n```python\n{ESCAPING}```\n```python\nclass MemorySystem\n```"


def queue_of(messages: Sequence[Message]) -> str:
    """Answer as a model that knows a ticket's topic, and a queue's code only if its rule is in the prompt."""
    *_, ticket = messages[-1]["content"].split("Ticket: ")
    prompts = load_task(TICKETS.with_name("task.py"))
    known = {str(s): s.queue for s in (*prompts.train, *prompts.val, *prompts.test)}
    code = known.get(ticket.removesuffix("\nQueue:"), "")
    return code if f"-> {code}" in messages[-1]["content"] else "Q-000"


@needs_confinement
def test_from_end_to_end_in_the_real_sandbox() -> None:
    """A whole search in the real sandbox: baselines, one iteration, and the held-out test.

    The iteration reads and writes three programs; one opens a file, and one is not Python.
    """
    task, graph = load_task(TICKETS), load_graph("meta_harness")
    proposer = ScriptedModel(["LIST\nREAD 0\nFAILURES 0\nEXAMPLES", LAST_TURN])
    model = ScriptedModel(queue_of, limit=16)

    async def main() -> tuple[fg.Result, Any, HarnessArchive]:
        async with fg.open_run(
            graph,
            task,
            models={"proposer": proposer, "task": model},
            schedule="lockstep",
            budget=fg.Budget(proposals=1),
        ) as run:
            result = await run.wait()
            assert result.best is not None
            texts = [dict(task.seed), result.best.value.text]
            stage = next(s for s in graph.spec.stages if s.name == graph.spec.tests)
            tested = await held_out(task, texts, model, run.machine.ledger, stage=stage, resources=run.resources)
            return result, tested, run.machine.pools["archive"].value

    result, (seed, best), archive = anyio.run(main)
    assert result.status == "budget", result.reason
    codes = {e.code: e for e in archive.entries.values()}
    assert {codes[c].status for c in (task.seed["program"], NO_MEMORY, FEW_SHOT)} == {"scored"}
    assert codes[LEARNED].accuracy == 1.0
    assert codes[LEARNED].parents == (0,)
    assert (codes[ESCAPING].status, codes[ESCAPING].step) == ("failed", "predict")
    assert codes["class MemorySystem\n"].step == "validate"
    assert result.best is not None
    assert result.best.value.code == LEARNED
    assert (seed.score, best.score) == (0.0, 1.0)
    assert not seed.failures
    assert not best.failures
