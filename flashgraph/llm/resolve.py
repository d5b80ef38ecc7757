"""From what a user writes for a model (``openai:URL#MODEL``, ``local``, a function, an object) to a `Model`.

Each backend is imported only when a string names it, so that a run pays for none but its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.llm.protocol import Model

__all__ = ["ModelSpec", "resolve", "resolve_all"]

ModelSpec = str | Model | Callable[..., Any]

FORMS = {
    "openai": "openai:URL#MODEL",
    "vllm": "vllm:URL#MODEL",
    "vllm-engine": "vllm-engine:WEIGHTS",
    "litellm": "litellm:NAME",
    "local": "local or local:NAME",
    "sim": "sim:PROFILE",
}

SAMPLING = (
    "chat_template_kwargs",
    "frequency_penalty",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "min_p",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)


@attrs.frozen
class _Parsed:
    """A model string taken apart: ``scheme:target?options``, the options split by who takes them."""

    spec: str
    scheme: str
    target: str
    settings: Mapping[str, Any]
    params: Mapping[str, Any]


def resolve(spec: ModelSpec) -> Model:
    """The model that ``spec`` names; see ``docs/models.md`` for the strings.

    A `Model` is returned as it is, and another callable becomes a `flashgraph.llm.function.FunctionModel`.
    Nothing is contacted or started: that is `Model.open`'s.

    Raises `DataError` for a string that is none of the forms, with the nearest one.
    """
    if isinstance(spec, str):
        return _resolve_text(spec)
    if isinstance(spec, Model) and not isinstance(spec, type):
        return spec
    if callable(spec) and not isinstance(spec, type):
        from flashgraph.llm.function import FunctionModel

        return FunctionModel(spec)
    raise DataError(
        f"model: found {spec!r}, expected a string ({', '.join(FORMS.values())}), a function of the messages, "
        "or an object with name, limit, open, complete and worst_cost"
    )


def resolve_all(models: Mapping[str, ModelSpec]) -> dict[str, Model]:
    """Each role's model.  Roles with equal strings (or the same function) share one object, so one limit."""
    made: dict[ModelSpec, Model] = {}
    resolved: dict[str, Model] = {}
    for role, spec in models.items():
        try:
            known = spec in made
        except TypeError:
            # An unhashable model object is only ever equal to itself.
            resolved[role] = resolve(spec)
            continue
        if not known:
            made[spec] = resolve(spec)
        resolved[role] = made[spec]
    return resolved


def _resolve_text(spec: str) -> Model:
    scheme = spec.partition(":")[0].partition("?")[0]
    if scheme in ("openai", "vllm"):
        return _http(_parse(spec, scheme, {**COMMON, "tries": int, "key_env": str, "price": _price}))
    if scheme == "vllm-engine":
        return _engine(_parse(spec, scheme, {**COMMON, "tries": int, "chat_template": str, **ENGINE}))
    if scheme == "litellm":
        return _lite(_parse(spec, scheme, {**COMMON, "tries": int}))
    if scheme == "local":
        return _local(_parse(spec, scheme, {**COMMON, "context": int, "threads": int}))
    if scheme == "sim":
        return _sim(_parse(spec, scheme, {}))
    if scheme in ("http", "https"):
        raise DataError(f"model {spec!r}: found an address alone, expected {FORMS['openai']}; write openai:{spec}")
    raise DataError(
        f"model {spec!r}: found scheme {scheme!r}, expected one of {', '.join(FORMS.values())}; "
        f"{did_you_mean(scheme, list(FORMS))}"
    )


def _price(value: str) -> tuple[float, float]:
    prompt, completion = value.split(",")
    return float(prompt), float(completion)


EXPECTED = {"timeout": "seconds above 0", "price": "USD_PER_PROMPT_TOKEN,USD_PER_COMPLETION_TOKEN"}

COMMON: Mapping[str, Callable[[str], Any]] = {"limit": int, "timeout": float}


ENGINE: Mapping[str, Callable[[str], Any]] = {
    "dtype": str,
    "enforce_eager": json.loads,
    "gpu_memory_utilization": float,
    "max_model_len": int,
    "max_num_seqs": int,
    "quantization": str,
    "tensor_parallel_size": int,
}
"""Arguments of vLLM's engine that a string may set; from Python any can be."""


def _parse(spec: str, scheme: str, settings: Mapping[str, Callable[[str], Any]]) -> _Parsed:
    target, _, query = spec.removeprefix(scheme).removeprefix(":").partition("?")
    if not target and scheme != "local":
        raise DataError(f"model {spec!r}: found nothing after {scheme!r}, expected {FORMS[scheme]}")
    taken: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in settings:
            taken[name] = _converted(spec, name, value, settings[name])
        elif name in SAMPLING and settings:
            params[name] = _json_or_text(value)
        else:
            known = [*settings, *SAMPLING] if settings else []
            raise DataError(f"model {spec!r}: found option {name!r}; {did_you_mean(name, known)}")
    return _Parsed(spec, scheme, target, taken, params)


def _converted(spec: str, name: str, value: str, convert: Callable[[str], Any]) -> Any:
    try:
        converted = convert(value)
        if isinstance(converted, int | float) and not isinstance(converted, bool) and converted <= 0:
            raise ValueError
    except ValueError:
        expected = EXPECTED.get(name, "a whole number above 0")
        raise DataError(f"model {spec!r}: found {name}={value!r}, expected {expected}") from None
    return converted


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _with_retry(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with ``tries`` as the constructors' ``retry``."""
    from flashgraph.llm.retry import Retry

    tries = settings.pop("tries", None)
    return settings if tries is None else {**settings, "retry": Retry(tries=tries)}


def _http(parsed: _Parsed) -> Model:
    from flashgraph.llm.http import HttpModel

    url, _, model = parsed.target.partition("#")
    settings = {"limit": 128 if parsed.scheme == "vllm" else 32, **parsed.settings}
    return HttpModel(url, model, params=parsed.params, **_with_retry(settings))


def _engine(parsed: _Parsed) -> Model:
    from flashgraph.llm.engine import EngineModel

    own = {name: value for name, value in parsed.settings.items() if name in ENGINE}
    rest = {name: value for name, value in parsed.settings.items() if name not in ENGINE}
    return EngineModel(parsed.target, engine=own, params=parsed.params, **_with_retry(rest))


def _lite(parsed: _Parsed) -> Model:
    from flashgraph.llm.lite import LiteLLMModel

    return LiteLLMModel(parsed.target, params=parsed.params, **_with_retry(dict(parsed.settings)))


def _local(parsed: _Parsed) -> Model:
    from flashgraph.llm.local import LocalModel

    return LocalModel(parsed.target or "1.5b", params=parsed.params, **parsed.settings)


def _sim(parsed: _Parsed) -> Model:
    from flashgraph.sim.model import SimModel

    return SimModel.of_profile(parsed.target)
