"""Learn a profile from an earlier run: lengths of prompts and replies, and the speed of the server under load.

A request gets one token a step, and a step takes ``step + step_per_request * batch`` seconds. So a call takes ``latency
+ step * tokens + step_per_request * tokens * batch`` seconds. Its ``batch`` is the mean number of the run's requests in
flight meanwhile. Least squares over the answered calls fits these three numbers. The cost of prompts is part of the
latency, and so is the load of other users.

Lengths come from calls that began early enough to end, however long their reply. Among calls in flight at the run's
end, long ones are too frequent. A cancelled call, such as the slowest of an early release, gives a lower bound of its
length, which Kaplan and Meier's estimator uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

import attrs

from flashgraph.errors import DataError
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import StoredCall
from flashgraph.sim.fitting import OpenCount, nonnegative_least_squares, surviving_quantiles
from flashgraph.sim.profiles import Lengths, Profile

__all__ = ["FittedProfiles", "learn"]

FEWEST = 20
"""The fewest calls that a profile can be learned from."""

MOST = 500
"""The most lengths that are kept of a role: evenly spaced quantiles."""

NO_PREFILL = 10**9


@attrs.frozen
class FittedProfiles:
    """Profiles by model role; roles of one endpoint share theirs. ``notes`` say what they were learned from."""

    profiles: Mapping[str, Profile]
    notes: tuple[str, ...]


@attrs.frozen
class _Sent:
    """A call that was sent, and the mean number of requests in flight meanwhile, itself included."""

    call: StoredCall
    batch: float

    @property
    def began(self) -> float:
        return self.call.at - self.call.seconds

    @property
    def answered(self) -> bool:
        return self.call.how == "done" and self.call.completion_tokens > 0


@attrs.frozen
class _Speed:
    latency: float
    step: float
    step_per_request: float

    @classmethod
    def of(cls, answered: Sequence[_Sent]) -> _Speed:
        rows = []
        for sent in answered:
            tokens = float(sent.call.completion_tokens)
            rows.append(((1.0, tokens, tokens * sent.batch), sent.call.seconds))
        found = cls(*nonnegative_least_squares(rows))
        if found.step + found.step_per_request > 0:
            return found
        # The latency explains everything. But without any step time the server would have no capacity.
        return cls(0.0, sum(s.call.seconds for s in answered) / sum(s.call.completion_tokens for s in answered), 0.0)

    def seconds(self, sent: _Sent) -> float:
        return self.latency + sent.call.completion_tokens * (self.step + self.step_per_request * sent.batch)

    def tokens(self, sent: _Sent) -> float:
        """Return the tokens that a cancelled call had produced."""
        return max(0.0, sent.call.seconds - self.latency) / (self.step + self.step_per_request * sent.batch)


def learn(run: StoredRun, limit_of: Callable[[str], int | None] = lambda role: None) -> FittedProfiles:
    """Return the profiles of a run's endpoints.

    ``limit_of`` returns how many requests the model of a role took at once. If it returns None, the limit is the
    highest number in flight. Raises `DataError` if an endpoint has answered too few calls.
    """
    by_endpoint: dict[str, list[StoredCall]] = {}
    for call in run.calls():
        if call.how in ("done", "cancelled", "failed"):
            by_endpoint.setdefault(call.endpoint, []).append(call)
    if not by_endpoint:
        raise DataError(
            f"run {run.name}: it has answered no model calls, so nothing can be learned from it.\n"
            "Fix: learn from a longer run, or give a shipped profile: --profile vllm."
        )
    profiles: dict[str, Profile] = {}
    notes = []
    for endpoint, calls in by_endpoint.items():
        roles = sorted({call.role for call in calls})
        limits = [limit for role in roles if (limit := limit_of(role)) is not None]
        profile, note = _fitted(run.name, endpoint, calls, max(limits, default=None))
        profiles |= dict.fromkeys(roles, profile)
        notes.append(note)
    return FittedProfiles(profiles, tuple(notes))


def _fitted(run: str, endpoint: str, calls: Sequence[StoredCall], limit: int | None) -> tuple[Profile, str]:
    timed = [call for call in calls if call.seconds > 0]
    load = OpenCount((call.at - call.seconds, call.at) for call in timed)
    sent = [_Sent(call, load.mean(call.at - call.seconds, call.at)) for call in timed]
    answered = [s for s in sent if s.answered]
    if len(answered) < FEWEST:
        raise DataError(
            f"run {run}: {endpoint} has answered {len(answered)} calls; a profile needs {FEWEST} or more.\n"
            "Fix: learn from a longer run, or give a shipped profile: --profile vllm."
        )
    speed = _Speed.of(answered)
    counts = [s.call.completion_tokens for s in answered]
    profile = Profile(
        endpoint,
        slots=limit or load.most,
        step=max(speed.step, 1e-6),
        step_per_request=speed.step_per_request,
        prefill=NO_PREFILL,
        mean=mean(counts),
        sigma=0.0,
        longest=max(counts),
        latency=speed.latency,
        price=_price(answered),
        roles=_lengths(sent, speed),
    )
    off = sum(abs(speed.seconds(s) - s.call.seconds) for s in answered) / sum(s.call.seconds for s in answered)
    note = (
        f"{endpoint}: {len(answered)} calls, at most {load.most} at once; {speed.latency:.2f} s and "
        f"{1000 * speed.step:.2f} ms + {1000 * speed.step_per_request:.4f} ms a request for each token "
        f"(off by {off:.0%} on average)"
    )
    return profile, note


def _price(answered: Sequence[_Sent]) -> tuple[float, float]:
    priced = [s.call for s in answered if s.call.usd]
    if not priced:
        return (0.0, 0.0)
    rows = [((float(c.prompt_tokens), float(c.completion_tokens)), c.usd or 0.0) for c in priced]
    prompt, reply = nonnegative_least_squares(rows)
    return prompt, reply


def _lengths(sent: Sequence[_Sent], speed: _Speed) -> dict[str, Lengths]:
    last = max(s.call.at for s in sent) - max(s.call.seconds for s in sent if s.answered)
    found = {}
    for role in sorted({s.call.role for s in sent if s.answered}):
        own = [s for s in sent if s.call.role == role]
        early = [s for s in own if s.began <= last]
        # If the run was shorter than two replies, take what it has.
        own = early if sum(s.answered for s in early) >= FEWEST else own
        ended = [s.call for s in own if s.answered]
        cut = [speed.tokens(s) for s in own if s.call.how == "cancelled"]
        found[role] = Lengths(
            surviving_quantiles([c.prompt_tokens for c in ended], [], MOST),
            surviving_quantiles([c.completion_tokens for c in ended], cut, MOST),
        )
    return found
