"""The backends of a real vLLM against the suite that users' own models are held against."""

from __future__ import annotations

from pathlib import Path

from flashgraph.llm.engine import EngineModel
from flashgraph.llm.resolve import resolve
from flashgraph.testing import check_model

from .kit import ENGINE


def test_the_server(url: str) -> None:
    """`vllm:`, by its string, with the priorities that this server takes."""
    check_model(resolve(f"vllm:{url}?priority=true"), seconds=120)


def test_the_engine(weights: Path) -> None:
    """`vllm-engine:`, opened twice: that is two engines, one after the other."""
    check_model(EngineModel(str(weights), limit=8, engine=ENGINE), seconds=120)
