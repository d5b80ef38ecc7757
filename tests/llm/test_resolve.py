"""Model strings, their options, and the errors for wrong ones."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flashgraph.errors import DataError, Throttled
from flashgraph.llm.addresses import masked
from flashgraph.llm.endpoints import Endpoints, limits_of
from flashgraph.llm.engine import EngineModel
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.llm.lite import LiteLLMModel
from flashgraph.llm.local import LocalModel
from flashgraph.llm.protocol import Message
from flashgraph.llm.resolve import ModelSpec, resolve, resolve_all
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.llm.secrets import Key
from flashgraph.llm.vllm import VllmModel
from flashgraph.run.recorded import ReplayModel


def shout(messages: Sequence[Message]) -> str:
    return str(messages[-1]["content"]).upper()


def http(spec: str) -> HttpModel:
    model = resolve(spec)
    assert isinstance(model, HttpModel)
    return model


def test_openai_and_vllm() -> None:
    """The address, the model's name (with slashes and colons), and each scheme's limit are read."""
    model = http("openai:http://h:8000#org/model:free")
    assert (model.url, model.model, model.timeout) == ("http://h:8000/v1", "org/model:free", 300)
    assert http("vllm:http://h:8000/v1").model == ""


@pytest.mark.parametrize(
    ("spec", "limits"),
    [
        ("openai:https://api.example.com#m", adaptive()),
        ("openai:http://localhost:8000#m", adaptive()),
        ("vllm:http://localhost:8000#m", steered()),
        ("litellm:x/y", adaptive()),
        ("openai:https://api.example.com#m?limit=8", fixed(8)),
        ("openai:http://localhost:8000#m?limit=adaptive", adaptive()),
        ("vllm:http://localhost:8000#m?limit=adaptive&rpm=60", adaptive(rpm=60)),
        ("vllm:http://localhost:8000#m?limit=64", fixed(64)),
        ("vllm-engine:org/tiny", steered()),
        ("vllm-engine:org/tiny?limit=steered&max_num_seqs=64", steered()),
        ("vllm-engine:org/tiny?limit=64", fixed(64)),
        ("litellm:x/y?limit=4&rpm=500&tpm=2e5", fixed(4, rpm=500, tpm=200_000)),
        ("litellm:x/y?rpm=500", adaptive(rpm=500)),
    ],
)
def test_limits(spec: str, limits: Limits) -> None:
    """The default is adaptive for an API, also on this machine, and steered for a server that reports its load."""
    model = resolve(spec)
    assert limits_of(model) == limits
    assert model.limit == limits.most


def test_several_models() -> None:
    """They are separated by a comma before a scheme, or a list, or pairs.

    Weights are the role's, and equal strings still share an endpoint.
    """
    text = "vllm:http://a:8000#m?weight=2&limit=4,openai:http://b:8000#m?price=1e-6,2e-6,local"
    roles: dict[str, ModelSpec] = {
        "task": text,
        "judge": [("vllm:http://a:8000#m?limit=4", 3), shout],
        "reflection": ["local"],
    }
    models = resolve_all(roles)
    task, judge = models["task"], models["judge"]
    assert isinstance(task, Ensemble)
    assert isinstance(judge, Ensemble)
    assert [(model.name, weight) for model, weight in task.members] == [
        ("m@a:8000", 2.0), ("m@b:8000", 1.0), ("local:1.5b", 1.0)
    ]  # fmt: skip
    assert judge.members[0][0] is task.members[0][0]
    assert judge.members[0][1] == 3
    assert models["reflection"] is task.members[2][0]
    ends = Endpoints.of(models)
    assert list(ends.models) == ["m@a:8000", "m@b:8000", "local:1.5b", "shout"]
    assert ends.services[ends.roles["judge"]] == {"m@a:8000": 3.0, "shout": 1.0}
    assert ends.roles["reflection"] == "local:1.5b"


def test_one_of_several_need_not_be_up_at_the_start() -> None:
    """A failing endpoint also gets few tries if others can take over, unless it is only full."""
    task = resolve("vllm:http://a:8000#m,openai:http://b:8000#m?tries=9")
    assert isinstance(task, Ensemble)
    made = [model for model, _ in task.members]
    assert [(m.probe, m.retry.tries) for m in made if isinstance(m, HttpModel)] == [(False, 2), (False, 9)]
    full = [m.retry.throttled("full", None) for m in made if isinstance(m, HttpModel)]
    assert [fault.tries for fault in full if isinstance(fault, Throttled)] == [6, 9]


def test_vllm_takes_priorities_where_it_is_told_to() -> None:
    """A server that was not started with priorities refuses requests that have one."""
    made = [resolve(f"vllm:http://h#m{options}") for options in ("", "?priority=true")]
    assert [m.prioritises for m in made if isinstance(m, VllmModel)] == [False, True]


def test_replay() -> None:
    """The string names a run, and a model for new requests, which has its own options."""
    model = resolve("replay:runs/one?else=openai:http://h:1#m?temperature=0&limit=3")
    assert isinstance(model, ReplayModel)
    assert model.run == "runs/one"
    assert isinstance(model.otherwise, HttpModel)
    assert (model.otherwise.params, model.otherwise.limit) == ({"temperature": 0}, 3)


def test_options() -> None:
    """Settings go to the model, sampling parameters with each request."""
    model = http(
        "openai:http://h#m?limit=64&timeout=1.5&tries=1&key_env=K&price=1e-6,2e-6"
        "&max_tokens=512&temperature=0&stop=END&reasoning_effort=low"
    )
    assert (model.limit, model.timeout, model.retry.tries, model.key_env) == (64, 1.5, 1, "K")
    assert model.limits == fixed(64)
    assert model.price == (1e-6, 2e-6)
    assert model.params == {"max_tokens": 512, "temperature": 0, "stop": "END", "reasoning_effort": "low"}
    assert http("openai:http://h?limit=2").limit == 2


def test_litellm() -> None:
    """The name is LiteLLM's, with slashes; the package is not imported yet."""
    model = resolve("litellm:anthropic/claude-x?limit=4&temperature=1")
    assert isinstance(model, LiteLLMModel)
    assert (model.model, model.limit, model.params) == ("anthropic/claude-x", 4, {"temperature": 1})


