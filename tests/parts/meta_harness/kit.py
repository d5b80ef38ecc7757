"""Short constructors of the archive's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flashgraph as fg
from flashgraph.graph.ports import Member
from flashgraph.parts.meta_harness import Checked, HarnessArchive, Prediction, Trained, identity
from flashgraph.parts.meta_harness.items import Points, Stakes

__all__ = ["admit", "checked", "code", "group", "predictions"]


def code(number: int) -> str:
    return f"class MemorySystem:\n    number = {number}\n"


def checked(number: int, datasets: Sequence[str] = ("a",)) -> Checked:
    """Return a checked program; all have the same name, because names mean nothing."""
    return Checked("iteration 1", code(number), identity(code(number)), tuple(datasets))


def predictions(values: Mapping[str, Sequence[tuple[float, int]]], rivals: Sequence[Points] = ()) -> list[Prediction]:
    """Return predictions from (score, characters) by data set, in the order of questions; a score below 0 is a
    failure."""
    stakes = Stakes({name: len(v) for name, v in values.items()}, tuple(rivals))
    starts, start = {}, 0
    for name, v in values.items():
        starts[name], start = start, start + len(v)
    trained = trained_of(0, values)
    return [
        Prediction(
            q.dataset,
            q.index,
            max(values[q.dataset][q.index - starts[q.dataset]][0], 0.0),
            "answer",
            values[q.dataset][q.index - starts[q.dataset]][1],
            1,
            "it broke" if values[q.dataset][q.index - starts[q.dataset]][0] < 0 else "",
            stakes,
        )
        for q in trained.questions()
    ]


def trained_of(number: int, values: Mapping[str, Sequence[tuple[float, int]]]) -> Trained:
    samples, start = {}, 0
    for name, v in values.items():
        samples[name] = tuple(range(start, start + len(v)))
        start += len(v)
    return Trained(checked(number, tuple(values)), dict.fromkeys(values, "state"), samples)


def group(
    number: int, values: Mapping[str, Sequence[tuple[float, int]]], known: int | None = None, amendment: bool = False
) -> fg.Group[Trained, Prediction]:
    """Return a program's predictions; the first ``known`` have arrived."""
    made = predictions(values)
    members = tuple(
        Member(i, "arrived", p) if known is None or i < known else Member[Prediction](i) for i, p in enumerate(made)
    )
    return fg.Group(trained_of(number, values), members, amendment)


def admit(archive: HarnessArchive, value: object, parents: tuple[int, ...] = ()) -> HarnessArchive:
    """Return the archive after the next admission."""
    event = fg.PoolEvent("admit", len(archive.entries), value, parents, getattr(value, "partial", False))
    return archive.apply(event)  # type: ignore[arg-type]  # tests admit what they like
