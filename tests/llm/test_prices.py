"""The source of a model's price, which is never guessed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flashgraph.llm.cache import CachedModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.prices import LOCAL, UNKNOWN, Price, listed, pin_all, pricing
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve
from flashgraph.llm.responses import ResponseCache
from flashgraph.run.recorded import ReplayModel

from .server import chat, running
from .table import install

REMOTE = "openai:https://api.example.com#m"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, "9.1", {"m": (1e-6, 2e-6)})


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("spec", "price"),
    [
        (REMOTE, Price(1e-6, 2e-6, "LiteLLM 9.1")),
        (f"{REMOTE}?price=3e-6,4e-6", Price(3e-6, 4e-6, "option")),
        ("openai:http://localhost:8000#m", LOCAL),
        ("openai:https://api.example.com#M", UNKNOWN),
        ("openai:https://api.example.com#speaks", UNKNOWN),
        ("openai:https://api.example.com#half", UNKNOWN),
        ("openai:https://api.example.com", UNKNOWN),
        ("vllm:http://h:8000#m", UNKNOWN),
        ("vllm:http://h:8000#m?price=3e-6,4e-6", Price(3e-6, 4e-6, "option")),
        (f"replay:run?else={REMOTE}", Price(1e-6, 2e-6, "LiteLLM 9.1")),
    ],
)
def test_whose_word_a_price_is(spec: str, price: Price) -> None:
    """It is the option, this machine, or the table for a chat model with exactly that name and both prices."""
    model = resolve(spec)
    assert pricing(model) == price
    assert model.worst_cost(100, 10) == price.of(100, 10)


def test_without_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price is unknown, and nothing fails."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if getattr(f, "__name__", "") == "PathFinder"])
    assert listed("m") == UNKNOWN


def test_the_installed_table_is_read_without_importing_the_package() -> None:
    """It is LiteLLM's own file, under its own name."""
    pytest.importorskip("litellm")
    code = (
        "import sys; from flashgraph.llm.prices import listed; "
        "print(listed('gpt-4o-mini').known, 'litellm' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "True False\n"


@pytest.mark.anyio
@pytest.mark.usefixtures("table")
async def test_a_reply_costs_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's token counts are priced; 0.0.0.0 reaches this machine, but is not a loopback address."""
    monkeypatch.setenv("NO_PROXY", "*")
    with running(chat(prompt=7, completion=3), models=("m",)) as server:
        model = HttpModel(server.url.replace("127.0.0.1", "0.0.0.0"), "m")
        async with model.open():
            reply = await model.complete([{"role": "user", "content": "hi"}], {})
    assert reply.cost == pytest.approx(7e-6 + 6e-6)


@pytest.mark.usefixtures("table")
def test_prices_are_pinned(tmp_path: Path) -> None:
    """A resumed run keeps its prices, also behind a cache or a replay.

    An option overrides them with a notice; an unknown earlier price does not bind.
    """
    had = {"prompt": 5e-6, "completion": 6e-6, "source": "LiteLLM 9.0"}
    models: dict[str, Model] = {
        "kept": resolve(REMOTE),
        "cached": CachedModel(resolve(REMOTE), ResponseCache(tmp_path / "cache")),
        "replayed": ReplayModel("run", resolve(REMOTE)),
        "option": resolve(f"{REMOTE}?price=3e-6,4e-6"),
        "new": resolve(REMOTE),
        "found": resolve(REMOTE),
        "unknown": resolve("openai:https://api.example.com#other"),
    }
    before = {**dict.fromkeys(("kept", "cached", "replayed", "option"), had)}
    nothing = {"prompt": None, "completion": None, "source": "unknown"}
    prices, said = pin_all(models, {**before, "found": nothing, "unknown": nothing})
    for name in ("kept", "cached", "replayed"):
        assert prices[name] == Price(**had)  # type: ignore[arg-type]
        assert models[name].worst_cost(1, 1) == pytest.approx(11e-6)
    assert models["option"].worst_cost(1, 1) == pytest.approx(7e-6)
    assert models["new"].worst_cost(1, 1) == models["found"].worst_cost(1, 1) == pytest.approx(3e-6)
    assert sorted(said) == ["found", "option", "unknown"]
    assert "was 5e-06,6e-06 (LiteLLM 9.0) and is 3e-06,4e-06 (option)" in said["option"]
    assert "its price is not known" in said["unknown"]


def test_litellm_models_are_pinned_too() -> None:
    """The table is used while it has the same price, else the run's earlier price."""
    pytest.importorskip("litellm")
    model = resolve("litellm:gpt-4o-mini")
    now = pricing(model)
    assert now.source.startswith("LiteLLM ")
    pin_all({"a": model}, {"a": {"prompt": 1.0, "completion": 2.0, "source": "LiteLLM 0"}})
    assert model.worst_cost(1, 1) == 3.0
    pin_all({"a": model}, {})
    assert model.worst_cost(1, 1) == now.of(1, 1)
