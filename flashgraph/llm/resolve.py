"""Turn a user's model (``openai:URL#MODEL``, ``local``, a function, an object) into a `Model`.

A backend is imported only when a string names it, so that a run loads only its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.llm.addresses import masked
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.llm.protocol import Model

__all__ = ["ModelSpec", "One", "resolve", "resolve_all"]

One = str | Model | Callable[..., Any]
"""One model: a string, an object, or a function."""

ModelSpec = One | Sequence[One | tuple[One, float]]
"""One model, or several that share a role's work, each with a weight unless it is 1."""

FORMS = {
    "openai": "openai:URL#MODEL",
    "vllm": "vllm:URL#MODEL",
    "vllm-engine": "vllm-engine:WEIGHTS",
    "litellm": "litellm:NAME",
    "local": "local or local:NAME",
    "sim": "sim:PROFILE",
    "replay": "replay:RUN or replay:RUN?else=MODEL",
    "FILE.py": "FILE.py:NAME, a function of the messages",
}

EXAMPLES = {
    "openai": "openai:http://localhost:8000#MODEL?limit=16",
    "vllm": "vllm:http://localhost:8000#MODEL?temperature=0.7",
    "vllm-engine": "vllm-engine:Qwen/Qwen3-8B?max_num_seqs=64",
    "litellm": "litellm:openai/gpt-4o?tries=3",
    "local": "local, or local:0.5b?context=4096",
    "sim": "sim:vllm",
    "replay": "replay:RUN?else=local",
    "FILE.py": "model.py:answer",
}
"""A valid string for each scheme."""

FUNCTION_FILE = re.compile(r".+\.py(:\w+)?", re.DOTALL)
"""A function in a Python file: ``FILE.py`` or ``FILE.py:NAME``."""

HIGHER: dict[str, Callable[[str, Model | None], Model]] = {}
"""By scheme, the function of a higher layer that makes a model from the target and the model of ``?else=``."""

NESTED = 8
"""Maximum number of nested ``?else=``: each recorded run answers what the earlier ones do not contain."""

SEPARATOR = re.compile(rf",(?=(?:{'|'.join(map(re.escape, FORMS))})(?:[:?,]|$))")
"""The separator of two models of one role: a comma before a scheme, because prices contain commas too."""

WEIGHT = re.compile(r"(?P<before>[?&])weight=(?P<weight>[^&#]*)(?P<after>&?)")

