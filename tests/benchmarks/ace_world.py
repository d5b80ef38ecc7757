"""ACE on the simulated server: a world in which a better playbook really scores better.

The world is `flashgraph.sim.world.World`: hidden rules that samples need. The generator passes a sample if the
playbook, or the reflection on its last attempt, states the needed rules. The reflector finds rules named by the
feedback, misses some and garbles some. The curator adds new rules, rewrites garbled lines, removes lines that a better
one contradicts, and merges duplicates. A rule has several wordings, so that curators who work side by side write
duplicates that no comparison of words finds. Everything is a hash of (seed, texts).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import Profile
from flashgraph.sim.world import RuleSample, World, rules_of

__all__ = ["LENGTHS", "AceServer", "AceWorld", "role_of"]

LENGTHS: Mapping[str, tuple[float, float]] = {"generator": (699, 0.9), "reflector": (550, 0.5), "curator": (800, 0.6)}
"""The mean and shape of reply lengths in tokens.

The generator's are the published ones of an evaluation sample (arXiv 2605.08520). The others are estimates: five fields
of a reflection, and a curator's reasoning with its operations.
"""

WORDINGS = (
    "Kind {rule}: the code is {code} (R{rule}{mark})",
    "When a case is of kind {rule}, answer with {code}. R{rule}{mark}",
    "R{rule}{mark} applies to kind {rule}, whose answer reads {code}",
    "Use {code} wherever kind {rule} turns up, by R{rule}{mark}",
)
_LINE = re.compile(r"^\[(\S+)\] helpful=\d+ harmful=\d+ :: (.*)$", re.MULTILINE)
_CASE = re.compile(r"case (train|val|test)-(\d+)")


@attrs.frozen
class AceWorld:
    """``world`` has the samples and their rules; ``needs`` holds each sample's needed rules, by its name."""

    world: World
    needs: Mapping[str, RuleSample] = attrs.field(init=False, repr=False)

    @needs.default
    def _needs(self) -> Mapping[str, RuleSample]:
        sizes = {"train": self.world.train, "val": self.world.val, "test": self.world.test}
        return {str(s): s for split, size in sizes.items() for s in self.world.samples(split, size)}

    def task(self) -> fg.Task[RuleSample, str]:
        """Return the world as a task for ACE: the answer is ``right`` or not, and the feedback names the rules."""
        base = self.world.task()

        def score(sample: RuleSample, output: str) -> fg.Score:
            return fg.Score(float(output == "right"), "needs " + " ".join(f"R{rule}!" for rule in sample.needs))

        return fg.Task(
            base.name, train=base.train, val=base.val, test=base.test, seed={"playbook": ""}, score=score
        )  # fmt: skip

    def answer(self, messages: Sequence[Message]) -> str:
        """Answer as the model of every role."""
        prompt = messages[-1]["content"]
        replies: Mapping[str, Callable[[str], str]] = {
            "generator": self.generate, "reflector": self.reflect, "curator": self.curate
        }  # fmt: skip
        return replies[role_of(prompt)](prompt)

    def generate(self, prompt: str) -> str:
        context, _, case = prompt.rpartition("The case:")
        sample = self._sample(case)
        right = self._stream("answer", context, str(sample)).random() < self.world.chance(context, sample)
        used = [bullet for bullet, text in _LINE.findall(context) if set(rules_of(text)) & set(sample.needs)]
        return json.dumps({"reasoning": "-", "bullet_ids": used, "final_answer": "right" if right else "wrong"})

    def reflect(self, prompt: str) -> str:
        """Return the rules that the feedback names, as far as they are found; lines with a garbled rule are harmful."""
        stream = self._stream("reflect", prompt)
        feedback, _, used = prompt.partition("That was ")[2].partition("It used these lines")
        found = []
        for rule in rules_of(feedback):
            draw = stream.random()
            mark = "!" if draw < self.world.learn else "~" if draw < self.world.learn + self.world.garble else ""
            found += [self._worded(stream, rule, mark)] if mark else []
        right = feedback.startswith("right")
        tags = [
            {"id": bullet, "tag": "helpful" if right else "harmful" if "~" in text else "neutral"}
            for bullet, text in _LINE.findall(used)
        ]
        return json.dumps({"reasoning": "-", "key_insight": "; ".join(found), "bullet_tags": tags})

    def curate(self, prompt: str) -> str:
        if prompt.startswith("These pieces"):
            return self._joined(self._stream("merge", prompt), prompt)
        stream = self._stream("curate", prompt)
        playbook, _, learned = prompt.partition("What was learned from it:")
        lines = [(bullet, text, rules_of(text)) for bullet, text in _LINE.findall(playbook)]
        operations: list[dict[str, Any]] = []
        for rule, mark in rules_of(learned.partition("Change the playbook")[0]).items():
            garbled = [bullet for bullet, _, rules in lines if rules.get(rule) == "~"]
            right = [bullet for bullet, _, rules in lines if rules.get(rule) == "!"]
            text = self._worded(stream, rule, mark)
            if not garbled and not right:
                operations.append({"type": "ADD", "section": "RULES", "content": text})
            elif mark == "!" and not right:
                operations.append({"type": "UPDATE", "bullet_id": garbled[0], "content": text})
                operations += [{"type": "REMOVE", "bullet_id": bullet} for bullet in garbled[1:]]
            elif mark == "!" and garbled:
                operations += [{"type": "REMOVE", "bullet_id": bullet} for bullet in garbled]
            elif mark == "!" and len(right) > 1:
                operations.append({"type": "MERGE", "source_ids": right, "content": text})
        return json.dumps({"reasoning": "-", "operations": operations})

    def _joined(self, stream: random.Random, prompt: str) -> str:
        """One line for near-duplicates."""
        return "; ".join(self._worded(stream, rule, mark) for rule, mark in rules_of(prompt).items())

    def _worded(self, stream: random.Random, rule: int, mark: str) -> str:
        code = 100 + rule if mark == "!" else stream.randrange(200, 999)
        return stream.choice(WORDINGS).format(rule=rule, mark=mark, code=code)

    def _sample(self, text: str) -> RuleSample:
        split, index = _CASE.findall(text)[-1]
        return self.needs[f"case {split}-{index}"]

    def _stream(self, *key: object) -> random.Random:
        return random.Random(repr((self.world.seed, *key)))


class AceServer(SimModel):
    """One server for the three roles: they share its slots and its speed, and their replies differ in length."""

    def __init__(self, profile: Profile, world: AceWorld, seed: int = 0) -> None:
        super().__init__(profile, world.answer, seed)
        self._roles: dict[str, SimModel] = {}
        for role, (mean, sigma) in LENGTHS.items():
            self._roles[role] = SimModel(attrs.evolve(profile, mean=mean, sigma=sigma), world.answer, seed)
            self._roles[role].engine = self.engine

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        return await self._roles[role_of(messages[-1]["content"])].complete(messages, params)


def role_of(prompt: str) -> str:
    """Return the role of a prompt, by the first words of ACE's prompts."""
    if prompt.startswith("An assistant worked on this case"):
        return "reflector"
    return "curator" if prompt.startswith(("A playbook collects", "These pieces of advice")) else "generator"
