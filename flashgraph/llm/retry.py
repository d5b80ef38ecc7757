"""How often a request may be asked again and after what pauses: what a model says with its passing faults.

Asking again is for who asked: the scheduler, which gives the slot to others meanwhile, or else
`flashgraph.run.patience.reply_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

import attrs

from flashgraph.errors import MalformedReply, ModelError, PassingFault, Throttled, TimedOut
from flashgraph.llm.protocol import Quota, Usage

__all__ = ["Retry", "retry_after"]

ONE_MORE = 2
"""Tries of a request that timed out, which costs its whole time-out each time, or had a malformed reply, which is
rarely chance: one more chance and not six."""


@attrs.frozen
class Retry:
    """At most ``tries`` tries, between them pauses that begin with ``backoff`` seconds and double; ``when_full`` of a
    request that is turned away because there are too many (None: as many as of others).

    A pause that the server asks for replaces the computed one, up to ``longest_asked`` seconds.  A server that asks for
    more is asked once more after so long: it may be wrong about itself, and if it is not, the user is to know of a
    quota that opens in an hour.
    """

    tries: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    backoff: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    longest_asked: float = 120.0
    when_full: int | None = None

    def passing(
        self,
        final: ModelError,
        *,
        pause: float | None = None,
        usage: Usage | None = None,
        cut_off: bool = False,
        chance: bool = False,
    ) -> PassingFault:
        """Return what a fault is that may pass.  ``chance`` says of a malformed reply that another may well be sound,
        as after a connection that was cut."""
        rarely = isinstance(final, TimedOut) or (isinstance(final, MalformedReply) and not chance)
        tries = min(self.tries, ONE_MORE) if rarely else self.tries
        if (pause or 0.0) > self.longest_asked:
            final = type(final)(f"{final} (it asks to wait for {pause:g} s)")
        pause, tries = self._bounded(pause, tries)
        return PassingFault(final, pause=pause, tries=tries, backoff=self.backoff, usage=usage, cut_off=cut_off)

    def throttled(self, said: str, pause: float | None, quotas: Sequence[Quota] = ()) -> Throttled:
        """Return what "too many requests" is."""
        if (pause or 0.0) > self.longest_asked:
            said = f"{said} (it asks to wait for {pause:g} s)"
        pause, tries = self._bounded(pause, self.tries if self.when_full is None else self.when_full)
        return Throttled(said, pause=pause, tries=tries, backoff=self.backoff, quotas=quotas)

    def _bounded(self, pause: float | None, tries: int) -> tuple[float | None, int]:
        """A pause that a server asks for, and the tries that are left to a request for which it asks too long a one."""
        if pause is None or pause <= self.longest_asked:
            return pause, tries
        return self.longest_asked, min(tries, ONE_MORE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, in either of its forms (RFC 9110, 10.2.3); None where it asks for
    none: 0 seconds do not say when to come back, and who takes them at their word has used up all tries at once; nor
    does an infinite time.

    A date is read against the reply's own ``Date``, so no clock of ours is involved.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
            seconds = (then - now).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if 0 < seconds < math.inf else None
