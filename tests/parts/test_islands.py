"""Islands: holders of cells, provisional scores, migration, failures, and draws of parents and inspirations."""

from __future__ import annotations

import random
from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt
from flashgraph.parts.islands.pool import Elite, Entrant, Islands, ProposalFailure, Settings, distance

SEED = "start = 1\n" * 4


def group(
    program: str,
    scores: list[float | None],
    island: int = 0,
    chosen: Settings | None = None,
    objectives: dict[str, float] | None = None,
) -> fg.Group[Entrant, Attempt]:
    """Return an evaluated program; None is an open check."""
    members = tuple(
        fg.Member(i) if s is None else fg.Member(i, "arrived", Attempt(i, s, "", objectives=objectives or {}))
        for i, s in enumerate(scores)
    )
    return fg.Group(Entrant({"program": program}, island, len(scores), chosen), members)


def founded(**options: object) -> Islands:
    chosen = Settings(**options)  # type: ignore[arg-type]  # a test's shorthand
    return Islands().apply(fg.PoolEvent("admit", 0, group(SEED, [0.5], 0, chosen)))


def admit(pool: Islands, program: str, score: float, island: int = 0, parents: tuple[int, ...] = (0,)) -> Islands:
    return pool.apply(fg.PoolEvent("admit", len(pool.artifacts), group(program, [score], island), parents))


def like(program: str, number: int) -> str:
    """Return another program of the same cell: the same length and distance from the seed."""
    return program.replace("word", f"w{number:03}")


# ---- cells -----------------------------------------------------------------------------------------------


def test_the_seed_founds_every_island() -> None:
    """The seed is one artifact, at home on its island and a copy on the others, and sets the settings."""
    pool = founded(islands=3, bins=7)
    assert pool.settings.bins == 7
    assert [list(g.values()) for g in pool.grids] == [[pool.artifacts[0]]] * 3
    assert pool.places == ((0, 0), (0, 1), (0, 2))
    assert pool.best() == pool.artifacts[0]


def test_a_cell_is_held_by_the_best_of_its_kind() -> None:
    """Only a better program takes a cell; another kind has another cell; islands are separate."""
    pool = admit(founded(islands=2), "word = 1\n" * 4, 0.6)
    assert admit(pool, like("word = 1\n" * 4, 1), 0.6) == pool
    assert admit(pool, like("word = 1\n" * 4, 1), 0.5) == pool
    better = admit(pool, like("word = 1\n" * 4, 1), 0.7)
    assert set(better.artifacts) == {0, 1, 2}, "what has lost its cell stays in the archive"
    assert [a.id for a in better.ranked(0)] == [2, 0]
    longer = admit(better, "word = 1\n" * 9, 0.1)
    assert [a.id for a in longer.ranked(0)] == [2, 0, 3]
    assert [a.id for a in longer.ranked(1)] == [0]
    assert [a.id for a in admit(longer, like("word = 1\n" * 4, 2), 0.2, island=1).ranked(1)] == [0, 4]


def test_features_are_fixed_bins() -> None:
    """Bins are fixed: length relative to the seed's, distance from it, and objectives; extremes go to the outermost
    bins."""
    pool = founded(bins=4, features=("complexity", "diversity", "speed"))
    cell = pool.artifacts[0].value.cell
    assert cell == (2, 0, 0), "the seed's own length is in the middle"
    fast = (Attempt(0, 1.0, "", objectives={"speed": 0.6}), Attempt(1, 1.0, "", objectives={"speed": 1.0}))
    assert pool.cell({"program": SEED * 99}, fast) == (3, 0, 3)
    assert pool.cell({"program": "x"}, fast)[:2] == (0, 3)
    odd = (Attempt(0, 1.0, "", objectives={"speed": float("nan")}),)
    assert pool.cell({"program": SEED}, odd) == (2, 0, 0)
    assert distance("a b", "a c") == 1 - 1 / 3
    assert distance("", "") == 0


# ---- provisional scores ----------------------------------------------------------------------------------


def test_open_checks_are_expected_to_differ_as_the_others_do() -> None:
    """The estimate is the parent's mean plus the mean difference from it; a failed check has the least score."""
    pool = Islands().apply(fg.PoolEvent("admit", 0, group(SEED, [0.2, 0.4, 0.9], 0, Settings())))
    value = group("other = 2\n" * 9, [1.0, 0.0, None])
    value = attrs.evolve(value, members=(value.members[0], fg.Member(1, "failed", reason="-"), value.members[2]))
    pool = pool.apply(fg.PoolEvent("admit", 1, value, (0,), partial=True))
    found = pool.artifacts[1]
    assert found.evidence is not None
    assert (found.evidence.tried, found.evidence.of, found.evidence.failed) == (2, 3, 1)
    assert (found.provisional, found.scores) == (True, {0: 1.0, 1: 0.0})
    assert found.score == pytest.approx(0.7)
    assert pool.best() == pool.artifacts[0], "a confirmed artifact is handed out before a provisional one"


