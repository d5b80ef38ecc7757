"""`flashgraph.dspy`: the drop-in for `dspy.GEPA`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg

dspy: Any = pytest.importorskip("dspy", reason="the lock has no dspy: pip install 'flashgraph[dspy]'")
pytest.importorskip("dspy.teleprompt.gepa.instruction_proposal", reason="dspy is older than 3.4.1")

from dspy.utils import DummyLM  # noqa: E402

from flashgraph.dspy import GEPA, Detailed, best_program, program_task  # noqa: E402

RULES = ("brief", "metres")


class Model(DummyLM):  # type: ignore[misc]
    """Answer with the rules that the prompt has; a reflection collects the rules of the feedback."""

    def __init__(self) -> None:
        super().__init__([])
        self.seen: list[str] = []
        self.open = self.most = 0
        self.lock = threading.Lock()

    def copy(self, **_: Any) -> Model:
        return self

    def __call__(self, prompt: Any = None, messages: Any = None, **_: Any) -> list[str]:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            return self.answer("\n".join(str(message["content"]) for message in messages))
        finally:
            with self.lock:
                self.open -= 1

    async def acall(self, prompt: Any = None, messages: Any = None, **_: Any) -> list[str]:
        return self(messages=messages)

    def answer(self, text: str) -> list[str]:
        self.seen.append(text)
        has = [rule for rule in RULES if f"RULE {rule}" in text]
        if "current_instruction" in text:
            return ['{"new_instruction": "' + " ".join(f"RULE {rule}" for rule in has) + '"}']
        field = "answer" if "`[[ ## answer ## ]]`" in text else "thought"
        return [f"[[ ## {field} ## ]]\n{' '.join(has) or 'none'}\n\n[[ ## completed ## ]]"]


class Program(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict(dspy.Signature("question -> thought", "Think."))
        self.say = dspy.Predict(dspy.Signature("question, thought -> answer", "Say."))

    def forward(self, question: str) -> Any:
        thought = self.think(question=question).thought
        return self.say(question=question, thought=thought)


class Async(Program):
    async def aforward(self, question: str) -> Any:
        thought = (await self.think.acall(question=question)).thought
        return await self.say.acall(question=question, thought=thought)


DATA = [dspy.Example(question=f"{rule} {n}", needs=rule).with_inputs("question") for rule in RULES for n in range(3)]


def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    """A prediction is right if it has the rule of its question; the feedback is the named predictor's own."""
    score = float(gold.needs in pred.answer)
    return dspy.Prediction(score=score, feedback=f"RULE {gold.needs} for {pred_name}")


def compiled(program: Any = None, **options: Any) -> Any:
    lm = options.pop("lm", None) or Model()
    given = {"metric": metric, "reflection_lm": lm, "max_metric_calls": 150, "track_stats": True, **options}
    with dspy.context(lm=lm):
        return GEPA(given.pop("metric"), **given).compile(program or Program(), trainset=DATA, valset=DATA)


@pytest.mark.parametrize("program", [Program, Async])
def test_the_program_gets_better_instructions(program: Any) -> None:
    """The copy has learned the rules, the student is as it was, and the results are DSPy's."""
    student, lm = program(), Model()
    best = compiled(student, lm=lm, num_threads=3)
    found = best.detailed_results
    assert isinstance(found, Detailed)
    assert type(best) is program
    assert best._compiled
    assert student.say.signature.instructions == "Say."
    assert "brief" in best.say.signature.instructions
    assert found.val_aggregate_scores[found.best_idx] > found.val_aggregate_scores[0]
    assert found.to_dict()["candidates"][0] == {"think": "Think.", "say": "Say."}
    assert found.total_metric_calls <= 150
    assert 1 <= lm.most <= 4  # three examples, and a reflection
    reflections = [text for text in lm.seen if "current_instruction" in text]
    assert any("for say" in text and "for think" not in text for text in reflections)


def test_inside_a_running_loop() -> None:
    async def notebook() -> Any:
        return compiled()

    found = asyncio.run(notebook()).detailed_results
    assert found.val_aggregate_scores[found.best_idx] > 0


def test_combee() -> None:
    assert compiled(optimizer="combee").detailed_results.run.spent.evaluations > len(DATA)


def test_without_statistics_and_with_a_float() -> None:
    best = compiled(
        metric=lambda gold, pred, trace, name, steps: 0.5,
        track_stats=False,
        max_metric_calls=12,
    )
    assert not hasattr(best, "detailed_results")


