"""GEPA with Combee's reflection in the peer implementation: PyPI's ``gepa`` with an adapter that proposes by Combee.

It shares the wording of the prompts with the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import gepa

from flashgraph.algorithms.combee import JOIN_TEXTS, Shuffled
from flashgraph.parts.reflection import rewriting
from tests.algorithms.combee_published import combee
from tests.algorithms.combee_world import World


def unfenced(text: str) -> str:
    """Return the text between the first and the last fence, without a language word."""
    text = text.strip()
    if text.count("```") < 2:
        return text.removeprefix("```").strip()
    inside = text[text.index("```") + 3 : text.rindex("```")]
    language, newline, rest = inside.partition("\n")
    return (rest if newline and " " not in language else inside).strip()


def strictly(logger: object, message: str, *more: object) -> None:
    """Raise an error that the peer would only log."""
    assert "Exception" not in message, message


@attrs.define
class Trace:
    """The parts of a run that must be equal: (role, prompt) of each call in order, and the pool."""

    calls: list[tuple[str, str]] = attrs.field(factory=list)
    texts: list[dict[str, str]] = attrs.field(factory=list)
    parents: list[list[int | None]] = attrs.field(factory=list)
    scores: list[dict[int, float]] = attrs.field(factory=list)


def run(world: World, seed: int, rounds: int, duplication: int, dealt: Iterator[Shuffled]) -> Trace:
    """Run ``rounds`` iterations, with the dealt shares."""
    task, trace = world.task(), Trace()

    def call(role: str, *contents: str) -> str:
        trace.calls.append((role, "\n".join(contents)))
        if role == "reflection":
            return world.reflect(*contents)
        return world.answer([{"content": content} for content in contents])

    class Adapter:
        def evaluate(
            self, batch: list[tuple[str, int]], candidate: dict[str, str], capture_traces: bool = False
        ) -> Any:
            samples = [task.samples(split)[i] for split, i in batch]
            outputs = [call("task", "\n\n".join(candidate.values()), str(sample)) for sample in samples]
            scores = [world.score(sample, output) for sample, output in zip(samples, outputs, strict=True)]
            return gepa.EvaluationBatch(outputs, scores, list(batch) if capture_traces else None)

        def make_reflective_dataset(self, candidate: Any, seen: Any, components: list[str]) -> Any:
            samples = [task.samples(split)[i] for split, i in seen.trajectories]
            return {
                components[0]: [
                    {"Input": sample, "Answer": output, "Feedback": world.feedback(sample)}
                    for sample, output in zip(samples, seen.outputs, strict=True)
                ]
            }

        def propose_new_texts(self, candidate: dict[str, str], records: Any, components: list[str]) -> dict[str, str]:
            (name,) = components
            text = candidate[name]
            new = combee(
                ["\n".join(f"{key}: {value}" for key, value in record.items()) for record in records[name]],
                dealt,
                duplication,
                lambda shown: call("reflection", rewriting(text, shown, task, name)),
                lambda drafts: call("reflection", JOIN_TEXTS.replace("<<text>>", text).replace("<<here>>", drafts)),
            )
            return {name: unfenced(new)}

    result = gepa.optimize(
        seed_candidate=dict(task.seed),
        trainset=[("train", i) for i in range(len(task.train))],
        valset=[("val", i) for i in range(len(task.val))],
        adapter=Adapter(),
        reflection_minibatch_size=world.minibatch,
        stop_callbacks=[lambda state: bool(state.i + 1 >= rounds)],
        seed=seed,
        logger=type("Strict", (), {"log": strictly})(),
        display_progress_bar=False,
    )
    trace.texts = [dict(c) for c in result.candidates]
    trace.parents = [list(p) for p in result.parents]
    trace.scores = [dict(s) for s in result.val_subscores]
    return trace
