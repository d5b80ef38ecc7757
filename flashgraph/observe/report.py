"""The report of a finished run: the best artifact compared with the seed, as text and as files."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.observe.words import clock, counted, score_text
from flashgraph.run.budget import unit
from flashgraph.run.cause import LIMITS, Cause
from flashgraph.run.events import Created, Ended, JobEnded, JobStarted, Reopened, RunEnded
from flashgraph.run.heldout import HeldOut
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.private import advice, make_folder, write_text
from flashgraph.run.result import Result, ResultArtifact, failures_in, raised_in, texts_of
from flashgraph.text.differences import unified

__all__ = ["Report", "claim_folder", "file_name", "new_folder"]

FURTHER: Mapping[Cause, str] = {
    Cause.TARGET: " --target-score SCORE, with a higher score",
    Cause.PERFECT: " --target-score inf",
    Cause.PATIENCE: " --patience N, with a larger number",
    Cause.RESERVE: ", with a larger budget",
}
"""By the cause of a run's end, the options without which a resumed run would end at once."""


@attrs.frozen
class Report:
    """A result, the task's seed, and the held-out test of both.

    ``test`` holds the seed's scores and the best artifact's, or ``untested`` says why there are none.  ``tested`` is
    what the test has spent, by limit, in all sessions of the run.
    """

    result: Result
    seed: Mapping[str, str]
    test: tuple[HeldOut, HeldOut] | None = None
    untested: str = ""
    tested: Mapping[str, float] = attrs.field(factory=dict)
    limits: Mapping[str, float] = attrs.field(factory=dict)
    """The limits of the run's budget by name, as `flashgraph.run.budget.Budget.limits`."""
    interrupted: bool = False
    """Whether a signal ended the run or its test before the files were written."""

    @property
    def best(self) -> dict[str, str] | None:
        """The best artifact's texts; components that it lacks are the seed's."""
        texts = None if self.result.best is None else texts_of(self.result.best.value)
        return None if texts is None else {**self.seed, **texts}

    @property
    def seed_artifact(self) -> ResultArtifact | None:
        """The first admitted artifact whose texts are the seed's; learned state (``state:...``) is ignored."""
        seed = dict(self.seed)
        for artifact in self.result.artifacts:
            texts = texts_of(artifact.value) or {}
            if {name: text for name, text in texts.items() if not name.startswith("state:")} == seed:
                return artifact
        return None

    def diff(self) -> list[str]:
        """Return a unified diff from the seed's components to the best artifact's; empty if they are equal."""
        best = self.best or {}
        lines: list[str] = []
        for name in dict.fromkeys([*self.seed, *best]):
            heads = (f"seed: {name}", f"best: {name}")
            lines += unified(self.seed.get(name, ""), best.get(name, ""), heads)
        return lines

    def failures(self) -> list[str]:
        """Return a line for each stage and each function on an edge that failed: how often, and the main reason."""
        events = self.result.events
        return [*map(str, failures_in(events)), *map(str, raised_in(events))]

    def discards(self) -> list[str]:
        """Return a line for each edge whose staleness rule has discarded items."""
        events = self.result.events
        stale = {e.item for e in events if isinstance(e, Ended) and e.cause is Cause.STALE}
        edges = Counter(e.edge for e in events if isinstance(e, Created) and e.item in stale)
        return [f"{counted(count, 'item')} discarded as stale on {edge}" for edge, count in edges.items()]

    def ends(self) -> dict[str, dict[str, int]]:
        """Return how many items and jobs ended for each cause but `Cause.DONE`."""
        counts = {
            "items": Counter(e.cause for e in self.result.events if isinstance(e, Ended)),
            "jobs": Counter(e.cause for e in self.result.events if isinstance(e, JobEnded)),
        }
        return {
            name: {cause.value: found[cause] for cause in Cause if found[cause] and cause is not Cause.DONE}
            for name, found in counts.items()
        }

    def fruitless(self) -> str:
        """Return what to do about a run that found nothing better than the seed; empty for one that did."""
        if self.best is None or self.best != dict(self.seed) or not self.result.spent.proposals:
            return ""
        found = f"none of {counted(self.result.spent.proposals, 'proposal')} improved on the seed. Fix: "
        if any(2 * failing.failed >= failing.jobs for failing in failures_in(self.result.events)):
            return f"{found}resolve the stage failures listed below."
        if self.unproven() and self.result.best is not None:
            pool = self.result.best.pool
            return (
                f"none of {counted(self.result.spent.proposals, 'proposal')} is proven better than the seed, but some "
                "may be (listed below). Fix: allow more proposals, or let validations share more samples: --set "
                f"'EDGE.release=all' for the edge into {pool} (docs/explanation/evidence.md)."
            )
        if self.discards():
            return f"{found}discard fewer stale items (listed below) or repair them, or allow more proposals."
        return (
            f"{found}allow more proposals, or use a stronger model (--model reflection=...): a weak one may not follow "
            "the required format."
        )

    def to_resume(self, folder: Path) -> str:
        """Return how to resume the run in ``folder``, or why that does nothing; empty for a completed run."""
        result, command = self.result, f"flashgraph resume {folder}"
        last = max((k for k, event in enumerate(result.events) if isinstance(event, Reopened)), default=None)
        session = result.events[last or 0 :]
        if result.status == "failed" and any(isinstance(e, RunEnded) and e.status != "failed" for e in session):
            return (
                "resuming does not retry failed work, even if the task or the graph has changed; "
                "to try again: fix it, then flashgraph run with another --out"
            )
        if result.status == "completed":
            idle = last is not None and not any(isinstance(event, JobStarted | JobEnded) for event in session)
            return "no work was left: the run is unchanged, even if the task has changed" if idle else ""
        if result.cause not in LIMITS:
            return f"to continue: {command}{FURTHER.get(result.cause, '')}"
        used, role = self._used_up()
        if role:
            doubled = f"{2 * used:.2g}" if result.cause is Cause.USD else f"{max(2 * used, 1):.0f}"
            return f"to continue: {command} --budget {role}.{result.cause}={doubled}"
        match result.cause:
            case Cause.SECONDS:
                return f"to continue: {command} --minutes {math.ceil(used / 30)}"
            case Cause.USD:
                return f"to continue: {command} --usd {2 * used:.2g}"
        return f"to continue: {command} --{result.cause} {max(2 * used, 1):.0f}"

    def _used_up(self) -> tuple[float, str]:
        """Return what was spent of the limit that ended the run, and its role; "" for a limit of the whole run."""
        cause = self.result.cause
        spent: dict[str, float] = {"": getattr(self.result.spent, cause)}
        for cost in self.result.costs:
            amounts = {"calls": cost.calls, "tokens": cost.prompt_tokens + cost.completion_tokens, "usd": cost.usd}
            spent[cost.role] = spent.get(cost.role, 0.0) + amounts.get(cause, 0.0)
        limits = {name.rpartition(".")[0]: limit for name, limit in self.limits.items() if unit(name) == cause}
        role = max(limits, key=lambda name: spent.get(name, 0.0) / limits[name], default="")
        return spent.get(role, 0.0), role

    def head(self) -> list[str]:
        """Return the lines for how the run ended and what it used."""
        result, spent = self.result, self.result.spent
        # An artifact without a score is no candidate: a failure's record, or a playbook between two snapshots.
        accepted = sum(a.score is not None and not a.retracted for a in result.artifacts)
        amounts = [counted(getattr(spent, f"{noun}s"), noun) for noun in ("proposal", "evaluation", "call", "token")]
        return [
            f"{result.graph} on {result.task}: {result.status} ({result.reason})",
            ", ".join([f"{accepted:,} accepted", *amounts, f"${spent.usd:.4f}", clock(spent.seconds)]),
        ]

    def scores(self) -> list[str]:
        """Return a table of the scores of the seed and the best artifact."""
        if self.result.best is None:
            return ["nothing was accepted: there is no best artifact"]
        best, seed = self.result.best, self.seed_artifact
        rows = [("", "seed", "best", ""), ("validation", _number(seed), _number(best), _doubt(best))]
        if self.test is not None:
            before, after = (score_text(test.score, test.evidence) for test in self.test)
            rows.append(("held-out test", before, after, self._test_note(*self.test)))
        first, second = (max(least, *(len(row[k]) for row in rows)) for k, least in ((1, 7), (2, 6)))
        lines = [f"{name:<14}{one:>{first}}  {two:>{second}}  {note}".rstrip() for name, one, two, note in rows]
        lines += [] if self.test is not None else [f"held-out test: not tested: {self.untested}"]
        return [*lines, *self.unproven()]

    def unproven(self) -> list[str]:
        """Return a line for each artifact that may be better than the best, but has not tried every validation sample.

        At most three, the most promising first.
        """
        best = self.result.best
        if best is None or best.evidence is None:
            return []
        least = best.evidence.estimate
        hopeful = [
            (a.evidence, a.id)
            for a in self.result.artifacts
            if (a.pool, a.retracted) == (best.pool, False) and a.id != best.id and a.evidence is not None
        ]
        open_ones = [(e, i) for e, i in hopeful if not e.complete and e.estimate > least]
        open_ones.sort(key=lambda found: (-found[0].estimate, found[1]))
        return [f"artifact {i} may be better: {e}, not proven" for e, i in open_ones[:3]]

    def _test_note(self, before: HeldOut, after: HeldOut) -> str:
        parts = [f"{counted(len(before.scores), 'sample')}, {counted(int(self.tested.get('calls', 0)), 'call')}"]
        for which, test in (("seed", before), ("best", after)):
            if test.failures:
                reason = next(iter(test.failures.values()))
                parts.append(
                    f"{counted(len(test.failures), 'sample')} of the {which} failed (e.g. {reason!r}) "
                    "and got the least score"
                )
        return "; ".join(parts)

    def write(self, folder: Path) -> list[str]:
        """Write the files of the run into ``folder``; return their names."""
        from cattrs.preconf.json import make_converter

        converter = make_converter()
        written = []

        def put(name: str, text: str) -> None:
            write_text(folder / name, text)
            written.append(name)

        best = self.best
        if best is not None:
            put("best.json", printed(best, indent=2) + "\n")
            for name, text in best.items():
                put(f"best-{file_name(name)}.txt", text if text.endswith("\n") else text + "\n")
        summary = converter.unstructure(self._summary())
        put("result.json", printed(summary, indent=2) + "\n")
        events = ({"event": type(event).__name__, **converter.unstructure(event)} for event in self.result.events)
        put("events.jsonl", "".join(printed(e, default=list) + "\n" for e in events))
        return written

    def _summary(self) -> dict[str, Any]:
        result, seed = self.result, self.seed_artifact
        test = None
        if self.test is not None:
            test = {"seed": self.test[0], "best": self.test[1], "spent": self.tested}
        return {
            "graph": result.graph,
            "task": result.task,
            "status": result.status,
            "cause": result.cause,
            "reason": result.reason,
            "ends": self.ends(),
            "spent": result.spent,
            "prices": dict(result.prices),
            "seed": dict(self.seed),
            "best": None if result.best is None else {"pool": result.best.pool, "id": result.best.id},
            "validation": {
                "seed": None if seed is None else seed.score,
                "best": None if result.best is None else result.best.score,
                "evidence": {
                    "seed": None if seed is None else seed.evidence,
                    "best": None if result.best is None else result.best.evidence,
                },
            },
            "unproven": self.unproven(),
            "test": test,
            "untested": self.untested or None,
            "artifacts": list(result.artifacts),
        }


