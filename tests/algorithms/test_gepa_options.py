"""With every option, GEPA in lockstep has the candidates, parents, minibatches, evaluations and scores of ``gepa``.

As in ``test_gepa_lockstep``, hidden rules decide which samples a candidate passes, and a deterministic reflection adds,
loses or garbles rules. Here a candidate has several components, each for rules of its own, and an output also has
objectives.

Two differences are by design (docs/algorithms/gepa.md) and excluded. A perfect minibatch passes the turn to the next
component (`Watch`). All equal children of one draw are validated (`same`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.run.events import Created, Event

gepa = pytest.importorskip("gepa", reason="the peer implementation is a test dependency: pip install gepa==0.1.4")


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def rules_in(text: str) -> frozenset[int]:
    return frozenset(int(n) for n in re.findall(r"rule-(\d+)", text))


def names_of(count: int) -> tuple[str, ...]:
    """Return names whose set iterates in their own order.

    The peer crosses components in the order of a set of strings, which differs between processes.
    """
    for first in range(1000):
        names = tuple(f"part{first + i}" for i in range(count))
        if tuple(set(dict.fromkeys(names).keys())) == names:
            return names
    raise AssertionError("no such names")


@attrs.frozen
class World:
    """``needs[split][i]`` are the rules that sample i needs; rule r is known if component r % len(names) states it."""

    number: int
    names: tuple[str, ...]
    minibatch: int
    needs: Mapping[str, Sequence[frozenset[int]]]

    @classmethod
    def make(cls, number: int, components: int, tasks: int = 1, most_rules: int = 18) -> World:
        rules = most_rules - digest(number, "rules") % 12

        def sample(split: str, i: int) -> frozenset[int]:
            count = 1 + digest(number, split, i, "n") % 3
            return frozenset(digest(number, split, i, k) % rules for k in range(count))

        minibatch = 1 + digest(number, "b") % 4
        sizes = {"train": tasks * minibatch + digest(number, "train") % 12, "val": 6 + digest(number, "val") % 14}
        needs = {split: [sample(split, i) for i in range(n)] for split, n in sizes.items()}
        return cls(number, names_of(components), minibatch, needs)

    @property
    def seed(self) -> dict[str, str]:
        return {name: f"{place}: Do it." for place, name in enumerate(self.names)}

    def _texts(self, text: Mapping[str, str]) -> list[str]:
        """Return the texts alone, because names differ between processes and a world must not."""
        return [text[name] for name in self.names]

    def score(self, split: str, index: int, text: Mapping[str, str]) -> float:
        """Return the score, never 0: the peer cannot draw among ancestors that all have a mean of 0."""
        needs = self.needs[split][index]
        known = frozenset(
            r for place, name in enumerate(self.names) for r in rules_in(text[name]) if r % len(self.names) == place
        )
        garbled = digest(self.number, self._texts(text), split, index) % 9 == 0
        return 0.25 if garbled else 0.25 + 0.75 * len(needs & known) / len(needs)

    def objectives(self, split: str, index: int, text: Mapping[str, str]) -> dict[str, float]:
        length = sum(map(len, text.values()))
        return {
            "quality": self.score(split, index, text),
            "brevity": round(1 / (1 + length / 100), 2),
            "luck": digest(self.number, self._texts(text), split, index, "luck") % 4 / 4,
        }

    def feedback(self, split: str, index: int) -> str:
        return f"{split}-{index} needs " + " ".join(f"rule-{r}" for r in sorted(self.needs[split][index]))

    def reflect(self, prompt: str) -> str:
        """Return a child of the fenced text: most of the known and shown rules."""
        current, _, batch = prompt.split("```", 1)[1].partition("```")
        place = current.strip().partition(":")[0]
        key = digest(self.number, current.strip(), re.findall(r"rule-\d+|train-\d+", batch))
        kept = [r for r in sorted(rules_in(current) | rules_in(batch)) if digest(key, r) % 5]
        return f"```\n{place}: Follow " + " ".join(f"rule-{r}" for r in kept) + f" v{key}\n```"


@attrs.frozen
class Options:
    """Options by our names; `peer` has the peer's."""

    components: str = "round_robin"
    frontier: str = "instance"
    selection: str = "pareto"
    acceptance: str = "strict_improvement"
    parents: int = 1
    samples: int = 1
    merge: bool = False
    max_merge_invocations: int = 5
    perfect_score: float = 1.0


