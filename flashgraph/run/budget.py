"""Hard budgets: what a step may cost is reserved before it starts and settled when it ends.

The sum of settled and reserved amounts never exceeds a limit, so a budget cannot be overshot by work in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.errors import DataError, PassingFault, Throttled
from flashgraph.llm.protocol import REPLY_LIMITS, Message, Model, Usage, reply_limit, text_in

__all__ = [
    "Budget",
    "Cost",
    "Ledger",
    "bounded",
    "excess",
    "prompt_bound",
    "prompt_estimate",
    "reply_bound",
    "reservation",
]

DEFAULT_REPLY_TOKENS = 4096
"""The reply length that a token or money budget reserves for a request whose reply nothing else bounds."""


MOST = 1e15
"""The greatest limit of a budget.  Beyond it, floats no longer count by one."""


def _positive(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value <= MOST):
        raise DataError(
            f"budget: {attribute.name}={value!r:.80}; expected a number over 0 and at most {MOST:g}, or None for no "
            "limit.\n"
            f"Fix: Budget({attribute.name}=100), or leave it out."
        )


@attrs.frozen(kw_only=True)
class Budget:
    """Limits of a run; None is no limit.

    ``proposals`` and ``evaluations`` count executions of the stages that say ``spends=``; ``calls``, ``tokens``
    (prompt and completion) and ``usd`` count model requests; ``seconds`` is time on the run's clock.
    """

    proposals: int | None = attrs.field(default=None, validator=_positive)
    evaluations: int | None = attrs.field(default=None, validator=_positive)
    calls: int | None = attrs.field(default=None, validator=_positive)
    tokens: int | None = attrs.field(default=None, validator=_positive)
    usd: float | None = attrs.field(default=None, validator=_positive)
    seconds: float | None = attrs.field(default=None, validator=_positive)

    @property
    def limits(self) -> dict[str, float]:
        """What is counted and bounded; ``seconds`` is the driver's."""
        every = attrs.asdict(self)
        return {name: limit for name, limit in every.items() if limit is not None and name != "seconds"}


class Ledger:
    """The account of a run: settled and reserved amounts by limit name."""

    def __init__(self, budget: Budget) -> None:
        self.limits = budget.limits
        self.settled: dict[str, float] = dict.fromkeys(("proposals", "evaluations", "calls", "tokens", "usd"), 0.0)
        self.reserved: dict[str, float] = dict.fromkeys(self.settled, 0.0)
        self.refused: str | None = None
        """A limit that could not afford a request although nothing else was reserved: no round is opened any more."""
        self.charged: dict[str, float] = {}
        """What of the settled amounts was spent outside of the run's own stages."""
        self._open: dict[int, dict[str, float]] = {}
        self._holders: dict[str, int] = dict.fromkeys(self.settled, 0)
        self._next = 0

    def lacking(self, amounts: Mapping[str, float]) -> str | None:
        """The first limit that reserving ``amounts`` would exceed."""
        for name, amount in amounts.items():
            limit = self.limits.get(name)
            # A billionth of slack: sums of prices in floats must not refuse the last affordable request.
            if limit is not None and self.settled[name] + self.reserved[name] + amount > limit * (1 + 1e-9):
                return name
        return None

    def exhausted(self) -> str | None:
        """A limit of which nothing usable is left, counting what is reserved."""
        return self.refused or self.used_up(self.limits)

    def used_up(self, names: Iterable[str]) -> str | None:
        """The first of these limits of which nothing is left, counting what is reserved."""
        for name in names:
            limit = self.limits.get(name)
            if limit is not None and self.settled[name] + self.reserved[name] >= limit * (1 - 1e-9):
                return name
        return None

    def reserve(self, amounts: Mapping[str, float]) -> int:
        """Set ``amounts`` aside; the caller has asked `lacking` before."""
        reservation, self._next = self._next, self._next + 1
        self._open[reservation] = dict(amounts)
        for name, amount in amounts.items():
            self.reserved[name] += amount
            self._holders[name] += 1
        return reservation

    def settle(self, reservation: int, amounts: Mapping[str, float]) -> None:
        """Replace a reservation by what was really spent (``{}`` gives all of it back)."""
        for name, amount in self._open.pop(reservation).items():
            self._holders[name] -= 1
            # The last one out clears it: a crumb of subtracted floats would look like a reservation for ever.
            self.reserved[name] = self.reserved[name] - amount if self._holders[name] else 0.0
        for name, amount in amounts.items():
            self.settled[name] += amount

    def charge(self, amounts: Mapping[str, float]) -> None:
        """Settle what was spent elsewhere: by the held-out test of an earlier session."""
        for name, amount in amounts.items():
            self.settled[name] += amount
            self.charged[name] = self.charged.get(name, 0.0) + amount

    def at_most(self) -> dict[str, float]:
        """What may have been spent by now, by name: what is settled and what is reserved."""
        return {name: amount + self.reserved[name] for name, amount in self.settled.items()}

    def remaining(self) -> dict[str, float]:
        """What is left of each limit, by name."""
        return {n: max(0.0, limit - self.settled[n] - self.reserved[n]) for n, limit in self.limits.items()}


