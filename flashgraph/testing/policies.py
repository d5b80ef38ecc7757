"""Conformance of a user's own policies: staleness, release, failure and control rules, and orders."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from flashgraph.errors import Place
from flashgraph.graph.ports import Group, Member
from flashgraph.policies.control import Control, Waiting
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.order import Discriminative, QueueOrder
from flashgraph.policies.release import All
from flashgraph.policies.staleness import Decision, Rule

__all__ = ["PolicyViolation", "check_policy"]


class PolicyViolation(AssertionError):
    """A policy breaks its protocol; the text names the arguments, what was found and what was expected."""


def _expect(holds: bool, policy: object, found: str, expected: str) -> None:
    if not holds:
        raise PolicyViolation(f"{type(policy).__name__}: {found}\n    expected: {expected}")


def _alike(policy: object, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    result, again = call(*arguments), call(*arguments)
    shown = ", ".join(map(repr, arguments))
    _expect(result == again, policy, f"{name}({shown}) is {result!r}, and then {again!r}",
            "the same for the same arguments: a resumed run calls it again")  # fmt: skip
    return result


def check_policy(policy: Rule | All | FailAbove | Control | QueueOrder | Discriminative) -> None:
    """Call a policy for many situations, and check its results against its protocol.

    Raises `PolicyViolation`, and TypeError if the object is no policy.
    """
    kinds: list[tuple[type, Callable[[Any], None]]] = [
        (Rule, _staleness), (All, _release), (FailAbove, _failure), (Control, _control),
        (QueueOrder, _queue), (Discriminative, _scatter),
    ]  # fmt: skip
    for kind, check in kinds:
        if isinstance(policy, kind):
            flaw = getattr(policy, "flaw", lambda: None)()
            _expect(flaw is None, policy, f"its own flaw() is {flaw}", "None: a policy without a flaw")
            try:
                check(policy)
            except PolicyViolation:
                raise
            except Exception as error:
                raised, where = f"{type(error).__name__}: {error}", Place.of_error(error)
                raise PolicyViolation(
                    f"{type(policy).__name__}: it raised {raised}{f' ({where})' if where else ''}"
                    "\n    expected: an answer in every situation"
                ) from error
            return
    raise TypeError(f"{policy!r} is no policy: expected a subclass of {', '.join(k.__name__ for k, _ in kinds)}")


def _staleness(rule: Rule) -> None:
    """Check a staleness rule.

    It accepts what does not lag, repairs only with stages that it names, and repairs an item finitely often.  An item
    that it discards it also discards at greater lags.
    """
    names = {str(getattr(r, "name", r)) for r in rule.repairers()}
    for lag, repairs, touched in product(range(12), range(4), (True, False)):
        decision = _alike(rule, "decide", rule.decide, lag, repairs, lambda when, touched=touched: touched)
        expected = "a Decision of flashgraph.policies.staleness"
        _expect(isinstance(decision, Decision), rule, f"decide(lag={lag}) is {decision!r}", expected)
        known = decision.kind in ("accept", "refresh", "discard", "repair")
        _expect(known, rule, f"decide(lag={lag}) is {decision.kind!r}", "accept, refresh, discard or repair")
        at = f"decide(lag={lag}, repairs={repairs})"
        _expect(lag > 0 or decision.kind in ("accept", "refresh"), rule, f"{at} is {decision.kind}",
                "what does not lag passes: else nothing is ever admitted in lockstep")  # fmt: skip
        named = decision.kind != "repair" or decision.stage in names
        _expect(named, rule, f"{at} repairs with {decision.stage!r}", f"one of its repairers(): {sorted(names)}")
        refreshing = decision.kind != "refresh" or rule.refreshes()
        _expect(refreshing, rule, f"{at} refreshes", "refreshes() to say so: `check` relies on it")
    for repairs, touched in product(range(4), (True, False)):
        when = partial(_condition, touched)
        kinds = [rule.decide(lag, repairs, when).kind for lag in range(12)]
        first = kinds.index("discard") if "discard" in kinds else len(kinds)
        later = next((lag for lag in range(first, len(kinds)) if kinds[lag] != "discard"), None)
        _expect(later is None, rule, f"it discards at lag {first} and not at lag {later}",
                "what is discarded at a lag is at every greater one: else an amendment passes whose first part did "
                "not")  # fmt: skip
    endless = rule.decide(10**6, 10**6).kind == "repair"
    _expect(not endless, rule, "it repairs an item that was repaired a million times", "an end: `times`")


def _condition(touched: bool, when: Callable[[Any, Any], bool]) -> bool:
    """Return ``touched`` in place of a rule's condition on an item."""
    return touched


def _release(rule: All) -> None:
    """Check that a release rule releases a complete group, keeps a release, and gives a valid deadline."""
    seconds = rule.deadline()
    positive = seconds is None or seconds > 0
    _expect(positive, rule, f"deadline() is {seconds!r}", "seconds over 0, or None without a deadline")
    for size in range(7):
        late = (seconds or 0.0) + 1.0
        whole = _alike(rule, "ready", rule.ready, _group(size, size), size, late)
        _expect(
            bool(whole),
            rule,
            f"ready with all of {size} members is {whole!r}",
            "true, because no more members can come",
        )
        if size and rule.ready(_group(size, 0), 0, 0.0):
            _expect(False, rule, f"it releases a group of {size} before any member arrives", "at least one member")


def _group(size: int, arrived: int) -> Group[str, int]:
    """Return a group of ``size`` whose first ``arrived`` members are in."""
    there = (Member(index, "arrived", index) for index in range(arrived))
    return Group("origin", (*there, *(Member[int](index) for index in range(arrived, size))))


def _failure(rule: FailAbove) -> None:
    """Check that more failures never save a group."""
    for size in range(7):
        fails = [bool(_alike(rule, "fails", rule.fails, failed, size)) for failed in range(size + 1)]
        _expect(not fails[0], rule, f"a group of {size} fails without a failure", "no failure, no failed group")
        first = fails.index(True) if True in fails else 0
        _expect(fails == sorted(fails), rule, f"of {size} members, {first} failures fail the group and more do not",
                "more failures never save a group")  # fmt: skip


def _control(control: Control) -> None:
    """Check that ranks compare and numbers of workers stay in bounds."""
    waiting = [
        Waiting(stage, distance, round_, version, late, age, lacks)
        for age, (stage, distance, round_, version, late, lacks) in enumerate(
            product(("a", "b"), (1, 2), (0, 1), (0, 3), (False, True), (1, 9, math.inf))
        )
    ]
    try:
        sorted(_alike(control, "rank", control.rank, w) for w in waiting)
    except TypeError as error:
        raise PolicyViolation(f"{type(control).__name__}: ranks do not compare: {error}") from error
    ranks = [control.rank(w) for w in waiting]
    _expect(
        len(set(ranks)) == len(ranks),
        control,
        "two different items have equal ranks",
        "the age in the rank, to break ties",
    )
    for most in (1, 2, 100):
        start = _alike(control, "start", control.start, most)
        _expect(1 <= start <= most, control, f"start({most}) is {start!r}", f"1 to {most}")
    workers = {"a": 1, "b": 4, "c": 64}
    for done in ({}, {"a": 10.0}, {"a": 0.5, "b": 3.0, "c": 100.0}):
        result = _alike(control, "adjust", control.adjust, dict(workers), dict(done))
        _expect(set(result) == set(workers), control, f"adjust names {sorted(result)}", "every stage, and no other")
        whole = all(isinstance(n, int) and n >= 1 for n in result.values())
        _expect(whole, control, f"adjust({workers}, {done}) is {result}", "whole numbers from 1")


def _queue(order: QueueOrder) -> None:
    """Check that keys depend only on value and version.  Whether keys compare depends on the graph's values."""
    if order.by is None:
        sorted(_alike(order, "key", order.key, value, version) for value, version in product((1, "x"), range(5)))


def _scatter(order: Discriminative) -> None:
    """Check that every member is sent once."""
    if order.key is None:
        for size in range(6):
            places = _alike(order, "arrange", order.arrange, list(range(size)), {0: 99, 2: 1})
            every = sorted(places) == list(range(size))
            _expect(every, order, f"arrange of {size} members is {places}", "each of their places, once")
