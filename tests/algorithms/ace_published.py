"""ACE's published loop as a plain sequential program (arXiv 2510.04618), to compare the graph with.

It was written from the description of the loop, and shares with the graph only the wording of the prompts. It reads the
replies itself, and its playbook is a list of dicts. Where the published code has a known defect, it follows the paper.
All operations are carried out, ids are given once, the budget holds, and cited bullets count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import attrs

from flashgraph.parts.ace.prompts import curate_prompt, generate_prompt, merge_prompt, reflect_prompt
from tests.algorithms.ace_book import Book
from tests.algorithms.ace_world import Case, World

ROUNDS = 3
ID = r"\[([a-z]+-\d+)\]|\b([a-z]+-\d{5})\b"


@attrs.define
class Trace:
    """The parts of a run that must be equal."""

    calls: list[tuple[str, str]] = attrs.field(factory=list)
    """(role, prompt), in order."""
    states: list[Any] = attrs.field(factory=list)
    """The playbook after each change."""
    snapshots: list[tuple[int, str, dict[int, float]]] = attrs.field(factory=list)
    """(samples trained, playbook, scores by sample)."""
    best: str = ""
    accuracy: float | None = None
    answered: tuple[int, float, float] = (0, 0.0, 0.0)


class Published:
    """One run."""

    def __init__(self, world: World) -> None:
        self.world, self.task, self.set = world, world.task(), world.params
        self.trace = Trace()
        self.book = Book(self.task.seed["playbook"], self.set["budget_tokens"])
        self.trained = 0
        self.sizes: list[int] = []
        """The number of calls of each training sample."""

    def run(self) -> Trace:
        self.trace.states.append(self.book.state())
        if self.set["mode"] == "online":
            self.online(self.set["test_window"])
        else:
            self.offline(self.set["eval_steps"])
        scores = [score for *_, tried in self.trace.snapshots for score in tried.values()]
        self.trace.accuracy = sum(scores) / len(scores)
        return self.trace

    def offline(self, every: int) -> None:
        best = -1.0
        for epoch in range(self.set["epochs"]):
            last = epoch == self.set["epochs"] - 1
            for step, case in enumerate(self.task.train, start=1):
                self.train(case, step)
                # The published code skips the samples after the last multiple; the graph validates the end too.
                if step % every == 0 or (last and step == len(self.task.train)):
                    score = self.tried(self.task.val)
                    if score > best:
                        best, self.trace.best = score, self.book.text()

    def online(self, width: int) -> None:
        for start in range(0, len(self.task.train), width):
            window = self.task.train[start : start + width]
            self.trace.best = self.book.text()
            self.tried(window)
            for step, case in enumerate(window, start=start + 1):
                self.train(case, step)

    def tried(self, cases: Sequence[Case]) -> float:
        scores = {case.index: self.generate(case)[1] for case in cases}
        self.trace.snapshots.append((self.trained, self.book.text(), scores))
        return sum(scores.values()) / len(scores)

    def train(self, case: Case, step: int) -> None:
        before = len(self.trace.calls)
        answer, score, used = self.generate(case)
        first, reflection = score, ""
        if score >= 1:
            reflection = self.reflect(case, answer, score, used)
        else:
            for _ in range(ROUNDS):
                reflection = self.reflect(case, answer, score, used)
                answer, score, used = self.generate(case, reflection)
                if score >= 1:
                    break
        self.trained += 1
        if step % self.set["curator_frequency"] == 0:
            self.curate(case, reflection)
        else:
            self.book.edit([], self.trained)
            self.trace.states.append(self.book.state())
        if self.set["answer_after"]:
            samples, summed, after = self.trace.answered
            self.trace.answered = (samples + 1, summed + first, after + self.generate(case)[1])
        self.sizes.append(len(self.trace.calls) - before)

    def call(self, role: str, prompt: str) -> str:
        self.trace.calls.append((role, prompt))
        return self.world.reply(role, prompt)

    def generate(self, case: Case, reflection: str = "") -> tuple[str, float, list[str]]:
        text = {**self.task.seed, "playbook": self.book.text()}
        reply = self.call("generator", generate_prompt(text, case, reflection))
        found = read(reply)
        answer = found["final_answer"] if found else reply.rpartition("Final answer:")[2].strip()
        used = [*(found or {}).get("bullet_ids", ()), *(a or b for a, b in re.findall(ID, reply))]
        return answer, self.task.score(case, answer).value, used

    def reflect(self, case: Case, answer: str, score: float, used: list[str]) -> str:
        lines = "\n".join(self.book.line(bullet) for bullet in self.book.living(used))
        feedback = self.task.score(case, answer).feedback
        reply = self.call("reflector", reflect_prompt(case, answer, feedback, score >= 1, lines))
        found = read(reply)
        if found is None:
            return reply
        if self.book.tag([(one["id"], one["tag"]) for one in found["bullet_tags"]]):
            self.trace.states.append(self.book.state())
        return f"Reasoning: {found['reasoning']}\nKey insight: {found['key_insight']}"

    def curate(self, case: Case, reflection: str) -> None:
        shown: Any = SimpleNamespace(
            text=self.book.text(), tokens=self.book.tokens(), budget_tokens=self.set["budget_tokens"]
        )
        found = read(self.call("curator", curate_prompt(shown, case, reflection)))
        operations = None if found is None else found["operations"] or []
        self.book.edit(operations if isinstance(operations, list) else ["unreadable"], self.trained)
        self.trace.states.append(self.book.state())
        if self.set["merge_duplicates"]:
            self.merge()

    def merge(self) -> None:
        """Run the bullet analyzer: one call a group; it finds all groups before it merges the first."""
        groups = self.book.duplicates()
        texts = [self.call("curator", merge_prompt([self.book.bullet(b)["text"] for b in ids])) for ids in groups]
        for ids, text in zip(groups, texts, strict=True):
            if not text:
                continue  # an empty reply is a failed call, and merges nothing
            self.book.edit([{"type": "MERGE", "source_ids": ids, "content": text}], self.trained)
            self.trace.states.append(self.book.state())


def read(reply: str) -> Mapping[str, Any] | None:
    """Return the JSON object in a reply, or None."""
    start = reply.find("{")
    return json.loads(reply[start:]) if start >= 0 else None