def test_local() -> None:
    """The string is bare, a name or a path, with options."""
    for spec, weights in (("local", "1.5b"), ("local:0.5b", "0.5b"), ("local:/m/x.gguf?limit=1", "/m/x.gguf")):
        model = resolve(spec)
        assert isinstance(model, LocalModel)
        assert model.weights == weights
    model = resolve("local?limit=3&context=4096&threads=1&temperature=0.5")
    assert isinstance(model, LocalModel)
    assert (model.limit, model.context, model.threads) == (3, 4096, 1)
    assert model.params == {"max_tokens": 400, "temperature": 0.5}


def test_vllm_engine() -> None:
    """Weights are a name or a folder; the engine's arguments are separated from each request's."""
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
        ("http://h:8000", "Fix: openai:http://h:8000"),
        ("openai:", "found nothing after 'openai'"),
        ("sim:", "expected one of vllm, api, gpt-4o-mini; did you mean"),
        ("sim:vlm", "as a model, write sim:vllm"),
        ("sim:gpt-4o", "as a model, write sim:gpt-4o-mini"),
        ("openai:h#m", r"expected http\(s\)://HOST"),
        ("litellm", "expected litellm:NAME"),
        ("openai:http://h#m?limt=3", "did you mean 'limit'"),
        ("openai:http://h#m?limit=many", "expected a whole number above 0, adaptive or steered"),
        ("openai:http://h#m?limit=steered", "which only vllm:URL#MODEL supports"),
        ("litellm:x?limit=steered", "which only vllm:URL#MODEL supports"),
        ("openai:http://h#m?rpm=0", "expected requests a minute"),
        ("openai:http://h#m?priority=true", "found option 'priority'"),
        ("vllm:http://h#m?priority=yes", "expected true or false"),
        ("vllm-engine:m?limit=adaptive", "expected a whole number above 0, or steered"),
        ("replay:", "found no run"),
        ("local?weight=-1", "expected a number above 0"),
        ("openai:http://h#m?limit=0", "expected a whole number above 0"),
        ("openai:http://h#m?timeout=x", "expected seconds above 0"),
        ("openai:http://h#m?price=1", "expected USD_PER_PROMPT_TOKEN,USD_PER_COMPLETION_TOKEN"),
        ("sim:vllm?limit=2", "none exists"),
    ],
)
def test_wrong_strings(spec: str, said: str) -> None:
    """Each error names the string, the value found and the value expected."""
    with pytest.raises(DataError, match=said) as caught:
        resolve(spec)
    assert repr(spec) in str(caught.value) or "address" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "params"),
    [
        ('openai:http://h#m?extra_body={"top_a": 0.5}', {"extra_body": {"top_a": 0.5}}),
        ("openai:http://h#m?enable_thinking=false", {"enable_thinking": False}),
        ("vllm:http://h#m?enable_thinking=true", {"chat_template_kwargs": {"enable_thinking": True}}),
        (
            'vllm:http://h#m?enable_thinking=false&chat_template_kwargs={"a": 1}',
            {"chat_template_kwargs": {"a": 1, "enable_thinking": False}},
        ),
        ("litellm:x/y?enable_thinking=false", {"extra_body": {"enable_thinking": False}}),
    ],
)
def test_what_goes_to_the_server_as_it_is(spec: str, params: dict[str, object]) -> None:
    """Parameters pass unchanged, and thinking goes where each backend expects it."""
    model = resolve(spec)
    assert isinstance(model, HttpModel | LiteLLMModel)
    assert model.params == params


