"""Small worlds for Combee, and its graphs with a record of the dealt shares.

Hidden rules decide which samples an instruction passes. A reflection keeps most of the rules in its prompt. A hash of
the whole prompt decides which, so that other shares, or shares in another order, give another text.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.algorithms.combee import Brief, Shuffled

MINIBATCHES = (1, 2, 3, 4, 5, 8, 9, 12, 16, 17)


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def rules_in(text: str) -> list[str]:
    return sorted(set(re.findall(r"rule-\d+", text)))


@attrs.frozen
class Sample:
    """A sample, whose score is the share of its ``needs`` that are known."""

    split: str
    index: int
    needs: frozenset[str]

    def __str__(self) -> str:
        return f"case {self.split}-{self.index}"


@attrs.frozen
class World:
    """A world that depends only on ``number``."""

    number: int

    @property
    def minibatch(self) -> int:
        return MINIBATCHES[self.number % len(MINIBATCHES)]

    @property
    def seed(self) -> dict[str, str]:
        """Return a seed of one component, or two."""
        return {"role": "Be kind.", "rules": "Do it."} if self.number % 3 == 2 else {"instruction": "Do it."}

    def samples(self, split: str) -> list[Sample]:
        rules = 6 + digest(self.number, "rules") % 12
        size = {"train": 6 + digest(self.number, "train") % 15, "val": 4 + digest(self.number, "val") % 6}[split]

        def needs(i: int) -> frozenset[str]:
            count = 1 + digest(self.number, split, i) % 3
            return frozenset(f"rule-{digest(self.number, split, i, k) % rules}" for k in range(count))

        return [Sample(split, i, needs(i)) for i in range(size)]

    def task(self) -> fg.Task[Sample, str]:
        return fg.Task(
            name=f"combee-{self.number}",
            train=self.samples("train"),
            val=self.samples("val"),
            seed=self.seed,
            score=lambda sample, output: fg.Score(self.score(sample, output), self.feedback(sample)),
        )

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Answer as the task's model, which knows its instruction's rules and sometimes garbles them."""
        system, user = (m["content"] for m in messages)
        return "lost" if digest(self.number, system, user) % 9 == 0 else " ".join(["by", *rules_in(system)])

    def score(self, sample: Sample, output: str) -> float:
        return len(sample.needs & set(rules_in(output))) / len(sample.needs)

    def feedback(self, sample: Sample) -> str:
        return "needs " + " and ".join(sorted(sample.needs))

    def reflect(self, prompt: str) -> str:
        """Answer as the reflecting model: with a language word, without one, with one fence only, or without any."""
        key = digest(self.number, prompt)
        text = " ".join(rule for rule in rules_in(prompt) if digest(key, rule) % 5) + f" v{key % 1000}"
        frames = ("Here it is:\n```text\n{}\n```", "```\n{}\n```\nDone.", "{}\n", "```\n{}")
        return frames[key % 4].format(text)


def watched(graph: fg.Graph, shuffle: str, dealt: list[Shuffled], rounds: Mapping[str, int] | None = None) -> fg.Graph:
    """Return the graph with its ``shuffle`` stage recorded and its sources bounded to these ``rounds``."""
    bounded, seen = rounds or {}, copy.copy(graph)
    body = graph.spec.nodes[shuffle].body  # type: ignore[union-attr]  # a stage

    @wraps(body)
    def noting(brief: Brief, ctx: fg.Context) -> Shuffled:
        shuffled: Shuffled = body(brief, ctx)
        dealt.append(shuffled)
        return shuffled

    def changed(node: Any) -> Any:
        if node.name == shuffle:
            return attrs.evolve(node, body=noting)
        return attrs.evolve(node, rounds=bounded[node.name]) if node.name in bounded else node

    seen._nodes = {name: changed(node) for name, node in graph._nodes.items()}
    return seen


def check_dealt(records: Sequence[str], shares: Sequence[Sequence[str]], duplication: int) -> None:
    """Check that n records, each ``duplication`` times, are in max(1, floor(sqrt n)) shares of one size.

    Fewer than 4 records stay as they are.
    """
    assert len(shares) == max(1, math.floor(math.sqrt(len(records))))
    if len(records) < 4:
        assert [list(share) for share in shares] == [list(records)]
        return
    times = Counter(record for share in shares for record in share)
    assert times == {record: duplication * count for record, count in Counter(records).items()}
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
