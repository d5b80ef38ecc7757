"""Latency profiles: the speed, limits and price of a model server as numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import attrs

from flashgraph.errors import DataError

__all__ = ["PROFILES", "Lengths", "Profile", "profile_named"]


@attrs.frozen
class Lengths:
    """Measured tokens of prompts and replies, each drawn with equal probability."""

    prompts: Sequence[int]
    replies: Sequence[int]


@attrs.frozen
class Profile:
    """A server with continuous batching.

    A decoding step takes ``step + step_per_request * batch`` seconds and gives every running request one token. So a
    fuller server makes more tokens a second, and each request waits longer. Prompts cost one step for each ``prefill``
    tokens. Reply lengths are lognormal with ``mean`` tokens and shape ``sigma``, at most ``longest``.

    ``latency`` is the seconds before a request's first step, for the network and a provider's queue. ``price`` is the
    USD for a prompt token and for a reply token. ``roles`` holds the measured lengths of model roles; their prompts
    count as measured, whatever a simulation writes into them.

    A request beyond the ``slots`` waits for one if the server ``queues``; a hosted API answers it with 429. ``cache``
    is the number of tokens that the server's memory holds; 0 means unknown, and the server then never reports its fill
    level.
    """

    name: str
    slots: int
    step: float
    step_per_request: float
    prefill: int
    mean: float
    sigma: float
    longest: int
    latency: float = 0.0
    price: tuple[float, float] = (0.0, 0.0)
    roles: Mapping[str, Lengths] = attrs.field(factory=dict, repr=False)
    queues: bool = True
    cache: int = 0

    def faster(self, speed: float) -> Profile:
        """Return the same server ``speed`` times as fast, to run it on a real clock."""
        return attrs.evolve(
            self,
            step=self.step / speed,
            step_per_request=self.step_per_request / speed,
            latency=self.latency / speed,
        )

    def step_time(self, batch: int) -> float:
        """Return the seconds of one decoding step with ``batch`` requests running."""
        return self.step + self.step_per_request * batch

    @property
    def capacity(self) -> float:
        """Tokens a second with every slot busy, which server use is relative to."""
        return self.slots / self.step_time(self.slots)

    def steps(self, prompt: int, reply: int) -> float:
        """Return the number of decoding steps that a request stays in the batch."""
        return reply + prompt / self.prefill

    def cost(self, prompt: int, reply: int) -> float:
        """Return the USD of a request."""
        return prompt * self.price[0] + reply * self.price[1]

    def prompt_tokens(self, stream: random.Random, written: int, role: str = "") -> int:
        """Return a prompt's length: as measured for the role, or else as ``written``."""
        return stream.choice(self.roles[role].prompts) if role in self.roles else written

    def reply_tokens(self, stream: random.Random, role: str = "") -> int:
        """Return a reply's length: as measured for the role, or else lognormal."""
        if role in self.roles:
            return stream.choice(self.roles[role].replies)
        mu = math.log(self.mean) - self.sigma**2 / 2
        return max(1, min(self.longest, round(stream.lognormvariate(mu, self.sigma))))


PROFILES = {
    p.name: p
    for p in (
        # Qwen3-8B on one H100 under vLLM. Replies have 699 tokens on average with a tail to about 6,000 (FlashEvolve,
        # arXiv 2605.08520). Step times are those of an 8B model in bf16 at batch 1 and 128. The cache is 90 % of 80 GB
        # minus 16 GB of weights, at 147,456 bytes a token.
        Profile(
            "vllm",
            slots=128,
            step=0.008,
            step_per_request=0.00005,
            prefill=512,
            mean=699,
            sigma=0.9,
            longest=6000,
            cache=370_000,
        ),
        # A hosted API: its speed does not depend on our load, and it limits the requests in flight.
        Profile(
            "api",
            slots=64,
            step=0.012,
            step_per_request=0.0,
            prefill=4096,
            mean=699,
            sigma=0.9,
            longest=6000,
            queues=False,
        ),
        # GPT-4o-mini as sold in 2025: about 80 tokens a second, half a second to the first one, USD 0.15 and 0.60 for a
        # million tokens. Reply lengths are assumed to equal those of the other two.
        Profile(
            "gpt-4o-mini",
            slots=64,
            step=0.0125,
            step_per_request=0.0,
            prefill=4096,
            mean=699,
            sigma=0.9,
            longest=6000,
            latency=0.5,
            price=(0.15e-6, 0.6e-6),
            queues=False,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return a shipped profile. Raises `DataError` for any other name."""
    if name not in PROFILES:
        nearest = next(iter(get_close_matches(name, PROFILES, n=1)), "vllm")
        raise DataError(
            f"simulated model 'sim:{name}': no such profile, expected one of {', '.join(PROFILES)}; "
            f"did you mean {nearest!r}?\nFix: --profile {nearest}; as a model, write sim:{nearest}"
        )
    return PROFILES[name]
