"""An agent that looks up a stockroom through tools, and answers a question about it.

The agent loops: the model calls tools, gets their results, and calls again or answers.  The descriptions of the tools
are components of the candidate, and evolve too.  The seed does not tell that the room counts in boxes, so its answers
are wrong until a reflection has read the feedback.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.tasks import Trace

BOX = 12
"""Pieces in a box.  The tools count boxes, and questions ask for pieces."""

NAMES = ("bolt", "nut", "washer", "screw", "hinge", "latch", "bracket", "spring", "rivet", "clamp")
STOCK: dict[str, dict[str, Any]] = {
    name: {"code": f"P-{100 + 7 * number}", "boxes": 3 + (5 * number) % 11} for number, name in enumerate(NAMES)
}
TURNS = 6
"""The most requests of one attempt."""

PARAMETERS = {"find": "name", "count": "code"}
"""The argument of each tool."""


@attrs.frozen
class Question:
    """A question about two parts, and its answer in pieces."""

    text: str
    pieces: int

    def __str__(self) -> str:
        return self.text


def questions(number: int, seed: int) -> list[Question]:
    """Return that many questions, the same each time."""
    drawn = random.Random(seed)
    pairs = [drawn.sample(NAMES, 2) for _ in range(number)]
    asked = "How many pieces of {} and {} are in the stockroom together?"
    return [Question(asked.format(*pair), sum(BOX * STOCK[p]["boxes"] for p in pair)) for pair in pairs]


def call(name: str, arguments: str) -> str:
    """Return the result of a tool, as text for the model; a mistake of the model is a result too."""
    try:
        given = json.loads(arguments)[PARAMETERS[name]]
        if name == "find":
            return str(STOCK[given]["code"])
        return f"{next(part['boxes'] for part in STOCK.values() if part['code'] == given)}"
    except (LookupError, TypeError, ValueError, StopIteration):
        return f"error: no {name} of {arguments}"


def offered(candidate: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the tools in OpenAI's form, with the candidate's descriptions."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": candidate[name],
                "parameters": {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]},
            },
        }
        for name, argument in PARAMETERS.items()
    ]


async def attempt(candidate: Mapping[str, str], sample: Question, llm: fg.Llm, trace: Trace) -> str:
    """Let the model call tools until it answers, at most `TURNS` times."""
    messages: list[Any] = [
        {"role": "system", "content": candidate["instruction"]},
        {"role": "user", "content": sample.text},
    ]
    for _ in range(TURNS):
        reply = await llm(messages, tools=offered(candidate), temperature=0, max_tokens=256)
        messages.append(reply.message)
        if not reply.tool_calls:
            trace.record("instruction", sample.text, reply.text)
            return reply.text.strip()
        for asked in reply.tool_calls:
            result = call(asked.name, asked.arguments)
            messages.append({"role": "tool", "tool_call_id": asked.id, "content": result})
            if asked.name in PARAMETERS:
                trace.record(asked.name, asked.arguments, result)
    return f"no answer within {TURNS} requests"


def score(sample: Question, output: str) -> fg.Score:
    """Score 1 if the last number of the output is the right one."""
    numbers = [int(word) for word in output.replace(",", "").replace(".", " ").split() if word.isdigit()]
    right = numbers[-1:] == [sample.pieces]
    rule = f"Expected {sample.pieces} pieces as the last number. count returns boxes, and a box has {BOX} pieces."
    return fg.Score(float(right), feedback="Right." if right else rule)


task = fg.Task(
    "stockroom",
    train=questions(12, seed=1),
    val=questions(8, seed=2),
    test=questions(12, seed=3),
    seed={
        "instruction": "Answer the question with a number. Use the tools.",
        "find": "Return the code of a part.",
        "count": "Return how much there is of a part, by its code.",
    },
    attempt=attempt,
    score=score,
)
