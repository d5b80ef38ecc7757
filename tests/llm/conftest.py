"""What the tests of the embedded model share."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from flashgraph.llm.weights import CATALOG, cached

SETTINGS: dict[str, Any] = {"limit": 2, "context": 2048, "threads": 1}
"""The least that it runs with."""


def silent(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="session")
def weights() -> str:
    """The name of the smallest weights, if they are here."""
    if find_spec("xllamacpp") is None:
        pytest.skip("the llama.cpp engine is an extra and not installed")
    if not cached(CATALOG["135m"]):
        pytest.skip("the 135M weights are not in the cache; `local:135m` fetches them")
    return "135m"
