"""Lockstep is the published loop: a small sequential interpreter, written from the paper, makes the same run.

The interpreter shares no code with the graph. Model calls, the view at every proposal, and the archive are equal.

In the loop, the baselines are evaluated first. In each iteration the proposer then sees the archive and writes up to
three programs. They are validated, the valid ones learn, and then predict; everything is archived. A failed or empty
proposal uses up its iteration. Three defects of the published code are corrected: an archived program is not evaluated
again, all calls of a prediction count, and failures are failures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.parts.meta_harness import FEW_SHOT, NO_MEMORY, Entry
from tests.parts.meta_harness.stand_in import StandInSandbox
from tests.parts.meta_harness.worlds import Fact, World

ITERATIONS = 5
CANDIDATES = 3
TURNS = 3


@attrs.frozen
class Record:
    """The parts of an archived program that must be equal."""

    origin: str
    code: str
    outcome: str
    accuracy: float | None = None
    characters: float | None = None
    failures: int = 0


@attrs.define
class Trace:
    """``segments`` are the task model's prompts between two proposals; they are sorted, because they run side by side.

    ``views`` are the proposer's prompts at the start of each iteration.
    """

    segments: list[list[str]] = attrs.field(factory=lambda: [[]])
    views: list[tuple[Fact, ...]] = attrs.field(factory=list)
    turns: list[tuple[int, int]] = attrs.field(factory=list)
    archive: list[Record] = attrs.field(factory=list)

    def sorted(self) -> Trace:
        return attrs.evolve(self, segments=[sorted(segment) for segment in self.segments])


# ---- the interpreter -------------------------------------------------------------------------------------


class Published:
    """The loop, one step after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.task = world.task()
        self.trace = Trace()
        self.sent = 0
        names = [s.dataset for s in self.task.val if any(t.dataset == s.dataset for t in self.task.train)]
        self.names = list(dict.fromkeys(names))

    def run(self) -> Trace:
        for name, code in (("seed", self.task.seed["program"]), ("no_memory", NO_MEMORY), ("few_shot", FEW_SHOT)):
            self.evaluate(f"baseline {name}", [code])
        for number in range(1, ITERATIONS + 1):
            self.evaluate(f"iteration {number}", self.propose(number))
        return self.trace.sorted()

    def llm(self, prompt: str) -> str:
        self.trace.segments[-1].append(prompt)
        self.sent += len(prompt)
        return self.world.reply(prompt)

    def propose(self, number: int) -> list[str]:
        facts = tuple(self.fact(i, record) for i, record in enumerate(self.trace.archive))
        self.trace.views.append(facts)
        self.trace.segments.append([])
        for turn in range(1, TURNS + 1):
            self.trace.turns.append((number, turn))
            written = self.world.written(number, turn, facts)
            blocks = re.findall(r"```python\n(.*?)\n```", written, re.DOTALL)
            distinct: list[str] = []
            for block in blocks:
                if bare(block) not in map(bare, distinct):
                    distinct.append(block)
            if distinct:
                return distinct[:CANDIDATES]
        return []

    def fact(self, number: int, record: Record) -> Fact:
        if record.accuracy is None:
            return Fact(number, record.outcome.split(" ")[0])
        return Fact(number, f"{record.accuracy:.3f}", f"{record.characters:.0f}")

    def evaluate(self, origin: str, codes: list[str]) -> None:
        """Validate all, let the valid ones learn, then predict; archive every failure."""
        if not codes:
            self.trace.archive.append(Record(origin, "", "failed at propose"))
        valid = [code for code in codes if self.validated(origin, code)]
        learned: list[tuple[str, dict[str, str]]] = []
        for code in valid:
            states: dict[str, str] | None = {}
            for name in dict.fromkeys(s.dataset for s in self.task.val):
                state = self.learned(code, name)
                states = None if state is None or states is None else {**states, name: state}
            if states is None:
                self.trace.archive.append(Record(origin, code, "failed at learn"))
            else:
                learned.append((code, states))
        for code, states in learned:
            self.predict(origin, code, states)

    def validated(self, origin: str, code: str) -> bool:
        if any(record.code and bare(record.code) == bare(code) for record in self.trace.archive):
            self.trace.archive.append(Record(origin, code, "duplicate"))
            return False
        try:
            memory = self.made(code)
            assert all(callable(getattr(memory, n)) for n in ("predict", "learn_from_batch", "get_state", "set_state"))
        except Exception:
            self.trace.archive.append(Record(origin, code, "failed at validate"))
            return False
        return True

    def made(self, code: str) -> Any:
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        return namespace["MemorySystem"](self.llm)

    def learned(self, code: str, name: str) -> str | None:
        memory = self.made(code)
        batch = [
            {"input": str(s), "answer": s.answer, "feedback": self.task.score(s, s.answer).feedback}
            for s in self.task.train
            if s.dataset == name
        ]
        try:
            memory.learn_from_batch(batch)
            state = memory.get_state()
        except Exception:
            return None
        return state if isinstance(state, str) else None

    def predict(self, origin: str, code: str, states: dict[str, str]) -> None:
        scores: dict[str, list[float]] = {}
        sent: dict[str, list[int]] = {}
        failures = 0
        for sample in self.task.val:
            memory = self.made(code)
            memory.set_state(states[sample.dataset])
            self.sent, score = 0, 0.0
            try:
                answer, _ = memory.predict(str(sample))
                score = self.task.score(sample, str(answer)).value
            except Exception:
                failures += 1
            scores.setdefault(sample.dataset, []).append(score)
            sent.setdefault(sample.dataset, []).append(self.sent)
        if failures == len(self.task.val):
            self.trace.archive.append(Record(origin, code, "failed at predict"))
            return
        accuracy = sum(sum(s) / len(s) for s in scores.values()) / len(scores)
        cost = sum(sum(s) / len(s) for s in sent.values()) / len(sent)
        self.trace.archive.append(Record(origin, code, "scored", accuracy, cost, failures))


