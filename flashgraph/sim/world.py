"""A task world: a hidden set of rules that instructions can learn, so that better instructions really score better.

A sample needs one to three rules. An instruction that states all of them passes it most of the time. One that states a
wrong version of a needed rule fails. Feedback names the needed rules. Reflection writes down the named rules, but
misses some, garbles some, and loses a few known ones. A merge of two instructions keeps most of both. All outcomes are
hashes of (seed, texts), so that equal requests have equal answers in any order. Only the model decides what passes. The
task just reads its reply, and so it works against a server of the same world. Because one minibatch shows only a few
rules, score grows with the *depth* of a lineage, not with the number of children of one parent.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs

from flashgraph.llm.protocol import Message, text_in
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Llm, Task

__all__ = ["SOLVED", "UNSOLVED", "RuleSample", "World"]

_RULE = re.compile(r"R(\d+)([!~])")
_FENCE = re.compile(r"```\n?(.*?)```", re.DOTALL)
_CASE = re.compile(r"case (\w+)-(\d+)")
SEED_TEXT = "Answer as the rules say."
SOLVED, UNSOLVED = "solved", "not solved"


@attrs.frozen
class RuleSample:
    """``split`` and ``index`` identify it; without the rules in ``needs`` it fails."""

    split: str
    index: int
    needs: tuple[int, ...]

    def __str__(self) -> str:
        return f"case {self.split}-{self.index}"


@attrs.frozen
class World:
    """The parameters of one world; ``task()`` makes its `Task`, and ``answer`` is its model for every role."""

    seed: int = 0
    rules: int = 40
    train: int = 150
    val: int = 100
    test: int = 200
    pass_knowing: float = 0.95
    pass_guessing: float = 0.12
    learn: float = 0.6
    garble: float = 0.12
    lose: float = 0.03

    def _stream(self, *key: object) -> random.Random:
        return _stream(self.seed, *key)

    def samples(self, split: str, count: int) -> list[RuleSample]:
        """Return samples of a split; frequent rules are needed more often than rare ones."""
        return [RuleSample(split, index, _needs(self.seed, self.rules, split, index)) for index in range(count)]

    def chance(self, text: str, sample: RuleSample) -> float:
        """Return the probability that the instruction passes the sample."""
        known = rules_of(text)
        if any(known.get(rule) == "~" for rule in sample.needs):
            return 0.02
        return self.pass_knowing if all(known.get(rule) == "!" for rule in sample.needs) else self.pass_guessing

    def true_score(self, text: str) -> float:
        """Return the expected score on the held-out test split, which is the measure of a run."""
        samples = self.samples("test", self.test)
        return sum(self.chance(text, s) for s in samples) / len(samples)

    def task(self) -> Task[RuleSample, bool]:
        """Return the world as a task; an attempt is one model call."""

        async def attempt(candidate: Mapping[str, str], sample: RuleSample, llm: Llm) -> bool:
            system = candidate["instruction"]
            reply = await llm([{"role": "system", "content": system}, {"role": "user", "content": str(sample)}])
            return reply.text.rpartition("\n")[2] == SOLVED  # before it, a model may think aloud

        def score(sample: RuleSample, output: bool) -> Score:
            return Score(
                float(output),
                "needs " + " ".join(f"R{rule}!" for rule in sample.needs) + ("" if output else " (failed)"),
            )

        return Task(
            name=f"world-{self.seed}",
            train=self.samples("train", self.train),
            val=self.samples("val", self.val),
            test=self.samples("test", self.test),
            seed={"instruction": SEED_TEXT},
            attempt=attempt,
            score=score,
        )

    def answer(self, messages: Sequence[Message]) -> str:
        """Answer as the model: attempt a case, or reflect or merge if the message shows fenced instructions."""
        prompt = text_in(messages[-1])
        if case := _CASE.fullmatch(prompt):
            split, index = case[1], int(case[2])
            sample = RuleSample(split, index, _needs(self.seed, self.rules, split, index))
            return self._attempt("\n".join(map(text_in, messages[:-1])), sample)
        fences = _FENCE.findall(prompt)
        if len(fences) >= 2:
            return self._merge(fences[0], *fences[1:])
        if fences:
            return self._reflect(fences[0], prompt)
        return "done"

    def _attempt(self, text: str, sample: RuleSample) -> str:
        passes = self._stream("attempt", text, str(sample)).random() < self.chance(text, sample)
        return SOLVED if passes else UNSOLVED

    def _reflect(self, text: str, prompt: str) -> str:
        stream = self._stream("reflect", prompt)
        known = {r: v for r, v in rules_of(text).items() if stream.random() >= self.lose}
        for section in prompt.split("Feedback:")[1:]:
            if "(failed)" not in section:
                continue
            for rule in rules_of(section):
                draw = stream.random()
                if draw < self.learn:
                    known[rule] = "!"
                elif draw < self.learn + self.garble:
                    known[rule] = "~"
        return _instruction(known)

    def _merge(self, best: str, *others: str) -> str:
        stream = self._stream("merge", best, *others)
        merged = {r: v for r, v in rules_of(best).items() if stream.random() >= self.lose}
        for other in others:
            for rule, version in rules_of(other).items():
                if stream.random() < 0.85:
                    merged.setdefault(rule, version)
        return _instruction(merged)


def _stream(*key: object) -> random.Random:
    return random.Random(hashlib.sha256(repr(key).encode()).hexdigest())


@lru_cache(maxsize=65_536)
def _needs(seed: int, rules: int, split: str, index: int) -> tuple[int, ...]:
    stream, weights = _stream(seed, "sample", split, index), [1 / (1 + rule / 8) for rule in range(rules)]
    return tuple(sorted({stream.choices(range(rules), weights)[0] for _ in range(stream.choice((1, 1, 2, 3)))}))


def rules_of(text: str) -> dict[int, str]:
    """Return the rules that an instruction states: number to ``"!"`` (right) or ``"~"`` (garbled)."""
    return {int(rule): version for rule, version in _RULE.findall(text)}


def _instruction(known: Mapping[int, str]) -> str:
    rules = " ".join(f"R{rule}{version}" for rule, version in sorted(known.items()))
    return f"```\n{SEED_TEXT} {rules}\n```"
