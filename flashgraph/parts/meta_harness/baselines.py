"""The programs that a search starts from, besides the task's own: no memory, and every example in the prompt."""

from __future__ import annotations

from flashgraph.parts.meta_harness.interface import identity
from flashgraph.parts.meta_harness.items import Program
from flashgraph.tasks.task import Task

__all__ = ["FEW_SHOT", "NO_MEMORY", "baselines"]

NO_MEMORY = '''"""No memory: the model sees the input alone."""


class MemorySystem:
    def __init__(self, llm):
        self.llm = llm

    def learn_from_batch(self, batch):
        pass

    def predict(self, input):
        return self.llm(f"{input}\\n\\nGive only the answer.").strip(), {}

    def get_state(self):
        return ""

    def set_state(self, state):
        pass
'''

FEW_SHOT = '''"""Few-shot with all examples: every example that was seen stands in the prompt."""

import json


class MemorySystem:
    def __init__(self, llm):
        self.llm = llm
        self.examples = []

    def learn_from_batch(self, batch):
        self.examples += [[example["input"], example["answer"]] for example in batch]

    def predict(self, input):
        shots = "".join(f"Input: {seen}\\nAnswer: {answer}\\n\\n" for seen, answer in self.examples)
        return self.llm(f"{shots}Input: {input}\\nAnswer:").strip(), {}

    def get_state(self):
        return json.dumps(self.examples)

    def set_state(self, state):
        self.examples = json.loads(state)
'''


def baselines(task: Task) -> tuple[Program, ...]:
    """Return the task's seed program first, then the baselines of this module; equal programs count once."""
    programs = (
        Program("baseline seed", task.seed["program"]),
        Program("baseline no_memory", NO_MEMORY),
        Program("baseline few_shot", FEW_SHOT),
    )
    distinct: dict[str, Program] = {}
    for program in programs:
        distinct.setdefault(identity(program.code), program)
    return tuple(distinct.values())
