"""Data sets, lessons, and tasks that are refused before any model is called."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts.meta_harness import NO_MEMORY, datasets, lesson, require_datasets
from tests.parts.meta_harness.worlds import Sample

SEED = {"program": NO_MEMORY}


def sample(dataset: str = "a", split: str = "train") -> Sample:
    return Sample(dataset, split, 0, "red")


def task(train: Sequence[Any], val: Sequence[Any], seed: Any = SEED, test: Sequence[Any] = ()) -> fg.Task:
    return fg.Task("t", train, val, test, seed=seed, score=lambda s, o: fg.Score(o == "red", f"said {o}"))


def test_data_sets_in_order_of_appearance() -> None:
    """Data sets come in order of appearance; samples without one belong to the task."""
    made = task([sample("b"), sample("a"), sample("b")], ["x", "y"])
    assert datasets(made, "train") == {"b": (0, 2), "a": (1,)}
    assert datasets(made, "val") == {"t": (0, 1)}


def test_lessons_are_of_the_training_split() -> None:
    """A lesson holds the input, the right answer, and the task's feedback on it."""
    made = task([sample("b"), sample("a")], [sample("a", "val")])
    assert anyio.run(lesson, made, "a") == [{"input": "<a train 0>", "answer": "red", "feedback": "said red"}]


@attrs.frozen
class Mute:
    text: str

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (task([sample()], [sample()], {"instruction": "x"}), "its seed holds no program; found 'instruction'"),
        (task([sample()], [sample()], {"program": "x = 1"}), "it defines no class MemorySystem"),
        (task([sample(), Mute("what?")], [sample()]), "train sample 1 ('what?') has no answer; found a Mute"),
        (task([sample("a")], [sample("a"), sample("b")]), "the train split of data set 'b' is empty"),
        (task([sample("a"), sample("c")], [sample("a")]), "the val split of data set 'c' is empty"),
        (task([sample("overall")], [sample("overall")]), "a data set is named 'overall'"),
    ],
)
def test_unsuitable_tasks_are_refused(made: fg.Task, message: str) -> None:
    """The error names the thing, the place, what was found, what was expected and the fix."""
    with pytest.raises(fg.DataError) as error:
        require_datasets(made)
    assert message in str(error.value)
    assert "task 't'" in str(error.value)
    assert "Fix:" in str(error.value)


def test_a_good_task_passes(caplog: pytest.LogCaptureFixture) -> None:
    """A complete task passes without a warning."""
    require_datasets(task([sample()], [sample("a", "val")]))
    assert caplog.text == ""


@attrs.frozen
class Bare:
    """A sample with the text that attrs generates, which shows the answer."""

    question: str
    answer: str = "red"


@dataclasses.dataclass
class Data:
    question: str
    answer: str = "red"


class Named(NamedTuple):
    question: str
    answer: str = "red"


class Shown:
    """A sample whose text is made of its fields, as the libraries of models of data make it."""

    def __init__(self, form: str, answer: Any = "red") -> None:
        self.form, self.answer = form, answer

    def __str__(self) -> str:
        return self.form.format(self.answer, json.dumps(self.answer))


FORMS = ["question='what?' answer={0!r}", "{{'question': 'what?', 'answer': {0!r}}}", '{{"answer": {1}}}']


@pytest.mark.parametrize("answer", ["red", 3, None, ["a", "b"], "it's", "\u00e9"])
@pytest.mark.parametrize(
    "form", ["question='what?' answer={0!r}", "{{'question': 'what?', 'answer': {0!r}}}", '{{"answer": {1}}}']
)
def test_a_text_that_names_its_answer_is_refused(form: str, answer: Any) -> None:
    """Whatever wrote the text: a program would see the answer."""
    made = task([sample("a", "train")], [sample("a", "val"), Shown(form, answer)])
    with pytest.raises(fg.DataError, match="val sample 1 is a Shown whose text shows its answer"):
        require_datasets(made)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("shows", [Bare("what?"), Data("what?"), Named("what?"), SimpleNamespace(answer="red")])
def test_a_sample_without_its_own_text_is_refused(shows: Any, split: str) -> None:
    """A sample without a text of its own is refused, because a program would see its answer."""
    splits: dict[str, list[Any]] = {name: [sample("a", name)] for name in ("train", "val", "test")}
    splits[split].append(shows)
    made = task(splits["train"], splits["val"], test=splits["test"])
    kind = type(shows).__name__
    with pytest.raises(fg.DataError) as caught:
        require_datasets(made)
    assert f"task 't': {split} sample 1 is a {kind} without a text of its own" in str(caught.value)
    assert f"Fix: give class {kind} a method __str__ that returns only the input." in str(caught.value)


@attrs.frozen
class Choice:
    text: str
    answer: str

    def __str__(self) -> str:
        return self.text


def test_answers_in_the_texts_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for a split names the first answer in a text; a part of a word does not count."""
    train = [Choice("red or blue?", "red"), Choice("What is it?", "it"), Choice("bored?", "red"), Choice("2+2?", "")]
    require_datasets(task(train, [Choice("reds?", "red")]))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "task 't': 2 of its 4 train samples have their answer in the text that programs see, such as sample 0 ('red')."
    )
