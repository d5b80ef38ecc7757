"""Loading the examples on real rows, which are beside the checkout and never in it, or on invented ones."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_task
from flashgraph.tasks.data import VARIABLE

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
Load = Callable[[str], fg.Task]

DRUG = {"question": "It itches.", "answer": "drug reaction"}
REACTION = {"question": "The reaction type is Oxidations.\nInput: CC=O", "target": "CCO.[O-][n+]1ccccc1"}
CASE = {"instruction": "给出罪名。", "question": "事实:某甲。", "answer": "罪名:诈骗;走私武器、弹药"}
INVENTED: dict[str, list[dict[str, Any]]] = {
    "formula/train.jsonl": [{"context": "ROI of 10 on 50?", "target": "0.2"}] * 3,
    "formula/val.jsonl": [{"context": "ROI of 10 on 50?", "target": "0.2"}] * 3,
    "finer/val_100.jsonl": [
        {
            "context": "Tags: A,B.\n"
            + "\n".join(f'{n}. What is best tag for entity "{n}5" in sentence: "x"?' for n in "1234"),
            "target": "Revenues,LongTermDebt,Revenues,SharePrice",
        }
    ]
    * 5,
    "symptom2disease/train.jsonl": [DRUG] * 4,
    "symptom2disease/val.jsonl": [DRUG],
    "uspto/train.jsonl": [REACTION] * 5,
    "uspto/val.jsonl": [REACTION],
    "lawbench/train.jsonl": [CASE] * 4,
    "lawbench/val.jsonl": [CASE],
    "hover/dev_600.jsonl": [
        {
            "claim": "A wrote B; it is old.",
            "supporting_facts": [["A &amp; Co", 0], ["B (novel)", 1], ["B (novel)", 2]],
            "label": "SUPPORTED",
        }
    ]
    * 6,
    "aime/train.jsonl": [{"problem": "What is 6 times 7?", "solution": "Multiply: \\boxed{042}.", "answer": "042"}] * 3,
    "ifbench/ifbench_200.jsonl": [
        {
            "prompt": "Say hello. Mention at least 1 different person names.",
            "instruction_id_list": ["count:person_names", "format:no_whitespace"],
            "kwargs": [{"N": 1.0, "word": None}, {"N": None}],
        }
    ]
    * 5,
}


def write(folder: Path, files: dict[str, list[dict[str, Any]]]) -> None:
    """Write files with these rows."""
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Reload an example's task from the folder that the variable names now."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("flashgraph_file_task_")]:
            del sys.modules[name]

    def loaded(name: str) -> fg.Task:
        if name == "ifbench" and importlib.util.find_spec("if_verifiable") is None:
            pytest.skip("ifbench needs the if-verifiable package: pip install 'flashgraph[ifbench]'")
        forget()
        return load_task(ROOT / "examples" / name / "task.py")

    yield loaded
    forget()


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a few invented rows for each example, and the variable that names it."""
    write(tmp_path, INVENTED)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real rows; skips where they are missing."""
    if not REAL.is_dir():
        pytest.skip(f"the real rows are not at {REAL}; docs/how-to/example-tasks.md says where they come from")
    monkeypatch.setenv(VARIABLE, str(REAL))
    return REAL
