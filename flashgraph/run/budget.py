"""Hard budgets: the most that a step may cost is reserved before it starts, and its cost is settled when it ends.

The sum of settled and reserved amounts never exceeds a limit, so a budget cannot be overshot by work in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import attrs

from flashgraph.errors import DataError, PassingFault, Throttled, did_you_mean
from flashgraph.llm.protocol import REPLY_LIMITS, Message, Model, Usage, choices_wanted, reply_limit, text_in

__all__ = [
    "OF_REQUESTS",
    "Budget",
    "Cost",
    "Ledger",
    "bounded",
    "excess",
    "prompt_bound",
    "prompt_estimate",
    "reply_bound",
    "reservation",
    "unit",
    "whole_params",
    "with_role",
]

OF_REQUESTS = ("calls", "tokens", "usd")
"""The limits that a model request spends: of the run, and of the request's role."""

DEFAULT_REPLY_TOKENS = 4096
"""The tokens of a reply that a token or money budget reserves if nothing else bounds the reply."""


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


def _of_roles(given: Any) -> dict[str, Budget]:
    """Return the budgets by role.  Raises `DataError` for anything but limits of requests by role."""
    fix = "Fix: roles={'judge': fg.Budget(usd=1)}."
    if not isinstance(given, Mapping) or not all(isinstance(budget, Budget) for budget in given.values()):
        raise DataError(f"budget: roles={given!r:.80}; expected a mapping from roles to budgets.\n{fix}")
    for role, budget in given.items():
        if not isinstance(role, str) or not role.isidentifier():
            raise DataError(f"budget: roles has {role!r:.80}; expected the name of a role.\n{fix}")
        if other := [name for name in budget.flat if name not in OF_REQUESTS]:
            raise DataError(
                f"budget: role {role!r} has a limit of {other[0]}; expected {', '.join(OF_REQUESTS)}, which a model's "
                f"requests spend.\nFix: Budget({other[0].rpartition('.')[2]}=...) of the whole run."
            )
    return dict(given)


@attrs.frozen(kw_only=True)
class Budget:
    """Limits of a run; None is no limit.

    ``proposals`` and ``evaluations`` count the jobs of stages with ``counts=``; ``calls``, ``tokens``
    (prompt and completion) and ``usd`` count model requests; ``seconds`` is time on the run's clock.

    ``roles`` are further limits of ``calls``, ``tokens`` and ``usd`` for the requests to the models of a role:
    ``Budget(usd=5, roles={"judge": Budget(usd=1)})``.  The run ends when one of them is used up, as with the others.
    """

    proposals: int | None = attrs.field(default=None, validator=_positive)
    evaluations: int | None = attrs.field(default=None, validator=_positive)
    calls: int | None = attrs.field(default=None, validator=_positive)
    tokens: int | None = attrs.field(default=None, validator=_positive)
    usd: float | None = attrs.field(default=None, validator=_positive)
    seconds: float | None = attrs.field(default=None, validator=_positive)
    roles: Mapping[str, Budget] = attrs.field(factory=dict, converter=_of_roles)

    @classmethod
    def of(cls, flat: Mapping[str, float]) -> Self:
        """Return the budget with these limits by name, as `flat` returns them.

        Raises `DataError` for a limit that is unknown or is no number over 0.
        """
        own: dict[str, Any] = {}
        roles: dict[str, dict[str, Any]] = {}
        known = [field.name for field in attrs.fields(cls) if field.name != "roles"]
        for name, limit in flat.items():
            role, _, of = name.rpartition(".")
            if of not in (OF_REQUESTS if role else known):
                expected = [f"{role}.{each}" for each in OF_REQUESTS] if role else known
                raise DataError(
                    f"budget: found {name!r}; expected one of {', '.join(expected)}.\n"
                    f"Fix: {did_you_mean(name, expected)}"
                )
            (roles.setdefault(role, {}) if role else own)[of] = limit
        return cls(**own, roles={role: cls(**limits) for role, limits in roles.items()})

    @property
    def flat(self) -> dict[str, float]:
        """All limits by name; those of a role are ``"judge.usd"``."""
        fields = [field.name for field in attrs.fields(type(self)) if field.name != "roles"]
        own = {name: limit for name in fields if (limit := getattr(self, name)) is not None}
        return own | {f"{role}.{name}": limit for role, b in self.roles.items() for name, limit in b.flat.items()}

    @property
    def limits(self) -> dict[str, float]:
        """The limits of the ledger by name, as in `flat`; the driver holds ``seconds``."""
        return {name: limit for name, limit in self.flat.items() if name != "seconds"}


