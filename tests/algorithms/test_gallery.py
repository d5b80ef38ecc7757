"""Algorithms of the gallery: lockstep equals a sequential version, and both schedules keep the invariants and improve.

The world decides what passes. The proposer here states one more rule, drawn by a
hash of the instructions that it was shown.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.llm.protocol import text_in
from flashgraph.sim.world import SEED_TEXT, SOLVED, World, rules_of
from flashgraph.testing.algorithms import check_algorithm

FENCE = re.compile(r"```\n(.*?)\n```", re.DOTALL)
STEPS = 3


def better(texts: Sequence[str], number: str) -> str:
    """Return an instruction with most rules of the texts, and one more."""
    stream = random.Random(hashlib.sha256(repr((tuple(texts), number)).encode()).hexdigest())
    known = sorted({rule for text in texts[-2:] for rule in rules_of(text)})
    kept = [rule for rule in known if stream.random() < 0.95] + [stream.randrange(12)]
    return SEED_TEXT + " " + " ".join(f"R{rule}!" for rule in sorted(set(kept)))


def proposer(messages: Any) -> str:
    prompt = text_in(messages[-1])
    number = re.findall(r"(?:Proposal|instruction number) (\d+)", prompt)
    return f"```\n{better(FENCE.findall(prompt), number[-1] if number else '')}\n```"


def answering(world: World) -> Callable[[Any], str]:
    """Return a model of all roles: it attempts cases, and proposes instructions otherwise."""
    return lambda messages: world.answer(messages) if len(messages) > 1 else proposer(messages)


class Sequential:
    """The pool of a sequential run: texts with their mean scores on the validation samples, in order of admission."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: list[tuple[str, float]] = []

    def add(self, text: str) -> None:
        self.held.append((text, (self.world.val - self.failures(text, range(self.world.val), "val")) / self.world.val))

    def failures(self, text: str, samples: Sequence[int], split: str = "train") -> int:
        """Return how many samples a text does not solve."""
        every = self.world.samples(split, getattr(self.world, split))
        asked = [[{"role": "system", "content": text}, {"role": "user", "content": str(every[i])}] for i in samples]
        return sum(self.world.answer(messages) != SOLVED for messages in asked)

    def by_score(self) -> list[str]:
        """Return the texts, the worst first; of equal scores the newer one is worse."""
        places = sorted(range(len(self.held)), key=lambda place: (self.held[place][1], -place))
        return [self.held[place][0] for place in places]


def opro(world: World, seed: int) -> Sequential:
    """OPRO as a loop: each step shows the best five, and makes three proposals."""
    run = Sequential(world)
    run.add(SEED_TEXT)
    for _ in range(STEPS):
        shown = run.by_score()[-5:]
        for number in "123":
            run.add(better(shown, number))
    return run


def evoprompt(world: World, seed: int, operator: str) -> Sequential:
    """EvoPrompt as a loop over single children, with a population of four."""
    run = Sequential(world)
    for number in range(4):
        run.add(better([SEED_TEXT], str(number)) if number else SEED_TEXT)
    for step in range(STEPS):
        stream = random.Random(f"{seed}/select/{step}")
        ranked = sorted(range(len(run.held)), key=lambda place: (-run.held[place][1], place))[:4]
        if operator == "de":
            base = stream.choice(ranked)
            drawn = [base, ranked[0], *stream.sample([place for place in ranked if place != base], 2)]
        else:
            least = min(run.held[place][1] for place in ranked)
            weights = {place: run.held[place][1] - least + 1e-6 for place in ranked}
            first = stream.choices(ranked, list(weights.values()))[0]
            del weights[first]
            drawn = [first, stream.choices(list(weights), list(weights.values()))[0]]
        run.add(better([run.held[place][0] for place in drawn], ""))
    return run


