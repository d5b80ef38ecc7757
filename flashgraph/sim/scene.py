"""The content of a forecast, in place of a model's answers: a task world, or a task with stand-ins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.spec import GraphSpec
from flashgraph.llm.protocol import Message
from flashgraph.parts.evaluation import attempt
from flashgraph.run.result import texts_of
from flashgraph.sim.world import World
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Task

__all__ = ["Scene", "scene_of"]


@attrs.frozen
class Scene:
    """A task, the answers of its model, and the true score of an artifact's value.

    The score is None for a value without texts. ``truth`` is None if nothing has a true score.
    """

    task: Task[Any, Any]
    answer: Callable[[Sequence[Message]], str]
    truth: Callable[[Any], float | None] | None = None

    @classmethod
    def of_world(cls, world: World) -> Scene:
        """Return the scene of a simulated world: reflection learns, and better instructions score better."""
        known: dict[str, float] = {}

        def truth(value: Any) -> float | None:
            texts = texts_of(value)
            if texts is None:
                return None
            text = "\n".join(texts.values())
            if text not in known:
                known[text] = world.true_score(text)
            return known[text]

        return cls(world.task(), world.answer, truth)

    @classmethod
    def of_task(cls, task: Task[Any, Any], pass_rate: float, seed: int) -> Scene:
        """Return the scene of a task, using only its texts; nothing learns.

        Answers are hashes of the request, and a hash of the answer decides whether it passes. Prompts are as long as
        real ones.
        """

        def score(sample: Any, output: Any) -> Score:
            passed = _share(seed, "score", sample, output) < pass_rate
            return Score(float(passed), "passed" if passed else "failed")

        def answer(messages: Sequence[Message]) -> str:
            return _reply(f"{_digest(seed, *(m['content'] for m in messages)):x}")

        return cls(attrs.evolve(task, score=score), answer)


def scene_of(graph: GraphSpec, task: Task[Any, Any] | None, *, pass_rate: float, seed: int) -> Scene:
    """Return the scene that a graph is simulated in.

    Without a ``task`` it is world ``seed``. A graph with a stage `flashgraph.parts.evaluation.attempt` evolves what the
    task's own ``attempt`` uses, so it gets the world itself. Other graphs get the world's samples with stand-ins.

    Raises `DataError` for a graph that uses resources, because code in a sandbox takes real time.
    """
    if graph.resources:
        raise DataError(
            f"graph {graph.name!r} runs code (it uses the resource {', '.join(graph.resources)}), which takes real "
            "time that no profile describes; a forecast simulates only models.\n"
            "Fix: measure it with `flashgraph run` on a small budget instead."
        )
    if task is not None:
        return Scene.of_task(task, pass_rate, seed)
    world = World(seed=seed)
    if any(stage.body is attempt for stage in graph.stages):
        return Scene.of_world(world)
    train, val, test = ([str(s) for s in world.task().samples(split)] for split in ("train", "val", "test"))
    made = Task[str, Any](
        "stand-in", train=train, val=val, test=test, seed={"text": ""}, score=lambda sample, output: Score(0.0)
    )
    return Scene.of_task(made, pass_rate, seed)


def _reply(text: str) -> str:
    """Return an answer that can be read both as a text between fences and as the JSON that ACE's prompts request."""
    line = {"type": "ADD", "section": "RULES", "content": f"When it is {text}, answer {text[::-1]}"}
    fields = {"reasoning": "-", "key_insight": text, "final_answer": text, "bullet_tags": [], "operations": [line]}
    return f"```\n{json.dumps(fields)}\n```"


def _digest(*key: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def _share(*key: object) -> float:
    return _digest(*key) / 2**64