def test_late_evidence_gives_a_cell_back() -> None:
    """A provisional program keeps no other out, and a cell goes to the better program when its score falls."""
    pool = admit(founded(islands=1), "word = 1\n" * 4, 0.5)
    hasty = group(like("word = 1\n" * 4, 1), [1.0, None])
    pool = pool.apply(fg.PoolEvent("admit", 2, hasty, (), partial=True))
    assert pool.ranked(0)[0].id == 2
    pool = admit(pool, like("word = 1\n" * 4, 2), 0.8)
    assert pool.ranked(0)[0].id == 2
    pool = pool.apply(fg.PoolEvent("amend", 2, group(like("word = 1\n" * 4, 1), [1.0, 0.2])))
    assert (pool.artifacts[2].score, pool.artifacts[2].provisional) == (0.6, False)
    assert pool.ranked(0)[0].id == 3
    gone = pool.apply(fg.PoolEvent("retract", 3, group("", [])))
    assert gone.ranked(0)[0].id == 2


def test_no_evidence_is_no_program() -> None:
    """A program changes nothing if none of its checks could be carried out."""
    empty = fg.Group(Entrant({"program": "x"}, 0, 1), (fg.Member[Attempt](0, "failed", reason="no sandbox"),))
    pool = founded()
    assert pool.apply(fg.PoolEvent("admit", 1, empty)) == pool
    assert Islands().apply(fg.PoolEvent("admit", 0, empty)) == Islands()


# ---- migration and failures ------------------------------------------------------------------------------


def test_the_best_migrate_round_the_ring_once() -> None:
    """After every second admission, the island's own best goes to the next island, and no further."""
    pool = founded(islands=3, migration=2)
    pool = admit(pool, "word = 1\n" * 4, 0.9, island=1)
    assert pool.places[3:] == ((1, 1),), "the founding does not count"
    pool = admit(pool, "word = 1\n" * 9, 0.6, island=1)
    assert pool.places[3:] == ((1, 1), (2, 1), (1, 2))
    pool = admit(pool, "word = 1\n" * 16, 0.3, island=2)
    pool = admit(pool, "other + 1\n" * 30, 0.2, island=2)
    assert pool.places[6:] == ((3, 2), (4, 2), (3, 0)), "the copy on island 2 is better and stays there"
    equal = admit(admit(pool, like("word = 1\n" * 4, 1), 0.9, island=0), "word = 1\n" * 30, 0.1, island=0)
    assert equal.ranked(1)[0].id == 1, "a copy that is no better takes no cell"


def test_a_single_island_keeps_to_itself() -> None:
    assert admit(founded(islands=1, migration=1), "word = 1\n" * 9, 0.9).places == ((0, 0), (1, 0))


def test_the_last_failures_of_each_island_are_kept() -> None:
    """The last failures of each island are kept, the newest last; they are no artifacts."""
    pool = founded(islands=2, failures=2)
    for n, island in enumerate((0, 1, 0, 0)):
        pool = pool.apply(fg.PoolEvent("admit", 1 + n, ProposalFailure(island, "quick", f"reason {n}")))
    assert [f.reason for f in pool.failures if f.island == 0] == ["reason 2", "reason 3"]
    assert [f.reason for f in pool.failures if f.island == 1] == ["reason 1"]
    assert set(pool.artifacts) == {0}
    quiet = founded(failures=0)
    assert quiet.apply(fg.PoolEvent("admit", 1, ProposalFailure(0, "quick", "-"))) == quiet


# ---- drawing ---------------------------------------------------------------------------------------------


def crowd() -> Islands:
    pool = founded(islands=1)
    for n in range(1, 6):
        pool = admit(pool, f"v{n} = {n}\n" * (4 * n), n / 10)
    return pool


def test_parents_are_drawn_in_three_ways() -> None:
    """Parents are drawn from all programs, from the elites, or by score."""
    pool = crowd()
    ids = {a.id for a in pool.ranked(0)}

    def drawn(exploration: float, exploitation: float) -> Counter[int]:
        parents = (pool.draw(0, random.Random(i), exploration, exploitation, elites=2) for i in range(600))
        return Counter(a.id for a in parents if a is not None)

    assert set(drawn(1.0, 0.0)) == ids
    assert set(drawn(0.0, 1.0)) == {a.id for a in pool.ranked(0)[:2]}
    weighted = drawn(0.0, 0.0)
    assert set(weighted) == ids
    assert weighted[pool.ranked(0)[0].id] > 2 * weighted[pool.ranked(0)[-1].id]
    assert Islands().draw(0, random.Random(0), 0.2, 0.7, 3) is None


