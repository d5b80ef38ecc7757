"""The proof: every property on many generated examples, every order of tiny runs and every small ring, in one table.

``python -m tests.proof`` (``make proof``) takes some minutes; ``--scale 0.1`` takes a tenth.  It ends with status 1 and
the smallest failing example when a property does not hold.  The state machine kills runs (I13);
tests/journal/test_kill.py kills processes.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from operator import attrgetter

import attrs
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import flashgraph as fg
from flashgraph.policies.control import Control, balanced
from flashgraph.testing.explorer import Explored, explore
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import no_pause, plan_by_hand
from flashgraph.testing.log import InvariantViolation
from flashgraph.testing.scheduler import SchedulerMachine
from flashgraph.testing.shape import Ending, Fan, Loop, Shape, Split, Step
from flashgraph.text.terminal import say
from tests.proof.deadlock import Ring, rings
from tests.proof.found import FOUND
from tests.proof.properties import PROPERTIES, WHOLE, Tally, prove
from tests.proof.recount import Recount

__all__ = ["TINY", "Share", "Tiny", "main", "played", "table"]

EXAMPLES = 600
"""Examples of a property with a share of 1, at scale 1."""

MOST = 2_500
"""The most examples of a property: those that take a millisecond each have large shares, and gain nothing from more."""


@attrs.frozen
class Tiny:
    """A graph small enough to walk all orders of its run."""

    shape: Shape
    window: int = 2
    limit: int = 2
    together: int = 1
    faults: int = 0
    calls: int | None = None
    evaluations: int | None = None
    lockstep: bool = False
    drained: bool = False
    control: Control | None = None
    focus: float = 0.0

    def explore(self, states: int) -> Explored:
        pipelined = fg.pipelined(self.window, focus=self.focus, control=self.control)
        plan = plan_by_hand(build(self.shape, no_pause), fg.lockstep() if self.lockstep else pipelined, self.limit)
        return explore(
            plan,
            budget=fg.Budget(calls=self.calls, evaluations=self.evaluations),
            states=states,
            together=self.together,
            faults=self.faults,
            drained=self.drained,
            oracle=Recount,
        )


ONE, CALL, TWICE = Step(), Step(calls=1), Step(calls=2)
NAMING = Step(reads=True, names="oldest", stale="refresh")
NEWEST = attrs.evolve(NAMING, names="newest", workers=1)

TINY: Mapping[str, Tiny] = {
    "two chains with calls": Tiny(Shape((CALL, ONE), rounds=2)),
    "two chains, two events at once": Tiny(Shape((ONE,), rounds=2), together=2),
    "one slot, two calls each": Tiny(Shape((TWICE,), rounds=2), limit=1, faults=1),
    "one slot in lockstep": Tiny(Shape((Step(several=2), TWICE), rounds=1), limit=1, faults=1, lockstep=True),
    "a call too few": Tiny(Shape((TWICE,), rounds=2), calls=3),
    "groups": Tiny(Shape((Fan(2, ONE, (), ONE),), rounds=2)),
    "cancelled members": Tiny(
        Shape((Fan(3, Step(counts=True), (), ONE, 0.3, "cancel"),), rounds=1), together=2, faults=1
    ),
    "cancelled calls": Tiny(Shape((Fan(3, CALL, (), ONE, 0.3, "cancel"),), rounds=1)),
    "dropped members": Tiny(Shape((Fan(3, ONE, (), ONE, 0.3, "drop"),), rounds=1), faults=1),
    "a group that fails": Tiny(Shape((Fan(3, ONE, (), ONE, fail_above=0.0),), rounds=1), faults=2),
    "groups in groups": Tiny(Shape((Fan(2, ONE, (Fan(2, ONE, (), ONE, 0.5, "amend"),), ONE),), rounds=1)),
    "groups in an amended group": Tiny(Shape((Fan(2, ONE, (Fan(2, ONE, (), ONE),), ONE, 0.5, "amend"),), rounds=1)),
    "two gathers": Tiny(Shape((Fan(2, ONE, (), ONE, other=(Step(drop=0.5), ONE)),), rounds=1, salt=1), faults=1),
    "a gather for each": Tiny(Shape((Fan(3, ONE, (), ONE, other=(ONE, ONE), apart=True),), rounds=1)),
    "deadlines": Tiny(Shape((Fan(2, ONE, (), ONE, 0.5, "amend", rule="deadline"),), rounds=1)),
    "amended groups": Tiny(Shape((), Ending(3, ONE, 0.3, "amend", discard_above=0, threshold=0.4), rounds=2)),
    "retracted parents": Tiny(Shape((), Ending(2, ONE, 0.5, "amend", threshold=0.6), rounds=3), window=1),
    "retracted lines": Tiny(Shape((), Ending(3, ONE, 0.3, "amend", threshold=0.5), rounds=3)),
    "readers of retracted artifacts": Tiny(
        Shape((Step(reads=True, stale="refresh"),), Ending(2, Step(workers=1), 0.5, "amend", threshold=0.6), rounds=3)
    ),
    "repairs": Tiny(Shape((Step(stale="repair"),), rounds=3)),
    "one loop": Tiny(Shape((Loop(2, ONE, ONE),), rounds=2)),
    "two loops": Tiny(Shape((Loop(1, ONE, Step(workers=1, capacity=1)),), rounds=2), faults=1),
    "forks that meet": Tiny(Shape((Split(ONE, ONE, ONE),), rounds=1), faults=1),
    "a full queue": Tiny(Shape((Step(workers=1), Step(workers=1, capacity=1)), rounds=3), window=3),
    "repaired from what is retracted": Tiny(
        Shape((Step(stale="repair"),), Ending(2, ONE, 0.5, "amend", threshold=0.6), rounds=3)
    ),
    "cancelled waits": Tiny(Shape((Fan(2, TWICE, (), CALL, 0.3, "cancel"),), rounds=2)),
    "late waits": Tiny(Shape((Fan(2, TWICE, (), ONE, 0.3, "amend"),), rounds=2), limit=1),
    "a stale head": Tiny(
        Shape((ONE, Step(calls=2, stale="strict", capacity=1, workers=2)), rounds=4), window=4, limit=1
    ),
    "two repairs": Tiny(Shape((Step(stale="repair", workers=1),), rounds=4), window=4),
    "groups that wait for room": Tiny(Shape((Fan(2, ONE, (), Step(workers=1, capacity=1)),), rounds=3), window=3),
    "two pools": Tiny(Shape((Step(reads=True, side=True),), rounds=2, second_pool=True)),
    "a group that the budget cuts short": Tiny(Shape((Fan(2, CALL, (), ONE),), rounds=2), calls=3),
    "groups in a released group": Tiny(Shape((Fan(2, ONE, (Fan(2, ONE, (), ONE),), ONE, 0.5, "drop"),), rounds=1)),
    "drained calls": Tiny(Shape((TWICE, CALL), rounds=2), limit=1, drained=True),
    "drained calls, one too few": Tiny(Shape((CALL,), rounds=2), calls=1, drained=True),
    "a repair too few": Tiny(Shape((Step(stale="repair", counts=True),), rounds=3), evaluations=3),
    "drained calls, two at once": Tiny(Shape((TWICE,), rounds=2), together=2, drained=True),
    "drained groups": Tiny(Shape((Fan(2, CALL, (), ONE, 0.5, "amend"),), rounds=2), limit=1, drained=True),
    "workers that follow rates": Tiny(
        Shape((Step(calls=1, workers=1), Step(calls=1, workers=2), CALL), rounds=2), limit=4, control=balanced(1.0)
    ),
    "workers that rates take away": Tiny(
        Shape((Step(calls=1, workers=2), CALL, CALL), rounds=2), limit=4, control=balanced(1.0)
    ),
    "members of several versions": Tiny(
        Shape((Fan(2, Step(reads=True, stale="refresh", workers=1), (), ONE),), rounds=2)
    ),
    "a head that turns stale": Tiny(Shape((Step(calls=1, stale="strict"), CALL), rounds=4), window=4),
    "artifacts named by stages": Tiny(Shape((attrs.evolve(NAMING, stale=""),), rounds=4)),
    "named and retracted": Tiny(Shape((NAMING,), Ending(2, ONE, 0.5, "amend", threshold=0.6), rounds=3)),
    "groups of retracted lines": Tiny(
        Shape((Fan(2, ONE, (), ONE),), Ending(2, ONE, 0.5, "amend", threshold=0.6), rounds=3), window=1
    ),
    "stale at the pool": Tiny(Shape((ONE,), Ending(discard_above=0), rounds=3), window=3),
    "filtered items": Tiny(Shape((Step(drop=0.5),), rounds=4)),
    "members that name artifacts": Tiny(Shape((), Ending(2, NEWEST, 0.5, "amend", threshold=0.6), rounds=3)),
    "amended groups that are stale": Tiny(Shape((Fan(2, NAMING, (), Step(stale="strict"), 0.5, "amend"),), rounds=3)),
    "two sources in lockstep": Tiny(Shape((ONE,), rounds=2, second_source=True), lockstep=True),
    "artifacts of two pools": Tiny(Shape((attrs.evolve(NAMING, side=True), NAMING), rounds=2, second_pool=True)),
    "two stages, one slot": Tiny(Shape((CALL, CALL), rounds=3), window=3, limit=1),
    "two stages, one slot, two calls each": Tiny(Shape((TWICE, TWICE), rounds=2), limit=1),
    "workers that follow rates of members": Tiny(
        Shape((Fan(2, CALL, (), Step(calls=1, workers=2)),), rounds=2), limit=4, control=balanced(1.0)
    ),
    "a repair that fails": Tiny(Shape((Step(stale="repair"),), rounds=3), faults=1),
    "members that tell groups apart": Tiny(Shape((Fan(3, ONE, (), ONE, discriminative=True),), rounds=5), window=1),
    "the best line": Tiny(Shape((ONE,), rounds=3), window=3, focus=0.5),
    "the best line, nearly always": Tiny(Shape((ONE,), rounds=4), window=4, focus=0.9),
    "nothing to draw": Tiny(Shape((ONE,), rounds=4, shy=0.5, salt=4), window=3, focus=0.5),
    "two sources, nothing to draw": Tiny(Shape((ONE,), rounds=2, second_source=True, shy=0.5, salt=7)),
    "several that are retracted while they wait": Tiny(
        Shape((Step(several=3), Step(workers=1, capacity=1)), Ending(2, ONE, 0.5, "amend", threshold=0.6), rounds=3),
        window=1,
    ),
    "repairs of two pools": Tiny(
        Shape((Step(reads=True, side=True), Step(stale="repair")), rounds=3, second_pool=True), window=3
    ),
    "contenders": Tiny(Shape((), Ending(2, ONE, 0.5, "amend", threshold=0.4), rounds=2, contends=2), window=1),
    "sampled groups": Tiny(
        Shape((), Ending(3, ONE, 0.5, "amend", rule="sampled", discriminative=True), rounds=3), window=1
    ),
    "named by a repair": Tiny(Shape((Step(stale="repair"), NAMING), rounds=3)),
}


@attrs.frozen
class Share:
    """How many rings the capacity rule refuses, and how many of these stall.

    ``alone`` counts those whose loop edge has all the room of the ring.
    """

    rings: int
    refused: int
    stalled: int
    alone_refused: int
    alone: int

    @classmethod
    def of(cls, every: Iterable[Ring]) -> Share:
        """Explore rings.

        Raises `InvariantViolation` when a ring stalls that is not refused, or that cannot be full.
        """
        found = [(ring, ring.explore().stall is not None) for ring in every]
        for ring, stalls in found:
            if stalls and not ring.refused:
                raise InvariantViolation(f"I9: {ring} passes the capacity rule, and stalls")
            if stalls != (ring.window * ring.width >= ring.holds):
                raise InvariantViolation(f"I9: {ring} {'stalls' if stalls else 'does not stall'}: not as the page says")
        refused = [(ring, stalls) for ring, stalls in found if ring.refused]
        alone = [stalls for ring, stalls in refused if ring.stages == 1]
        return cls(len(found), len(refused), sum(s for _, s in refused), len(alone), sum(alone))

    def __str__(self) -> str:
        return (
            f"{self.rings} rings, {self.refused} refused, {self.stalled} of them stall; of those whose loop edge is "
            f"all their room {self.alone} of {self.alone_refused}"
        )


def played(examples: int, steps: int) -> Tally:
    """Run the scheduler as a state machine."""
    tally = Tally()

    class Counted(SchedulerMachine):
        oracle = Recount

        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "hand"):
                tally.examples += 1
                tally.graphs.add(repr(self.shape))
                tally.events += len(self.hand.events)

    run_state_machine_as_test(
        Counted,
        settings=settings(
            deadline=None,
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    return tally


def walked(name: str, states: int) -> Tally:
    """Walk all orders of one tiny run."""
    found = TINY[name].explore(states)
    if found.stall is not None:
        raise InvariantViolation(f"I9: {name} stalls after {list(found.stall)!r}")
    return Tally(0, found.events, found.interleavings, {name}, said=str(found))


def counted(most: int) -> Tally:
    """Count the rings of at most ``most`` items."""
    share = Share.of(rings(most))
    return Tally(share.rings, graphs={f"{number}" for number in range(share.rings)}, said=str(share))


@attrs.frozen
class Part:
    """A part of the proof: the invariants that it shows, and its function; parts with a high ``cost`` begin first."""

    shows: tuple[str, ...]
    run: Callable[[], Tally]
    cost: float


def parts(scale: float) -> dict[str, Part]:
    """Return all parts; each can run in a separate process."""
    found = {
        name: Part(
            chosen.shows,
            partial(prove, name, min(MOST, max(5, round(EXAMPLES * chosen.share * scale)))),
            min(chosen.share, 2.0),
        )
        for name, chosen in PROPERTIES.items()
    }
    found["the scheduler as a state machine"] = Part(
        (*WHOLE, "I13"), partial(played, max(5, round(1000 * scale)), 40), 3
    )
    for name in TINY:
        found[f"all orders: {name}"] = Part(WHOLE, partial(walked, name, max(50, round(1500 * scale))), 0.5)
    found["full and refused rings"] = Part(("I9",), partial(counted, 6 if scale >= 1 else 3), 4)
    return found


def _timed(run: Callable[[], Tally]) -> tuple[Tally | str, float]:
    """Return a part's tally, or its failure as text, and its seconds."""
    began = time.monotonic()
    try:
        return run(), time.monotonic() - began
    except Exception:
        return traceback.format_exc(), time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof and print its table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the whole proof's examples")
    parser.add_argument("--only", metavar="NAME", help="run only the parts whose names begin with NAME")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="number of processes; by default one per core"
    )
    given = parser.parse_args(arguments)
    every = parts(given.scale)
    chosen = {name: part for name, part in every.items() if name.startswith(given.only or "")}
    if not chosen:
        parser.error(f"--only: found {given.only!r}, expected the beginning of one of {', '.join(map(repr, every))}")
    began, tallies = time.monotonic(), dict[str, Tally]()
    for name, tally, seconds in _each(chosen, given.workers):
        if isinstance(tally, str):
            say(f"{tally}\n{name}: FAILED")
            return 1
        tallies[name] = tally
        loops = "".join(f", {count:,} on {loop}" for loop, count in sorted(tally.loops.items()))
        said = tally.said or f"{tally.examples:,} examples{loops}; {tally.events:,} events"
        say(f"{name}: {said}; {seconds:.0f} s")
    say(f"\n{table({name: (every[name].shows, tally) for name, tally in tallies.items()})}")
    say(f"\n{time.monotonic() - began:.0f} s in {given.workers} processes")
    return 0


