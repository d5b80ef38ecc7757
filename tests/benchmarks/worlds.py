"""Worlds of several kinds with a known truth; in each kind, something else makes a text good.

A text states rules (``R7!`` right, ``R7~`` garbled). A sample needs some of them. Parameters set what else matters:

- how many rules a text can hold, and which rules contradict each other;
- the noise of scores, and the content of feedback;
- how many components share the rules.

Every reply is a hash of the seed and the request, so equal requests have equal replies.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import attrs

from flashgraph.llm.protocol import Message, text_in
from flashgraph.sim.world import RuleSample
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Llm, Task

__all__ = ["FAMILY", "HELD_OUT", "Kind", "KindWorld"]

_RULE = re.compile(r"R(\d+)([!~])")
_FENCE = re.compile(r"```\n?(.*?)```", re.DOTALL)
_CASE = re.compile(r"case (\w+)-(\d+)(?: part (\d+))?")
SEED_TEXT = "Answer as the rules say."


@attrs.frozen(cache_hash=True)
class Kind:
    """The parameters of a kind of world; the defaults are plain hidden rules.

    ``capacity`` is the number of rules that a text can hold; each further rule lowers the chance to pass by the share
    ``crowding``. ``conflicts`` pairs of rules contradict each other: a text that states both fails samples that need
    either. ``flip`` is the share of answers that flip by chance. ``named`` is the share of needed rules in the
    feedback, and ``misled`` the chance that it names another one. ``components`` share the rules among them. ``graded``
    scores are shares of needed rules in hundredths. ``shift`` moves the validation split to the frequent rules.
    """

    rules: int = 24
    most_needed: int = 3
    seed_chance: float = 0.12
    knowing: float = 0.95
    learn: float = 0.6
    garble: float = 0.12
    lose: float = 0.03
    capacity: int | None = None
    crowding: float = 0.0
    conflicts: int = 0
    flip: float = 0.0
    named: float = 1.0
    misled: float = 0.0
    components: int = 1
    graded: bool = False
    shift: float = 0.0
    train: int = 60
    val: int = 100
    test: int = 400


FAMILY: Mapping[str, Kind] = {
    "rules": Kind(rules=40, train=150),
    "capacity": Kind(rules=22, learn=0.75, capacity=12, crowding=0.12, most_needed=2, garble=0.1),
    "noisy": Kind(rules=22, flip=0.12, learn=0.75, most_needed=2),
    "conflicts": Kind(rules=22, conflicts=6, learn=0.75, most_needed=2),
    "components": Kind(rules=24, components=3, learn=0.75, most_needed=2),
    "sparse": Kind(rules=20, named=0.5, misled=0.25, learn=0.75, most_needed=2),
    "shifted": Kind(rules=24, shift=1.5, learn=0.7, most_needed=2),
    "graded": Kind(rules=24, graded=True, learn=0.7),
    "small": Kind(rules=26, learn=0.65, capacity=9, crowding=0.1, most_needed=2, garble=0.12, lose=0.05),
    "opposed": Kind(rules=20, conflicts=7, learn=0.75, most_needed=2, lose=0.05),
}
"""The kinds that defaults are chosen on."""

HELD_OUT: Mapping[str, Kind] = {
    "tight capacity": Kind(rules=30, learn=0.6, capacity=8, crowding=0.08, most_needed=2, garble=0.15, lose=0.06),
    "very noisy": Kind(rules=16, flip=0.2, learn=0.7, most_needed=2),
    "many conflicts": Kind(rules=18, conflicts=8, learn=0.8, most_needed=2, lose=0.06),
    "two components": Kind(rules=30, components=2, learn=0.6),
    "noisy and crowded": Kind(rules=20, flip=0.1, capacity=10, crowding=0.06, most_needed=2),
    "misleading": Kind(rules=16, named=0.7, misled=0.4, garble=0.2),
    "graded and shifted": Kind(rules=28, graded=True, shift=1.0),
    "easy": Kind(rules=8, most_needed=1, learn=0.9),
}
"""The kinds that no default was chosen on; they are run only for the tables."""


@attrs.frozen
class KindWorld:
    """One world of a kind; ``task()`` makes its `Task`, and ``answer`` is its model for every role."""

    kind: Kind
    seed: int = 0
    name: str = "world"

    def _stream(self, *key: object) -> random.Random:
        return random.Random(repr((self.seed, *key)))

    # ---- truth -------------------------------------------------------------------------------------------

    def samples(self, split: str) -> list[RuleSample]:
        return [self.sample(split, index) for index in range(getattr(self.kind, split))]

    def sample(self, split: str, index: int) -> RuleSample:
        """Return a sample; frequent rules are needed more often, and ``shift`` exaggerates that in the validation
        split."""
        return _sample(self.kind, self.seed, split, index)

    @cached_property
    def contradicts(self) -> Mapping[int, int]:
        """For each rule, the rule that contradicts it."""
        drawn = self._stream("conflicts").sample(range(self.kind.rules), 2 * self.kind.conflicts)
        pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
        return {**dict(pairs), **{b: a for a, b in pairs}}

    def chance(self, text: str, needs: Sequence[int], stated: int | None = None) -> float:
        """Return the probability that a text passes a sample with these needed rules."""
        kind, known = self.kind, _rules_of(text)
        fine = [known.get(r) == "!" and self.contradicts.get(r) not in known for r in needs]
        if any(known.get(r) == "~" for r in needs):
            clean = 0.02
        elif all(fine):
            clean = kind.knowing
        else:
            clean = kind.seed_chance
        if kind.capacity is not None:
            clean *= (1 - kind.crowding) ** max(0, len(known) - kind.capacity)
        return clean

    def _parts(self, needs: Sequence[int]) -> list[list[int]]:
        """Return the rules that each component must state, without components that need none."""
        if self.kind.components == 1:
            return [list(needs)]
        return [[r for r in needs if r % self.kind.components == part] for part in range(self.kind.components)]

    def expected(self, candidate: Mapping[str, str], sample: RuleSample) -> float:
        """Return the expected score of a candidate on a sample."""
        if self.kind.graded:
            text = "\n".join(candidate.values())
            return sum(self.chance(text, [r]) for r in sample.needs) / len(sample.needs)
        passed = 1.0
        for part, text in zip(self._parts(sample.needs), candidate.values(), strict=True):
            passed *= self.chance(text, part) if part else 1.0
        return passed * (1 - self.kind.flip) + (1 - passed) * self.kind.flip

    def true_score(self, candidate: Mapping[str, str]) -> float:
        """Return the expected score on the held-out samples."""
        samples = self.samples("test")
        return sum(self.expected(candidate, s) for s in samples) / len(samples)

    # ---- the task ----------------------------------------------------------------------------------------

    def seed_candidate(self) -> dict[str, str]:
        names = ["instruction"] if self.kind.components == 1 else [f"part{i}" for i in range(self.kind.components)]
        return dict.fromkeys(names, SEED_TEXT)

    def task(self) -> Task[RuleSample, float]:
        async def attempt(candidate: Mapping[str, str], sample: RuleSample, llm: Llm) -> float:
            scores = []
            for number, (text, part) in enumerate(zip(candidate.values(), self._parts(sample.needs), strict=True)):
                if part:
                    user = str(sample) + (f" part {number}" if self.kind.components > 1 else "")
                    reply = await llm([{"role": "system", "content": text}, {"role": "user", "content": user}])
                    scores.append(float(reply.text.rpartition("score ")[2]))
            return min(scores)

        return Task(
            name=f"{self.name}-{self.seed}",
            train=self.samples("train"),
            val=self.samples("val"),
            test=self.samples("test"),
            seed=self.seed_candidate(),
            attempt=attempt,
            score=self.score,
        )

    def score(self, sample: RuleSample, output: float) -> Score:
        stream = self._stream("feedback", str(sample))
        shown = [r if stream.random() >= self.kind.misled else stream.randrange(self.kind.rules) for r in sample.needs]
        shown = [r for r in shown if stream.random() < self.kind.named]
        return Score(output, "needs " + " ".join(f"R{r}!" for r in shown) + ("" if output >= 1 else " (failed)"))

    # ---- the model ---------------------------------------------------------------------------------------

    def answer(self, messages: Sequence[Message]) -> str:
        prompt = text_in(messages[-1])
        if case := _CASE.fullmatch(prompt):
            text = "\n".join(map(text_in, messages[:-1]))
            return f"score {self._attempt(text, self.sample(case[1], int(case[2])), case[3]):g}"
        fences = _FENCE.findall(prompt)
        if len(fences) >= 2:
            return self._merge(*fences)
        return self._reflect(fences[0], prompt) if fences else "done"

    def _attempt(self, text: str, sample: RuleSample, part: str | None) -> float:
        stream = self._stream("attempt", text, str(sample), part)
        if self.kind.graded:
            right = sum(stream.random() < self.chance(text, [r]) for r in sample.needs) / len(sample.needs)
            return round(min(1.0, max(0.0, right)), 2)
        needs = sample.needs if part is None else self._parts(sample.needs)[int(part)]
        passes = stream.random() < self.chance(text, needs)
        return float(passes != (stream.random() < self.kind.flip))

    def _reflect(self, text: str, prompt: str) -> str:
        stream = self._stream("reflect", prompt)
        known = {r: v for r, v in _rules_of(text).items() if stream.random() >= self.kind.lose}
        for section in prompt.split("Feedback:")[1:]:
            if "(failed)" not in section:
                continue
            for rule in _rules_of(section):
                draw = stream.random()
                if draw < self.kind.learn:
                    known[rule] = "!"
                    if rule in self.contradicts and stream.random() < 0.5:
                        known.pop(self.contradicts[rule], None)
                elif draw < self.kind.learn + self.kind.garble:
                    known[rule] = "~"
        return _instruction(known)

    def _merge(self, best: str, *others: str) -> str:
        stream = self._stream("merge", best, *others)
        merged = {r: v for r, v in _rules_of(best).items() if stream.random() >= self.kind.lose}
        for other in others:
            for rule, version in _rules_of(other).items():
                if stream.random() < 0.85:
                    merged.setdefault(rule, version)
        return _instruction(merged)


@lru_cache(maxsize=65_536)
def _sample(kind: Kind, seed: int, split: str, index: int) -> RuleSample:
    stream, steep = random.Random(repr((seed, "sample", split, index))), 1 + kind.shift * (split == "val")
    weights = [1 / (1 + rule / 8) ** steep for rule in range(kind.rules)]
    count = stream.choice((1, *range(1, kind.most_needed + 1)))
    return RuleSample(
        split, index, tuple(sorted({stream.choices(range(kind.rules), weights)[0] for _ in range(count)}))
    )


@lru_cache(maxsize=65_536)
def _rules_of(text: str) -> Mapping[int, str]:
    return {int(rule): version for rule, version in _RULE.findall(text)}


def _instruction(known: Mapping[int, str]) -> str:
    return "```\n" + " ".join([SEED_TEXT, *(f"R{rule}{version}" for rule, version in sorted(known.items()))]) + "\n```"
