"""Each test here needs vLLM itself: `make vllm-test` installs it into a virtual environment of its own.

A start takes up to a minute, so there is one server and one engine for all of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from flashgraph.llm.engine import EngineModel
from flashgraph.llm.limits import steered

from .kit import ENGINE, REPLY, SIDE_BY_SIDE
from .weights import make_weights

FOLDER = Path(__file__).parent
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
START_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = pytest.mark.skip(reason="vLLM is not installed here: make vllm-test")
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if find_spec("vllm") is None:
                item.add_marker(absent)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the tiny model; the settings hold for whatever vLLM is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    yield make_weights(tmp_path_factory.mktemp("tiny"))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
async def engine(weights: Path, anyio_backend: str) -> AsyncIterator[EngineModel]:
    """An engine of this process, open, under a limit that it steers itself."""
    arguments = {**ENGINE, "max_num_seqs": SIDE_BY_SIDE}
    model = EngineModel(str(weights), limits=steered(64, start=4), params={"max_tokens": REPLY}, engine=arguments)
    async with model.open():
        yield model


@pytest.fixture(scope="session")
def url(weights: Path) -> Iterator[str]:
    """A server on a free port of loopback, ready."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = {
        "model": weights, "served-model-name": "tiny", "load-format": "dummy", "dtype": "float32", "max-num-seqs": 32,
        "scheduling-policy": "priority", "host": "127.0.0.1", "port": port,
    }  # fmt: skip
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [f"--{name}={value}" for name, value in options.items()]
    said, ready = deque[str](maxlen=30), threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "Application startup complete" in line:
                    ready.set()
            ready.set()

        listening = threading.Thread(target=listen)
        listening.start()
        try:
            assert ready.wait(START_SECONDS)
            assert process.poll() is None, "the server ended:\n" + "".join(said)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            listening.join()
