"""Reference models of the shipped policies: staleness, release, failure, orders and control.

Each function gets a situation, calls the policy, and raises `InvariantViolation` if the result differs from the
policy's docstring.  Shares are in hundredths, and counted in whole numbers here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from operator import or_
from typing import Any, Literal

import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.ports import Group, Member
from flashgraph.policies.control import Control, Waiting, shortest_first
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.order import Discriminative, QueueOrder, discriminative, freshest, priority
from flashgraph.policies.release import RARER, All, drawn
from flashgraph.policies.settings import parse_policy
from flashgraph.policies.staleness import Rule, without_overlap
from tests.proof.tried import Property, expect

__all__ = ["RULES"]


@attrs.frozen
class Clause:
    """One rule of a chain; ``asks`` gives a repair a condition, ``handle`` gives it its stage as a handle."""

    kind: Literal["accept", "refresh", "discard", "repair"]
    above: int = 0
    times: int = 1
    asks: bool = False
    handle: bool = False

    def rule(self, place: int) -> Rule:
        match self.kind:
            case "accept":
                return fg.accept()
            case "refresh":
                return fg.refresh(self.above)
            case "discard":
                return fg.discard(self.above)
            case "repair":
                stage: Any = Handle(f"patch{place}") if self.handle else f"patch{place}"
                when = _touches if self.asks else None
                return fg.repair(stage, self.above, times=self.times, when=when)


@attrs.frozen
class Handle:
    """A stand-in for the handle of a stage."""

    name: str


def _touches(value: Any, view: Any) -> bool:
    raise AssertionError("a rule asks its condition through `touched`, and never by itself")


def staleness(chain: Sequence[Clause], lag: int, repairs: int, touched: bool) -> None:
    """I7: in a chain the first rule that applies to this lag decides.

    A repair does not apply once it has repaired the item as often as it may, or if the changes do not touch the item.
    """
    rule = reduce(or_, (clause.rule(place) for place, clause in enumerate(chain)))
    acts = [
        (clause.kind, f"patch{place}" if clause.kind == "repair" else "")
        for place, clause in enumerate(chain)
        if clause.kind != "accept"
        and lag > clause.above
        and (clause.kind != "repair" or (repairs < clause.times and (touched or not clause.asks)))
    ]
    kind, stage = acts[0] if acts else ("accept", "")
    said = rule.decide(lag, repairs, lambda when: touched)
    expect((said.kind, said.stage) == (kind, stage), f"I7: {rule} says {said}, expected {kind} {stage}")
    if touched:
        expect(rule.decide(lag, repairs) == said, f"I7: {rule} asks of a condition that nobody has given")
    places = [place for place, clause in enumerate(chain) if clause.kind == "repair"]
    stages = [str(getattr(s, "name", s)) for s in rule.repairers()]
    expect(stages == [f"patch{place}" for place in places], f"I7: {rule} repairs with {stages}")
    refreshes = any(clause.kind == "refresh" for clause in chain)
    expect(rule.refreshes() == refreshes, f"I7: {rule} says of refreshing {rule.refreshes()}")
    expect(rule.flaw() is None, f"I7: {rule} is said to have a flaw: {rule.flaw()}")
    included = rule.renamed({f"patch{place}": f"inner.patch{place}" for place in places})
    again = included.decide(lag, repairs, lambda when: touched)
    expect(again.stage == (f"inner.{stage}" if stage else ""), f"I7: included, {rule} repairs with {again.stage}")
    alone = without_overlap(rule)
    left = alone.decide(lag, repairs, lambda when: touched).kind
    expect(left == ("refresh" if kind == "refresh" else "accept"), f"I7: without overlap {rule} says {left}")
    expect(alone.refreshes() == refreshes, f"I7: without overlap {rule} says of refreshing {alone.refreshes()}")
    if not any(clause.asks or clause.handle for clause in chain):
        names = {f"patch{place}": f"patch{place}" for place in places}
        read = parse_policy(str(rule), names)
        expect(read == rule, f"I7: {rule} is read as {read}")


CHAINS = st.lists(
    st.builds(
        Clause,
        st.sampled_from(["accept", "refresh", "discard", "discard", "repair", "repair"]),
        st.integers(0, 3),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


@attrs.frozen
class Enough:
    """A release rule; ``share`` is in hundredths, and `decided` needs ``count`` members."""

    kind: Literal["all", "fraction", "count", "sampled", "deadline", "decided"]
    share: int = 50
    count: int = 1
    seconds: float = 1.0

    def rule(self) -> All:
        match self.kind:
            case "all":
                return fg.everyone()
            case "fraction":
                return fg.fraction(self.share / 100, least=self.count)
            case "count":
                return fg.count(self.count)
            case "sampled":
                return fg.sampled(self.count, share=self.share / 100)
            case "deadline":
                return fg.deadline(self.seconds)
            case "decided":
                return fg.decided(lambda group: len(group.values) >= self.count)

    def needs(self, size: int) -> int:
        """Return how many members it needs, as far as their number alone decides."""
        match self.kind:
            case "fraction":
                whole = math.ceil(Fraction(self.share * size, 100))
                return min(size, max(whole, self.count))
            case "count":
                return min(size, self.count)
            case "sampled":
                return math.ceil(Fraction(self.share * self.sends(size), 100))
        return size

    def sends(self, size: int) -> int:
        """Return how many members are tried at all."""
        return min(size, self.count) if self.kind == "sampled" else size

    def ready(self, size: int, arrived: int, seconds: float) -> bool:
        match self.kind:
            case "deadline":
                return arrived == size or (arrived > 0 and seconds >= self.seconds)
            case "decided":
                return arrived == size or arrived >= self.count
        return arrived >= self.needs(size)


def release(enough: Enough, size: int, missing: int, seconds: float) -> None:
    """I8: a group is released when its rule accepts the members that are in, and when all are in."""
    rule, arrived = enough.rule(), max(0, size - missing)
    members = [Member(index, "arrived", index) for index in range(arrived)]
    group = Group("origin", (*members, *(Member[int](index) for index in range(arrived, size))))
    said, expected = rule.ready(group, arrived, seconds), enough.ready(size, arrived, seconds)
    expect(bool(said) == expected, f"I8: {rule} with {arrived} of {size} after {seconds} s: {said}")
    expect(rule.needs(size) == enough.needs(size), f"I8: {rule} needs {rule.needs(size)} of {size}")
    expect(rule.sends(size) == enough.sends(size), f"I8: {rule} sends out {rule.sends(size)} of {size}")
    timed = enough.seconds if enough.kind == "deadline" else None
    expect(rule.deadline() == timed, f"I8: {rule} is to be asked again after {rule.deadline()} s")
    expect(rule.flaw() is None, f"I8: {rule} is said to have a flaw: {rule.flaw()}")
    if enough.kind not in ("decided", "sampled"):
        text = str(rule).replace("s)", ")")
        expect(parse_policy(text) == rule, f"I8: {rule} is read as {parse_policy(text)}")


ENOUGH = st.builds(
    Enough,
    st.sampled_from(["all", "fraction", "fraction", "count", "sampled", "sampled", "deadline", "decided"]),
    st.integers(1, 100),
    st.integers(1, 6),
    st.sampled_from([0.5, 1.0, 3.0, 30.0]),
)


def failure(share: int, size: int, failed: int) -> None:
    """I15: a group fails when more than that share of its members has failed."""
    rule, failed = fg.fail_above(share / 100), min(failed, size)
    expect(rule.fails(failed, size) == (100 * failed > share * size), f"I15: {rule}, {failed} of {size} failed")
    expect(not fg.missing().fails(failed, size), f"I15: {failed} missing members of {size} fail a group")
    expect(rule.flaw() is None, f"I15: {rule} is said to have a flaw: {rule.flaw()}")
    expect(parse_policy(str(rule)) == rule, f"I15: {rule} is read as {parse_policy(str(rule))}")


def scattered(window: int, streaks: Sequence[int], keyed: bool) -> None:
    """I8: members that all of the last ``window`` groups have passed come last; otherwise the order stays."""
    members = [f"m{place}" for place in range(len(streaks))]
    order = discriminative(window, key=str.upper) if keyed else discriminative(window)
    known: list[Any] = [m.upper() for m in members] if keyed else list(range(len(members)))
    said = order.arrange(members, {who: streak for who, streak in zip(known, streaks, strict=True) if streak})
    first = [place for place, streak in enumerate(streaks) if streak < window]
    expect(said == [*first, *(p for p in range(len(streaks)) if p not in first)], f"I8: {order}: {streaks} is {said}")
    told = [order.identity(place, member) for place, member in enumerate(members)]
    expect(told == known, f"I8: {order} knows its members as {told}")


def sampled(strata: Sequence[int], members: int, seed: int) -> None:
    """I8: the sample has the right number of distinct members, and the same number of each stratum in every draw.

    Members of stratum 1 are due `RARER` times later than those of stratum 0, which are spread evenly; among equals
    stratum 0 comes first.
    """
    found = drawn(strata, members, random.Random(seed))
    expect(len(found) == len(set(found)) == min(members, len(strata)), f"I8: {members} of {strata} are {found}")
    due = []
    for stratum in set(strata):
        size, late = strata.count(stratum), Fraction(RARER) if stratum else Fraction(1)
        due += [(late * (2 * rank + 1) / (2 * size), stratum) for rank in range(size)]
    expected = [stratum for _, stratum in sorted(due)[:members]]
    said = [strata[place] for place in found]
    expect(said == expected, f"I8: of {strata} are drawn the strata {said}, expected {expected}")


@attrs.frozen
class Judged:
    """A value that `discriminative` judges by itself."""

    passed: bool


def judged(passed: bool) -> None:
    """I8: the value's own ``passed``, or a function for it, says what a group has passed."""
    expect(discriminative().passed(Judged(passed)) is passed, f"I8: {passed} is judged otherwise")
    other = discriminative(passed=lambda value: not value.passed)
    expect(other.passed(Judged(passed)) is not passed, "I8: another judge was given, and is not asked")


