"""A run stores its prices."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.llm.http import HttpModel
from flashgraph.observe.records import run_json
from flashgraph.observe.runs import head
from flashgraph.run.journal.reading import StoredRun
from tests.journal.small import small_run
from tests.llm.server import chat, running
from tests.llm.table import install


def calls(folder: Path) -> list[float | None]:
    with StoredRun.open(folder) as run:
        return [call.usd for call in run.calls()]


def test_a_resumed_run_keeps_its_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed price table does not change a resumed run; a price option does, is logged, and is kept."""
    monkeypatch.setenv("NO_PROXY", "*")
    folder = tmp_path / "run"
    install(tmp_path / "old", monkeypatch, "9.1", {"m": (1e-6, 0.0)})
    with running(chat("no", prompt=10, completion=3), models=("m",)) as server, caplog.at_level(logging.WARNING):
        url = server.url.replace("127.0.0.1", "0.0.0.0")

        def session(proposals: int, price: tuple[float, float] | None = None) -> float | None:
            model = HttpModel(url, "m", price=price)
            before = len(calls(folder)) if folder.exists() else 0
            models = dict.fromkeys(("task", "reflection"), model)
            small_run(folder, models=models, budget=fg.Budget(proposals=proposals, calls=500), resume=before > 0)
            (usd,) = set(calls(folder)[before:])
            return usd

        assert session(1) == pytest.approx(1e-5)
        install(tmp_path / "new", monkeypatch, "9.2", {"m": (7e-6, 0.0)})
        assert session(2) == pytest.approx(1e-5)
        with StoredRun.open(folder) as run:
            (kept,) = run_json(run)["prices"].values()
            shown = head(run)
        assert shown[3].endswith(": USD 1e-06 per prompt token, 0 per reply token (LiteLLM 9.1)")
        assert kept == {"prompt": 1e-6, "completion": 0.0, "source": "LiteLLM 9.1"}
        assert not caplog.records
        assert session(3, (2e-6, 0.0)) == pytest.approx(2e-5)
        assert "its price was 1e-06,0 (LiteLLM 9.1) and is 2e-06,0 (option)" in caplog.text
        assert session(4) == pytest.approx(2e-5)


def test_an_unknown_price_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown price is logged once at the start and shown by `show`; a money budget is refused."""
    monkeypatch.setenv("NO_PROXY", "*")
    install(tmp_path / "site", monkeypatch, "9.1", {})
    with running(chat("no"), models=("m",)) as server:
        model = HttpModel(server.url.replace("127.0.0.1", "0.0.0.0"), "m")
        models = dict.fromkeys(("task", "reflection"), model)
        small_run(tmp_path / "run", models=models, budget=fg.Budget(proposals=1))
        with pytest.raises(fg.DataError, match="is not known"):
            small_run(tmp_path / "paid", models=models, budget=fg.Budget(usd=1))
    assert caplog.text.count("its price is not known") == 1
    assert set(calls(tmp_path / "run")) == {None}
    with StoredRun.open(tmp_path / "run") as run:
        assert f"price unknown, so the cost is not counted: {model.name}" in head(run)
        assert not any("a prompt token" in line for line in head(run))
