"""Every backend passes the suite for users' own models, over loopback if it needs a server.

Tests with a real vLLM are in tests/real_vllm, with a virtual environment of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.http import HttpModel
from flashgraph.llm.lite import LiteLLMModel
from flashgraph.llm.local import LocalModel
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.llm.vllm import VllmModel
from flashgraph.run.recorded import ReplayModel
from flashgraph.testing import check_model

from .conftest import SETTINGS, silent
from .server import Server, running


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


HTTP: dict[str, Callable[[str], Model]] = {
    "openai": lambda url: HttpModel(url, "tiny", key=""),
    "vllm": lambda url: VllmModel(url, "tiny", key="", prioritises=True),
    "several": lambda url: Ensemble(((HttpModel(url, "tiny", key=""), 1.0), (VllmModel(url, "tiny", key=""), 2.0))),
    "by a string": lambda url: resolve(f"vllm:{url}#tiny?limit=4"),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", HTTP)
def test_over_http(name: str, backend: str, server: Server) -> None:
    """`openai:`, `vllm:` and several models in one role pass, on both event loops."""
    check_model(HTTP[name](server.url), backend=backend)
    assert len(server.chats) >= 6


def test_litellm(server: Server) -> None:
    """`litellm:` passes; it needs asyncio."""
    if find_spec("litellm") is None:
        pytest.skip("litellm is an extra and not installed")
    check_model(LiteLLMModel("openai/tiny", params={"api_base": f"{server.url}/v1", "api_key": "x"}))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_functions_and_scripts(backend: str) -> None:
    """Function and scripted models pass."""
    check_model(resolve(lambda messages: "hello"), backend=backend)
    check_model(ScriptedModel(lambda messages: "hello"), backend=backend)


def test_the_simulated_model() -> None:
    """`sim:` passes in real time, with replies of the requested sixteen tokens."""
    check_model(resolve("sim:vllm"))


@pytest.mark.local_model
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_local(backend: str, weights: str) -> None:
    """`local:` passes with its real server and the smallest weights."""
    check_model(LocalModel(weights, report=silent, **SETTINGS), backend=backend, seconds=120)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_replay(backend: str, tmp_path: Path) -> None:
    """`replay:` passes with another model for requests that the run lacks."""
    graph_run = tmp_path / "run"

    async def attempt(candidate: object, sample: int, llm: fg.Llm) -> str:
        return (await llm(str(sample))).text

    task = fg.Task("t", range(2), range(2), attempt=attempt, score=lambda s, o: fg.Score(1.0))
    models = {"task": lambda messages: "x", "reflection": lambda messages: "```\nnew\n```"}
    fg.run("gepa", task, models=models, budget=fg.Budget(calls=6), folder=graph_run)
    check_model(ReplayModel(str(graph_run), ScriptedModel(lambda messages: "hello")), backend=backend)