def test_thinking_of_the_local_model() -> None:
    """It goes to its template, as with vLLM."""
    model = resolve("local?enable_thinking=false")
    assert isinstance(model, LocalModel)
    assert model.params["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    "spec",
    [
        "openai:http://h#m?api_key=sk-very-secret",
        "openai:http://user:sk-very-secret@h#m?limit=x",
        "litellm:openai/x?api_key=sk-very-secret&limit=0",
        "http://user:sk-very-secret@h",
        "opnai:http://h?token=sk-very-secret",
        "http://user:sk-very-secret@h/answer.py",
        "openai:http://user:sk-very-secret@h/answer.py?limit=.py",
    ],
)
def test_a_key_in_a_model_string_is_not_shown(spec: str) -> None:
    """A key does not belong there, and the message is logged."""
    with pytest.raises(DataError) as caught:
        resolve(spec)
    assert "sk-very-secret" not in str(caught.value)
    assert "no such file" not in str(caught.value)


WORDS = st.sampled_from(
    ["http://h", "https://h:8000/v1", "http://[::1]:80", "#m", "?", "&", "=", ",", ":", "//", "@", "%", "%00", "%ff",
     "limit", "timeout", "tries", "price", "key_env", "temperature", "rpm", "context", "weight", "priority",
     "extra_body", "enable_thinking", "else", "0", "-1", "1", "nan", "inf", "1e999", "9" * 400, "adaptive", "true",
     "{}", "[" * 3000,
     "\0", "\ud800", "é", "user:pw@", "K"]
)  # fmt: skip
OPTIONS = st.lists(st.tuples(WORDS, WORDS).map("=".join), max_size=3).map("&".join)
STARTS = [
    "openai:http://h#m?",
    "vllm:http://h#m?",
    "local?",
    "litellm:x/y?",
    "vllm-engine:w?",
    "sim:vllm?",
    "replay:r?",
]
STRINGS = st.one_of(
    st.builds(str.__add__, st.sampled_from(STARTS), OPTIONS),
    st.lists(st.one_of(WORDS, st.sampled_from([s.split(":")[0] + ":" for s in STARTS])), max_size=7).map("".join),
    st.text(max_size=20),
)


@settings(max_examples=400, deadline=None)
@given(STRINGS)
@example("local?context=5")
@example("openai:http://h#m?key_env=\ud800")
@example("openai:http://h#m?timeout=nan")
@example("vllm:http://h#m?priority=3")
def test_any_string_is_a_model_or_a_mistake(spec: str) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(DataError):
        resolve(spec)


def test_wrong_objects() -> None:
    """These are neither text, function nor model; one is a class instead of its instance."""
    for wrong in (3, ScriptedModel):
        with pytest.raises(DataError, match="expected a string"):
            resolve(wrong)  # type: ignore[arg-type]


def test_equal_strings_share_one_object() -> None:
    """They have one endpoint and one limit; another string is another endpoint."""
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