@attrs.frozen
class Trace:
    """The parts of a run that must be equal; evaluations are (text, ids) of each minibatch, merge trial and sweep, in
    order."""

    candidates: list[dict[str, str]]
    parents: list[list[int | None]]
    scores: list[dict[int, float]]
    minibatches: list[list[int]]
    evaluations: list[tuple[dict[str, str], list[int]]]


class Over(Exception):
    """The peer has made its iterations."""


class Watch:
    """The peer's state and draws; passes the turn of a component on after a perfect minibatch."""

    def __init__(self) -> None:
        self.state: Any = None
        self.drawn = 0
        self.merges = 0
        self.duplicates = 0
        self.batches: list[list[int]] = []

    def on_iteration_start(self, event: Any) -> None:
        self.state = event["state"]

    def on_candidate_selected(self, event: Any) -> None:
        self.drawn += 1

    def on_minibatch_sampled(self, event: Any) -> None:
        self.batches.append(sorted(event["minibatch_ids"]))

    def on_merge_attempted(self, event: Any) -> None:
        self.merges += 1

    def on_candidate_rejected(self, event: Any) -> None:
        self.duplicates += event["reason"].startswith("Duplicate")

    def on_evaluation_skipped(self, event: Any) -> None:
        turns = self.state.named_predictor_id_to_update_next_for_program_candidate
        index = event["candidate_idx"]
        turns[index] = (turns[index] + 1) % len(self.state.list_of_named_predictors)


def peer(world: World, seed: int, draws: int, options: Options) -> tuple[Trace, Watch]:
    """Run the published loop until it has made ``draws`` draws and the merges due by then."""
    from gepa.strategies.proposal_sampling import PxNSampling

    tasks = options.parents * options.samples
    watch, evaluations = Watch(), list[tuple[dict[str, str], list[int]]]()

    class Adapter:
        propose_new_texts = None

        def evaluate(
            self, batch: list[tuple[str, int]], candidate: dict[str, str], capture_traces: bool = False
        ) -> Any:
            if watch.drawn > draws * tasks:
                raise Over
            evaluations.append((dict(candidate), sorted(i for _, i in batch)))
            return gepa.EvaluationBatch(
                outputs=["-"] * len(batch),
                scores=[world.score(split, i, candidate) for split, i in batch],
                objective_scores=[world.objectives(split, i, candidate) for split, i in batch],
                trajectories=list(batch) if capture_traces else None,
            )

        def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: list[str]) -> Any:
            records = [{"Feedback": world.feedback(split, i)} for split, i in evaluated.trajectories]
            return dict.fromkeys(components, records)

    with pytest.raises(Over):
        gepa.optimize(
            seed_candidate=world.seed,
            trainset=[("train", i) for i in range(len(world.needs["train"]))],
            valset=[("val", i) for i in range(len(world.needs["val"]))],
            adapter=Adapter(),
            reflection_lm=lambda prompt: world.reflect(prompt if isinstance(prompt, str) else prompt[-1]["content"]),
            reflection_minibatch_size=world.minibatch,
            perfect_score=options.perfect_score,
            candidate_selection_strategy={"best": "current_best", "top_k": "top_k_pareto"}.get(
                options.selection, options.selection
            ),
            frontier_type=options.frontier,
            module_selector=options.components,
            acceptance_criterion=options.acceptance,
            use_merge=options.merge,
            max_merge_invocations=options.max_merge_invocations,
            sampling_strategy=PxNSampling(options.parents, options.samples) if tasks > 1 else None,
            max_metric_calls=10**9,
            seed=seed,
            callbacks=[watch],
            logger=SimpleNamespace(log=lambda *_: None),
            display_progress_bar=False,
        )
    state = watch.state
    trace = Trace(
        list(state.program_candidates),
        [list(p) for p in state.parent_program_for_candidate],
        [dict(s) for s in state.prog_candidate_val_subscores],
        watch.batches[: draws * tasks],
        evaluations,
    )
    return trace, watch


