"""The gateway: OpenAI clients inside an attempt call the run's models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
import pytest

import flashgraph as fg
from flashgraph.errors import ContextTooLong, RequestFailed
from flashgraph.llm.gateway import Seat, gateway
from flashgraph.llm.protocol import TokenLogprob, ToolCall

openai = pytest.importorskip("openai")

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def task(attempt: Any, samples: int = 3, **options: Any) -> fg.Task[Any, Any]:
    data = [f"sample {number}" for number in range(samples)]
    score = options.pop("score", lambda sample, output: fg.Score(float(output == f"{sample}!")))
    return fg.Task("g", data, data, data, attempt=attempt, score=score, gateway=True, **options)


def blocking(candidate: Mapping[str, str], sample: str, llm: Any) -> str:
    """The synchronous SDK, as a user's program has it."""
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key)
    made = client.chat.completions.create(model="any", messages=[{"role": "user", "content": sample}], temperature=0)
    assert made.usage.total_tokens > 0
    return str(made.choices[0].message.content)


async def awaiting(candidate: Mapping[str, str], sample: str, llm: Any) -> str:
    client = openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key)
    stream = await client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": sample}], stream=True, stream_options={"include_usage": True}
    )
    text, used = "", 0
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        used = chunk.usage.total_tokens if chunk.usage else used
    assert used > 0
    return text


def shout(messages: Any) -> str:
    return f"{messages[-1]['content']}!"


@pytest.mark.parametrize("attempt", [blocking, awaiting])
def test_an_sdk_calls_the_runs_model(attempt: Any) -> None:
    """Its calls are counted, and the budget holds for them."""
    result = fg.run("gepa", task(attempt), models=shout, budget=fg.Budget(evaluations=3))
    assert result.best is not None
    assert result.best.score == 1
    assert result.spent.calls == 3


def test_many_attempts_with_a_blocking_sdk_do_not_deadlock() -> None:
    """64 attempts block in threads, and the model answers two at a time."""
    result = fg.run(
        "gepa",
        task(blocking, 64, workers=64),
        models=fg.llm.FunctionModel(shout, limit=2),
        budget=fg.Budget(evaluations=64),
    )
    assert result.best is not None
    assert result.best.score == 1


def test_a_program_in_another_process() -> None:
    """Address and key are in its environment."""
    code = (
        "import os, json, urllib.request as u\n"
        "r = u.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', json.dumps({'model': 'm', 'messages':"
        " [{'role': 'user', 'content': os.environ['SAMPLE']}]}).encode(),"
        " {'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY'], 'Content-Type': 'application/json'})\n"
        "print(json.load(u.urlopen(r))['choices'][0]['message']['content'], end='')"
    )

    def attempt(candidate: Mapping[str, str], sample: str, llm: Seat) -> str:
        environment = {**os.environ, **llm.environment, "SAMPLE": sample, "NO_PROXY": "*"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    result = fg.run("gepa", task(attempt, 2), models=shout, budget=fg.Budget(evaluations=2))
    assert result.best is not None
    assert result.best.score == 1


def test_a_role_by_the_name_of_the_model() -> None:
    def attempt(candidate: Mapping[str, str], sample: str, llm: Any) -> str:
        client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key)
        assert [model.id for model in client.models.list()] == ["judge"]
        made = client.chat.completions.create(model="judge", messages=[{"role": "user", "content": sample}])
        return str(made.choices[0].message.content)

    models = {"task": lambda messages: "no", "reflection": lambda messages: "no", "judge": shout}
    result = fg.run("gepa", task(attempt, roles=["judge"]), models=models, budget=fg.Budget(evaluations=3))
    assert result.best is not None
    assert result.best.score == 1


async def asked(
    llm: Any, path: str = "/chat/completions", key: str | None = None, method: str = "POST", **body: Any
) -> Any:
    async with gateway(llm) as seat, httpx.AsyncClient(trust_env=False) as client:
        headers = {"authorization": f"Bearer {seat.api_key if key is None else key}"}
        found = await client.request(method, seat.base_url + path, json=body, headers=headers)
        return found.status_code, found.json()


async def fine(messages: Any, **params: Any) -> fg.Reply:
    return fg.Reply(json.dumps([messages, params]), tool_calls=(ToolCall("1", "look", '{"at": 1}'),), thoughts="hm")


@pytest.mark.parametrize("stream", [False, True])
def test_choices_and_logprobs_pass(stream: bool) -> None:
    """A client gets them in the API's form, streamed or not."""

    async def several(messages: Any, **params: Any) -> fg.Reply:
        return fg.Reply("a", more=["b"], logprobs=[TokenLogprob("a", -0.5, {"a": -0.5})])

    async def ask() -> Any:
        async with gateway(several) as seat, httpx.AsyncClient(trust_env=False) as client:
            body = {"messages": [{"role": "user", "content": "?"}], "n": 2, "stream": stream}
            headers = {"authorization": f"Bearer {seat.api_key}"}
            return (await client.post(f"{seat.base_url}/chat/completions", json=body, headers=headers)).text

    found = anyio.run(ask)
    chunks = [json.loads(line[6:]) for line in found.split("\n\n")[:-2]] if stream else [json.loads(found)]
    said = [c for chunk in chunks for c in chunk["choices"] if c.get("delta", c.get("message"))]
    assert [(c["index"], c.get("delta", c.get("message"))["content"]) for c in said] == [(0, "a"), (1, "b")]
    top = [{"token": "a", "logprob": -0.5, "bytes": [97]}]
    assert said[0]["logprobs"]["content"] == [{**top[0], "top_logprobs": top}]


@BACKENDS
def test_parameters_tools_and_thoughts_pass(backend: str) -> None:
    async def ask() -> Any:
        messages = [{"role": "user", "content": "?"}]
        return await asked(fine, model="m", messages=messages, tools=[{"type": "function"}], user="me", seed=None)

    status, made = anyio.run(ask, backend=backend)
    message = made["choices"][0]["message"]
    assert status == 200
    assert json.loads(message["content"]) == [[{"role": "user", "content": "?"}], {"tools": [{"type": "function"}]}]
    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert message["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (fg.BudgetExhausted("no calls left"), 402, "budget_exhausted"),
        (ContextTooLong("too long"), 400, "context_length_exceeded"),
        (fg.DataError("messages: found 3"), 400, "invalid_request_error"),
        (RequestFailed("it failed"), 424, "request_failed"),
    ],
)
def test_errors_have_codes_that_no_client_repeats(error: Exception, status: int, code: str) -> None:
    async def llm(messages: Any, **params: Any) -> fg.Reply:
        raise error

    async def ask() -> Any:
        return await asked(llm, messages=[])

    found, body = anyio.run(ask)
    assert (found, body["error"]["code"]) == (status, code)
    assert str(error) in body["error"]["message"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"key": "other"}, 401),
        ({"path": "/embeddings"}, 404),
        ({"method": "GET"}, 404),
    ],
)
def test_requests_that_are_refused(options: Any, status: int) -> None:
    async def ask() -> Any:
        return await asked(fine, messages=[], **options)

    found, body = anyio.run(ask)
    assert found == status
    assert body["error"]["message"]


def test_it_is_gone_with_its_attempt_and_on_loopback_alone() -> None:
    async def ask() -> str:
        async with gateway(fine) as seat:
            address = seat.base_url
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(address + "/models")
        assert seat.api_key not in repr(seat)
        return address

    assert anyio.run(ask).startswith("http://127.0.0.1:")