def coevolution(world: World, seed: int) -> Sequential:
    """Coevolution as a loop that takes turns: an instruction, then a test of three samples."""
    run, tests, steps = Sequential(world), list[tuple[float, tuple[int, ...]]](), 0
    run.add(SEED_TEXT)
    every = range(world.train)
    for turn in range(2 * STEPS - 1):
        ranked = [text for text, _ in sorted(run.held, key=lambda known: -known[1])]
        hardest = max(enumerate(tests), key=lambda known: (known[1][0], known[0]))[1][1] if tests else None
        stream = random.Random(f"{seed}/{'challenge' if turn % 2 else 'revise'}/{turn // 2}")
        if turn % 2:
            kept = stream.sample(hardest, len(hardest) // 2) if hardest else []
            rest = stream.sample([index for index in every if index not in kept], 3 - len(kept))
            tests.append((run.failures(ranked[0], [*kept, *rest]) / 3, (*kept, *rest)))
        else:
            parent = stream.choice(ranked[:4])
            samples = hardest or tuple(stream.sample(list(every), 3))
            steps += 1
            if run.failures(parent, samples):
                run.add(better([parent], ""))
    assert steps == STEPS
    return run


def self_refine(world: World, seed: int) -> Sequential:
    """Best of three drafts, each refined twice on three samples."""
    run = Sequential(world)
    run.add(SEED_TEXT)
    for step in range(STEPS):
        parent = run.by_score()[-1]
        samples = random.Random(f"{seed}/start/{step}").sample(range(world.train), 3)
        best: list[tuple[int, str]] = []
        for number in "123":
            text, passes = better([parent], number), list[tuple[int, str]]()
            for _ in range(3):
                failures = run.failures(text, samples)
                passes.append((failures, text))
                if not failures:
                    break
                text = better([text], "")
            best.append(min(passes, key=lambda each: each[0]))
        run.add(min(best, key=lambda each: each[0])[1])
    return run


def protegi(world: World, seed: int) -> Sequential:
    """ProTeGi with a beam of two: two criticisms of each prompt, and a race that halves on new samples."""
    run = Sequential(world)
    run.add(SEED_TEXT)
    for step in range(STEPS):
        stream, every = random.Random(f"{seed}/step/{step}"), range(world.train)
        order = sorted(range(len(run.held)), key=lambda place: (-run.held[place][1], place))[:2]
        beam = [run.held[place][0] for place in order]
        samples = stream.sample(every, 3)
        rungs = [stream.sample(every, min(2 ** (r + 1), world.train)) for r in range(3)]
        left: dict[str, int] = {}
        for text in beam:
            edits = [better([text], number) for number in "12"] if run.failures(text, samples) else []
            left |= dict.fromkeys([text, *edits], 0)
        while True:
            rung = rungs.pop(0)
            left = {text: solved + len(rung) - run.failures(text, rung) for text, solved in left.items()}
            ranked = sorted(left, key=lambda text: (-left[text], list(left).index(text)))
            kept = ranked[: max(2, (len(left) + 1) // 2)]
            if len(kept) in (2, len(left)) or not rungs:
                break
            left = {text: solved for text, solved in left.items() if text in kept}
        for text in [text for text in left if text in ranked[:2]]:
            run.add(text)
    return run


def promptbreeder(world: World, seed: int) -> Sequential:
    """PromptBreeder as a loop of duels, with four units. The proposer does not look at mutation prompts."""
    run = Sequential(world)
    for number in range(4):
        run.add(better([SEED_TEXT], str(number)) if number else SEED_TEXT)
    living = list(range(4))
    for step in range(STEPS):
        stream = random.Random(f"{seed}/duel/{step}")
        first, second = stream.sample(living, 2)
        winner, loser = (first, second) if run.held[first][1] >= run.held[second][1] else (second, first)
        operator = stream.choice(["first_order", "zero_order", "distribution", "hypermutation"])
        ranked = [run.held[place][0] for place in sorted(living, key=lambda place: (run.held[place][1], -place))]
        shown = {"zero_order": [SEED_TEXT], "distribution": ranked}.get(operator, [run.held[winner][0]])
        run.add(better(shown, "" if operator in ("zero_order", "distribution") else "0"))
        living = [place for place in living if place != loser] + [len(run.held) - 1]
    return run


# The 80 % quantiles of Student's t for 2, 5 and 8 degrees of freedom, from a table.
QUANTILES = {3: 1.0607, 6: 0.9195, 9: 0.8889}


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is better by a paired t-test at 0.2, with one more difference of each sign in the variance."""
    apart = [a - b for a, b in zip(one, other, strict=True)]
    padded = [*apart, 1.0, -1.0]
    centre = sum(padded) / len(padded)
    variance = sum((d - centre) ** 2 for d in padded) / (len(padded) - 1)
    return sum(apart) / len(apart) > QUANTILES[len(apart)] * math.sqrt(variance / len(padded))


def capo(world: World, seed: int) -> Sequential:
    """CAPO with three prompts, three children, and three blocks of three samples."""
    run = Sequential(world)
    for number in range(3):
        run.add(better([SEED_TEXT], str(number)) if number else SEED_TEXT)
    for step in range(STEPS):
        stream = random.Random(f"{seed}/step/{step}")
        order = sorted(range(len(run.held)), key=lambda place: (-run.held[place][1], place))[:3]
        texts = [run.held[place][0] for place in order]
        couples = [stream.sample(texts, 2) for _ in range(3)]
        every = stream.sample(range(world.train), 9)
        children = [better([better(pair, str(n))], str(n)) for n, pair in enumerate(couples, 1)]
        left: dict[str, list[float]] = {text: [] for text in [*texts, *children]}
        for start in (0, 3, 6):
            for text, scores in left.items():
                price = 0.05 / len(SEED_TEXT.split()) * len(text.split())
                scores += [1.0 - run.failures(text, [index]) - price for index in every[start : start + 3]]
            worse = {text: sum(beats(other, scores) for other in left.values()) for text, scores in left.items()}
            left = {text: scores for text, scores in left.items() if worse[text] < 3}
            if len(left) <= 3:
                break
        best = sorted(left, key=lambda text: -sum(left[text]) / len(left[text]))[:3]
        for text in [text for text in left if text in best]:
            run.add(text)
    return run


def simba(world: World, seed: int) -> Sequential:
    """SIMBA as a loop: three candidates on four samples, and up to three children."""
    run = Sequential(world)
    run.add(SEED_TEXT)
    every = world.samples("train", world.train)
    for step in range(2 * STEPS):
        stream = random.Random(f"{seed}/step/{step}")
        drawn = stream.choices(run.held, [math.exp(score / 0.2) for _, score in run.held], k=3)
        samples = stream.sample(range(world.train), 4)
        children: list[str] = []
        solved = {i: [not run.failures(text, [i]) for text, _ in drawn] for i in samples}
        mixed = [i for i in samples if len(set(solved[i])) == 2]
        for number, i in enumerate([*mixed, *(i for i in samples if not any(solved[i]))][:3]):
            text = drawn[solved[i].index(True) if i in mixed else 0][0]
            example = f"\nInput: {every[i]}\nAnswer: True"
            added = example if i in mixed and number % 2 == 0 else better([text], str(number))
            children.append(f"{text}\n{added}")
        if children:
            run.add(min(children, key=lambda text: run.failures(text, samples)))
    return run


CASES: dict[str, tuple[Callable[[World, int], Sequential], dict[str, Any], int]] = {
    "opro": (opro, {"shown": 5, "proposals": 3}, STEPS),
    "coevolution": (coevolution, {"size": 3}, STEPS),
    "self_refine": (self_refine, {"drafts": 3, "refinements": 2, "minibatch": 3}, 3 * STEPS),
    "protegi": (protegi, {"width": 2, "gradients": 2, "minibatch": 3, "rung": 2}, 2 * STEPS - 1),
    "promptbreeder": (promptbreeder, {"size": 4}, STEPS + 1),
    "capo": (capo, {"size": 3, "children": 3, "block": 3, "blocks": 3}, 3 * STEPS + 1),
    "simba": (simba, {"programs": 3, "minibatch": 4, "children": 3}, 2 * STEPS),
    "evoprompt-ga": (lambda world, seed: evoprompt(world, seed, "ga"), {"size": 4}, STEPS + 1),
    "evoprompt-de": (lambda world, seed: evoprompt(world, seed, "de"), {"size": 4, "operator": "de"}, STEPS + 1),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CASES)
def test_lockstep_is_the_loop(name: str, seed: int) -> None:
    """The candidates and their scores are those of a sequential loop, in the same order."""
    expected, params, proposals = CASES[name]
    world = World(seed=seed, train=10, val=12, test=10)
    result = fg.run(
        name.partition("-")[0], world.task(), models=answering(world), schedule="lockstep", seed=seed, params=params,
        budget=fg.Budget(proposals=proposals),
    )  # fmt: skip
    found = [
        (a.value.text["instruction"], sum(a.scores.values()) / len(a.scores))
        for a in result.artifacts
        if a.pool != "tests"
    ]
    assert found == expected(world, seed).held


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize(
    "name", ["opro", "evoprompt", "coevolution", "self_refine", "protegi", "promptbreeder", "capo", "simba"]
)
def test_it_keeps_the_invariants_and_improves(name: str, schedule: str) -> None:
    world = World(seed=1, rules=12, train=20, val=30, test=100)
    result = check_algorithm(name, world.task(), answering(world), schedule=schedule, budget=fg.Budget(calls=1800))
    assert result.best is not None
    assert world.true_score(result.best.value.text["instruction"]) > world.true_score(SEED_TEXT) + 0.1


def test_an_early_release_does_not_freeze_the_champion(tmp_path: Path) -> None:
    """A seed that was given up after a part of its samples is replaced once another candidate is clearly better."""
    source = (Path(__file__).parents[2] / "algorithms" / "opro.py").read_text()
    file = tmp_path / "early.py"
    early = source.replace("gather=True, stale", "gather=True, release=fg.fraction(0.6), stale")
    assert early != source
    file.write_text(early)
    world = World(seed=1, rules=12, train=20, val=40, test=100)
    result = check_algorithm(
        str(file), world.task(), answering(world), schedule="pipelined", budget=fg.Budget(calls=1800)
    )
    assert result.best is not None
    assert world.true_score(result.best.value.text["instruction"]) > world.true_score(SEED_TEXT) + 0.1
