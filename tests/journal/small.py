"""Small stored runs for tests of readers: one that has ended, and one that another process holds.

As a program (``python -m tests.journal.small FOLDER``) it runs until its model has answered some calls, prints that,
and waits to be killed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt, Candidate, Work
from flashgraph.sim.world import World
from flashgraph.testing.runs import TASK
from tests.journal.kit import next_loop

__all__ = ["WORLD", "held", "judged_run", "small_run"]

WORLD = World(seed=1, train=12, val=8)
ANSWERED = 60
"""The number of calls that the model of a held run answers."""


def small_run(folder: Path, *, task: fg.Task | None = None, **options: Any) -> fg.Result:
    """Run GEPA on a small world and store it in ``folder``; the same run each time."""
    models = dict.fromkeys(("task", "reflection"), WORLD.answer)
    options = {"models": models, "schedule": "lockstep", "budget": fg.Budget(proposals=8), **options}
    return fg.run("gepa", task or WORLD.task(), folder=folder, backend=next_loop(folder), **options)


def judged_run(folder: Path) -> fg.Result:
    """Run an archive of three texts: ``a`` is confirmed, ``b`` retracted, ``c`` provisional when time is up."""
    graph = fg.Graph("judged")
    archive = graph.pool("archive", lambda: Archive(threshold=0.5))

    @graph.source(rounds=3)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": "abc"[ctx.emission]}, 4)

    @graph.stage(model="judge")
    async def judge(work: Work, ctx: fg.Context) -> Attempt:
        reply = await ctx.llm(f"{work.text['text']} {work.index}")
        return Attempt(work.index, float(reply.text), reply.text)

    graph.edge(pick, judge, scatter=Candidate.work)
    graph.edge(judge, archive, gather=True, release=fg.fraction(0.25), late="amend")

    async def answer(messages: Sequence[Message]) -> str:
        text, index = messages[-1]["content"].split()
        if index != "0":
            await (anyio.sleep_forever() if text == "c" else anyio.sleep(0.1))
        return "0.0" if text == "b" and index != "0" else "1.0"

    budget = fg.Budget(seconds=1)
    return fg.run(graph, TASK, models={"judge": answer}, budget=budget, folder=folder)


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that holds a run with requests in flight; at the end it is killed, unless it was before."""
    command = [sys.executable, "-m", "tests.journal.small", str(folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waiting\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _hold(folder: Path) -> None:
    answered = 0

    async def answer(messages: Sequence[Message]) -> str:
        nonlocal answered
        answered += 1
        if answered > ANSWERED:
            if answered == ANSWERED + 1:
                # The commits were awaited, so earlier answers are in the journal by then.
                await anyio.sleep(0.2)
                print("waiting", flush=True)
            await anyio.sleep_forever()
        return WORLD.answer(messages)

    small_run(folder, models=dict.fromkeys(("task", "reflection"), answer))


if __name__ == "__main__":
    _hold(Path(sys.argv[1]))