def claim_folder(folder: Path) -> Path:
    """Make ``folder`` for a run's files.  Raises `DataError` if that fails, or if the folder already holds a run."""
    if os.path.exists(folder / "result.json"):  # false also for a name that is too long
        raise DataError(f"--out {folder}: the folder already holds a run.\nFix: give another folder, or move this one.")
    try:
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(
            f"--out {folder}: cannot write the run's files there: {error.strerror}.\nFix: {advice(error, folder)}."
        ) from error
    return folder


def new_folder(folder: Path) -> Path:
    """Make ``folder`` for a run's files, or the first of ``folder-2``, ``folder-3``, ... that does not exist.

    Runs that start at the same moment get different folders.  Raises `DataError` if no folder can be made.
    """
    claim_folder(folder.parent)
    for number in count(1):
        made = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            made.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise DataError(
                f"{made}: cannot make the folder: {error.strerror}.\nFix: {advice(error, made)}."
            ) from error
        return made
    raise AssertionError  # the numbers do not end


def _number(artifact: ResultArtifact | None) -> str:
    return "-" if artifact is None else score_text(artifact.score, artifact.evidence)


def _doubt(artifact: ResultArtifact) -> str:
    return "provisional: part of its validation was still running" if artifact.provisional else ""


LONGEST = 80
"""The most bytes that `file_name` returns: file systems take 255 for a whole name."""


def file_name(name: str) -> str:
    """Return the name of a component or task as part of a file name; a long one is cut and gets a digest."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    if len(plain.encode()) <= LONGEST:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.encode()[: LONGEST - 9].decode(errors='ignore')}-{digest}"
