"""Latency profiles: what a model server is like, as numbers."""

from __future__ import annotations

import math
import random

import attrs

from flashgraph.errors import DataError, did_you_mean

__all__ = ["PROFILES", "Profile", "profile_named"]


@attrs.frozen
class Profile:
    """A server with continuous batching.

    A decoding step takes ``step + step_per_request * batch`` seconds and gives every running request one token, so
    that a fuller server makes more tokens a second and each request waits longer.  Prompts cost one step for each
    ``prefill`` tokens.  Reply lengths are lognormal with ``mean`` tokens and shape ``sigma``, at most ``longest``.
    """

    name: str
    slots: int
    step: float
    step_per_request: float
    prefill: int
    mean: float
    sigma: float
    longest: int

    def step_time(self, batch: int) -> float:
        """Seconds of one decoding step with ``batch`` requests running."""
        return self.step + self.step_per_request * batch

    @property
    def capacity(self) -> float:
        """Tokens a second with every slot busy: what server use is measured against."""
        return self.slots / self.step_time(self.slots)

    def reply_tokens(self, stream: random.Random) -> int:
        """A reply's length."""
        mu = math.log(self.mean) - self.sigma**2 / 2
        return max(1, min(self.longest, round(stream.lognormvariate(mu, self.sigma))))


PROFILES = {
    p.name: p
    for p in (
        # Qwen3-8B on one H100 under vLLM: replies of 699 tokens on average with a tail to about 6,000
        # (FlashEvolve, arXiv 2605.08520); step times of an 8B model in bf16 at batch 1 and 128.
        Profile(
            "vllm", slots=128, step=0.008, step_per_request=0.00005, prefill=512, mean=699, sigma=0.9, longest=6000
        ),
        # A hosted API: its speed does not depend on our load, its limit is the number of requests in flight.
        Profile("api", slots=64, step=0.012, step_per_request=0.0, prefill=4096, mean=699, sigma=0.9, longest=6000),
    )
}


def profile_named(name: str) -> Profile:
    """A shipped profile.  Raises `DataError` for any other name."""
    if name not in PROFILES:
        raise DataError(
            f"simulated model 'sim:{name}': no such profile; expected one of {', '.join(PROFILES)}.\n"
            f"Fix: {did_you_mean(name, list(PROFILES))}"
        )
    return PROFILES[name]
