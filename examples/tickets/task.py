"""Support tickets go to queues whose codes and policies only a good prompt can know.

The codes mean nothing by themselves, so the seed prompt scores 0, and everything is learned from the feedback.  Two
policies cut across the subjects.  An injury or a fire goes to safety even if a refund is wanted.  A cancellation goes
to the retention queue for whatever reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs

import flashgraph as fg

POLICY = {
    "Q-417": "invoices, bills, fees and payment methods",
    "Q-802": "refunds: the customer wants money back",
    "Q-233": "parcels and delivery: late, lost, wrong or damaged parcels, courier, tracking, address",
    "Q-590": "technical problems: app, website, login, password, errors",
    "Q-146": "safety: anybody hurt, injured, burned or ill, electric shock, fire or smoke, even if a refund is wanted",
    "Q-675": "customers who cancel or leave: end a subscription, membership, contract or account, for any reason",
}
HERE = Path(__file__).parent


@attrs.frozen
class Ticket:
    """One ticket and the code of its queue."""

    id: str
    text: str
    queue: str

    def __str__(self) -> str:
        return self.text


def tickets(split: str) -> list[Ticket]:
    """Return the tickets of ``<split>.jsonl``."""
    lines = (HERE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Ticket(**json.loads(line)) for line in lines]


async def attempt(candidate: Mapping[str, str], sample: Ticket, llm: fg.Llm) -> str:
    """Ask for the queue of one ticket."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": sample.text}],
        max_tokens=12,
        temperature=0,
    )
    return reply.text.strip()


def score(sample: Ticket, output: str) -> fg.Score:
    """Score 1 for the exact code and nothing else; the feedback names the right code and its policy."""
    rule = f"Rule: {POLICY[sample.queue]} -> {sample.queue}"
    if output == sample.queue:
        return fg.Score(1, f"Correct. {rule}")
    return fg.Score(0, f"Wrong, the right answer is {sample.queue}. {rule}")


task = fg.Task(
    name="tickets",
    train=tickets("train"),
    val=tickets("val"),
    test=tickets("test"),
    seed={"instruction": "Route the support ticket to the right queue. Answer with the queue code only."},
    attempt=attempt,
    score=score,
)
