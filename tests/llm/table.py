"""A LiteLLM package on disk that contains only a price table; importing it fails."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flashgraph.llm.prices import TABLE

__all__ = ["install"]


def install(
    where: Path, monkeypatch: pytest.MonkeyPatch, version: str, prices: Mapping[str, tuple[float, float]]
) -> None:
    """Install this version, with these prices of chat models, in place of the real one."""
    package = where / "litellm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package was imported for its table')\n")
    rows = {
        name: {"mode": "chat", "input_cost_per_token": prompt, "output_cost_per_token": completion}
        for name, (prompt, completion) in prices.items()
    }
    rows["speaks"] = {"mode": "audio_transcription", "input_cost_per_token": 1.0, "output_cost_per_token": 1.0}
    (package / TABLE).write_text(json.dumps({**rows, "half": {"mode": "chat", "input_cost_per_token": 1.0}}))
    info = where / f"litellm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: litellm\nVersion: {version}\n")
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.syspath_prepend(str(where))
    importlib.invalidate_caches()