def _each(chosen: Mapping[str, Part], workers: int) -> Iterator[tuple[str, Tally | str, float]]:
    """Run parts, the longest first; yield each with its outcome when it ends."""
    ordered = sorted(chosen.items(), key=lambda entry: -entry[1].cost)
    if workers == 1:
        for name, part in ordered:
            yield name, *_timed(part.run)
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting = {pool.submit(_timed, part.run): name for name, part in ordered}
        try:
            for done in as_completed(waiting):
                yield waiting[done], *done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def table(work: Mapping[str, tuple[tuple[str, ...], Tally]]) -> str:
    """Return a line for each invariant: what was tried for it, and what it found while flashgraph was made."""
    lines = [
        "| invariant | whole runs | examples of single parts | all orders | graphs | events "
        "| failures found during development |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number in range(1, 17):
        name = f"I{number}"
        mine = [tally for shows, tally in work.values() if name in shows]
        if not mine:
            continue
        graphs = len(set().union(*(t.graphs for t in mine)))
        found = "; ".join(FOUND.get(name, ())) or "none"
        counts = ("runs", "parts", "orders", "events")
        runs, parts, orders, events = (sum(map(attrgetter(count), mine)) for count in counts)
        lines.append(f"| {name} | {runs:,} | {parts:,} | {orders:,} | {graphs:,} | {events:,} | {found} |")
    return "\n".join(lines)
