"""Each test here needs vLLM itself: `make vllm-test` installs it into a virtual environment of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from .weights import make_weights

FOLDER = Path(__file__).parent
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = pytest.mark.skip(reason="vLLM is not installed here: make vllm-test")
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if find_spec("vllm") is None:
                item.add_marker(absent)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the tiny model; the settings hold for whatever vLLM is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    yield make_weights(tmp_path_factory.mktemp("tiny"))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"
