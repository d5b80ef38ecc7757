"""The peer implementation (PyPI ``gepa``) on the same simulated server and world, with its own loop and defaults.

The peer is synchronous: it sends one batch at a time and waits for its end. So each batch runs on the simulated engine
under a virtual clock of its own, and the peer's time is the sum of these. Its own work between batches takes no time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import attrs
import gepa
from gepa.strategies.proposal_sampling import IndependentSampling

from flashgraph.llm.protocol import Message, Reply
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import RuleSample
from flashgraph.tasks.task import Llm

from .measure import Measured, Point
from .worlds import FAMILY, KindWorld

__all__ = ["PEERS", "Peer", "measure_peer"]

R = TypeVar("R")


@attrs.frozen
class Peer:
    """The mode of the peer: ``workers`` requests at once, and ``proposals`` an iteration, made side by side."""

    workers: int
    proposals: int


PEERS: Mapping[str, Peer] = {
    "peer, defaults": Peer(workers=10, proposals=1),
    "peer, 128 workers": Peer(workers=128, proposals=1),
    "peer, 4 proposals at once": Peer(workers=128, proposals=4),
    "peer, 8 proposals at once": Peer(workers=128, proposals=8),
    "peer, 16 proposals at once": Peer(workers=128, proposals=16),
}
"""Its defaults (``max_litellm_workers=10``, one mutation an iteration), and its parallel modes.

These are `IndependentSampling` with ``batch_evaluate`` and batched reflection.
"""


class _Server:
    """Batches on the simulated engine, and the clock that sums them."""

    def __init__(self, world: KindWorld, profile: str, workers: int, seed: int) -> None:
        self.model = SimModel(PROFILES[profile], world.answer, seed=seed)
        self.workers = min(workers, PROFILES[profile].slots)
        self.now = 0.0
        self.calls = 0

    def run(self, works: Sequence[Callable[[Llm], Awaitable[R]]]) -> list[R]:
        """Return the results of several works, run ``workers`` at a time."""
        found: dict[int, R] = {}

        async def llm(messages: str | Sequence[Message], **params: Any) -> Reply:
            self.calls += 1
            sent = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
            return await self.model.complete(sent, params)

        async def batch() -> float:
            limit = anyio.CapacityLimiter(self.workers)
            began = anyio.current_time()

            async def one(index: int) -> None:
                async with limit:
                    found[index] = await works[index](llm)

            async with self.model.open(), anyio.create_task_group() as tasks:
                for index in range(len(works)):
                    tasks.start_soon(one, index)
            return anyio.current_time() - began

        self.now += run_virtually(batch)
        return [found[index] for index in range(len(works))]


class _Adapter:
    propose_new_texts = None

    def __init__(self, world: KindWorld, server: _Server) -> None:
        self._task, self._server = world.task(), server

    def evaluate(self, batch: list[RuleSample], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[RuleSample]]]) -> list[Any]:
        works = [partial(self._task.attempt, candidate, sample) for candidate, batch in items for sample in batch]
        outputs = iter(self._server.run(works))
        found = []
        for _, batch in items:
            judged = [self._task.score(sample, next(outputs)) for sample in batch]
            found.append(
                gepa.EvaluationBatch(
                    outputs=[""] * len(batch),
                    scores=[score.value for score in judged],
                    trajectories=[score.feedback for score in judged],
                )
            )
        return found

    def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: list[str]) -> Any:
        return {name: [{"Feedback": text} for text in evaluated.trajectories] for name in components}


class _Reflection:
    """The world's model, behind the peer's prompt."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def __call__(self, prompt: Any) -> str:
        return self.batch_complete([prompt])[0]

    def batch_complete(self, prompts: Sequence[Any], **options: Any) -> list[str]:
        async def one(prompt: str, llm: Llm) -> str:
            return (await llm(prompt)).text

        return self._server.run([partial(one, _in_one_fence(p)) for p in prompts])


def _in_one_fence(prompt: Any) -> str:
    """Return the prompt as the world reads it: the instruction in the only fence, and each feedback marked."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    _, current, rest = text.split("```", 2)
    return f"```{current}```\n{rest.replace('```', '').replace('## Feedback', 'Feedback:')}"


def measure_peer(
    world: KindWorld | int, peer: Peer, *, minutes: float, profile: str = "vllm", seed: int = 0
) -> Measured:
    """Run the peer on a world for that many simulated minutes; see `measure.measure`."""
    made = KindWorld(FAMILY["rules"], world) if isinstance(world, int) else world
    server = _Server(made, profile, peer.workers, seed=made.seed + 1000 * seed)
    curve: list[Point] = []
    counted = {"proposals": 0, "sweeps": 0}

    class Stop:
        def __call__(self, state: Any) -> bool:
            means = [sum(scores.values()) / len(scores) for scores in state.prog_candidate_val_subscores]
            place = means.index(max(means))
            tokens, true = server.model.engine.tokens, made.true_score(state.program_candidates[place])
            curve.append(Point(server.now, server.calls, tokens, true, len(means), means[place]))
            return server.now >= minutes * 60

    class Count:
        def on_proposal_end(self, event: Any) -> None:
            counted["proposals"] += 1

    parallel = {"sampling_strategy": IndependentSampling(peer.proposals)} if peer.proposals > 1 else {}
    gepa.optimize(
        seed_candidate=made.seed_candidate(),
        trainset=made.samples("train"),
        valset=made.samples("val"),
        adapter=_Adapter(made, server),
        reflection_lm=_Reflection(server),
        stop_callbacks=[Stop()],
        callbacks=[Count()],
        seed=seed,
        logger=_Silent(),
        **parallel,
    )
    within = [p for p in curve if p.at <= minutes * 60]
    share = minutes * 60 / server.now
    return Measured(
        minutes=minutes,
        curve=tuple(within),
        proposals=round(counted["proposals"] * share),
        accepted=within[-1].accepted - 1 if within else 0,
        calls=round(server.calls * share),
        wasted=0,
        use=server.model.engine.tokens / (PROFILES[profile].capacity * server.now),
        sweeps=within[-1].accepted if within else 0,
        reported=within[-1].reported if within else 0.0,
        last=within[-1].score if within else 0.0,
    )


class _Silent:
    def log(self, message: str) -> None:
        pass
