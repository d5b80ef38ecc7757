"""Meta-Harness on the simulated server: a world in which better programs really score better.

A program knows tricks (``T7!``, or a garbled ``T7~``) and shows some examples; a sample needs one to three tricks. The
proposer reads programs and failures in turns, as a coding agent does. Its programs know the tricks of the programs that
it read, and some tricks that their failures needed. Everything is a hash of (seed, texts), so that equal requests have
equal answers in any order. Scores are the world's true ones, expected on the held-out split.

    python -m tests.benchmarks.harness_world [MINUTES [VARIANT ...]]
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from statistics import median
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.run import events as ev
from flashgraph.sandbox import CandidateFailed, Ran, SandboxLimits
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.tasks.task import Llm

__all__ = ["HarnessWorld", "Measured", "WorldSandbox", "measure"]

TURNS = 12
DATASETS = {"laws": 44, "symptoms": 43, "reactions": 43}
REPLY_TOKENS = 448
"""The most tokens of an answer; it makes evaluation a quarter of lockstep's time, as in the paper."""

CAUTION = 0.08
"""The standard error of an accuracy over a quarter of the predictions."""

_TRICK = re.compile(r"T(\d+)([!~])")
_LINE = re.compile(r"^#(\d+) [^:]*: overall accuracy ([\d.]+)(.*)$", re.MULTILINE)
_SEED = "class MemorySystem:\n    SHOTS = 8\n    TRICKS = ''\n"
_METHODS = "".join(f"\n    def {m}(self): ...\n" for m in ("predict", "learn_from_batch", "get_state", "set_state"))


@attrs.frozen
class Case:
    """One sample, whose answer is wrong without the tricks in ``needs``."""

    dataset: str
    split: str
    index: int
    needs: tuple[int, ...]

    @property
    def answer(self) -> str:
        return "right"

    def __str__(self) -> str:
        return f"case {self.dataset}-{self.split}-{self.index}"


@attrs.frozen
class HarnessWorld:
    """The parameters of one world.

    They say how often a trick is learned from a failure, garbled, and lost in rewriting, and what share of the programs
    cannot be imported.
    """

    seed: int = 0
    tricks: int = 40
    learn: float = 0.3
    garble: float = 0.1
    lose: float = 0.03
    broken: float = 0.15

    def stream(self, *key: object) -> random.Random:
        return random.Random(hashlib.sha256(repr((self.seed, *key)).encode()).hexdigest())

    def case(self, dataset: str, split: str, index: int) -> Case:
        stream = self.stream("case", dataset, split, index)
        weights = [1 / (1 + trick / 8) for trick in range(self.tricks)]
        needs = {stream.choices(range(self.tricks), weights)[0] for _ in range(stream.choice((1, 1, 2, 3)))}
        return Case(dataset, split, index, tuple(sorted(needs)))

    def cases(self, split: str, share: float = 1.0) -> list[Case]:
        return [self.case(name, split, i) for name, size in DATASETS.items() for i in range(round(size * share))]

    def task(self) -> fg.Task[Case, str]:
        return fg.Task(
            f"harness-world-{self.seed}",
            train=self.cases("train"),
            val=self.cases("val"),
            test=self.cases("test", 2.0),
            seed={"program": _SEED + _METHODS},
            score=lambda case, answer: fg.Score(float(answer == "right")),
        )

    def chance(self, code: str, case: Case) -> float:
        """Return the probability that a program answers a sample right."""
        known = dict(_TRICK.findall(code))
        if any(known.get(str(trick)) == "~" for trick in case.needs):
            return 0.02
        return 0.95 if all(known.get(str(trick)) == "!" for trick in case.needs) else 0.15

    def true_score(self, code: str) -> float:
        cases = self.cases("test", 2.0)
        return sum(self.chance(code, case) for case in cases) / len(cases)

    # ---- the proposer ------------------------------------------------------------------------------------

    def answer(self, messages: Sequence[Message]) -> str:
        """Answer as the proposer, or as the task's model; the latter is empty, because the sandbox draws its
        answers."""
        prompt = messages[0]["content"]
        number = re.search(r"This is iteration (\d+)", prompt)
        if number is None:
            return "done"
        turn, stream = len(messages) // 2 + 1, self.stream("propose", prompt)
        first, second = self._bases(prompt, stream)
        wanted = stream.randint(TURNS - 3, TURNS)
        plan = [f"READ {first}", f"FAILURES {first}", f"READ {second}", f"FAILURES {second}"]
        plan += [f"EXAMPLES {name} {8 * i}" for i in range(2) for name in DATASETS]
        return plan[turn - 1] if turn < wanted else self._programs(messages, stream)

    def _bases(self, prompt: str, stream: random.Random) -> tuple[int, int]:
        """Return two of the best programs of the board; the first is the one to start from, if the prompt names one.

        A provisional accuracy is reduced, because it rests on few predictions.
        """

        def rank(line: tuple[str, str, str]) -> tuple[float, int]:
            return float(line[1]) - CAUTION * ("provisional" in line[2]), int(line[0])

        ranked = sorted(_LINE.findall(prompt), key=rank, reverse=True)[:4] or [("0", "0", "")]
        start = re.search(r"Start from #(\d+)", prompt)
        drawn = [int(stream.choice(ranked)[0]) for _ in range(2)]
        return (int(start[1]), drawn[1]) if start else (drawn[0], drawn[1])

    def _programs(self, messages: Sequence[Message], stream: random.Random) -> str:
        read = "\n".join(m["content"] for m in messages[1:] if m["role"] == "user")
        known = [dict(_TRICK.findall(code)) for code in re.findall(r"TRICKS = '(.*)'", read)] or [{}]
        failed = [self.case(d, "val", int(i)) for d, i in re.findall(r"input: case (\w+)-val-(\d+)", read)]
        return "\n".join(f"```python\n{self._program(known, failed, stream)}```" for _ in range(3))

    def _program(self, known: list[dict[str, str]], failed: list[Case], stream: random.Random) -> str:
        tricks = {t: v for t, v in known[0].items() if stream.random() >= self.lose}
        for other in known[1:]:
            for trick, version in other.items():
                if stream.random() < 0.5:
                    tricks.setdefault(trick, version)
        for trick in dict.fromkeys(str(t) for case in failed for t in case.needs):
            draw = stream.random()
            if draw < self.learn:
                tricks[trick] = "!"
            elif draw < self.learn + self.garble:
                tricks[trick] = "~"
        text = " ".join(f"T{t}{v}" for t, v in sorted(tricks.items(), key=lambda item: int(item[0])))
        fault = "import nowhere\n" if stream.random() < self.broken else ""
        return f"{fault}class MemorySystem:\n    SHOTS = {stream.randint(0, 16)}\n    TRICKS = '{text}'\n"


