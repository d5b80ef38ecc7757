"""The prices of a model's tokens and their source: an option, LiteLLM's table, or none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Model

__all__ = ["LOCAL", "OPTION", "UNKNOWN", "Price", "checked_price", "listed", "pin", "pin_all", "pricing"]

TABLE = "model_prices_and_context_window_backup.json"
"""The price table in LiteLLM's package, which needs no network."""

OPTION = "option"
LISTED_MODES = ("chat", "responses")


@attrs.frozen
class Price:
    """USD for one prompt token and one completion token, None if unknown.

    ``source`` is ``"option"``, ``"local"``, ``"model"`` (the object's own price), ``"unknown"``, or LiteLLM's table
    with its version.
    """

    prompt: float | None
    completion: float | None
    source: str

    @property
    def known(self) -> bool:
        return self.prompt is not None and self.completion is not None

    def of(self, prompt: int, completion: int) -> float | None:
        """Return the cost of that many tokens in USD; None if the price is unknown."""
        if self.prompt is None or self.completion is None:
            return None
        return prompt * self.prompt + completion * self.completion

    def __str__(self) -> str:
        return f"{self.prompt:g},{self.completion:g} ({self.source})" if self.known else "not known"


UNKNOWN = Price(None, None, "unknown")
LOCAL = Price(0.0, 0.0, "local")


def checked_price(of: str, given: Any) -> tuple[float, float]:
    """Return USD for a prompt token and for a completion token.

    Raises `DataError` that names ``of``, unless ``given`` is two finite numbers of at least 0.
    """
    try:
        prompt, completion = map(float, given)
        numbers = not isinstance(given, str | bytes | Mapping) and not any(isinstance(p, str | bool) for p in given)
    except (TypeError, ValueError, OverflowError):
        numbers = False
    if not numbers or not (0 <= prompt < math.inf and 0 <= completion < math.inf):
        raise DataError(
            f"{of}: price={given!r:.80}; expected USD for a prompt token and for a completion token.\n"
            "Fix: price=(1.5e-7, 6e-7), or price=(0, 0) for a model that costs nothing."
        )
    return prompt, completion


def listed(name: str) -> Price:
    """Return the price of the model with exactly this name in the table of the installed LiteLLM.

    It is unknown without an entry, or without LiteLLM.  The table is read as a file, because importing the package
    takes seconds.
    """
    spec = util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return UNKNOWN
    entry = _table(Path(spec.origin).with_name(TABLE)).get(name, {})
    prompt, completion = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
    if entry.get("mode") not in LISTED_MODES or prompt is None or completion is None:
        return UNKNOWN
    return Price(float(prompt), float(completion), table_source())


def table_source() -> str:
    """Return the name of LiteLLM's table with its version, as the source of a price."""
    return f"LiteLLM {metadata.version('litellm')}"


@lru_cache(maxsize=1)
def _table(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # another version may keep it elsewhere
        return {}
    return found


def pricing(model: Model) -> Price:
    """Return a model's present price: its ``pricing()``, or else its worst cost for one token of each kind."""
    own = getattr(model, "pricing", None)
    if own is not None:
        said: Price = own()
        return said
    prompt, completion = model.worst_cost(1, 0), model.worst_cost(0, 1)
    return UNKNOWN if prompt is None or completion is None else Price(prompt, completion, "model")


def pin(model: Model, price: Price) -> bool:
    """Make a model use ``price`` from now on; return whether it can."""
    own = getattr(model, "pin", None)
    return own is not None and own(price) is not False


def pin_all(
    models: Mapping[str, Model], before: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Price], dict[str, str]]:
    """Fix the prices of a run's endpoints: the ones it had ``before``, unless an option overrides them now.

    Returns the prices and the notices about them, both by endpoint.
    """
    prices, said = {}, {}
    for name, model in models.items():
        now = pricing(model)
        had = Price(**before[name]) if name in before else now
        # An unknown earlier price does not bind.
        kept = had if had.known and now.source != OPTION else now
        prices[name] = kept if pin(model, kept) else now
        if not prices[name].known:
            said[name] = (
                f"{name}: its price is not known, so that its calls are counted and their cost is not; give it with "
                "?price=USD_PER_PROMPT_TOKEN,USD_PER_COMPLETION_TOKEN"
            )
        elif prices[name].of(1, 0) != had.prompt or prices[name].of(0, 1) != had.completion:
            said[name] = f"{name}: its price was {had} and is {prices[name]} from now on"
    return prices, said
