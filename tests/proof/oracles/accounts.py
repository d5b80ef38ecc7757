"""Reference model of a run's account: lists of reservations and of spent amounts, added up at each question.

Amounts are in quarters, whose sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import attrs
from hypothesis import strategies as st

from flashgraph.llm.protocol import Reply
from flashgraph.run.budget import Budget, Ledger, bounded, prompt_bound, prompt_estimate, reply_bound, reservation
from tests.proof.tried import Property, expect, refusal

__all__ = ["ACCOUNTS"]

NAMES = ("proposals", "evaluations", "calls", "tokens", "usd")


@attrs.frozen
class Entry:
    """An action on the account; ``which`` open reservation is settled, with ``amounts``."""

    what: Literal["reserve", "settle", "charge", "refuse"]
    amounts: Mapping[str, float]
    which: int = 0


def adds_up(limits: Mapping[str, int], history: Sequence[Entry]) -> None:
    """I10: reserved and spent amounts are the sums of the actions, and never exceed the limits."""
    budget = Budget(**limits)
    ledger = Ledger(budget)
    counted = {name: limits[name] for name in NAMES if name in limits}
    expect(dict(ledger.limits) == counted, f"I10: {budget} counts {ledger.limits}")
    reserved: dict[int, Mapping[str, float]] = {}
    spent: list[Mapping[str, float]] = []
    charged: list[Mapping[str, float]] = []
    refused: str | None = None
    for entry in history:
        taken = {n: _sum(n, [*reserved.values(), *spent]) for n in NAMES}
        match entry.what:
            case "reserve":
                over = [n for n, a in entry.amounts.items() if n in counted and taken[n] + a > counted[n]]
                lacking = ledger.lacking(entry.amounts)
                expect(lacking == (over[0] if over else None), f"I10: {entry} lacks {lacking}, expected {over}")
                if not over:
                    number = ledger.reserve(entry.amounts)
                    expect(number not in reserved, f"I10: two reservations have the number {number}")
                    reserved[number] = entry.amounts
            case "settle":
                if reserved:
                    number = sorted(reserved)[entry.which % len(reserved)]
                    ledger.settle(number, entry.amounts)
                    del reserved[number]
                    spent.append(entry.amounts)
            case "charge":
                ledger.charge(entry.amounts)
                spent.append(entry.amounts)
                charged.append(entry.amounts)
            case "refuse":
                refused = ledger.refused = NAMES[entry.which % len(NAMES)]
        _expect_account(ledger, counted, reserved, spent, charged, refused, f"after {entry} of {history}")


def _expect_account(
    ledger: Ledger,
    limits: Mapping[str, int],
    reserved: Mapping[int, Mapping[str, float]],
    spent: Sequence[Mapping[str, float]],
    charged: Sequence[Mapping[str, float]],
    refused: str | None,
    after: str,
) -> None:
    aside = {name: _sum(name, [*reserved.values()]) for name in NAMES}
    gone = {name: _sum(name, spent) for name in NAMES}
    expect(dict(ledger.reserved) == aside, f"I10: {ledger.reserved} are reserved, expected {aside} {after}")
    expect(dict(ledger.settled) == gone, f"I10: {ledger.settled} are settled, expected {gone} {after}")
    elsewhere = {name: _sum(name, charged) for name in {n for c in charged for n in c}}
    expect(ledger.charged == elsewhere, f"I10: {ledger.charged} are charged, expected {elsewhere} {after}")
    used_up = [name for name, limit in limits.items() if gone[name] + aside[name] >= limit]
    said = ledger.exhausted()
    expect(said == (refused or (used_up[0] if used_up else None)), f"I10: {said} is exhausted, of {used_up} {after}")
    left = {name: max(0.0, limit - gone[name] - aside[name]) for name, limit in limits.items()}
    expect(ledger.remaining() == left, f"I10: {ledger.remaining()} are left, expected {left} {after}")


def _sum(name: str, amounts: Sequence[Mapping[str, float]]) -> float:
    return float(sum(a.get(name, 0.0) for a in amounts))


AMOUNTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 2.0, 3.0]), max_size=3)
ENTRIES = st.builds(
    Entry,
    st.sampled_from(["reserve", "reserve", "reserve", "settle", "settle", "charge", "reserve", "settle", "refuse"]),
    AMOUNTS,
    st.integers(0, 5),
)
BUDGETS = st.dictionaries(st.sampled_from([*NAMES, "seconds"]), st.integers(1, 9), max_size=4)
TENTHS = (0.1, 0.2, 0.3, 0.7, 1.1)


def forgives_crumbs(amount: float, times: int) -> None:
    """I10: a price that is no binary fraction may be spent exactly as often as the budget allows.

    Without open reservations nothing is reserved, not even a rounding error.
    """
    ledger = Ledger(Budget(usd=amount * times))
    for _ in range(times):
        expect(ledger.lacking({"usd": amount}) is None, f"I10: {amount} USD are refused, of {amount * times}")
        expect(ledger.exhausted() is None, f"I10: {amount * times} USD are exhausted by less")
        first, other = ledger.reserve({"usd": amount}), ledger.reserve({"usd": 2 * amount, "calls": 1.0})
        ledger.settle(first, {"usd": amount})
        ledger.settle(other, {})
        expect(ledger.reserved == dict.fromkeys(NAMES, 0.0), f"I10: {ledger.reserved} stay reserved")
    expect(ledger.lacking({"usd": amount}) == "usd", f"I10: {times + 1} times {amount} USD of {amount * times}")
    expect(ledger.exhausted() == "usd", f"I10: {times} times {amount} USD do not exhaust {amount * times}")


def refuses(name: str, wrong: Any) -> None:
    """I10: a limit that is not a number over 0 is refused by name."""
    said = refusal(lambda: Budget(**{name: wrong}))
    expect((said is None) == (wrong is None), f"I10: a budget of {name}={wrong!r} is taken, or not")
    expect(said is None or f"{name}={wrong!r}" in said, f"I10: a budget of {name}={wrong!r} says: {said}")


@attrs.frozen
class Priced:
    """A model with prices per token, which may bound its replies itself."""

    prompt: float
    completion: float
    own: int | None
    name: str = "priced"
    limit: int = 1

    @property
    def params(self) -> Mapping[str, Any]:
        return {} if self.own is None else {"max_tokens": self.own}

    def open(self) -> Any:
        return nullcontext()

    async def complete(self, messages: Any, params: Any) -> Reply:
        raise AssertionError("nobody asks it")

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return prompt * self.prompt + completion * self.completion


def sets_aside(models: Sequence[Priced], texts: Sequence[str], asked: int | None, limits: Mapping[str, float]) -> None:
    """I10: a request reserves one call, and the most tokens and money that it may cost.

    The most tokens are those of its prompt and its reply, at the price of the dearest model that may get it.
    """
    messages = [{"role": "user", "content": text} for text in texts]
    params = {} if asked is None else {"max_tokens": asked}
    frame = 16 * (len(texts) + 1)
    most = frame + sum(len(text.encode("utf-8")) for text in texts)
    expect(prompt_bound(messages) == most, f"I10: {texts} have at most {prompt_bound(messages)} tokens, not {most}")
    about = sum(len(text) for text in texts) / 4
    expect(prompt_estimate(messages) == about, f"I10: {texts} have about {prompt_estimate(messages)} tokens")
    counted = "tokens" in limits or "usd" in limits
    replies = [asked if asked is not None else model.own for model in models]
    for model, reply in zip(models, replies, strict=True):
        expect(reply_bound(model, params) == reply, f"I10: a reply of {model} is bound by {reply_bound(model, params)}")
        sent = bounded(model, params, limits)
        bound = {"max_tokens": 4096} if counted and reply is None else params
        expect(dict(sent) == bound, f"I10: {model} is sent {sent}, expected {bound}")
    amounts = {"calls": 1.0}
    if counted:
        longest = [reply or 4096 for reply in replies]
        amounts["tokens"] = float(most + max(longest))
        amounts["usd"] = max(m.prompt * most + m.completion * n for m, n in zip(models, longest, strict=True))
    said = reservation(models, messages, params, limits)
    expect(said == amounts, f"I10: {said} is set aside, expected {amounts}")


ACCOUNTS: Mapping[str, Property] = {
    "model of the account": Property(
        ("I10",), adds_up, {"limits": BUDGETS, "history": st.lists(ENTRIES, min_size=1, max_size=15)}, 20
    ),
    "sums of prices": Property(
        ("I10",), forgives_crumbs, {"amount": st.sampled_from(TENTHS), "times": st.integers(1, 40)}, 5
    ),
    "invalid budgets": Property(
        ("I10",),
        refuses,
        {
            "name": st.sampled_from([*NAMES, "seconds"]),
            "wrong": st.sampled_from([0, -1, 0.0, -0.5, True, False, "3", None]),
        },
        10,
    ),
    "reservations of requests": Property(
        ("I10",),
        sets_aside,
        {
            "models": st.lists(
                st.builds(
                    Priced,
                    st.sampled_from([0.0, 0.25, 1.0]),
                    st.sampled_from([0.0, 0.5, 2.0]),
                    st.sampled_from([None, None, 50, 9000]),
                ),
                min_size=1,
                max_size=3,
            ),
            "texts": st.lists(
                st.sampled_from(["", "a", "four", "größer", "many words", "of twenty-six bytes, no less"]), max_size=3
            ),
            "asked": st.sampled_from([None, None, 10, 5000]),
            "limits": st.sampled_from([{}, {"calls": 5}, {"tokens": 9}, {"usd": 0.5}, {"tokens": 1, "usd": 2}]),
        },
        15,
    ),
}
