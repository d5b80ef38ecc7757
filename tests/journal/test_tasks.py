"""Resume with another task: differences are shown, and scores of two tasks are never mixed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.llm.protocol import Message
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.tasks import changes_of_task, task_fingerprint
from tests.journal.small import WORLD, small_run

TASK = WORLD.task()
BEFORE = fg.Budget(proposals=2)
Change = Callable[[fg.Task], fg.Task]


def others(**fields: Any) -> Change:
    """Return a change that gives the task other fields."""
    return lambda task: attrs.evolve(task, **fields)


class Harsh(fg.Task[Any, Any]):
    """A task with a ``score`` method of its own."""

    async def judge(self, sample: Any, output: Any, llm: Any = None) -> fg.Score:
        return fg.Score(0.0)


def strict(sample: object, output: object) -> fg.Score:
    return fg.Score(0.0)


async def zero(candidate: object, sample: object, llm: object) -> str:
    return "0"


ANEW: list[tuple[str, Change, str]] = [
    ("fewer", others(val=TASK.val[:-2]), "val: 8 samples -> 6: samples were removed from the end"),
    ("more", others(val=(*TASK.val, TASK.val[0])), "val: 8 samples -> 9: samples were added at the end"),
    ("reordered", others(val=TASK.val[::-1]), "val: the same 8 samples in another order"),
    (
        "replaced",
        others(val=(*TASK.val[:3], TASK.train[0], *TASK.val[4:])),
        "val: 8 samples -> 8, 1 of them new; sample 3 is the first that differs",
    ),
    ("fewer to learn from", others(train=TASK.train[:4]), "train: 12 samples -> 4: samples were removed from the end"),
    ("reordered to learn from", others(train=TASK.train[::-1]), "train: the same 12 samples in another order"),
    ("another scorer", others(score=strict), "score: another function, or what it uses has changed"),
    ("another attempt", others(attempt=zero), "attempt: another function"),
    ("a class of its own", lambda task: Harsh(**attrs.asdict(task, recurse=False)), "score: another function"),
    ("other bounds", others(bounds=(0.0, 2.0)), "bounds: 0 to 1 -> 0 to 2"),
    ("another component", others(seed={**TASK.seed, "more": "text"}), "components of the seed: "),
    ("components in another order", others(seed={"more": "text", **TASK.seed}), "components of the seed: "),
]  # fmt: skip

ACCEPTED: list[tuple[str, Change, str]] = [
    ("another name", others(name="other"), "task: name: 'world-1' -> 'other'"),
    ("another seed", others(seed=dict.fromkeys(TASK.seed, "Another text.")), "task: seed: the text of "),
    ("more to learn from", others(train=(*TASK.train, *TASK.val)), "train: 12 samples -> 20: samples were added"),
    ("another test", others(test=TASK.val), "test: "),
]


def judged(task: fg.Task, texts: Mapping[str, str], index: int) -> float:
    """Compute the score of a candidate on a sample, independently of a run."""

    async def llm(messages: str | Sequence[Message], **params: Any) -> fg.Reply:
        assert not isinstance(messages, str)
        return fg.Reply(WORLD.answer(messages))

    async def score() -> float:
        sample = task.val[index]
        return (await task.judge(sample, await task.answer(texts, sample, llm))).value

    return anyio.run(score)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended after two proposals."""
    folder = tmp_path_factory.mktemp("tasks") / "run"
    small_run(folder, budget=BEFORE)
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in ANEW], ids=[row[0] for row in ANEW])
def test_a_task_that_would_mix_scores(change: Change, said: str, folder: Path) -> None:
    """The change is shown, and the run is unchanged.

    Once accepted, the run restarts from its best artifact with the rest of the budget.
    """
    with StoredRun.open(folder) as run:
        best, spend = run.best(), run.spend()
    assert best is not None
    before = (folder / "journal.db").read_bytes()
    with pytest.raises(DataError, match="has changed since the run was started") as caught:
        small_run(folder, task=change(TASK), resume=True)
    assert f"task: {said}" in str(caught.value)
    assert "Fix: resume with the earlier task; or --accept-changes, which restarts" in str(caught.value)
    assert (folder / "journal.db").read_bytes() == before

    task = change(TASK)
    then = small_run(folder, task=task, resume=True, accept_changes=True)
    with StoredRun.open(folder) as run:
        artifacts = run.artifacts()
        assert len(run.sessions()) == 1
    # The pool's first artifact is the old run's best, and all scores are of the new task.
    first = {name: best.texts.get(name, text) for name, text in task.seed.items()}
    assert artifacts[0].texts == first
    for artifact in artifacts:
        assert artifact.scores == {i: judged(task, artifact.texts, i) for i in artifact.scores}
    assert (then.status, then.spent.proposals) == ("budget", 8)
    assert then.spent.calls > spend.calls
    with StoredRun.open(folder / "journal-1.db") as run:
        assert run.best() == best


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_a_task_that_may_be_accepted(change: Change, said: str, folder: Path) -> None:
    """The change is shown; once accepted, the run resumes, and this task is its own from then on."""
    with pytest.raises(DataError, match="Fix: --accept-changes") as caught:
        small_run(folder, task=change(TASK), resume=True)
    assert said in str(caught.value)
    then = small_run(folder, task=change(TASK), resume=True, accept_changes=True)
    assert (then.status, then.spent.proposals) == ("budget", 8)
    again = small_run(folder, task=change(TASK), resume=True)
    assert again.artifacts == then.artifacts


def test_digests_that_were_made_in_another_way(folder: Path) -> None:
    """Digests of another version are not compared."""
    before = {name: part for name, part in task_fingerprint(TASK).items() if name != "how"}
    assert changes_of_task({**before, "score": "0"}, task_fingerprint(TASK)) == ([], [])
    assert changes_of_task({**before, "score": "0", "how": "2"}, task_fingerprint(TASK))[0] != []


def test_the_same_task(folder: Path) -> None:
    """A task made again from equal parts is the same."""
    copied = attrs.evolve(WORLD.task(), seed=dict(TASK.seed), val=[*TASK.val])
    assert small_run(folder, task=copied, resume=True).spent.proposals == 8


def test_a_journal_of_an_older_version(folder: Path) -> None:
    """A journal without a fingerprint of its task is resumed, and has one from then on."""
    db = sqlite3.connect(folder / "journal.db")
    db.execute("DELETE FROM meta WHERE key = 'made_of'")
    db.commit()
    db.close()
    assert small_run(folder, resume=True, budget=fg.Budget(proposals=4)).spent.proposals == 4
    with pytest.raises(DataError, match="val: 8 samples -> 7"):
        small_run(folder, task=attrs.evolve(TASK, val=TASK.val[:-1]), resume=True)


def test_a_fingerprint_that_says_less() -> None:
    """Only what the older fingerprint has is compared."""
    assert changes_of_task({}, task_fingerprint(TASK)) == ([], [])