@attrs.frozen
class Output:
    """Shown to reflection in the peer's form; only the feedback carries information."""

    text: Mapping[str, str]

    def __str__(self) -> str:
        return "-"


SCATTERS = ("select->rollout", "spread->rollout", "propose->trial", "merge->trial", "gate->validate", "seed->baseline")


def ours(world: World, seed: int, draws: int, options: Options, backend: str = "asyncio") -> Trace:
    """Run the graph file with a bounded `select`."""
    attempts: list[tuple[dict[str, str], int]] = []

    async def attempt(candidate: Mapping[str, str], sample: tuple[str, int], llm: fg.Llm) -> Output:
        attempts.append((dict(candidate), sample[1]))
        return Output(candidate)

    def score(sample: tuple[str, int], output: Output) -> fg.Score:
        return fg.Score(
            world.score(*sample, output.text), world.feedback(*sample), world.objectives(*sample, output.text)
        )

    task = fg.Task(
        name=f"world-{world.number}",
        train=[("train", i) for i in range(len(world.needs["train"]))],
        val=[("val", i) for i in range(len(world.needs["val"]))],
        seed=world.seed,
        attempt=attempt,
        score=score,
    )
    graph = copy(load_graph("gepa"))
    select = attrs.evolve(graph._nodes["select"], rounds=draws)  # type: ignore[arg-type]  # it is a source
    graph._nodes = {**graph._nodes, "select": select}
    result = fg.run(
        graph,
        task,
        models={"task": lambda m: "", "reflection": lambda m: world.reflect(m[-1]["content"])},
        schedule="lockstep",
        seed=seed,
        params={"minibatch": world.minibatch, **attrs.asdict(options)},
        budget=fg.Budget(evaluations=1_000_000),
        backend=backend,
    )
    assert result.status == "completed", result.reason
    evaluations = list(_grouped(attempts, result.events))
    return Trace(
        [dict(a.value) for a in result.artifacts],
        [list(a.parents) or [None] for a in result.artifacts],
        [dict(a.scores) for a in result.artifacts],
        [ids for edge, _, ids in evaluations if edge in ("select->rollout", "spread->rollout")],
        [(text, ids) for _, text, ids in evaluations],
    )


def _grouped(
    attempts: list[tuple[dict[str, str], int]], events: Sequence[Event]
) -> Iterator[tuple[str, dict[str, str], list[int]]]:
    """Yield single attempts, regrouped by the groups they were scattered in: (edge, text, ids)."""
    groups: dict[int, tuple[str, list[int]]] = {}
    for event in events:
        if isinstance(event, Created) and event.group is not None and event.edge in SCATTERS:
            groups.setdefault(event.group, (event.edge, []))[1].append(event.item)
    rest = iter(attempts)
    for edge, items in groups.values():
        part = [next(rest) for _ in items]
        assert all(text == part[0][0] for text, _ in part)
        yield edge, part[0][0], sorted(i for _, i in part)
    assert next(rest, None) is None


def same(world: World, options: Options, draws: int = 30, backend: str = "asyncio") -> None:
    """Compare the first seed with which one draw of the peer never has equal children, because it validates those
    once."""
    for attempt in range(10):
        seed = digest(world.number, "seed") % 1000 + 1000 * attempt
        theirs, watch = peer(world, seed, draws, options)
        if not watch.duplicates:
            break
    assert not watch.duplicates
    assert ours(world, seed, draws, options, backend) == theirs


BACKENDS = ("asyncio", "trio")


def worlds(few: int, all_of_them: int = 40) -> pytest.MarkDecorator:
    """Parametrize with the first worlds, and with ``-m slow`` the others."""
    slow = [pytest.param(n, marks=pytest.mark.slow) for n in range(few, all_of_them)]
    return pytest.mark.parametrize("number", [*range(few), *slow])