def unit(limit: str) -> str:
    """Return the unit of a limit's amounts: ``usd`` of ``judge.usd``."""
    return limit.rpartition(".")[2]


def with_role(role: str, amounts: Mapping[str, float]) -> dict[str, float]:
    """Return the amounts of a request with those of its role, by limit: ``judge.usd`` beside ``usd``."""
    return {**amounts, **{f"{role}.{name}": amounts[name] for name in OF_REQUESTS if name in amounts}}


class _Amounts(dict[str, float]):
    """Amounts by limit, 0 for one that was never counted; reading adds none."""

    def __missing__(self, name: str) -> float:
        return 0.0


class Ledger:
    """The account of a run: settled and reserved amounts by limit name.

    The amounts of requests are counted by role too, whether a role has limits or not: a resumed run may get some.
    """

    def __init__(self, budget: Budget) -> None:
        self.limits = budget.limits
        totals = dict.fromkeys(("proposals", "evaluations", "calls", "tokens", "usd"), 0.0)
        self.settled: dict[str, float] = _Amounts(totals)
        self.reserved: dict[str, float] = _Amounts(totals)
        self.refused: str | None = None
        """A limit that refused a request although nothing else was reserved: no more rounds are opened."""
        self.charged: dict[str, float] = {}
        """The part of the settled amounts that was spent outside of the run's own stages."""
        self._open: dict[int, dict[str, float]] = {}
        self._holders: Counter[str] = Counter()
        self._next = 0

    def limits_for(self, role: str) -> dict[str, float]:
        """Return the limits that hold for a request to ``role``, by unit; its role's own take precedence."""
        own = {name: self.limits[f"{role}.{name}"] for name in OF_REQUESTS if f"{role}.{name}" in self.limits}
        return {name: limit for name, limit in self.limits.items() if "." not in name} | own

    def lacking(self, amounts: Mapping[str, float]) -> str | None:
        """Return the first limit that a reservation of ``amounts`` would exceed; None if there is none."""
        for name, amount in amounts.items():
            limit = self.limits.get(name)
            # A slack of a billionth: rounding errors in sums of prices must not refuse the last affordable request.
            if limit is not None and self.settled[name] + self.reserved[name] + amount > limit * (1 + 1e-9):
                return name
        return None

    def exhausted(self) -> str | None:
        """Return a limit that is used up, reservations included; None if there is none."""
        return self.refused or self.used_up(self.limits)

    def used_up(self, names: Iterable[str]) -> str | None:
        """Return the first of these limits that is used up, reservations included; None if there is none."""
        for name in names:
            limit = self.limits.get(name)
            if limit is not None and self.settled[name] + self.reserved[name] >= limit * (1 - 1e-9):
                return name
        return None

    def reserve(self, amounts: Mapping[str, float]) -> int:
        """Reserve ``amounts`` and return the reservation's number; the caller has asked `lacking` before."""
        reservation, self._next = self._next, self._next + 1
        self._open[reservation] = dict(amounts)
        for name, amount in amounts.items():
            self.reserved[name] += amount
            self._holders[name] += 1
        return reservation

    def settle(self, reservation: int, amounts: Mapping[str, float]) -> None:
        """Replace a reservation by the amounts that were spent; ``{}`` frees it all."""
        for name, amount in self._open.pop(reservation).items():
            self._holders[name] -= 1
            # The last one sets it to 0: a rounding error would look like a reservation forever.
            self.reserved[name] = self.reserved[name] - amount if self._holders[name] else 0.0
        for name, amount in amounts.items():
            self.settled[name] += amount

    def charge(self, amounts: Mapping[str, float]) -> None:
        """Settle amounts that were spent elsewhere: by the held-out test of an earlier session."""
        for name, amount in amounts.items():
            self.settled[name] += amount
            self.charged[name] = self.charged.get(name, 0.0) + amount

    def at_most(self) -> dict[str, float]:
        """Return the most that may have been spent by now, by name: the settled and the reserved amounts."""
        return {name: amount + self.reserved[name] for name, amount in self.settled.items()}

    def remaining(self) -> dict[str, float]:
        """Return the rest of each limit, by name."""
        return {n: max(0.0, limit - self.settled[n] - self.reserved[n]) for n, limit in self.limits.items()}


