"""The agent with tools, against a server on loopback whose replies have the form of OpenAI's API."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.graph.loading import load_task
from flashgraph.llm.http import HttpModel
from tests.llm.server import Answer, Server, running

TASK = Path(__file__).parents[2] / "examples" / "stockroom" / "task.py"


def completion(message: dict[str, Any], finish: str) -> Answer:
    """Return a reply with all the fields that OpenAI's API sends."""
    body = {
        "id": "chatcmpl-C1", "object": "chat.completion", "created": 1764590000, "model": "gpt-sim-2026",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "refusal": None, "annotations": [], **message},
            "logprobs": None, "finish_reason": finish,
        }],
        "usage": {
            "prompt_tokens": 141, "completion_tokens": 46, "total_tokens": 187,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default", "system_fingerprint": "fp_1",
    }  # fmt: skip
    return Answer(body=json.dumps(body).encode())


def calls(name: str, argument: str, values: list[str]) -> Answer:
    """Return parallel calls of a tool, without content."""
    made = [
        {
            "id": f"call_{name}_{value}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({argument: value})},
        }
        for value in values
    ]
    return completion({"content": None, "tool_calls": made}, "tool_calls")


def model(server: Server, _: Any) -> Answer:
    """Find both parts, count them and add; multiply by the pieces of a box only if the instruction tells them."""
    body = server.chats[-1].body
    if "tools" not in body:
        return completion({"content": "```\nUse the tools. Multiply boxes by 12.\n```"}, "stop")
    system, question, *rest = body["messages"]
    results = [message["content"] for message in rest if message["role"] == "tool"]
    if not results:
        pair = re.search(r"pieces of (\w+) and (\w+)", question["content"])
        assert pair is not None
        return calls("find", "name", [pair[1], pair[2]])
    if len(results) == 2:
        return calls("count", "code", results)
    boxes = sum(map(int, results[2:]))
    return completion({"content": f"There are {boxes * (12 if '12' in system['content'] else 1)} pieces."}, "stop")


def test_a_run_of_the_agent(tmp_path: Path) -> None:
    """The loop sends what the API wants back; a reflection sees each tool's own calls, and its text solves the task."""
    task = load_task(TASK)
    task = attrs.evolve(task, train=task.train[:3], val=task.val[:2])
    with running(model) as server:
        models = dict.fromkeys(("task", "reflection"), HttpModel(server.url, "gpt-sim-2026", limit=1))
        budget = fg.Budget(proposals=1)
        result = fg.run("gepa", task, models=models, budget=budget, schedule="lockstep", folder=tmp_path / "run")
    assert result.best is not None
    assert result.best.score == 1.0
    assert "12" in result.best.value["instruction"]
    asked = [chat.body for chat in server.chats if "tools" in chat.body]
    # A call's result follows it under its id, and the message with the calls has no content.
    last = next(body["messages"] for body in asked if len(body["messages"]) == 8)
    roles = ["system", "user", "assistant", "tool", "tool", "assistant", "tool", "tool"]
    assert [message["role"] for message in last] == roles
    assert last[2]["content"] is None
    assert [call["id"] for call in last[2]["tool_calls"]] == [message["tool_call_id"] for message in last[3:5]]
    assert asked[0]["tools"][0]["function"]["description"] == "Return the code of a part."
    prompts = [chat.body["messages"][-1]["content"] for chat in server.chats if "tools" not in chat.body]
    assert any("How many pieces" in prompt and '{"name":' not in prompt for prompt in prompts)


def test_mistakes_of_the_model_are_results() -> None:
    """An unknown tool, other arguments and broken JSON do not end the attempt."""
    call = runpy.run_path(str(TASK))["call"]
    assert call("find", '{"name": "bolt"}') == "P-100"
    assert call("count", '{"code": "P-100"}') == "3"
    for name, arguments in [("find", "{"), ("find", "[]"), ("open", "{}"), ("count", '{"code": "P-1"}')]:
        assert call(name, arguments).startswith(f"error: no {name}")
