"""The tickets of ``task.py`` for Meta-Harness: the program around the model evolves, not a prompt.

The seed keeps the last few examples that it was shown.  A better program remembers the rules that the feedback names,
once each, instead of dozens of examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

import flashgraph as fg

PROGRAM = '''"""The last few examples stand in the prompt."""

import json

KEPT = 4


class MemorySystem:
    def __init__(self, llm):
        self.llm = llm
        self.examples = []

    def learn_from_batch(self, batch):
        self.examples = [[example["input"], example["answer"]] for example in batch][-KEPT:]

    def predict(self, input):
        shots = "".join(f"Ticket: {seen}\\nQueue: {queue}\\n\\n" for seen, queue in self.examples)
        reply = self.llm(f"Answer with the queue code only.\\n\\n{shots}Ticket: {input}\\nQueue:")
        return (reply.split() or [""])[0], {}

    def get_state(self):
        return json.dumps(self.examples)

    def set_state(self, state):
        self.examples = json.loads(state)
'''


@attrs.frozen
class Solved:
    """A sample of ``task.py`` with its right answer, as programs learn from it."""

    ticket: Any
    answer: str

    def __str__(self) -> str:
        return str(self.ticket)


def solved(tickets: Sequence[Any]) -> list[Solved]:
    """Return tickets with their queue as the answer."""
    return [Solved(ticket, ticket.queue) for ticket in tickets]


def score(sample: Solved, output: str) -> fg.Score:
    """Score as ``task.py`` does."""
    found: fg.Score = prompts.score(sample.ticket, output)
    return found


prompts = fg.load_task(Path(__file__).parent / "task.py")
task = fg.Task(
    name="tickets",
    train=solved(prompts.train),
    val=solved(prompts.val),
    test=solved(prompts.test),
    seed={"program": PROGRAM},
    score=score,
)