def test_inspirations_are_the_best_and_some_others() -> None:
    """Inspirations never include the parent, and the diverse ones are not among the top."""
    pool = crowd()
    first, second, third, *rest = pool.ranked(0)
    found = pool.inspirations(0, second, random.Random(1), top=2, diverse=2)
    assert found[:2] == (first, third)
    assert len(found) == 4
    assert all(a in rest for a in found[2:])
    assert pool.inspirations(0, first, random.Random(1), top=0, diverse=99)[0] != first


def test_focus_draws_each_islands_best() -> None:
    """Focus draws each island's best, because one line for all would make one island; inspirations stay wide."""
    pool = admit(admit(founded(islands=2), "word = 1\n" * 4, 0.9, 0), "word = 1\n" * 9, 0.7, 1)
    narrow = pool.best_line()
    drawn = [narrow.draw(i % 2, random.Random(i), 1.0, 0.0, 1) for i in range(20)]
    assert [a.id for a in drawn if a is not None] == [1, 2] * 10
    assert narrow.inspirations(0, narrow.artifacts[1], random.Random(0), 2, 2) == (narrow.artifacts[0],)
    assert Islands().best_line().draw(0, random.Random(0), 1.0, 0.0, 1) is None
    assert narrow.best() == pool.best()


# ---- any history -----------------------------------------------------------------------------------------

PROGRAMS = st.builds(
    lambda word, n: f"{word} = {n}\n" * n, st.sampled_from(["a", "bb + c", "d.e(f)"]), st.integers(1, 12)
)
STEPS = st.one_of(
    st.tuples(st.just("failure"), st.integers(0, 2)),
    st.tuples(
        st.just("program"),
        st.integers(0, 2),
        PROGRAMS,
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        st.sampled_from([None, 0.0, 1.0]),
    ),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=25), st.integers(1, 3), st.integers(1, 4), st.data())
def test_any_history_leaves_the_islands_sound(
    steps: list[tuple[object, ...]], migration: int, bins: int, data: st.DataObject
) -> None:
    """Each cell is held by the best of its kind on its island, and a program migrates at most once.

    A rejected program changes nothing, and equal histories give equal values.
    """
    history: list[fg.PoolEvent[fg.Group[Entrant, Attempt] | ProposalFailure]] = []
    pool, ids = founded(islands=3, migration=migration, bins=bins), 1
    late: list[fg.PoolEvent[fg.Group[Entrant, Attempt] | ProposalFailure]] = []
    for step in steps:
        event: fg.PoolEvent[fg.Group[Entrant, Attempt] | ProposalFailure]
        if step[0] == "failure":
            event = fg.PoolEvent("admit", ids, ProposalFailure(int(str(step[1])), "quick", str(len(history))))
        else:
            _, island, program, score, second = step
            value = group(str(program), [float(str(score)), second], int(str(island)))  # type: ignore[list-item]
            event = fg.PoolEvent("admit", ids, value, (0,), second is None)
        after = pool.apply(event)
        if after != pool:
            history.append(event)
            ids += 1
            if event.partial and event.artifact in after.artifacts:
                late.append(event)
        pool = after
        if data.draw(st.booleans()) and late:
            due = late.pop(0)
            assert isinstance(due.value, fg.Group)
            full = group(due.value.origin.text["program"], [0.5, 0.5], due.value.origin.island)
            history.append(fg.PoolEvent("amend", due.artifact, full, (0,)))
            pool = pool.apply(history[-1])
        _sound(pool)
    replayed = founded(islands=3, migration=migration, bins=bins)
    for event in history:
        replayed = replayed.apply(event)
    assert replayed == pool


def _sound(pool: Islands) -> None:
    homes = {a.id: a.value.island for a in pool.artifacts.values()}
    assert list(pool.artifacts) == sorted(pool.artifacts)
    assert len(set(pool.places)) == len(pool.places)
    assert all(where in (homes[a], (homes[a] + 1) % 3) for a, where in pool.places if a != 0)
    for island in range(3):
        living = [a for a in pool.artifacts.values() if (a.id, island) in pool.places]
        for artifact in living:
            assert isinstance(artifact.value, Elite)
            holder = pool.grid(island)[artifact.value.cell]
            assert holder in living
            assert (holder.score or 0) >= (artifact.score or 0)
        assert {a.value.cell for a in living} == set(pool.grid(island))
    best = pool.best()
    assert best is not None
    assert all((best.score or 0) >= (a.score or 0) for a in pool.artifacts.values() if not a.provisional)