SAMPLING = (
    "chat_template_kwargs",
    "enable_thinking",
    "extra_body",
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
    """A parsed model string ``scheme:target?options``; the options are our settings and the model's params."""

    spec: str
    scheme: str
    target: str
    settings: Mapping[str, Any]
    params: Mapping[str, Any]


def resolve(spec: ModelSpec) -> Model:
    """Return the model that ``spec`` names; see ``docs/how-to/choose-a-model.md`` for the strings.

    A `Model` is returned unchanged, and another callable becomes a `flashgraph.llm.function.FunctionModel`; several
    become an `Ensemble`.  Nothing is contacted or started before `Model.open`.

    Raises `DataError` for an unknown string, with the nearest form.
    """
    return resolve_all({"": spec})[""]


def _resolve_one(spec: One, several: bool) -> Model:
    if isinstance(spec, str):
        with _fixed(spec):
            return _resolve_text(spec, several)
    if isinstance(spec, Model) and not isinstance(spec, type):
        return spec
    if callable(spec) and not isinstance(spec, type):
        from flashgraph.llm.function import FunctionModel

        return FunctionModel(spec)
    raise DataError(
        f"model: found {spec!r}, expected a string ({', '.join(FORMS.values())}), a function of the messages, "
        "or an object with name, limit, open, complete and worst_cost"
    )


def _named(spec: str) -> str:
    """Return the name of a model string in messages; a long one is truncated."""
    return f"model {masked(spec)!r:.300}"


@contextmanager
def _fixed(spec: str) -> Iterator[None]:
    """Add a fix with an example to each error of a model string."""
    try:
        yield
    except (ValueError, DataError) as error:
        said = str(error) if isinstance(error, DataError) else f"{_named(spec)}: {error}"
        if "\nFix: " in said:
            raise
        form = EXAMPLES.get(spec.partition(":")[0].partition("?")[0], EXAMPLES["openai"])
        raise DataError(
            f"{said.rstrip('.')}.\nFix: write it as {form} (docs/reference/models.md has every option)."
        ) from None


def resolve_all(models: Mapping[str, ModelSpec]) -> dict[str, Model]:
    """Return each role's model.  Roles with equal strings (or the same function) share one object, and so one limit."""
    made: dict[One, Model] = {}

    def one(spec: One, several: bool) -> Model:
        try:
            known = spec in made
        except TypeError:
            # An unhashable model object equals only itself.
            return _resolve_one(spec, several)
        if not known:
            made[spec] = _resolve_one(spec, several)
        return made[spec]

    resolved: dict[str, Model] = {}
    for role, spec in models.items():
        parts = _parts(spec)
        found = [(one(part, len(parts) > 1), weight) for part, weight in parts]
        resolved[role] = found[0][0] if len(found) == 1 else Ensemble(tuple(found))
    return resolved


def _parts(spec: ModelSpec) -> list[tuple[One, float]]:
    """Return the models of one role with their weights."""
    if isinstance(spec, str):
        with _fixed(spec):
            return [_weighted(text) for text in SEPARATOR.split(spec)]
    if isinstance(spec, list | tuple):
        if not spec:
            raise DataError("model: found an empty list, expected at least one model")
        pairs = [each if isinstance(each, tuple) else (each, 1.0) for each in spec]
        return [
            (text, weight * own)
            for one, weight in pairs
            for text, own in (_parts(one) if isinstance(one, str) else [(one, 1.0)])
        ]
    return [(spec, 1.0)]  # type: ignore[list-item]  # resolving it reports what is not a model


def _weighted(text: str) -> tuple[str, float]:
    """Split a model string into itself without the weight, and the weight, which belongs to the role."""
    found = WEIGHT.search(text)
    if found is None:
        return text, 1.0
    weight = _converted(text, "weight", found["weight"], float)
    rest = text[: found.start()] + (found["before"] if found["after"] else "") + text[found.end() :]
    return rest, weight


def _higher(scheme: str) -> Callable[[str, Model | None], Model]:
    if scheme not in HIGHER:
        import_module("flashgraph.launch.schemes")  # by name, because this layer imports none above it
    return HIGHER[scheme]


def _resolve_text(spec: str, several: bool) -> Model:
    scheme = spec.partition(":")[0].partition("?")[0]
    if (scheme == "FILE.py" or scheme not in (*FORMS, "http", "https")) and FUNCTION_FILE.fullmatch(spec):
        return _higher("function")(spec, None)
    if scheme == "replay":
        return _replay(spec)
    if scheme in ("openai", "vllm"):
        options: dict[str, Callable[[str], Any]] = {
            **COMMON,
            **RATES,
            "tries": int,
            "key_env": _variable,
            "price": _price,
        }
        return _http(_parse(spec, scheme, options if scheme == "openai" else {**options, "priority": _bool}), several)
    if scheme == "vllm-engine":
        return _engine(_parse(spec, scheme, {**COMMON, "limit": _limit, "tries": int, "chat_template": str, **ENGINE}))
    if scheme == "litellm":
        return _lite(_parse(spec, scheme, {**COMMON, **RATES, "tries": int}))
    if scheme == "local":
        return _local(_parse(spec, scheme, {**COMMON, "context": int, "threads": int}))
    if scheme == "sim":
        return _higher("sim")(_parse(spec, scheme, {}).target, None)
    if scheme in ("http", "https"):
        raise DataError(
            f"{_named(spec)}: found an address alone, expected {FORMS['openai']}.\nFix: openai:{masked(spec):.300}"
        )
    raise DataError(
        f"{_named(spec)}: found scheme {scheme!r:.100}, expected one of {', '.join(FORMS.values())}; "
        f"{did_you_mean(scheme, list(FORMS))}"
    )


def _price(value: str) -> tuple[float, float]:
    prompt, completion = map(float, value.split(","))
    if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
        raise ValueError
    return prompt, completion


def _variable(value: str) -> str:
    if not value.isidentifier():
        raise ValueError
    return value


def _bool(value: str) -> bool:
    return {"true": True, "false": False}[value.lower()]


def _limit(value: str) -> int | str:
    return value if value in ("adaptive", "steered") else int(value)


EXPECTED = {
    "limit": "a whole number above 0, adaptive or steered",
    "timeout": "seconds above 0",
    "price": "USD_PER_PROMPT_TOKEN,USD_PER_COMPLETION_TOKEN",
    "priority": "true or false",
    "enforce_eager": "true or false",
    "gpu_memory_utilization": "a share above 0",
    "rpm": "requests a minute, above 0",
    "tpm": "tokens a minute, above 0",
    "weight": "a number above 0",
    "key_env": "the name of the environment variable that holds the key",
    "extra_body": 'an object as JSON, as in extra_body={"top_a": 0.5}, without what has a parameter of its own',
    "enable_thinking": "true or false",
}

SHAPES: Mapping[str, type] = {"extra_body": dict, "enable_thinking": bool}
"""Parameters whose JSON type is fixed, whatever the model."""

COMMON: Mapping[str, Callable[[str], Any]] = {"limit": int, "timeout": float}

RATES: Mapping[str, Callable[[str], Any]] = {"limit": _limit, "rpm": float, "tpm": float}
"""Options of endpoints that others may share."""


ENGINE: Mapping[str, Callable[[str], Any]] = {
    "dtype": str,
    "enforce_eager": _bool,
    "gpu_memory_utilization": float,
    "max_model_len": int,
    "max_num_seqs": int,
    "quantization": str,
    "tensor_parallel_size": int,
}
"""Arguments of vLLM's engine that a string may set; Python code may set any."""


def _parse(spec: str, scheme: str, settings: Mapping[str, Callable[[str], Any]]) -> _Parsed:
    target, _, query = spec.removeprefix(scheme).removeprefix(":").partition("?")
    if not target and scheme not in ("local", "sim"):  # an empty profile is refused with the list of profiles
        raise DataError(f"{_named(spec)}: found nothing after {scheme!r}, expected {FORMS[scheme]}")
    taken: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in settings:
            taken[name] = _converted(spec, name, value, settings[name])
        elif name in SAMPLING and settings:
            params[name] = _json_or_text(value)
            if name in SHAPES and type(params[name]) is not SHAPES[name]:
                raise _unexpected(spec, name, value)
        else:
            known = [*settings, *SAMPLING] if settings else []
            shown = name if name in masked(spec) else "***"  # it may be part of a password
            raise DataError(f"{_named(spec)}: found option {shown!r:.100}; {did_you_mean(name, known)}")
    return _Parsed(spec, scheme, target, taken, _thinking(scheme, params))


def _thinking(scheme: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return ``params`` with ``enable_thinking`` where the backend expects it (a template option, or in the body)."""
    if "enable_thinking" not in params or scheme == "openai":
        return params
    place = "extra_body" if scheme == "litellm" else "chat_template_kwargs"
    given = params.get(place)
    own = {"enable_thinking": params.pop("enable_thinking")}
    return {**params, place: {**(given if isinstance(given, dict) else {}), **own}}


def _converted(spec: str, name: str, value: str, convert: Callable[[str], Any]) -> Any:
    try:
        converted = convert(value)
        if isinstance(converted, int | float) and not isinstance(converted, bool) and not 0 < converted < math.inf:
            raise ValueError
    except (ValueError, LookupError, OverflowError):
        raise _unexpected(spec, name, value) from None
    return converted


def _unexpected(spec: str, name: str, value: str) -> DataError:
    expected = EXPECTED.get(name, "a whole number above 0")
    shown = "***" if name == "key_env" else masked(value)  # the value may be the key itself
    return DataError(f"{_named(spec)}: found {name}={shown!r:.200}, expected {expected}")


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _with_retry(settings: dict[str, Any], several: bool = False) -> dict[str, Any]:
    """Return ``settings`` with ``tries`` as the constructors' ``retry``.

    With ``several`` models in a role, another one can take over, so that two tries of a failing one suffice.  A full
    model keeps all tries: limits are found by exceeding them, which must not fail the request.
    """
    from flashgraph.llm.retry import Retry

    tries = settings.pop("tries", None)
    if tries is None:
        return {**settings, "retry": Retry(tries=2, when_full=Retry().tries)} if several else settings
    return {**settings, "retry": Retry(tries=tries)}


def _limits(settings: dict[str, Any], default: Callable[..., Limits]) -> Limits:
    """Remove the options for limits and return the limits that they describe."""
    kind = settings.pop("limit", None)
    rates = {name: settings.pop(name, None) for name in RATES if name != "limit"}
    made = {"adaptive": adaptive, "steered": steered}
    if isinstance(kind, int):
        return fixed(kind, **rates)
    return default(**rates) if kind is None else made[kind](**rates)


def _http(parsed: _Parsed, several: bool) -> Model:

    from flashgraph.llm.http import HttpModel
    from flashgraph.llm.vllm import VllmModel

    url, _, model = parsed.target.partition("#")
    settings = _with_retry(dict(parsed.settings), several)
    if parsed.scheme == "vllm":
        prioritises = settings.pop("priority", False)
        limits = _limits(settings, steered)
        return VllmModel(
            url, model, params=parsed.params, limits=limits, prioritises=prioritises, probe=not several, **settings
        )
    if settings.get("limit") == "steered":
        raise DataError(f"{_named(parsed.spec)}: found limit='steered', which only vllm:URL#MODEL supports")
    limits = _limits(settings, adaptive)
    return HttpModel(url, model, params=parsed.params, limits=limits, probe=not several, **settings)


def _engine(parsed: _Parsed) -> Model:
    from flashgraph.llm.engine import EngineModel

    own = {name: value for name, value in parsed.settings.items() if name in ENGINE}
    rest = {name: value for name, value in parsed.settings.items() if name not in ENGINE}
    limit = rest.pop("limit", "steered")
    if limit == "adaptive":
        raise DataError(
            f"{_named(parsed.spec)}: found limit='adaptive', expected a whole number above 0, or steered: an "
            "engine of this process reports its load, and never refuses requests"
        )
    rest |= {"limits": steered()} if limit == "steered" else {"limit": limit}
    return EngineModel(parsed.target, engine=own, params=parsed.params, **_with_retry(rest))


def _lite(parsed: _Parsed) -> Model:
    from flashgraph.llm.lite import LiteLLMModel

    settings = _with_retry(dict(parsed.settings))
    if settings.get("limit") == "steered":
        raise DataError(f"{_named(parsed.spec)}: found limit='steered', which only vllm:URL#MODEL supports")
    return LiteLLMModel(parsed.target, params=parsed.params, limits=_limits(settings, adaptive), **settings)


def _replay(spec: str) -> Model:
    if spec.count("?else=") > NESTED:
        raise DataError(f"{_named(spec)}: found ?else= more than {NESTED} times, expected at most {NESTED}")
    target, _, otherwise = spec.removeprefix("replay:").partition("?else=")
    if not target or spec == "replay":
        raise DataError(f"{_named(spec)}: found no run, expected {FORMS['replay']}")
    return _higher("replay")(target, resolve(otherwise) if otherwise else None)


def _local(parsed: _Parsed) -> Model:
    from flashgraph.llm.local import LocalModel

    return LocalModel(parsed.target or "1.5b", params=parsed.params, **parsed.settings)
