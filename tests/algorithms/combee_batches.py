"""ACE on batches of samples with Combee's reflection as its curation, as a plain sequential program.

The samples of a batch are answered, then reflected on; wrong ones go round again, up to three times. Then the lessons
of all are curated at once. Everything else is the published loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from flashgraph.algorithms.combee import JOIN_CHANGES, Shuffled
from flashgraph.parts.ace.prompts import curate_prompt, reflect_prompt
from tests.algorithms.ace_published import ROUNDS, Published, read
from tests.algorithms.ace_world import NEVER, Case, World, digest
from tests.algorithms.combee_published import combee


class Batched(World):
    """A world with more samples, so that batches of several sizes fit."""

    @property
    def batch(self) -> int:
        size: int = self.draw("batch", (1, 2, 4, 5, 9, 12, 16))
        return size

    @property
    def duplication(self) -> int:
        times: int = self.draw("duplication", (2, 2, 1, 3))
        return times

    @property
    def params(self) -> dict[str, Any]:
        steps = self.draw("steps", (3, 9, 12, 100))
        return {**super().params, "eval_steps": steps, "test_window": steps}

    @property
    def of_the_graph(self) -> dict[str, Any]:
        """Return the parameters under their names in Combee's graph."""
        named = {f"ace.{name}": value for name, value in self.params.items()}
        return {**named, "ace.batch": self.batch, "curation.duplication": self.duplication}

    def cases(self, split: str) -> list[Case]:
        size = {"train": 5 + digest(self.number, "train") % 14, "val": 2 + digest(self.number, "val") % 3}[split]
        return [Case(split, i, (0, 0, 1, 2, 3, NEVER)[digest(self.number, split, i) % 6]) for i in range(size)]


class Batches(Published):
    """One run, with the dealt shares."""

    def __init__(self, world: Batched, dealt: Iterator[Shuffled]) -> None:
        super().__init__(world)
        self.dealt, self.size, self.duplication = dealt, world.batch, world.duplication
        self.curations = 0

    def offline(self, every: int) -> None:
        best, size = -1.0, len(self.task.train)
        for epoch in range(self.set["epochs"]):
            for start in range(0, size, every):
                self.batches(start, min(start + every, size))
                last = epoch == self.set["epochs"] - 1 and start + every >= size
                if start + every <= size or last:
                    score = self.tried(self.task.val)
                    if score > best:
                        best, self.trace.best = score, self.book.text()

    def online(self, width: int) -> None:
        size = len(self.task.train)
        for start in range(0, size, width):
            self.trace.best = self.book.text()
            self.tried(self.task.train[start : start + width])
            self.batches(start, min(start + width, size))

    def batches(self, start: int, end: int) -> None:
        for first in range(start, end, self.size):
            self.learn(self.task.train[first : min(first + self.size, end)])

    def learn(self, cases: Sequence[Case]) -> None:
        """Train on one batch."""
        pending, firsts, learned = [(case, "") for case in cases], list[float](), dict[int, str]()
        for turn in range(ROUNDS + 1):
            answers = [(case, *self.generate(case, reflection)) for case, reflection in pending]
            if turn == 0:
                firsts = [score for _, _, score, _ in answers]
            wrong = {case.index for case, _, score, _ in answers if score < 1}
            if turn < ROUNDS:
                self.reflect_all([a for a in answers if turn == 0 or a[0].index in wrong], learned)
            pending = [(case, learned[case.index]) for case, *_ in answers if case.index in wrong]
        self.trained += len(cases)
        self.curations += 1
        if any((case.index + 1) % self.set["curator_frequency"] == 0 for case in cases):
            self.curate_all([(case, learned[case.index]) for case in cases])
        else:
            self.book.edit([], self.curations)
        if self.set["answer_after"]:
            samples, before, after = self.trace.answered
            # One stage sends them all at once, so the scheduler orders them by their text.
            again = [self.generate(case)[1] for case in sorted(cases, key=lambda case: repr(f"{case}\n"))]
            self.trace.answered = (samples + len(cases), before + sum(firsts), after + sum(again))

    def reflect_all(self, answers: Sequence[tuple[Case, str, float, list[str]]], learned: dict[int, str]) -> None:
        """Reflect on all answers at once; no reflection sees the counts of another."""
        replies = []
        for case, answer, score, used in answers:
            lines = "\n".join(self.book.line(bullet) for bullet in self.book.living(used))
            feedback = self.task.score(case, answer).feedback
            replies.append(self.call("reflector", reflect_prompt(case, answer, feedback, score >= 1, lines)))
        for (case, *_), reply in zip(answers, replies, strict=True):
            found = read(reply)
            learned[case.index] = reply
            if found is not None:
                self.book.tag([(one["id"], one["tag"]) for one in found["bullet_tags"]])
                learned[case.index] = f"Reasoning: {found['reasoning']}\nKey insight: {found['key_insight']}"

    def curate_all(self, learned: Sequence[tuple[Case, str]]) -> None:
        shown: Any = SimpleNamespace(
            text=self.book.text(), tokens=self.book.tokens(), budget_tokens=self.set["budget_tokens"]
        )

        def propose(share: str) -> str:
            return self.call("curator", curate_prompt(shown, share, "(see each case)"))

        def join(drafts: str) -> str:
            joined = JOIN_CHANGES.replace("<<here>>", drafts)
            return self.call("curator", curate_prompt(shown, joined, "(see each draft)"))

        records = [f"{case}\n\nWhat was learned from it:\n{reflection}" for case, reflection in learned]
        found = read(combee(records, self.dealt, self.duplication, propose, join))
        operations = None if found is None else found["operations"] or []
        self.book.edit(operations if isinstance(operations, list) else ["unreadable"], self.curations)
        if self.set["merge_duplicates"]:
            self.merge()

    def merge(self) -> None:
        trained, self.trained = self.trained, self.curations
        super().merge()
        self.trained = trained
