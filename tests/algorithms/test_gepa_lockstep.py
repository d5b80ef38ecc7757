"""GEPA in lockstep has the candidates, parents, minibatches, scores and evaluation counts of PyPI's ``gepa``.

The worlds are generated: hidden rules decide which samples a candidate passes. A deterministic reflection adds, loses
or garbles rules by a hash of its prompt. Both implementations get the same functions and seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.events import Created

gepa = pytest.importorskip("gepa", reason="the peer implementation is a test dependency: pip install gepa==0.1.4")


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def rules_in(text: str) -> frozenset[int]:
    return frozenset(int(n) for n in re.findall(r"rule-(\d+)", text))


@attrs.frozen
class World:
    """``needs[split][i]`` are the rules that sample i needs; scores are graded, so that ties and fractions occur."""

    number: int
    minibatch: int
    needs: Mapping[str, Sequence[frozenset[int]]]

    @classmethod
    def make(cls, number: int) -> World:
        rules = 5 + digest(number, "rules") % 9

        def sample(split: str, i: int) -> frozenset[int]:
            count = 1 + digest(number, split, i, "n") % 3
            return frozenset(digest(number, split, i, k) % rules for k in range(count))

        sizes = {"train": 2 + digest(number, "train") % 14, "val": 3 + digest(number, "val") % 15}
        return cls(
            number,
            1 + digest(number, "b") % 4,
            {split: [sample(split, i) for i in range(n)] for split, n in sizes.items()},
        )

    def score(self, split: str, index: int, text: str) -> float:
        needs = self.needs[split][index]
        known = len(needs & rules_in(text)) / len(needs)
        # A garbled instruction makes some samples fail that would have passed.
        return 0.0 if digest(self.number, text, split, index) % 7 == 0 else known

    def feedback(self, split: str, index: int) -> str:
        return "needs " + " ".join(f"rule-{r}" for r in sorted(self.needs[split][index]))

    def reflect(self, current: str, batch: str) -> str:
        """Return a child: most of the known and shown rules; a hash of both decides which are lost.

        The hash depends on the order of the examples, so that a minibatch in another order gives another child. The
        reply comes with a language word, without one, without fences, or with an opening fence only. It is never empty:
        then the peer evaluates an empty text, and flashgraph makes no child.
        """
        key = digest(self.number, current, re.findall(r"rule-\d+", batch))
        kept = [r for r in sorted(rules_in(current) | rules_in(batch)) if digest(key, r) % 5]
        text = "Follow " + " ".join(f"rule-{r}" for r in kept) + f" v{key % 100}"
        frames = ("Here it is:\n```text\n{}\n```", "```\n{}\n```\nDone.", "{}\n", "```\n{}")
        return frames[key % 4].format(text)


SEED = "Do it."


@attrs.frozen
class Output:
    """Shown to reflection in the peer's form; only the feedback carries information."""

    text: str

    def __str__(self) -> str:
        return "-"


@attrs.frozen
class Trace:
    """The parts of a run that must be equal."""

    candidates: list[str]
    parents: list[list[int | None]]
    scores: list[dict[int, float]]
    minibatches: list[list[int]]
    evaluations: list[tuple[str, tuple[int, ...]]]
    """(text, training ids) of each minibatch and (text, validation ids) of each sweep, in order.

    The ids of one are sorted, because its requests run side by side.
    """


def peer(world: World, seed: int, iterations: int) -> Trace:
    evaluations: list[tuple[str, tuple[int, ...]]] = []
    batches: list[list[int]] = []

    class Adapter:
        propose_new_texts = None

        def evaluate(
            self, batch: list[tuple[str, int]], candidate: dict[str, str], capture_traces: bool = False
        ) -> Any:
            text = candidate["instruction"]
            evaluations.append((text, tuple(sorted(i for _, i in batch))))
            scores = [world.score(split, i, text) for split, i in batch]
            return gepa.EvaluationBatch(
                outputs=["-"] * len(batch), scores=scores, trajectories=list(batch) if capture_traces else None
            )

        def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: list[str]) -> Any:
            return {components[0]: [{"Feedback": world.feedback(split, i)} for split, i in evaluated.trajectories]}

    class Watch:
        def on_minibatch_sampled(self, event: Any) -> None:
            batches.append(sorted(event["minibatch_ids"]))

    def reflection(prompt: Any) -> str:
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        current, _, rest = text.split("```", 1)[1].partition("```")
        return world.reflect(current.strip(), rest)

    class Stop:
        def __call__(self, state: Any) -> bool:
            return bool(state.i + 1 >= iterations)

    result = gepa.optimize(
        seed_candidate={"instruction": SEED},
        trainset=[("train", i) for i in range(len(world.needs["train"]))],
        valset=[("val", i) for i in range(len(world.needs["val"]))],
        adapter=Adapter(),
        reflection_lm=reflection,
        reflection_minibatch_size=world.minibatch,
        stop_callbacks=[Stop()],
        seed=seed,
        callbacks=[Watch()],
        logger=type("Quiet", (), {"log": lambda self, *_: None})(),
        display_progress_bar=False,
    )
    return Trace(
        [c["instruction"] for c in result.candidates],
        [list(p) for p in result.parents],
        [dict(s) for s in result.val_subscores],
        batches,
        evaluations,
    )


