"""The rows of the examples: real ones, the hub, and every way in which they can be missing or wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.tasks.data import VARIABLE
from tests.examples.conftest import INVENTED, Load, write

SIZES = {
    "formula": (500, 100, 200),
    "finer": (40, 20, 40),
    "symptom2disease": (150, 50, 50),
    "uspto": (30, 30, 20),
    "lawbench": (150, 50, 50),
    "hover": (200, 100, 300),
    "harnesses": (330, 130, 120),
}


def every(task: fg.Task) -> list[Any]:
    return [*task.train, *task.val, *task.test]


@pytest.mark.parametrize("example", SIZES)
def test_real_rows_and_their_gold_answers(real: Path, load: Load, example: str) -> None:
    """Every row is in one split; its gold answer scores 1, alone and in JSON, and garbage scores 0."""
    task = load(example)
    assert (len(task.train), len(task.val), len(task.test)) == SIZES[example]
    for sample in every(task):
        assert task.score(sample, sample.answer).value == 1
        assert task.score(sample, json.dumps({"reasoning": "...", "final_answer": sample.answer})).value == 1
        assert {task.score(sample, garbage).value for garbage in ("", "banana split", "{", "[]")} == {0}
        assert str(sample).strip()
        assert isinstance(sample.dataset, str)
    assert [str(sample) for sample in every(task)] == [str(sample) for sample in every(load(example))]


def test_real_ifbench_rows(real: Path, load: Load) -> None:
    """IFBench has no gold answers; every verifier works on every reply, with the same result each time."""
    task = load("ifbench")
    # Without NLTK's data up to 19 of the 200 rows are left out.
    assert 181 <= len(every(task)) <= 200
    for sample in every(task):
        assert task.score(sample, "").value == 0
        for reply in ("Yes.", "One, two. Three? Four!\n\n* a\n  - b", "word " * 200):
            assert task.score(sample, reply) == task.score(sample, reply)
    counted = next(s for s in every(task) if s.constraints[0].id == "count:keywords_multiple")
    words = [counted.constraints[0].kwargs[f"keyword{n}"] for n in "12345"]
    times = (1, 2, 3, 5, 7)
    assert task.score(counted, " ".join(" ".join([w] * n) for w, n in zip(words, times, strict=True))).value == 1


def test_the_data_sets_of_the_harness_task(real: Path, load: Load) -> None:
    """Train and val have samples of all three data sets, as Meta-Harness groups them."""
    task = load("harnesses")
    assert Counter(s.dataset for s in task.val) == {"symptom2disease": 50, "uspto": 30, "lawbench": 50}
    assert {s.dataset for s in task.train} == {"symptom2disease", "uspto", "lawbench"}
    assert "class MemorySystem" in task.seed["program"]


HUB_ROWS: dict[str, list[dict[str, Any]]] = {
    "gretelai/symptom_to_diagnosis": [{"input_text": "It itches.", "output_text": "allergy"}] * 300,
    "AI-MO/aimo-validation-aime": INVENTED["aime/train.jsonl"] * 30,
    "allenai/IFBench_test": INVENTED["ifbench/ifbench_200.jsonl"] * 60,
    "hover-nlp/hover": [
        {"claim": "x", "supporting_facts": [{"key": "A", "value": 0}, {"key": "B", "value": 1}], "label": n % 2}
        for n in range(700)
    ],
}


@pytest.mark.parametrize(
    ("example", "sizes"),
    [
        ("symptom2disease", (150, 50, 50)),
        ("aime", (30, 30, 30)),
        ("hover", (200, 100, 300)),
        ("ifbench", (80, 40, 80)),
    ],
)
def test_rows_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: Load, example: str, sizes: tuple[int, int, int]
) -> None:
    """Without files the rows come from the hub, with its columns, in the same numbers."""

    class Table(list[Any]):
        features = {"label": SimpleNamespace(int2str=("NOT_SUPPORTED", "SUPPORTED").__getitem__)}  # noqa: RUF012

    def load_dataset(repo: str, config: str | None, *, split: str) -> Table:
        return Table([{"label": 0, **row} for row in HUB_ROWS[repo]])

    monkeypatch.delenv(VARIABLE, raising=False)
    if example != "ifbench":  # whose package imports the library itself
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    else:
        monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", load_dataset)
    task = load(example)
    assert (len(task.train), len(task.val), len(task.test)) == sizes


def test_what_to_download(monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    """A data set that no hub has says where it is, and the file's name."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(fg.DataError) as caught:
        load("formula")
    assert str(caught.value) == (
        "formula/val.jsonl: FLASHGRAPH_DATA is not set; expected this file in the folder that FLASHGRAPH_DATA names.\n"
        "Fix: download formula_val_subset_300.jsonl from github.com/ace-agent/ace (eval/finance/data), save it as "
        "DIR/formula/val.jsonl and set FLASHGRAPH_DATA=DIR."
    )


@pytest.mark.parametrize(
    ("example", "file", "change", "found", "expected"),
    [
        ("formula", "train.jsonl", {"target": "x"}, "'x' (str)", "a number"),
        ("finer", "val_100.jsonl", {"target": "A,B,C"}, "'A,B,C' (str)", "4 tags with commas between them"),
        ("symptom2disease", "val.jsonl", {"answer": "alergy"}, "'alergy' (str)", "one of 22 labels"),
        ("uspto", "val.jsonl", {"target": "no smiles"}, "'no smiles' (str)", "SMILES with dots between them"),
        ("lawbench", "val.jsonl", {"answer": "a;"}, "'a;' (str)", "charges with semicolons between them"),
        ("hover", "dev_600.jsonl", {"label": "TRUE"}, "'TRUE' (str)", "one of 2 labels"),
        (
            "hover",
            "dev_600.jsonl",
            {"supporting_facts": [[]]},
            "[[]] (list)",
            "pairs of an article's title and a sentence's number",
        ),
        ("aime", "train.jsonl", {"answer": "1000"}, "'1000' (str)", "a whole number from 0 to 999"),
        (
            "ifbench",
            "ifbench_200.jsonl",
            {"instruction_id_list": ["count:person_name", "x"]},
            "['count:person_name', 'x'] (list)",
            "ids of IFBench's verifiers",
        ),
        ("ifbench", "ifbench_200.jsonl", {"kwargs": [{}]}, "[{}] (list)", "2 JSON objects, one for each id"),
        (
            "ifbench",
            "ifbench_200.jsonl",
            {"kwargs": [{"M": 1}, {}]},
            "[{'M': 1}, {}] (list)",
            "the verifiers' arguments (",
        ),
    ],
)
def test_wrong_rows(
    invented: Path, load: Load, example: str, file: str, change: dict[str, Any], found: str, expected: str
) -> None:
    """A wrong row is reported before any model call, with the file, the line, what was found and what was expected."""
    rows = INVENTED[f"{example}/{file}"]
    write(invented, {f"{example}/{file}": [*rows[:-1], {**rows[-1], **change}]})
    with pytest.raises(fg.DataError) as caught:
        load(example)
    head, place, *rest = str(caught.value).splitlines()
    assert head == f"{invented / example / file}: 1 of {len(rows)} rows cannot be used"
    assert place.startswith(f"{invented / example / file}:{len(rows)}: column ")
    assert rest[0] == f"    found:    {found}"
    assert rest[1].startswith(f"    expected: {expected}")
