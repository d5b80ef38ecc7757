"""Names and files that the Python blocks of a page take for granted, by page."""

from __future__ import annotations

__all__ = ["SETUPS"]

WORLD = """
import flashgraph as fg
from flashgraph.sim.world import World

world = World(seed=1, train=12, val=8)
task = world.task()
models = dict.fromkeys(("task", "reflection"), world.answer)
budget = fg.Budget(proposals=2)
"""
"""A task, models that need no server, and a small budget."""

ROWS = """
from pathlib import Path

rows = '{"context": "Is it?", "target": "yes"}\\n{"context": "Was it?", "target": "no"}\\n'
Path("all.jsonl").write_text(rows * 5)


async def attempt(candidate, sample, llm):
    return (await llm(sample.text)).text


def score(sample, output):
    return float(output == sample.answer)
"""

SETUPS = {
    "docs/how-to/load-data.md": ROWS,
    "docs/how-to/view-runs.md": WORLD + 'fg.run("gepa", task, models=models, budget=budget, folder="runs/mine")',
    "docs/how-to/read-runs.md": WORLD + 'fg.run("gepa", task, models=models, budget=budget, folder="runs/mine")',
    "docs/how-to/write-a-policy.md": WORLD,
}