@pytest.mark.parametrize("begin", ["?", "?key_env=A&a=1&", "https://h#m?"])
@pytest.mark.parametrize("part", ["key", "?key", "?key=", "&token=a", "//", "?a", "&a=key"])
def test_long_strings_are_masked_at_once(begin: str, part: str) -> None:
    """200 kB are masked quickly (20 kB once took minutes), and the secret at their end is hidden."""
    began = time.process_time()
    shown = masked(begin + part * (200_000 // len(part)) + "&api_key=sk-0123")
    assert time.process_time() - began < 5
    assert "sk-0123" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a?key=s", "a?key=***"),
        ("a?x=1&API_Key=s&y=2#m", "a?x=1&API_Key=***&y=2#m"),
        ("a?x=1?auth=s", "a?x=1?auth=***"),
        ("a?key_env=VARIABLE&token=t", "a?key_env=VARIABLE&token=***"),
        ("a?key=b?c=d&e=f", "a?key=***&e=f"),
        ("//u:p@h?monkey&x=1", "//***@h?monkey&x=1"),
        ("openai:http://u:p/w@h/v1#m", "openai:http://***@h/v1#m"),
        ("http://u:p#w@h", "http://***@h"),
        ("http://u:p?w@h", "http://***@h"),
        ("http://u:p@w d@h", "http://***@h"),
        ("http://u:p//w@h", "http://***@h"),
        ("http:\\\\u:pw@h", "http:\\\\***@h"),
        ("openai:u:pw@h:80#m", "openai:***@h:80#m"),
        ("HTTP://token@h", "HTTP://***@h"),
        ("replay:r?else=openai:http://u:p/w@h#m", "replay:r?else=openai:http://***@h#m"),
        ("http://h:password#m", "http://h:***#m"),
        ("a?pwd=s&bearer=t&max_tokens=9", "a?pwd=***&bearer=***&max_tokens=9"),
        ("a?key_env=sk-123", "a?key_env=***"),
        ('a?extra_body={"api_key":"s", "top_a": 1}', 'a?extra_body={"api_key": "***", "top_a": 1}'),
        ("openai:http://localhost:8000#org/m@rev?limit=3", "openai:http://localhost:8000#org/m@rev?limit=3"),
        ("openai:http://h/v1#qwen3:8b-instruct@2", "openai:http://h/v1#qwen3:8b-instruct@2"),
        ("litellm:vertex_ai/claude@2024", "litellm:vertex_ai/claude@2024"),
        ("http://[::1]:8000/v1#a@b", "http://[::1]:8000/v1#a@b"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    """Values of options with a secret's name are masked, but not the name of a variable."""
    assert masked(text) == shown


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=4).filter(lambda p: not p.isdecimal()))
def test_no_character_of_a_password_ends_it(password: str) -> None:
    """The error for an address with a user shows no part of its password."""
    with pytest.raises(DataError) as caught:
        resolve(f"openai:http://user:begin{password}end@host/v1#m")
    said = str(caught.value)
    assert "begin" not in said
    assert "end@" not in said


def test_a_key_in_the_place_of_its_variables_name() -> None:
    """It is shown neither when it is refused nor when it is looked up."""
    with pytest.raises(DataError, match="key_env") as caught:
        resolve("openai:http://127.0.0.1:1#m?key_env=sk-0123-abc")
    assert "sk-0123-abc" not in str(caught.value)
    assert "hf_0123456789" not in Key.of("host", None, "hf_0123456789").otherwise
    assert "MY_KEY" in Key.of("host", None, "MY_KEY").otherwise


@pytest.mark.parametrize("spec", ["sim:vllm", "replay:missing", "replay:missing?else=sim:vllm"])
def test_schemes_of_higher_layers_need_no_import(spec: str) -> None:
    """A fresh process needs to import only the resolver."""
    code = f"from flashgraph.llm.resolve import resolve; print(resolve({spec!r}).name)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == spec.partition("?")[0]


def test_a_function_in_a_file(tmp_path: Path) -> None:
    """The function is the named one, or else the one called ``model``."""
    (tmp_path / "m.py").write_text("def model(messages): return 'one'\n\n\ndef other(messages): return 'two'\n")
    found = [resolve(f"{tmp_path}/m.py{name}") for name in ("", ":model", ":other")]
    assert [str(model.function([])) for model in found if isinstance(model, FunctionModel)] == ["one", "one", "two"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nothing.py", "no such file"),
        ("nothing.py:model", "no such file"),
        ("{}/m.py:othre", "did you mean 'other'"),
        ("{}/m.py", "define it, as in def model(messages)"),
        ("{}/m.py:number", "found no function 'number'"),
    ],
)
def test_files_without_the_function(spec: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("number = 3\n" + ("def other(messages): return ''\n" if ":" in spec else ""))
    with pytest.raises(DataError, match=re.escape(said)):
        resolve(spec.format(tmp_path))
