"""The journal's rows on the state of artifacts: their evidence, evictions, and champions."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.ports import Artifact, PoolEvent
from flashgraph.run import events as ev
from flashgraph.run.journal.standings import Standings, evidence_of
from flashgraph.run.pools import PoolState


@attrs.frozen
class Newest:
    """A pool that holds only the newest artifact; its evidence is on ``tried`` samples."""

    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)

    def apply(self, event: PoolEvent[int]) -> Newest:
        known = weigh(dict.fromkeys(range(event.value), 0.5), 10)
        artifact = Artifact(event.artifact, event.value, (), known.mean, {}, evidence=known)
        return Newest({event.artifact: artifact})

    def best(self) -> Artifact | None:
        return next(iter(self.artifacts.values()), None)

    def best_line(self) -> Newest:
        return self


def admit(pool: PoolState, tried: int) -> None:
    pool.admit(tried, (), frozenset(), False, 0, 0.0)


def rows(standings: Standings, pool: PoolState) -> list[tuple[int, int, Evidence | None]]:
    """Return (artifact, whether it is held, evidence) for each row."""
    return [(values[1], values[2], evidence_of(values[3])) for _, values in standings.rows("pool", pool)]


def test_evidence_of_what_is_held_and_of_what_was_evicted() -> None:
    """Each change is written once; an evicted artifact keeps its evidence."""
    pool, standings = PoolState("pool", Newest()), Standings()
    admit(pool, 4)
    first = pool.records[0].last.evidence
    assert rows(standings, pool) == [(0, 1, first)]
    assert rows(standings, pool) == []
    admit(pool, 7)
    second = pool.records[1].last.evidence
    assert first != second
    assert rows(standings, pool) == [(1, 1, second), (0, 0, first)]


def test_a_session_that_goes_on_writes_what_it_may_have_missed() -> None:
    """A session does not know what the last one has written, so it writes all evictions again."""
    pool = PoolState("pool", Newest())
    for tried in (4, 7):
        admit(pool, tried)
    assert rows(Standings(), pool) == [(1, 1, pool.records[1].last.evidence), (0, 0, pool.records[0].last.evidence)]


def test_a_champion_row_has_the_estimate() -> None:
    """The row has the estimate instead of the pool's own score; without evidence it has the pool's score."""
    known = weigh({0: 1.0, 1: 0.0}, 4)
    changed = ev.ChampionChanged(2.0, "pool", 3, 1, 0.25, known, False)
    _, row = Standings.champion(changed, 7)
    assert tuple(row)[:7] == ("pool", 3, 7, 2.0, 1, known.estimate, 0)
    assert evidence_of(row[7]) == known
    _, row = Standings.champion(ev.ChampionChanged(2.0, "pool", 3, 1, 0.25, None, False), 7)
    assert (row[5], evidence_of(row[7])) == (0.25, None)
