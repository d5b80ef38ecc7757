"""Shared fixtures of the embedded model's tests."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from flashgraph.llm.weights import CATALOG, cached

SETTINGS: dict[str, Any] = {"limit": 2, "context": 2048, "threads": 1}
"""The smallest settings of the embedded model."""


def silent(what: str, done: int, total: int) -> None:
    """A report that discards the progress."""


@pytest.fixture(scope="session")
def weights() -> str:
    """The name of the smallest weights, if they are present."""
    if find_spec("xllamacpp") is None:
        pytest.skip("the llama.cpp engine is an extra and not installed")
    if not cached(CATALOG["135m"]):
        pytest.skip("the 135M weights are not in the cache; `local:135m` fetches them")
    return "135m"