class WorldSandbox:
    """Runs the programs of a world: their answers are drawn, and only their calls of the model take long."""

    def __init__(self, world: HarnessWorld) -> None:
        self._world = world

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def run(
        self,
        code: str,
        entry: str = "main",
        arguments: Mapping[str, Any] = {},
        *,
        driver: str = "",
        llm: Llm | None = None,
        limits: SandboxLimits | None = None,
    ) -> Ran:
        """Run a program as `flashgraph.sandbox.Sandbox.run` does; a process takes 20 ms."""
        await anyio.sleep(0.02)
        if "import nowhere" in code:
            raise CandidateFailed("error", "ModuleNotFoundError: No module named 'nowhere'")
        if entry == "check":
            return Ran(None, "", "", 0.02)
        assert llm is not None
        found = re.search(r"SHOTS = (\d+)", code)
        shots = int(found[1]) if found else 40 if "Few-shot" in code else 0
        knowledge = " ".join(f"{trick}{version} {'rule ' * 8}" for trick, version in _TRICK.findall(code))
        if entry == "learn":
            await llm(f"Sum up {len(arguments['batch'])} examples. {knowledge} {code}", max_tokens=REPLY_TOKENS)
            return Ran("learned", "", "", 0.0)
        sample = arguments["input"]
        await llm(f"{knowledge} {'example ' * 10 * shots}{sample} {code}", max_tokens=REPLY_TOKENS)
        _, dataset, split, index = re.split(r"[ -]", sample)
        case = self._world.case(dataset, split, int(index))
        right = self._world.stream("predict", code, sample).random() < self._world.chance(code, case)
        return Ran("right" if right else "wrong", "", "", 0.0)


# ---- measuring -------------------------------------------------------------------------------------------


@attrs.frozen
class Measured:
    """One simulated run; ``curve`` holds (seconds, calls, true score) at each change of the pool.

    ``proposing`` is the share of time in which a proposal was being written and nothing was evaluated, plus half of the
    time of both. ``stopped`` counts programs that were cancelled as clear losers.
    """

    minutes: float
    curve: tuple[tuple[float, int, float], ...]
    proposals: int
    evaluated: int
    stopped: int
    calls: int
    use: float
    proposing: float

    @property
    def final(self) -> float:
        return self.curve[-1][2] if self.curve else 0.0

    def score_at(self, seconds: float) -> float:
        return max((c for c in self.curve if c[0] <= seconds), key=lambda c: c[0], default=(0, 0, 0.0))[2]

    def score_after(self, calls: int) -> float:
        return max((c for c in self.curve if c[1] <= calls), key=lambda c: c[1], default=(0, 0, 0.0))[2]

    def time_to(self, score: float) -> float | None:
        """Return the seconds until ``score`` was first reached."""
        return next((at for at, _, reached in self.curve if reached >= score), None)

    @property
    def rate(self) -> float:
        """Proposals and evaluated programs a minute, which the paper counts."""
        return (self.proposals + self.evaluated) / self.minutes


