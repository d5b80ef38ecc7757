"""A model that answers from a stored run."""

from __future__ import annotations

from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.errors import DataError, RequestFailed
from flashgraph.llm.http import HttpModel
from flashgraph.llm.resolve import resolve
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.run.recorded import ReplayModel

pytestmark = pytest.mark.anyio


def attempts() -> fg.Task[int, str]:
    async def attempt(candidate: object, sample: int, llm: fg.Llm) -> str:
        return (await llm(f"sample {sample}")).text

    return fg.Task("t", range(4), range(4), attempt=attempt, score=lambda s, o: fg.Score(float(o.endswith("1"))))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a stored run of GEPA, whose models answer each request with another text."""
    numbers = iter(range(1000))
    models = {
        "task": lambda messages: f"{messages[-1]['content']}: {next(numbers)}",
        "reflection": lambda messages: "```\nnew\n```",
    }
    fg.run("gepa", attempts(), models=models, schedule="lockstep", budget=fg.Budget(proposals=3), folder=tmp_path / "r")
    return tmp_path / "r"


def said(result: fg.Result) -> list[object]:
    return [(artifact.value, artifact.score) for artifact in result.artifacts]


def test_a_run_again(stored: Path, anyio_backend_name: str) -> None:
    """The same graph and seed on the replies of a run give that run, at no cost."""
    models = {"task": f"replay:{stored}", "reflection": f"replay:{stored}"}
    runs = [
        fg.run("gepa", attempts(), models=models, schedule="lockstep", budget=fg.Budget(proposals=3)) for _ in range(2)
    ]
    assert said(runs[0]) == said(runs[1])
    assert all(run.status == "budget" and run.spent.usd == 0 for run in runs)


def test_what_is_new_goes_by_the_other_models_limits() -> None:
    """New requests follow the other model's moving limits, parameters and priorities, if there is one."""
    model = ReplayModel("r", resolve("vllm:http://h:1#m?max_tokens=9&priority=true"))
    assert isinstance(model.otherwise, HttpModel)
    assert (model.limit, model.limits, model.params) == (1024, model.otherwise.limits, {"max_tokens": 9})
    assert model.prioritises
    alone = ReplayModel("r")
    assert (alone.limit, alone.limits, alone.params, alone.prioritises) == (64, None, {}, False)


async def test_replies_in_their_order(stored: Path) -> None:
    """Equal requests get their replies in order, and then the last one."""
    model = ReplayModel(str(stored))
    async with model.open():
        texts = [(await model.complete([{"role": "user", "content": "sample 0"}], {})).text for _ in range(9)]
        reply = await model.complete([{"role": "user", "content": "sample 0"}], {"temperature": 1})
    assert len(set(texts)) > 1
    assert texts[-1] == texts[-2] == reply.text
    assert all(text.startswith("sample 0: ") for text in texts)
    assert (reply.cost, reply.model) == (0.0, "<lambda>")
    assert reply.usage.prompt > 0


async def test_what_the_run_has_not_had(stored: Path) -> None:
    """A request that the run did not have is an error, or goes to the other model."""
    new = [{"role": "user", "content": "something new " * 20}]
    model = resolve(f"replay:{stored}")
    async with model.open():
        with pytest.raises(RequestFailed, match=r"no answer to 'something new .*'\.\.\.; it has \d+ requests.*else="):
            await model.complete(new, {})
    other = ScriptedModel(["from the other"])
    model = ReplayModel(str(stored), other)
    async with model.open():
        assert (await model.complete(new, {})).text == "from the other"
        assert (await model.complete([{"role": "user", "content": "sample 1"}], {})).text.startswith("sample 1")
    assert len(other.calls) == 1


async def test_no_such_run(tmp_path: Path) -> None:
    """A missing run is an error when the model is opened, before the run begins."""
    with pytest.raises(DataError, match="no such run"):
        async with ReplayModel(str(tmp_path / "nothing")).open():
            pass