def test_lockstep_is_the_package() -> None:
    best = compiled(schedule="lockstep", max_metric_calls=30)
    assert not isinstance(best.detailed_results, Detailed)


def test_a_proposer_and_a_log_dir(tmp_path: Path) -> None:
    """A proposer of one's own gets fields and feedback; the folder resumes."""
    seen: list[Any] = []

    def propose(candidate: Any, reflective_dataset: Any, components_to_update: Any) -> dict[str, str]:
        seen.append(reflective_dataset)
        return {name: f"{candidate[name]} RULE {len(seen)}" for name in components_to_update}

    options: dict[str, Any] = {"instruction_proposer": propose, "log_dir": str(tmp_path / "run")}
    one = compiled(max_metric_calls=12, **options).detailed_results
    two = compiled(max_metric_calls=60, **options).detailed_results
    assert two.total_metric_calls > one.total_metric_calls
    ((name, records),) = seen[0].items()
    assert records[0]["Inputs"]["question"] in [example.question for example in DATA]
    assert records[0]["Feedback"].endswith(f"for {name}")


def test_a_program_that_raises_gets_the_failure_score() -> None:
    class Broken(Program):
        def forward(self, question: str) -> Any:
            raise KeyError(question)

    found = compiled(Broken(), failure_score=0.25, max_metric_calls=12).detailed_results
    assert found.val_aggregate_scores[0] == 0.25


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"metric": lambda gold, pred: 1.0}, TypeError, "five arguments"),
        ({"reflection_lm": None}, AssertionError, "reflection language model"),
        ({"auto": "light"}, AssertionError, "Exactly one"),
        ({"max_metric_cals": 3}, TypeError, "max_metric_cals"),
        ({"use_wandb": True}, fg.DataError, "use_wandb=.*schedule='lockstep'"),
        ({"track_best_outputs": True}, fg.DataError, "track_best_outputs="),
        ({"component_selector": len}, fg.DataError, "component_selector="),
        ({"gepa_kwargs": {"stop_callbacks": []}}, fg.DataError, "stop_callbacks"),
        ({"optimizer": "combe"}, fg.DataError, "combee"),
    ],
)
def test_mistakes(options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=f"(?s){said}"):
        compiled(**options)


def test_budgets_are_the_packages() -> None:
    task = program_task(Program(), metric, DATA)
    for given in ({"auto": "light"}, {"max_full_evals": 2}, {"max_metric_calls": 7}):
        optimizer = GEPA(metric, reflection_lm=Model(), **given)
        expected = {"auto": optimizer.auto_budget(2, 6, len(DATA)), "max_full_evals": 12, "max_metric_calls": 7}
        assert optimizer._metric_calls(task, len(DATA), None) == expected[next(iter(given))]


def test_a_program_without_predictors_is_refused() -> None:
    with pytest.raises(fg.DataError, match="no predictor"):
        program_task(dspy.Module(), metric, DATA)


def test_a_program_serves_every_algorithm() -> None:
    """`Task.from_dspy` is a task like any other; its components are the predictors' instructions."""
    task = fg.Task.from_dspy(Program(), metric, DATA, bounds=(0, 1))
    assert len(task.train) == len(task.val) == len(DATA)
    answer = "```\nRULE brief RULE metres\n```"
    with dspy.context(lm=Model()):
        result = fg.run("combee", task, models=lambda m: answer, budget=fg.Budget(evaluations=60))
    assert result.best is not None
    assert set(result.best.value) == {name for name, _ in Program().named_predictors()}


def test_the_best_of_a_run_is_a_program_again(tmp_path: Path) -> None:
    """Its own `save` writes it; a predictor without a text keeps its instructions."""
    best = compiled(log_dir=str(tmp_path / "run"))
    found = best_program(Program(), tmp_path / "run")
    assert {n: p.signature.instructions for n, p in found.named_predictors()} == {
        n: p.signature.instructions for n, p in best.named_predictors()
    }
    found.save(str(tmp_path / "program.json"))
    loaded = Program()
    loaded.load(str(tmp_path / "program.json"))
    assert loaded.say.signature.instructions == best.say.signature.instructions
    assert best_program(Program(), {"say": "Now."}).think.signature.instructions == "Think."
    with pytest.raises(fg.DataError, match=r"'sya'.*think, say(?s:.*)Fix: "):
        best_program(Program(), {"sya": "Now."})
