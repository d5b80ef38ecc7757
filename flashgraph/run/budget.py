"""Hard budgets: what a step may cost is reserved before it starts and settled when it ends.

The sum of settled and reserved amounts never exceeds a limit, so a budget cannot be overshot by work in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.errors import DataError

__all__ = ["Budget", "Ledger"]


def _positive(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
        raise DataError(
            f"budget: {attribute.name}={value!r}; expected a number over 0, or None for no limit.\n"
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
        self._open: dict[int, dict[str, float]] = {}
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
        """A limit of which nothing is left, counting what is reserved."""
        for name, limit in self.limits.items():
            if self.settled[name] + self.reserved[name] >= limit * (1 - 1e-9):
                return name
        return None

    def reserve(self, amounts: Mapping[str, float]) -> int:
        """Set ``amounts`` aside; the caller has asked `lacking` before."""
        reservation, self._next = self._next, self._next + 1
        self._open[reservation] = dict(amounts)
        for name, amount in amounts.items():
            self.reserved[name] += amount
        return reservation

    def settle(self, reservation: int, amounts: Mapping[str, float]) -> None:
        """Replace a reservation by what was really spent (``{}`` gives all of it back)."""
        for name, amount in self._open.pop(reservation).items():
            self.reserved[name] -= amount
        for name, amount in amounts.items():
            self.settled[name] += amount

    def remaining(self) -> dict[str, float]:
        """What is left of each limit, by name."""
        return {n: max(0.0, limit - self.settled[n] - self.reserved[n]) for n, limit in self.limits.items()}
