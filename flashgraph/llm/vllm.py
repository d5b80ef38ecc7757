"""A vLLM server: an OpenAI-compatible one that also reports its load and accepts priorities."""

from __future__ import annotations

import math
import re

import attrs
import httpx

from flashgraph.errors import ModelError
from flashgraph.llm.connections import UnreadableBody
from flashgraph.llm.http import HttpModel
from flashgraph.llm.prices import UNKNOWN, Price
from flashgraph.llm.protocol import Load

__all__ = ["VllmModel"]

GAUGE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)(?:\{[^}]*\})?\s+(\S+)",
    re.MULTILINE,
)
"""The lines of ``/metrics`` that are read; up to version 0.10 the cache's line had another name."""


@attrs.define(eq=False)
class VllmModel(HttpModel):
    """A model behind ``vllm serve``; see `HttpModel`.

    With ``prioritises`` each request has the scheduler's priority.  A server started with ``--scheduling-policy
    priority`` accepts it; others refuse such requests.
    """

    prioritises: bool = attrs.field(default=False, kw_only=True)

    def pricing(self) -> Price:
        """Return ``price``, or 0 on this machine, or unknown: no table has the price of a private server."""
        return super().pricing() if self.local or self.price is not None else UNKNOWN

    async def load(self) -> Load | None:
        """Return the load that ``/metrics`` reports for all engines of the server together; None without it."""
        try:
            response = await self._opened().request("GET", f"{re.sub(r'/v[0-9]+$', '', self.url)}/metrics")
        except (httpx.HTTPError, ModelError, UnreadableBody):
            return None
        found: dict[str, list[float]] = {}
        for name, value in GAUGE.findall(response.text) if response.is_success else ():
            number = _number(value)
            if not 0 <= number < math.inf:
                return None
            found.setdefault(name, []).append(number)
        if "num_requests_running" not in found or "num_requests_waiting" not in found:
            return None
        cache = found.get("kv_cache_usage_perc") or found.get("gpu_cache_usage_perc") or [0.0]
        return Load(round(sum(found["num_requests_running"])), round(sum(found["num_requests_waiting"])), max(cache))


def _number(text: str) -> float:
    """Return a number of the metrics; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan
