"""The proposer's tools: all earlier programs, their scores and failures, and solved training samples.

Of the validation split, a proposer sees the inputs of wrong predictions, never an answer or feedback. Of the test
split, it sees nothing.
"""

from __future__ import annotations

import attrs

from flashgraph.parts.meta_harness.archive import Entry, HarnessArchive
from flashgraph.parts.meta_harness.datasets import datasets, lesson
from flashgraph.parts.meta_harness.items import OVERALL, Prediction
from flashgraph.parts.meta_harness.reply import ToolRequest
from flashgraph.tasks.task import Task

__all__ = ["Desk"]

EXAMPLES_AT_ONCE = 8
FAILURES_AT_ONCE = 8
LONGEST_CODE = 12_000
LONGEST_TEXT = 600
LONGEST_REASON = 1500
LONGEST_GIST = 160


@attrs.define(eq=False)
class Desk:
    """Answers a proposer's requests from one view of the archive; ``read`` holds the entries that it has read."""

    archive: HarnessArchive
    task: Task
    read: list[int] = attrs.field(factory=list)

    async def answer(self, request: ToolRequest) -> str:
        """Return a tool's answer under the request; for an invalid request, the valid ones."""
        head = f"== {request.tool} {request.argument}".rstrip()
        if request.tool == "LIST":
            return f"{head}\n{self.board()}"
        if request.tool == "EXAMPLES":
            return f"{head}\n{await self._examples(request.argument)}"
        entry = self.archive.entries.get(-1 if request.number is None else request.number)
        if entry is None:
            known = ", ".join(f"#{i}" for i in self.archive.entries)
            return f"{head}\nThere is no such program. There are: {known}"
        self.read.append(entry.id)
        return f"{head}\n{_code(entry) if request.tool == 'READ' else self._failures(entry)}"

    def board(self, most: int | None = None) -> str:
        """Return a line for each archived program: accuracy, context, and other notable facts.

        With more than ``most``, two thirds are the most accurate programs and a third the newest.
        """
        front, entries = self.archive.frontier(), list(self.archive.entries.values())
        if most is None or len(entries) <= most:
            return "\n".join(_line(entry, entry.id in front) for entry in entries)
        newest = {entry.id for entry in entries[-(most // 3) :]}
        able = sorted(entries, key=lambda e: -1.0 if e.accuracy is None else e.accuracy, reverse=True)
        kept = newest | {entry.id for entry in [e for e in able if e.id not in newest][: most - len(newest)]}
        lines = [_line(entry, entry.id in front) for entry in entries if entry.id in kept]
        return "\n".join([*lines, f"... and {len(entries) - len(kept)} more: LIST shows all"])

    def _failures(self, entry: Entry) -> str:
        best = self.task.perfect
        wrong = [p for p in entry.predictions if p.failure or best is None or p.score < best]
        shown = [
            f"[{p.dataset}] input: {_short(str(self.task.val[p.index]))}\n{_outcome(p)}"
            for p in wrong[:FAILURES_AT_ONCE]
        ]
        head = _line(entry, False)
        if not wrong:
            return f"{head}\nIt has no wrong predictions."
        return "\n\n".join([f"{head}\n{len(shown)} of its {len(wrong)} wrong predictions:", *shown])

    async def _examples(self, argument: str) -> str:
        known = datasets(self.task, "train")
        name, start = argument, 0
        if name not in known:
            name, _, last = argument.rpartition(" ")
            start = int(last[:9]) if last.isdecimal() else 0
        name = next(iter(known)) if len(known) == 1 else name
        if name not in known:
            return f"There is no such data set. There are: {', '.join(known)}"
        indices = known[name][start : start + EXAMPLES_AT_ONCE]
        solved = await lesson(self.task, name, indices)
        shown = [
            f"input: {_short(s['input'])}\nanswer: {_short(s['answer'])}\nfeedback: {_short(s['feedback'])}"
            for s in solved
        ]
        head = f"training samples {start} to {start + len(indices)} of {len(known[name])} of {name}:"
        return "\n\n".join([head, *shown])


def _outcome(wrong: Prediction) -> str:
    if wrong.failure:
        return f"it failed: {_end(wrong.failure)}"
    return f"it answered: {_short(wrong.answer)}\nscore {wrong.score:g}"


def _line(entry: Entry, front: bool) -> str:
    head = f"#{entry.id} {entry.origin}:"
    if entry.status in ("failed", "duplicate"):
        return f"{head} {entry.status}{f' at {entry.step}' if entry.step else ''}: {_gist(entry.reason)}"
    names = [n for n in entry.marks if n != OVERALL]
    numbers = [
        f"{name} accuracy {mark.accuracy:.3f}, {mark.characters:.0f} characters"
        for name, mark in entry.marks.items()
        if name == OVERALL or len(names) > 1
    ]
    failures = entry.marks[OVERALL].failures if entry.marks else 0
    notes = [
        "on the frontier" if front else "",
        entry.status if entry.status != "scored" else "",
        f"{failures} predictions failed" if failures else "",
    ]
    return "; ".join([f"{head} {numbers[-1]}" if numbers else head, *numbers[:-1], *filter(None, notes)])


def _code(entry: Entry) -> str:
    code = entry.code or "It has no code."
    cut = "" if len(code) <= LONGEST_CODE else "\n... cut off here"
    reason = f"\n{_end(entry.reason)}" if entry.status == "failed" else ""
    return f"{_line(entry, False)}{reason}\n```python\n{code[:LONGEST_CODE].rstrip()}{cut}\n```"


def _gist(reason: str) -> str:
    """Return the last line of a reason, because an exception is below its traceback."""
    return " ".join(reason.split())[-LONGEST_GIST:]


def _end(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"... {text[-LONGEST_REASON:]}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ... ({len(text)} characters)"