def measure(
    world: int,
    schedule: str | fg.Schedule,
    *,
    minutes: float,
    settings: Mapping[str, Any] | None = None,
    overlap: int | None = None,
    profile: str = "vllm",
) -> Measured:
    """Run Meta-Harness on a world for that many simulated minutes; proposer and task model share one server."""
    made = HarnessWorld(seed=world)
    model = SimModel(PROFILES[profile], made.answer, seed=world)
    true_score = lru_cache(maxsize=None)(made.true_score)
    curve: list[tuple[float, int, float]] = []

    async def watched() -> tuple[fg.Result, Any]:
        async with fg.open_run(
            "meta_harness",
            made.task(),
            models={"task": model, "proposer": model},
            schedule=schedule,
            settings=settings,
            params={"turns": TURNS, **({} if overlap is None else {"overlap": overlap})},
            budget=fg.Budget(seconds=minutes * 60),
            resources={"sandbox": WorldSandbox(made)},
            settle=anyio.wait_all_tasks_blocked,
        ) as run:
            calls = 0
            async for event in run:
                calls += isinstance(event, ev.CallStarted)
                if isinstance(event, ev.Admitted | ev.Confirmed | ev.Retracted):
                    best = run.machine.pools["archive"].best
                    if best is not None:
                        curve.append((event.at, calls, true_score(best.value.code)))
            return run.result, run.machine.pools["archive"].value

    result, archive = run_virtually(watched)
    return Measured(
        minutes=minutes,
        curve=tuple(curve),
        proposals=sum(isinstance(e, ev.JobEnded) and e.stage == "propose" and e.how == "done" for e in result.events),
        evaluated=sum(e.status in ("scored", "stopped") for e in archive.entries.values()),
        stopped=sum(e.status == "stopped" for e in archive.entries.values()),
        calls=result.spent.calls,
        use=model.engine.tokens / (model.profile.capacity * result.spent.seconds),
        proposing=_proposing(result.events),
    )


def _proposing(events: Sequence[ev.Event]) -> float:
    """Return the share of the proposals in the time in which anything ran, after the baselines."""
    running = {"propose": 0, "rest": 0}
    spent = {"propose": 0.0, "rest": 0.0}
    began, last = False, 0.0
    for event in events:
        busy = [name for name, count in running.items() if count]
        for name in busy if began else ():
            spent[name] += (event.at - last) / len(busy)
        last = event.at
        if isinstance(event, ev.JobStarted | ev.JobEnded):
            name = "propose" if event.stage == "propose" else "rest"
            running[name] += 1 if isinstance(event, ev.JobStarted) else -1
            began |= name == "propose"
    return spent["propose"] / (sum(spent.values()) or 1.0)


EARLY = {"predict->archive.release": fg.fraction(0.25), "predict->archive.late": "amend"}
VARIANTS: dict[str, tuple[str, int | None, dict[str, Any]]] = {
    "lockstep": ("lockstep", None, {}),
    "pipelined (defaults)": ("pipelined", None, {}),
    "overlap 1": ("pipelined", 1, {}),
    "overlap 4": ("pipelined", 4, {}),
    "overlap 8": ("pipelined", 8, {}),
    "overlap 8, a quarter is enough": ("pipelined", 8, EARLY),
    "all predictions": ("pipelined", None, {"predict->archive.release": fg.everyone()}),
    "focus 0": ("pipelined", None, {"focus": 0.0}),
}
WORLDS = range(6)
Figure = Callable[[Measured, Measured], float]
FIGURES: dict[str, tuple[str, Figure]] = {
    "proposals/min": ("{:.1f}", lambda run, base: run.proposals / run.minutes),
    "programs evaluated/min": ("{:.1f}", lambda run, base: run.evaluated / run.minutes),
    "both": ("{:.1f}", lambda run, base: run.rate),
    "calls/min": ("{:.0f}", lambda run, base: run.calls / run.minutes),
    "server use": ("{:.0f} %", lambda run, base: 100 * run.use),
    "of it proposing": ("{:.0f} %", lambda run, base: 100 * run.proposing),
    "score at half time": ("{:.2f}", lambda run, base: run.score_at(run.minutes * 30)),
    "at the end": ("{:.2f}", lambda run, base: run.final),
    "at lockstep's calls": ("{:.2f}", lambda run, base: run.score_after(base.calls)),
    "of lockstep's": ("{:.2f}", lambda run, base: run.score_after(base.calls) / (base.final or 1.0)),
    "time to lockstep's score": ("{:.2f}", lambda run, base: _ratio(run, base)),
}


def _ratio(run: Measured, base: Measured) -> float:
    """Return the time in which a run reaches the other's final score, over the other's time."""
    mine, its = run.time_to(base.final), base.time_to(base.final)
    return math.inf if mine is None or not its else mine / its


def main(minutes: float, names: Sequence[str]) -> None:
    """Print the table: medians over the worlds."""
    print(f"| variant | {' | '.join(FIGURES)} |\n{'| --- ' * (len(FIGURES) + 1)}|", flush=True)
    base: dict[int, Measured] = {}
    for name in names:
        schedule, overlap, settings = VARIANTS[name]
        runs = {w: measure(w, schedule, minutes=minutes, settings=settings, overlap=overlap) for w in WORLDS}
        base = base or runs
        cells = [
            form.format(median(figure(run, base[world]) for world, run in runs.items()))
            for form, figure in FIGURES.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, sys.argv[2:] or list(VARIANTS))
