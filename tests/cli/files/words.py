"""A task about code words: the score is the share of lines that the reply knows."""

from __future__ import annotations

from collections.abc import Mapping

import flashgraph as fg


async def attempt(candidate: Mapping[str, str], sample: str, llm: fg.Llm) -> str:
    reply = await llm([{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": sample}])
    return reply.text


def score(sample: str, output: str) -> fg.Score:
    return fg.Score(float(output == sample.upper()), f"the right answer to {sample} is {sample.upper()}")


task = fg.Task(
    "words",
    train=["ant", "bee", "cat", "dog"],
    val=["ape", "bat", "cow", "doe"],
    test=["asp", "boa", "cod"],
    seed={"instruction": "Answer."},
    attempt=attempt,
    score=score,
)
