"""Generated worlds for Meta-Harness: a task, a model that answers by a hash, and a proposer.

The proposer writes good, broken and repeated programs.
"""

from __future__ import annotations

import hashlib
import re

import attrs

import flashgraph as fg
from flashgraph.parts.meta_harness import NO_MEMORY

__all__ = ["Fact", "Sample", "World", "digest"]

LABELS = ("red", "rose", "blue")


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


@attrs.frozen
class Sample:
    """One question of a data set."""

    dataset: str
    split: str
    index: int
    answer: str

    def __str__(self) -> str:
        return f"<{self.dataset} {self.split} {self.index}>"


@attrs.frozen
class Fact:
    """A fact about an archived program in the proposer's prompt: its number, and its scores or "failed" or
    "duplicate"."""

    id: int
    said: str
    characters: str = ""


def program(learns: str, predicts: str, note: str = "") -> str:
    """Return a program with these bodies of learn_from_batch and predict."""
    return f"""{note}
class MemorySystem:
    def __init__(self, llm):
        self.llm = llm
        self.seen = ""

    def learn_from_batch(self, batch):
        {learns}

    def predict(self, input):
        {predicts}

    def get_state(self):
        return self.seen

    def set_state(self, state):
        self.seen = state
"""


LEARNS = {
    "nothing": "pass",
    "all": "self.seen = ' '.join(e['input'] + e['answer'] + e['feedback'] for e in batch)",
    "last": "self.seen = batch[-1]['input'] + '=' + batch[-1]['answer']",
    "asks": "self.seen = ' '.join(self.llm('rule of ' + e['input']) for e in batch[:3])",
    "breaks": "raise ValueError('cannot learn')",
    "breaks on b": "self.seen = {'b': 1}.get(batch[0]['input'][1]) or 'fine'",
}
PREDICTS = {
    "asks": "return self.llm(self.seen + ' ' + input), {}",
    "asks twice": "return self.llm(self.llm('think about ' + input) + self.seen + input), {'calls': 2}",
    "guesses": "return 'red', {}",
    "breaks": "raise KeyError(input)",
    "breaks at times": "return (self.llm(input) if input[-2] in '02468' else [][0]), {}",
    "no tuple": "return self.llm(input)",
}
BROKEN = (
    "class MemorySystem:\n    def predict(self, input)\n",
    "class MemorySystem:\n    pass\n",
    "import nowhere\n\n\n",
)


@attrs.frozen
class World:
    """A world that depends only on ``number``."""

    number: int

    def samples(self, split: str) -> list[Sample]:
        names = ("a", "b")[: 1 + digest(self.number, "names") % 2]
        made = [
            Sample(name, split, i, LABELS[digest(self.number, name, split, i) % 3])
            for name in names
            for i in range(1 + digest(self.number, name, split) % 5)
        ]
        return sorted(made, key=lambda s: digest(self.number, "shuffled", str(s)))

    def task(self) -> fg.Task:
        """Return the task, whose graded scores give ties and fractions."""

        def score(sample: Sample, output: str) -> fg.Score:
            value = 1.0 if output == sample.answer else 0.5 if output[:1] == sample.answer[:1] else 0.0
            return fg.Score(value, f"it was {sample.answer}, secret-{sample.split}-{sample.index}")

        return fg.Task(
            f"world-{self.number}",
            train=self.samples("train"),
            val=self.samples("val"),
            test=[Sample("a", "test", 0, "red")],
            seed={"program": program(LEARNS["last"], PREDICTS["asks"])},
            score=score,
        )

    def reply(self, prompt: str) -> str:
        """Answer as the task's model: the right answer of the prompt's last sample, or another one, by a hash."""
        shown = re.findall(r"<(\w) (\w+) (\d+)>", prompt)
        if not shown:
            return LABELS[digest(self.number, prompt) % 3]
        name, split, index = shown[-1]
        right = LABELS[digest(self.number, name, split, int(index)) % 3]
        return right if digest(self.number, prompt) % 2 else LABELS[digest(self.number, prompt, 1) % 3]

    def written(self, number: int, turn: int, facts: tuple[Fact, ...]) -> str:
        """Return the proposer's reply in a turn (from 1) of an iteration (from 1), given the facts at its start."""
        key = digest(self.number, number, facts)
        if turn == 1 and key % 3 == 0:
            return f"Let me look first.\nLIST\n- READ #{facts[-1].id}\n`FAILURES {facts[0].id}`\nEXAMPLES a 1"
        if key % 11 == 0:
            return "I have no idea."
        blocks = [self._program(digest(key, i)) for i in range(1 + key % 4)]
        return "Here:\n" + "\n\n".join(f"```python\n{block}\n```" for block in blocks)

    def _program(self, key: int) -> str:
        if key % 9 == 0:
            return BROKEN[key % 3] + ("class MemorySystem:\n    x = 1\n" if key % 3 == 2 else "")
        if key % 9 == 1:
            return f"# a copy, number {key}\n{NO_MEMORY}"
        learns, predicts = list(LEARNS.values())[key % 6], list(PREDICTS.values())[key // 6 % 6]
        # Some programs differ only in a comment.
        return program(learns, predicts, f"# {key}" if key % 2 else f"NUMBER = {key % 5}")