def bare(code: str) -> str:
    """Return code without its comment lines."""
    return "\n".join(line for line in code.strip().splitlines() if not line.lstrip().startswith("#")).strip()


# ---- the graph -------------------------------------------------------------------------------------------

LINE = re.compile(r"^#(\d+) [^:]*: (?:(failed|duplicate)|overall accuracy ([\d.]+), (\d+) characters)", re.MULTILINE)


def facts_in(prompt: str) -> tuple[Fact, ...]:
    return tuple(Fact(int(i), said or number, characters) for i, said, number, characters in LINE.findall(prompt))


def run_graph(world: World) -> Trace:
    trace = Trace()

    def proposer(messages: Sequence[Message]) -> str:
        prompt = messages[0]["content"]
        facts, found = facts_in(prompt), re.search(r"This is iteration (\d+)", prompt)
        assert found is not None
        number, turn = int(found[1]), len(messages) // 2 + 1
        if turn == 1:
            trace.views.append(facts)
            trace.segments.append([])
        trace.turns.append((number, turn))
        return world.written(number, turn, facts)

    def task_model(messages: Sequence[Message]) -> str:
        trace.segments[-1].append(messages[-1]["content"])
        return world.reply(messages[-1]["content"])

    result = fg.run(
        "meta_harness",
        world.task(),
        models={"proposer": proposer, "task": task_model},
        schedule="lockstep",
        params={"candidates": CANDIDATES, "turns": TURNS},
        budget=fg.Budget(proposals=ITERATIONS),
        resources={"sandbox": StandInSandbox()},
    )
    assert result.status == "budget", result.reason
    trace.archive = [record_of(a.value) for a in result.artifacts]
    return trace.sorted()


def record_of(entry: Entry) -> Record:
    outcome = entry.status + (f" at {entry.step}" if entry.status == "failed" else "")
    if entry.status != "scored":
        return Record(entry.origin, entry.code, outcome)
    overall = entry.marks["overall"]
    return Record(entry.origin, entry.code, outcome, overall.accuracy, overall.characters, overall.failures)


def same_code(records: list[Record]) -> list[Record]:
    return [attrs.evolve(r, code=r.code.strip()) for r in records]


@pytest.mark.parametrize("number", range(40))
def test_lockstep_is_the_published_loop(number: int) -> None:
    """Model calls, views at proposals, turns and archive equal the interpreter's."""
    expected, found = Published(World(number)).run(), run_graph(World(number))
    assert found.turns == expected.turns
    assert found.views == expected.views
    assert found.segments == expected.segments
    assert same_code(found.archive) == same_code(expected.archive)


def test_the_worlds_have_every_outcome() -> None:
    """The comparison can fail: every possible result of a program occurs in it, also ties."""
    outcomes = {r.outcome for n in range(40) for r in Published(World(n)).run().archive}
    assert outcomes == {"scored", "duplicate", *(f"failed at {s}" for s in ("propose", "validate", "learn", "predict"))}