@worlds(8)
@pytest.mark.parametrize("components", ["round_robin", "all"])
def test_several_components(components: str, number: int) -> None:
    """Components change by turns or all at once, and a child's turns start where its parent's are."""
    world = World.make(number, components=2 + number % 2)
    same(world, Options(components=components), backend=BACKENDS[number % 2])


@worlds(6)
@pytest.mark.parametrize("frontier", ["objective", "hybrid", "cartesian"])
def test_frontiers(frontier: str, number: int) -> None:
    """Fronts are of objectives, of both, and of objectives at samples."""
    same(World.make(number, components=1), Options(frontier=frontier), backend=BACKENDS[number % 2])


@worlds(6)
@pytest.mark.parametrize("selection", ["best", "epsilon_greedy", "top_k"])
def test_selections(selection: str, number: int) -> None:
    """Every selection draws as the peer does; accepting equal children gives more than five to choose from."""
    same(World.make(number, components=1), Options(selection=selection, acceptance="improvement_or_equal"))


@worlds(8)
def test_improvement_or_equal(number: int) -> None:
    """Ties are accepted."""
    same(World.make(number, components=1), Options(acceptance="improvement_or_equal"), draws=60)


@worlds(5)
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 2)])
def test_parents_by_samples(shape: tuple[int, int], number: int) -> None:
    """P parents with N minibatches each are drawn from one view, and children join in order."""
    world = World.make(number, components=1 + number % 2, tasks=shape[0] * shape[1])
    same(world, Options(parents=shape[0], samples=shape[1]), draws=20)


def merging(number: int) -> Options:
    """Return options with merges; half of the worlds never skip a minibatch as perfect."""
    return Options(merge=True, max_merge_invocations=1 + number % 5, perfect_score=(1.0, 2.0)[number % 2])


@worlds(20)
def test_merges(number: int) -> None:
    """Crosses come in the peer's order, over the same pairs, ancestors and samples."""
    world = World.make(number, components=2 + number % 3, most_rules=40)
    same(world, merging(number), draws=60, backend=BACKENDS[number % 2])


@worlds(20)
def test_all_together(number: int) -> None:
    """Options are combined by a hash of the world."""

    def pick(name: str, *values: Any) -> Any:
        return values[digest(number, name) % len(values)]

    options = Options(
        components=pick("components", "round_robin", "all"),
        frontier=pick("frontier", "instance", "objective", "hybrid", "cartesian"),
        selection=pick("selection", "pareto", "best", "epsilon_greedy", "top_k"),
        acceptance=pick("acceptance", "strict_improvement", "improvement_or_equal"),
        parents=pick("parents", 1, 2),
        samples=pick("samples", 1, 2),
        merge=pick("merge", True, True, False),
        perfect_score=pick("perfect", 1.0, 2.0),
    )
    world = World.make(number, pick("size", 1, 2, 3), tasks=options.parents * options.samples)
    same(world, options, draws=30)


def test_the_worlds_tell_options_apart() -> None:
    """The comparisons can fail: each option changes runs, and crosses are accepted, rejected and over their limit."""

    def of(number: int, options: Options, components: int) -> Trace:
        return peer(World.make(number, components), digest(number, "seed") % 1000, 20, options)[0]

    for options, components in [
        (Options(components="all"), 2),
        (Options(frontier="objective"), 1),
        (Options(frontier="hybrid"), 1),
        (Options(frontier="cartesian"), 1),
        (Options(selection="best"), 1),
        (Options(selection="epsilon_greedy"), 1),
        (Options(acceptance="improvement_or_equal"), 1),
        (Options(samples=2), 1),
    ]:
        changed = [of(n, Options(), components) != of(n, options, components) for n in range(8)]
        assert sum(changed) > 4, options
    merged = []
    for n in (6, 7, 9, 15, 19):
        trace, watch = peer(World.make(n, 2 + n % 3, most_rules=40), digest(n, "seed") % 1000, 60, merging(n))
        merged.append((watch.merges, sum(len(p) == 2 for p in trace.parents), merging(n).max_merge_invocations))
    assert sum(accepted for _, accepted, _ in merged) > 10
    assert any(made > accepted for made, accepted, _ in merged)
    assert any(accepted > most for _, accepted, most in merged)
