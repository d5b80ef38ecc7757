"""How often to try a request again and after which pauses, as a model states it with its passing faults.

The caller tries again: the scheduler, which gives the slot to others meanwhile, or else
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
"""Tries of a request that timed out or had a malformed reply.  Each time-out costs its whole time, and malformed
replies are rarely chance, so that one more try is enough."""


@attrs.frozen
class Retry:
    """At most ``tries`` tries; the pauses between them begin with ``backoff`` seconds and double.

    ``when_full`` is the number of tries of a throttled request (None: ``tries``).

    A pause that the server asks for replaces the computed one, up to ``longest_asked`` seconds.  After a longer one
    there is one more try.  The server may be wrong, and if it is not, the user should learn of a quota that opens in an
    hour.
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
        """Return a fault that may pass.

        ``chance`` says that another try may give a well-formed reply, as after a broken connection.
        """
        rarely = isinstance(final, TimedOut) or (isinstance(final, MalformedReply) and not chance)
        tries = min(self.tries, ONE_MORE) if rarely else self.tries
        if (pause or 0.0) > self.longest_asked:
            final = type(final)(f"{final} (it asks to wait for {pause:g} s)")
        pause, tries = self._bounded(pause, tries)
        return PassingFault(final, pause=pause, tries=tries, backoff=self.backoff, usage=usage, cut_off=cut_off)

    def throttled(self, said: str, pause: float | None, quotas: Sequence[Quota] = ()) -> Throttled:
        """Return the error for "too many requests"."""
        if (pause or 0.0) > self.longest_asked:
            said = f"{said} (it asks to wait for {pause:g} s)"
        pause, tries = self._bounded(pause, self.tries if self.when_full is None else self.when_full)
        return Throttled(said, pause=pause, tries=tries, backoff=self.backoff, quotas=quotas)

    def _bounded(self, pause: float | None, tries: int) -> tuple[float | None, int]:
        """Return the bounded pause, and the tries that are left; a pause that is too long leaves one more."""
        if pause is None or pause <= self.longest_asked:
            return pause, tries
        return self.longest_asked, min(tries, ONE_MORE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in a ``Retry-After`` header, in either of its forms (RFC 9110, 10.2.3); None without a pause.

    0 seconds are no pause: taking them literally would use up all tries at once.  Nor is an infinite time.

    A date is read against the reply's own ``Date``, so that no clock of ours matters.
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