def ours(world: World, seed: int, iterations: int, backend: str) -> Trace:
    """Run the graph file; the source's emission after the last round ends it."""
    evaluations: list[tuple[str, str, int]] = []

    async def attempt(candidate: Mapping[str, str], sample: tuple[str, int], llm: fg.Llm) -> Output:
        evaluations.append((candidate["instruction"], *sample))
        return Output(candidate["instruction"])

    def score(sample: tuple[str, int], output: Output) -> fg.Score:
        return fg.Score(world.score(*sample, output.text), feedback=world.feedback(*sample))

    def reflection(messages: Sequence[fg.Message]) -> str:
        current, _, rest = messages[-1]["content"].split("```", 1)[1].partition("```")
        return world.reflect(current.strip(), rest)

    task = fg.Task(
        name=f"world-{world.number}",
        train=[("train", i) for i in range(len(world.needs["train"]))],
        val=[("val", i) for i in range(len(world.needs["val"]))],
        seed={"instruction": SEED},
        attempt=attempt,
        score=score,
    )
    from flashgraph.graph.loading import load_graph

    graph = load_graph("gepa")
    bounded = _with_rounds(graph, iterations)
    result = fg.run(
        bounded,
        task,
        models={"task": lambda m: "", "reflection": reflection},
        schedule="lockstep",
        seed=seed,
        params={"minibatch": world.minibatch},
        budget=fg.Budget(evaluations=100_000),
        backend=backend,
    )
    assert result.status == "completed", result.reason
    batches = _scattered(result.events, "select->rollout", evaluations)
    return Trace(
        [a.value["instruction"] for a in result.artifacts],
        [list(a.parents) or [None] for a in result.artifacts],
        [dict(a.scores) for a in result.artifacts],
        batches,
        _grouped(evaluations, result.events),
    )


def _with_rounds(graph: fg.Graph, rounds: int) -> fg.Graph:
    """Return the shipped graph with a bounded `select`, so that both sides stop after the same iteration."""
    copy = fg.Graph(graph.name, params=graph.spec.classes[""])
    copy._params, copy._edges = dict(graph._params), list(graph._edges)
    copy._nodes = {
        n: attrs.evolve(node, rounds=rounds) if n == "select" else node  # type: ignore[arg-type]
        for n, node in graph._nodes.items()
    }
    return copy


def _groups(events: Sequence[Any]) -> list[tuple[str, int]]:
    """Return (edge, size) of every scattered group, in order."""
    found: dict[int, list[Any]] = {}
    for event in events:
        if isinstance(event, Created) and event.group is not None and event.edge in SCATTERS:
            found.setdefault(event.group, [event.edge, 0])[1] += 1
    return [(edge, size) for edge, size in found.values()]


SCATTERS = ("select->rollout", "propose->trial", "gate->validate", "seed->baseline")


def _grouped(evaluations: list[tuple[str, str, int]], events: Sequence[Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Return single evaluations, regrouped by the groups they were scattered in."""
    out, at = [], 0
    for _, size in _groups(events):
        part = evaluations[at : at + size]
        assert len({text for text, _, _ in part}) == 1
        out.append((part[0][0], tuple(sorted(i for _, _, i in part))))
        at += size
    assert at == len(evaluations)
    return out


def _scattered(events: Sequence[Any], edge: str, evaluations: list[tuple[str, str, int]]) -> list[list[int]]:
    out, at = [], 0
    for name, size in _groups(events):
        if name == edge:
            out.append(sorted(i for _, _, i in evaluations[at : at + size]))
        at += size
    return out


@pytest.mark.parametrize("number", range(60))
def test_lockstep_makes_the_same_run_as_the_peer(number: int) -> None:
    """Candidates, parents, minibatches, validation scores and evaluations equal the peer's, in order."""
    world = World.make(number)
    seed = digest(number, "seed") % 1000
    theirs = peer(world, seed, iterations=30)
    mine = ours(world, seed, iterations=30, backend=("asyncio", "trio")[number % 2])
    assert mine == theirs


def test_the_worlds_tell_implementations_apart() -> None:
    """The comparison can fail: runs accept and reject, have ties, and depend on the seed."""
    runs = [peer(World.make(n), digest(n, "seed") % 1000, 30) for n in range(20)]
    assert sum(len(r.candidates) for r in runs) > 60
    assert any(len(r.candidates) < 4 for r in runs)
    assert any(p != [0] for r in runs for p in r.parents[1:])
    different = [peer(World.make(n), 7, 30) != peer(World.make(n), 8, 30) for n in range(20)]
    assert sum(different) > 10
