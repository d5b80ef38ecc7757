"""The model strings, their options, and what is said about wrong ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from flashgraph.errors import DataError
from flashgraph.llm.engine import EngineModel
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.lite import LiteLLMModel
from flashgraph.llm.local import LocalModel
from flashgraph.llm.protocol import Message
from flashgraph.llm.resolve import ModelSpec, resolve, resolve_all
from flashgraph.llm.scripted import ScriptedModel


def shout(messages: Sequence[Message]) -> str:
    return messages[-1]["content"].upper()


def http(spec: str) -> HttpModel:
    model = resolve(spec)
    assert isinstance(model, HttpModel)
    return model


def test_openai_and_vllm() -> None:
    """Address, model name (which may hold slashes and colons), and each scheme's limit."""
    model = http("openai:http://h:8000#org/model:free")
    assert (model.url, model.model, model.limit, model.timeout) == ("http://h:8000/v1", "org/model:free", 32, 300)
    assert http("vllm:http://h:8000/v1").limit == 128
    assert http("vllm:http://h:8000/v1").model == ""


def test_options() -> None:
    """Settings go to the model, sampling parameters with each request."""
    model = http(
        "openai:http://h#m?limit=64&timeout=1.5&tries=1&key_env=K&price=1e-6,2e-6"
        "&max_tokens=512&temperature=0&stop=END&reasoning_effort=low"
    )
    assert (model.limit, model.timeout, model.retry.tries, model.key_env) == (64, 1.5, 1, "K")
    assert model.price == (1e-6, 2e-6)
    assert model.params == {"max_tokens": 512, "temperature": 0, "stop": "END", "reasoning_effort": "low"}
    assert http("openai:http://h?limit=2").limit == 2


def test_litellm() -> None:
    """The name is LiteLLM's, slashes and all; nothing is imported for it yet."""
    model = resolve("litellm:anthropic/claude-x?limit=4&temperature=1")
    assert isinstance(model, LiteLLMModel)
    assert (model.model, model.limit, model.params) == ("anthropic/claude-x", 4, {"temperature": 1})


def test_local() -> None:
    """Bare, by name, by path, with options."""
    for spec, weights in (("local", "1.5b"), ("local:0.5b", "0.5b"), ("local:/m/x.gguf?limit=1", "/m/x.gguf")):
        model = resolve(spec)
        assert isinstance(model, LocalModel)
        assert model.weights == weights
    model = resolve("local?limit=3&context=4096&threads=1&temperature=0.5")
    assert isinstance(model, LocalModel)
    assert (model.limit, model.context, model.threads) == (3, 4096, 1)
    assert model.params == {"max_tokens": 400, "temperature": 0.5}


def test_vllm_engine() -> None:
    """Weights by name or folder; the engine's own arguments apart from those of each request."""
    model = resolve("vllm-engine:org/tiny?limit=8&max_model_len=2048&enforce_eager=true&temperature=0")
    assert isinstance(model, EngineModel)
    assert (model.weights, model.limit, model.params) == ("org/tiny", 8, {"temperature": 0})
    assert model.engine == {"max_model_len": 2048, "enforce_eager": True}


def test_objects_and_functions() -> None:
    """A model is itself; a function is wrapped."""
    model = ScriptedModel([])
    assert resolve(model) is model
    assert isinstance(resolve(shout), FunctionModel)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("opnai:http://h#m", "did you mean 'openai'"),
        ("gpt-4o", "expected one of openai:URL#MODEL"),
        ("", "expected one of"),
        ("http://h:8000", "write openai:http://h:8000"),
        ("openai:", "found nothing after 'openai'"),
        ("openai:h#m", r"expected http\(s\)://HOST"),
        ("litellm", "expected litellm:NAME"),
        ("openai:http://h#m?limt=3", "did you mean 'limit'"),
        ("openai:http://h#m?limit=many", "expected a whole number above 0"),
        ("openai:http://h#m?limit=0", "expected a whole number above 0"),
        ("openai:http://h#m?timeout=x", "expected seconds above 0"),
        ("openai:http://h#m?price=1", "expected USD_PER_PROMPT_TOKEN,USD_PER_COMPLETION_TOKEN"),
        ("sim:vllm?limit=2", "there is none"),
    ],
)
def test_wrong_strings(spec: str, said: str) -> None:
    """Each names the string, what was found and what was meant."""
    with pytest.raises(DataError, match=said) as caught:
        resolve(spec)
    assert repr(spec) in str(caught.value) or "address" in str(caught.value)


def test_wrong_objects() -> None:
    """Neither text, function nor model; a class instead of its instance."""
    for wrong in (3, ScriptedModel):
        with pytest.raises(DataError, match="expected a string"):
            resolve(wrong)  # type: ignore[arg-type]


def test_equal_strings_share_one_object() -> None:
    """One endpoint, one limit; another string is another endpoint."""
    own = ScriptedModel([])
    roles: dict[str, ModelSpec] = {
        "task": "local",
        "reflection": "local",
        "judge": "local:0.5b",
        "a": shout,
        "b": shout,
        "c": own,
    }
    models = resolve_all(roles)
    assert models["task"] is models["reflection"]
    assert models["task"] is not models["judge"]
    assert models["a"] is models["b"]
    assert models["c"] is own


def test_backends_are_imported_only_when_named() -> None:
    """Resolving a function loads neither httpx nor LiteLLM nor the engine."""
    code = (
        "import sys, flashgraph.llm.resolve as r; r.resolve(len); r.resolve('litellm:x'); "
        "print(sorted({'litellm', 'xllamacpp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
