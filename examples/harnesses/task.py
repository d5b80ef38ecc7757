"""Programs instead of prompts: a candidate is a harness, Python text with a class `MemorySystem`, for Meta-Harness.

The samples are those of symptom2disease, uspto and lawbench together, each with its ``dataset``, ``answer`` and score.
The algorithm runs the programs in its sandbox.  This task never runs one: its own ``attempt`` does what `BASELINE`
does, and refuses every other program.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flashgraph as fg

BASELINE = '''\
class MemorySystem:
    """Asks the model and remembers nothing."""

    def __init__(self, llm):
        self.llm = llm
        self.state = ""

    def predict(self, input: str) -> tuple[str, dict]:
        answer = self.llm(input)
        return answer, {"context": len(input)}

    def learn_from_batch(self, batch: list[dict]) -> None:
        """Each example has "input", "answer" and "feedback"."""

    def get_state(self) -> str:
        return self.state

    def set_state(self, state: str) -> None:
        self.state = state
'''

TASKS = {
    name: fg.load_task(Path(__file__).parents[1] / name / "task.py")
    for name in ("symptom2disease", "uspto", "lawbench")
}


async def attempt(candidate: Mapping[str, str], sample: Any, llm: fg.Llm) -> str:
    """Ask the model, as the baseline does.

    Raises `DataError` for any other program.
    """
    if candidate["program"] != BASELINE:
        raise fg.DataError(
            "harnesses: a candidate is a program, and only an algorithm with a sandbox may run one.\n"
            "Fix: run Meta-Harness on this task."
        )
    return (await llm(str(sample), temperature=0, max_tokens=512)).text.strip()


def score(sample: Any, output: str) -> fg.Score:
    """Score with the score of the sample's data set."""
    found: fg.Score = TASKS[sample.dataset].score(sample, output)
    return found


task = fg.Task(
    name="harnesses",
    train=[sample for part in TASKS.values() for sample in part.train],
    val=[sample for part in TASKS.values() for sample in part.val],
    test=[sample for part in TASKS.values() for sample in part.test],
    seed={"program": BASELINE},
    attempt=attempt,
    score=score,
)