@attrs.frozen
class Cost:
    """The cost of a request that was sent: the amounts ``spent`` by limit, tokens of prompt and reply, and known USD.

    ``estimated`` says that the tokens were not counted.
    """

    spent: Mapping[str, float] = attrs.field(factory=dict)
    usage: tuple[int, int] = (0, 0)
    usd: float | None = None
    estimated: bool = False

    @classmethod
    def counted(cls, usage: Usage, usd: float | None, amounts: Mapping[str, float]) -> Cost:
        """Return the cost of a request that was answered, for which ``amounts`` were reserved.

        If its tokens were not counted, all that was reserved is spent: an estimate may be too small, and a limit would
        be exceeded.
        """
        spent = {"calls": 1.0, "tokens": float(usage.total), "usd": usd or 0.0}
        if usage.estimated:
            spent |= amounts
        return cls(spent, (usage.prompt, usage.completion), usd, usage.estimated)

    @classmethod
    def cut_off(cls, amounts: Mapping[str, float], usage: tuple[int, int]) -> Cost:
        """Return the cost of a cancelled request, which is unknown: all of the ``amounts`` that were reserved.

        Tokens that were not reserved count as ``usage``.
        """
        return cls({"tokens": float(sum(usage)), **amounts}, usage, estimated=True)

    @classmethod
    def of_fault(
        cls, fault: PassingFault, model: Model, amounts: Mapping[str, float], cut_off: tuple[int, int]
    ) -> Cost:
        """Return the cost of a failed try; ``cut_off`` is the usage of a request that is cancelled at this moment."""
        if isinstance(fault, Throttled):
            return cls()
        if fault.cut_off:
            return cls.cut_off(amounts, cut_off)
        return cls.answered(fault.usage, model, amounts)

    @classmethod
    def answered(cls, usage: Usage | None, model: Model, amounts: Mapping[str, float]) -> Cost:
        """Return the cost of a request that the server answered with an error: one call, and its tokens, if any."""
        usage = usage or Usage()
        return cls.counted(usage, model.worst_cost(usage.prompt, usage.completion), amounts)


def excess(model: Model, usd: float | None, amounts: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """Return why a limit of money cannot be held: a reply has cost more than its model's bound.

    Empty if the reply is within the bound.
    """
    if "usd" not in limits or (usd or 0.0) <= amounts.get("usd", 0.0) * (1 + 1e-9):
        return ""
    return (
        f"budget usd={limits['usd']:g}: a reply of {model.name} has cost {usd:g} USD, and its worst_cost had said at "
        f"most {amounts.get('usd', 0.0):g}, so the limit cannot be held.\n"
        "Fix: give the model the price of its tokens, as in FunctionModel(FUNCTION, price=(IN, OUT)); or limit tokens "
        "or calls instead."
    )


def prompt_bound(messages: Sequence[Message]) -> int:
    """Return an upper bound of a prompt's tokens: its bytes, plus the frame of a chat template."""
    return sum(len(m.get("content", "").encode()) + 16 for m in messages) + 16


def prompt_estimate(messages: Sequence[Message]) -> float:
    """Estimate the tokens of a prompt's texts, at four characters a token; other parts are not counted."""
    return sum(len(text_in(message)) for message in messages) / 4


def reply_bound(model: Model, params: Mapping[str, Any]) -> int | None:
    """Return the most tokens that a reply of ``model`` may have; None if nothing bounds it.

    The request's parameters come first, then the model's own.
    """
    return reply_limit(whole_params(model, params))


def whole_params(model: Model, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a request with the model's own that it does not override."""
    own = getattr(model, "params", None)
    return {**own, **params} if isinstance(own, Mapping) else params


def reservation(
    models: Sequence[Model], messages: Sequence[Message], params: Mapping[str, Any], limits: Mapping[str, float]
) -> dict[str, float]:
    """Return the most that a request may cost by limit, sent as `bounded` to any of ``models``."""
    amounts = {"calls": 1.0}
    if _bounds(limits):
        prompt = prompt_bound(messages)
        each = [(model, reply_bound(model, params) or DEFAULT_REPLY_TOKENS) for model in models]
        replies = [(model, reply * choices_wanted(whole_params(model, params))) for model, reply in each]
        amounts["tokens"] = float(prompt + max(reply for _, reply in replies))
        amounts["usd"] = max(model.worst_cost(prompt, reply) or 0.0 for model, reply in replies)
    return amounts


def bounded(model: Model, params: Mapping[str, Any], limits: Mapping[str, float]) -> Mapping[str, Any]:
    """Return ``params`` as they are sent to ``model``.

    If tokens or money are limited and nothing else bounds the reply, they get the ``max_tokens`` of `reservation`.
    """
    if _bounds(limits) and reply_bound(model, params) is None:
        own = getattr(model, "params", None) or {}
        said = [name for name in REPLY_LIMITS if name in params or name in own]  # named without a bound, as -1
        return {**params, **dict.fromkeys(said or ["max_tokens"], DEFAULT_REPLY_TOKENS)}
    return params


def _bounds(limits: Mapping[str, float]) -> bool:
    return "tokens" in limits or "usd" in limits