@attrs.frozen
class Cost:
    """What a request that was sent has cost: ``spent`` of the limits, tokens of prompt and reply, and USD where that is
    known.  ``estimated`` says that nobody has counted."""

    spent: Mapping[str, float] = attrs.field(factory=dict)
    usage: tuple[int, int] = (0, 0)
    usd: float | None = None
    estimated: bool = False

    @classmethod
    def counted(cls, usage: Usage, usd: float | None, amounts: Mapping[str, float]) -> Cost:
        """Return that of one that something came back of, for which ``amounts`` were reserved.

        Where nobody has counted its tokens, all that was reserved is spent: an estimate may be too small, and a limit
        would be exceeded.
        """
        spent = {"calls": 1.0, "tokens": float(usage.total), "usd": usd or 0.0}
        if usage.estimated:
            spent |= amounts
        return cls(spent, (usage.prompt, usage.completion), usd, usage.estimated)

    @classmethod
    def cut_off(cls, amounts: Mapping[str, float], usage: tuple[int, int]) -> Cost:
        """Of one that was given up: all of the ``amounts`` that were reserved, for nobody can tell; of tokens that were
        not, about as many as ``usage``."""
        return cls({"tokens": float(sum(usage)), **amounts}, usage, estimated=True)

    @classmethod
    def of_fault(
        cls, fault: PassingFault, model: Model, amounts: Mapping[str, float], cut_off: tuple[int, int]
    ) -> Cost:
        """Of a try that has failed; ``cut_off`` is the usage of one that is given up at this moment."""
        if isinstance(fault, Throttled):
            return cls()
        if fault.cut_off:
            return cls.cut_off(amounts, cut_off)
        return cls.answered(fault.usage, model, amounts)

    @classmethod
    def answered(cls, usage: Usage | None, model: Model, amounts: Mapping[str, float]) -> Cost:
        """Of one that the server has answered with an error: a call, and tokens if it has made any."""
        usage = usage or Usage()
        return cls.counted(usage, model.worst_cost(usage.prompt, usage.completion), amounts)


def excess(model: Model, usd: float | None, amounts: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """Return why a limit of money cannot be held: a reply has cost more than its model said that it could.  Empty where
    it has not."""
    if "usd" not in limits or (usd or 0.0) <= amounts.get("usd", 0.0) * (1 + 1e-9):
        return ""
    return (
        f"budget usd={limits['usd']:g}: a reply of {model.name} has cost {usd:g} USD, and its worst_cost had said at "
        f"most {amounts.get('usd', 0.0):g}, so the limit cannot be held.\n"
        "Fix: give the model the price of its tokens, as in FunctionModel(FUNCTION, price=(IN, OUT)); or limit tokens "
        "or calls instead."
    )


def prompt_bound(messages: Sequence[Message]) -> int:
    """Upper bound of a prompt's tokens: no tokenizer makes more tokens than bytes, plus a chat template's frame."""
    return sum(len(m.get("content", "").encode()) + 16 for m in messages) + 16


def prompt_estimate(messages: Sequence[Message]) -> float:
    """About how many tokens a prompt has, at four characters a token; parts that are no text are not counted."""
    return sum(len(text_in(message)) for message in messages) / 4


def reply_bound(model: Model, params: Mapping[str, Any]) -> int | None:
    """The most tokens that a reply of ``model`` may have, by the request's parameters or the model's own below them;
    None where neither bounds it."""
    own = getattr(model, "params", None)
    return reply_limit({**own, **params} if isinstance(own, Mapping) else params)


def reservation(
    models: Sequence[Model], messages: Sequence[Message], params: Mapping[str, Any], limits: Mapping[str, float]
) -> dict[str, float]:
    """What a request may cost at most, by limit, at whichever of ``models`` it is sent to, as `bounded`."""
    amounts = {"calls": 1.0}
    if _bounds(limits):
        prompt = prompt_bound(messages)
        replies = [(model, reply_bound(model, params) or DEFAULT_REPLY_TOKENS) for model in models]
        amounts["tokens"] = float(prompt + max(reply for _, reply in replies))
        amounts["usd"] = max(model.worst_cost(prompt, reply) or 0.0 for model, reply in replies)
    return amounts


def bounded(model: Model, params: Mapping[str, Any], limits: Mapping[str, float]) -> Mapping[str, Any]:
    """``params`` as they are sent to ``model``: where tokens or money are limited and nothing else bounds the reply,
    with the ``max_tokens`` that makes `reservation` true."""
    if _bounds(limits) and reply_bound(model, params) is None:
        own = getattr(model, "params", None) or {}
        said = [name for name in REPLY_LIMITS if name in params or name in own]  # without a bound, as with -1
        return {**params, **dict.fromkeys(said or ["max_tokens"], DEFAULT_REPLY_TOKENS)}
    return params


def _bounds(limits: Mapping[str, float]) -> bool:
    return "tokens" in limits or "usd" in limits