WAITING = st.lists(
    st.builds(
        Waiting,
        st.sampled_from(["a", "b"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 3),
        st.booleans(),
        st.just(0),
        st.sampled_from([1, 2, 5, math.inf]),
    ),
    min_size=1,
    max_size=8,
)
AFTER: Mapping[str, tuple[Callable[[Waiting], Any], ...]] = {
    "drain_first": (lambda w: w.distance, lambda w: w.late, lambda w: -w.version),
    "shortest_first": (lambda w: w.late, lambda w: w.lacks, lambda w: w.distance, lambda w: -w.version),
    "balanced": (lambda w: w.late,),
}
"""The keys of each order of work, most important first; equal work goes by age."""
PRIORITY: Mapping[str, tuple[Callable[[Waiting], Any], ...]] = {
    "drain_first": (lambda w: w.distance, lambda w: w.late),
    "shortest_first": (lambda w: w.distance, lambda w: w.late),
    "balanced": (lambda w: w.late,),
}
"""The keys of the priority for a server."""
CONTROLS: Mapping[str, Callable[[], Control]] = {
    "drain_first": fg.drain_first,
    "shortest_first": shortest_first,
    "balanced": fg.balanced,
}


def ranks(name: str, waiting: Sequence[Waiting]) -> None:
    """I9: work goes in the order that the control policy states, and a server gets a coarser order."""
    control = CONTROLS[name]()
    waiting = [attrs.evolve(w, age=age) for age, w in enumerate(waiting)]
    expected = waiting
    for of in reversed(AFTER[name]):
        expected = sorted(expected, key=of)  # stable, so the least important key is sorted first
    said = sorted(waiting, key=control.rank)
    expect(said == expected, f"I9: {name} serves {[w.age for w in said]}, expected {[w.age for w in expected]}")
    for one in waiting:
        for other in waiting:
            before = [of(one) for of in PRIORITY[name]] < [of(other) for of in PRIORITY[name]]
            told = control.priority(one) < control.priority(other)
            expect(before == told, f"I9: {name} tells {one} {control.priority(one)}, {other} {control.priority(other)}")
    expect(parse_policy(str(control)) == control, f"I9: {name} is written as {control}")


def workers(name: str, counts: Sequence[int], made: Sequence[int], most: int) -> None:
    """I3: `balanced` moves workers towards slow stages.

    A stage with less than half of the median output gets a worker.  A stage with more than twice the median loses one,
    if it has another.  All other policies give each stage all its workers.
    """
    control = CONTROLS[name]()
    stages = {f"stage{i}": count for i, count in enumerate(counts)}
    # In quarters, which add up and halve without rounding errors; amounts of 0 are absent.
    finished = {f"stage{i}": quarters / 4 for i, quarters in enumerate(made) if quarters and i < len(counts)}
    rates = sorted(finished.get(stage, 0.0) for stage in stages)
    half = len(rates) // 2
    middle = (rates[half] if len(rates) % 2 else (rates[half - 1] + rates[half]) / 2) if rates else 0.0
    expected = dict(stages)
    for stage, count in stages.items() if name == "balanced" else ():
        rate = finished.get(stage, 0.0)
        expected[stage] += (2 * rate < middle) - (rate > 2 * middle and count > 1)
    said = control.adjust(stages, finished)
    expect(said == expected, f"I3: {name} makes of {stages}, which made {finished}: {said}, expected {expected}")
    begins = min(most, 8) if name == "balanced" else most
    expect(control.start(most) == begins, f"I3: {name} begins with {control.start(most)} of {most}")
    every = 5.0 if name == "balanced" else None
    expect(control.interval == every, f"I3: {name} adjusts every {control.interval} s")


def orders(version: int, value: int) -> None:
    """I14: a queue goes by age, by the newest version, or by its function's key."""
    keys = (
        QueueOrder().key(value, version),
        freshest().key(value, version),
        priority(lambda v: v % 7).key(value, version),
    )
    expect(keys == (0, -version, value % 7), f"I14: fifo, freshest and priority have the keys {keys}")


WRONG: Sequence[Rule | All | FailAbove | Control | QueueOrder | Discriminative] = (
    fg.discard(-1), fg.refresh(-1), fg.discard(0.5), fg.accept() | fg.discard(-2),  # type: ignore[arg-type]
    fg.repair("s", -1), fg.repair("s", times=0), fg.repair("s", times=1.5), fg.repair("s", when="x"),  # type: ignore[arg-type]
    fg.fraction(0.0), fg.fraction(1.01), fg.fraction(-0.5), fg.fraction(0.5, least=0), fg.fraction(0.5, least=1.5),  # type: ignore[arg-type]
    fg.count(0), fg.count(1.5), fg.deadline(0.0), fg.deadline(-1.0), fg.decided("x"),  # type: ignore[arg-type]
    fg.sampled(0), fg.sampled(1.5), fg.sampled(2, share=0.0), fg.sampled(2, share=1.01),  # type: ignore[arg-type]
    fg.fail_above(-0.01), fg.fail_above(1.01), priority("x"), discriminative(0), discriminative(1.5),  # type: ignore[arg-type]
    fg.balanced(0.0), fg.balanced(0.0009), fg.balanced(math.inf), fg.balanced("x"), fg.balanced(True),  # type: ignore[arg-type]
)  # fmt: skip
SOUND: Sequence[Rule | All | FailAbove | Control | QueueOrder | Discriminative] = (
    fg.discard(0), fg.refresh(0), fg.repair("s", 0, times=1, when=_touches), fg.repair("s", 1, times=2),
    fg.fraction(1.0), fg.fraction(0.001, least=1), fg.count(1), fg.deadline(0.001), fg.decided(bool), fg.everyone(),
    fg.sampled(1, share=1.0), fg.fail_above(0.0), fg.fail_above(1.0), fg.missing(), priority(bool), freshest(),
    fg.fifo(), discriminative(1), fg.balanced(0.001), fg.balanced(1), fg.drain_first(), shortest_first(),
)  # fmt: skip


def flaws(place: int) -> None:
    """I9: a policy that would stop a graph, or has no meaning, is refused; a value at the bound is not.

    Omitted options have the defaults of the signatures.
    """
    as_said = (
        fg.refresh(), fg.repair("s"), fg.fraction(0.5), fg.missing(), fg.balanced(), discriminative().window,
        Waiting("a", 1, 0, 0, False, 0), fg.pipelined(), fg.throughput(),
    )  # fmt: skip
    spelled = (
        fg.refresh(0), fg.repair("s", 0, times=1, when=None), fg.fraction(0.5, least=1), fg.fail_above(1.0),
        fg.balanced(5.0), 3, Waiting("a", 1, 0, 0, False, 0, 1), fg.pipelined(8, control=fg.drain_first(), focus=1.0),
        fg.throughput(40, control=fg.drain_first(), focus=1.0),
    )  # fmt: skip
    expect(as_said == spelled, f"I9: what is left out makes {as_said}")
    wrong, sound = WRONG[place % len(WRONG)], SOUND[place % len(SOUND)]
    expect(wrong.flaw() is not None, f"I9: {wrong!r} is said to be sound")
    expect(sound.flaw() is None, f"I9: {sound!r} is said to have a flaw: {sound.flaw()}")


RULES: Mapping[str, Property] = {
    "model of rules of staleness": Property(
        ("I7",),
        staleness,
        {"chain": CHAINS, "lag": st.integers(0, 5), "repairs": st.integers(0, 4), "touched": st.booleans()},
        20,
    ),
    "model of rules of release": Property(
        ("I8",),
        release,
        {
            "enough": ENOUGH,
            "size": st.one_of(st.integers(1, 8), st.sampled_from([100, 50, 99])),
            "missing": st.one_of(st.integers(0, 8), st.integers(0, 100)),
            "seconds": st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0, 29.0, 30.0, 31.0]),
        },
        30,
    ),
    "model of rules of failure": Property(
        ("I15",),
        failure,
        {
            "share": st.integers(0, 99),
            "size": st.one_of(st.integers(1, 8), st.sampled_from([100])),
            "failed": st.one_of(st.integers(0, 8), st.integers(0, 100)),
        },
        30,
    ),
    "model of orders of members": Property(
        ("I8",),
        scattered,
        {"window": st.integers(1, 3), "streaks": st.lists(st.integers(0, 5), max_size=6), "keyed": st.booleans()},
        10,
    ),
    "model of parts of a group": Property(
        ("I8",),
        sampled,
        {
            "strata": st.lists(st.integers(0, 1), min_size=1, max_size=12),
            "members": st.integers(1, 14),
            "seed": st.integers(0, 99),
        },
        15,
    ),
    "streaks of members": Property(("I8",), judged, {"passed": st.booleans()}, 1),
    "model of orders of control": Property(
        ("I9",), ranks, {"name": st.sampled_from(sorted(CONTROLS)), "waiting": WAITING}, 20
    ),
    "model of workers that follow rates": Property(
        ("I3",),
        workers,
        {
            "name": st.sampled_from(["balanced", "balanced", "drain_first", "shortest_first"]),
            "counts": st.lists(st.integers(1, 3), max_size=5),
            "made": st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 17]), min_size=5, max_size=5),
            "most": st.integers(1, 40),
        },
        30,
    ),
    "model of orders of queues": Property(
        ("I14",), orders, {"version": st.integers(0, 9), "value": st.integers(0, 99)}, 4
    ),
    "invalid policies": Property(("I9",), flaws, {"place": st.integers(0, len(WRONG) - 1)}, 12),
}
