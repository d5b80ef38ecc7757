"""The parts of properties: their arguments, their failures, and runs to try."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.result import failures_in
from flashgraph.sim.clock import run_virtually
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.runs import Finished, run_shape

__all__ = ["FOREVER", "Property", "expect", "ran", "refusal"]

FOREVER = 1e6
"""Virtual seconds that no run of a generated graph takes: a run that is still going then is stuck."""


def ran(backend: str, *args: Any, budget: fg.Budget | None = None, paced: bool = True, **options: Any) -> Finished:
    """Run a shape, and check its log and its result; ``paced=False`` skips the pace where a hook moves the clock."""
    timed = budget if budget is not None and budget.seconds else attrs.evolve(budget or fg.Budget(), seconds=FOREVER)
    done = run_virtually(lambda: run_shape(*args, budget=timed, **options), backend=backend)
    for_ever = done.result.cause is Cause.SECONDS and not (budget and budget.seconds)
    expect(not for_ever, "I9: the run waits, and nothing that it waits for will happen")
    _expect_result(done)
    if paced and "disk" not in options and not options.get("resume"):
        _expect_pace(done.events)
    return done


def _expect_pace(events: Sequence[ev.Event]) -> None:
    """I10: a cancelled request counts as the part of a reply that others of its endpoint got in the same time.

    It counts no reply where no other had ended.  A request cancelled at the moment of another's end is skipped, because
    the log does not say whether both were in one turn.
    """
    endpoints = {e.call: e.endpoint for e in events if isinstance(e, ev.CallStarted)}
    answered: dict[str, list[tuple[float, int, float]]] = defaultdict(list)
    for event in events:
        if not isinstance(event, ev.CallEnded):
            continue
        told = answered[endpoints[event.call]]
        if event.how == "done":
            told.append((event.at, event.completion_tokens, event.seconds))
        elif event.how == "cancelled" and event.estimated and not (told and told[-1][0] == event.at):
            tokens, took = sum(t[1] for t in told), sum(t[2] for t in told)
            reply = event.seconds * tokens / took if took > 0 else 0.0
            near = abs(event.completion_tokens - reply) <= 0.5 + 1e-6
            expect(near, f"I10: {event} was cut off, and counts as {event.completion_tokens} tokens, not {reply:g}")


def _expect_result(done: Finished) -> None:
    """I1, I10: the result of a run equals its log."""
    result, events = done.result, done.events
    last = events[-1] if events and isinstance(events[-1], ev.RunEnded) else None
    if last is not None:
        ended = (result.status, result.cause, result.reason)
        kept = result.cause is not Cause.JOURNAL  # else its last turn, which has that end, could not be kept
        expect(
            not kept or ended == (last.status, last.cause, last.reason),
            f"I9: the run ended as {ended}, its log says {last}",
        )
    if done.seconds is not None:
        took = math.isclose(result.spent.seconds, done.seconds, abs_tol=1e-6)
        expect(took, f"I14: the run took {done.seconds} s, it says {result.spent.seconds}")
    admitted = [e for e in events if isinstance(e, ev.Admitted)]
    confirmed = {(e.pool, e.artifact) for e in events if isinstance(e, ev.Confirmed)}
    retracted = {(e.pool, e.artifact) for e in events if isinstance(e, ev.Retracted)}
    said = sorted((a.pool, a.id, a.version, a.lag, a.at, a.provisional, a.retracted) for a in result.artifacts)
    told = sorted(
        (
            e.pool, e.artifact, e.version, e.lag, e.at,
            e.provisional and not {(e.pool, e.artifact)} & (confirmed | retracted), (e.pool, e.artifact) in retracted,
        )
        for e in admitted
    )  # fmt: skip
    expect(said == told, f"I1: the result has the artifacts {said}, its log {told}")
    held = [[a for a in result.artifacts if a.pool == pool and not a.retracted] for pool in done.plan.pools]
    # A generated pool picks the first of those with the best score.
    best = next((max(found, key=lambda a: a.score or 0.0) for found in held if found), None)
    expect(result.best is best, f"I1: the best of {said} is said to be {result.best}, expected {best}")
    times = [artifact.at for artifact in result.artifacts]
    expect(times == sorted(times), f"I1: the artifacts were admitted at {times}")
    calls = [e for e in events if isinstance(e, ev.CallEnded) and e.how != "throttled"]
    tokens = sum(e.prompt_tokens + e.completion_tokens for e in calls)
    unsent = sum(e.how == "cancelled" and not (e.estimated or e.prompt_tokens) for e in calls)
    expect(result.spent.calls == len(calls) - unsent, f"I10: {result.spent.calls} calls, the log has {len(calls)}")
    rounded = sum(e.estimated for e in calls)  # an event has whole tokens, the account has the estimate
    expect(result.spent.tokens >= tokens - rounded, f"I10: {result.spent.tokens} tokens, the log has {tokens}")
    ends = [e for e in events if isinstance(e, ev.JobEnded)]
    failed = [e for e in ends if e.how == "failed"]
    ours = [
        e for e in failed if not e.reason.startswith(("Fault: ", "RequestFailed: generated", "TimedOut: generated"))
    ]
    expect(not ours, f"I15: stages fail of what none of them has raised: {ours}")
    reasons = {stage: Counter(e.reason for e in failed if e.stage == stage) for stage in (e.stage for e in failed)}
    expected = [
        (s, found.total(), sum(e.stage == s for e in ends), max(found.values())) for s, found in reasons.items()
    ]
    found = failures_in(events)
    shown = [(f.stage, f.failed, f.jobs, reasons[f.stage][f.reason]) for f in found]
    expect(shown == expected, f"I15: the stages that failed are {found}, expected {expected}")
    judged = result.judged()
    orderly = result.status in ("completed", "budget")
    fruitless = orderly and bool(failed) and all(a.retracted for a in result.artifacts)
    fruitless |= result.status == "completed" and bool(result.pools) and not result.artifacts
    asked = {e.job: e.role for e in events if isinstance(e, ev.CallEnded)}
    used = {asked[e.job] for e in ends if e.how == "done" and e.job in asked}
    useless = {e.stage for e in failed if e.job in asked and asked[e.job] not in used}
    evolved = any(a.parents for a in result.artifacts if not a.retracted)
    always = any(stage in useless and times == jobs >= 3 for stage, times, jobs, _ in expected)
    fruitless |= orderly and always and not evolved
    raised = any(isinstance(e, ev.EdgeFailed) for e in events)
    wrong = judged.status == "failed" and not fruitless and result.status != "failed" and not raised
    expect(not wrong and (not fruitless or judged.status == "failed"), f"I15: it is judged as {judged.status}")


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantViolation(message)


def refusal(ask: Callable[[], object]) -> str | None:
    """Return the text of the `DataError` that ``ask`` raises; None if it raises nothing."""
    try:
        ask()
    except DataError as error:
        return str(error)
    return None


@attrs.frozen
class Property:
    """A property: the invariants that it shows, its function, and the strategies for its arguments.

    ``share`` is its part of a proof.  ``loops`` are the event loops of each example, unless it draws one.  The function
    raises if an invariant does not hold, and returns the runs that it has made, if any.
    """

    shows: tuple[str, ...]
    check: Callable[..., Sequence[Finished] | None]
    given: Mapping[str, st.SearchStrategy[Any]]
    share: float = 1.0
    loops: tuple[str, ...] = ()
    known: Sequence[Mapping[str, Any]] = ()
    """Examples that are always tried, because generated ones are seldom like them."""
