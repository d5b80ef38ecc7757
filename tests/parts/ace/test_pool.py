"""The playbook as a pool: the effect of each operation, and refusals."""

from __future__ import annotations

from typing import Any, cast

import attrs
import cattrs
import pytest

import flashgraph as fg
from flashgraph.graph.types import unstorable
from flashgraph.parts.ace import Bullet, Delta, Merged, Operation, Playbook, PlaybookStart, Tag, Tags, digest
from flashgraph.parts.ace.pool import LOG
from flashgraph.run.pools import PoolState
from tests.parts.ace.kit import TEXT, Event, admitted, contents, curated, started

UNIT, ROUND, REFUND = "rule-00001", "rule-00002", "code-00004"


def whys(playbook: Playbook) -> list[str]:
    return [refused.why for refused in playbook.refused]


def test_a_start_gives_the_text_and_the_settings() -> None:
    """The first admission starts the playbook, and a later start changes nothing."""
    playbook = started(TEXT, 5000, 0.8)
    assert playbook.text == TEXT
    assert (playbook.budget_tokens, playbook.duplicate_at, playbook.trained) == (5000, 0.8, 0)
    assert playbook.best() == fg.Artifact(0, {"playbook": TEXT})
    assert playbook.artifacts == {0: playbook.best()}
    assert admitted([PlaybookStart("## OTHER")], playbook) is playbook
    assert playbook.best_line() is playbook


def test_an_empty_playbook_holds_no_artifact() -> None:
    assert (Playbook().best(), Playbook().artifacts, Playbook().text, Playbook().tokens) == (None, {}, "", 0)


def test_ids_continue_after_the_highest_of_the_text() -> None:
    """A run that starts from an existing playbook reuses none of its ids."""
    after = curated(started(), Operation.add("Codes", "Invoices go to gamma."), Operation.add("New part", "Be kind."))
    assert [b.id for b in after.bullets][3:] == ["code-00005", "np-00006"]
    assert after.sections == ("RULES", "CODES", "NEW PART")


def test_an_id_is_not_reused() -> None:
    """An id is not reused, even after its bullet was removed."""
    one = curated(started(), Operation.add("RULES", "Be brief."))
    none = curated(one, Operation.remove("rule-00005", one.by_id["rule-00005"].digest))
    assert "rule-00005" not in none.by_id
    assert curated(none, Operation.add("RULES", "Be kind.")).bullets[-1].id == "rule-00006"


def test_tags_count() -> None:
    """Helpful and harmful tags count each time; neutral tags, unknown ids and other bullets do not."""
    tags: tuple[tuple[str, Tag], ...] = (
        (UNIT, "helpful"), (UNIT, "helpful"), (ROUND, "harmful"), (REFUND, "neutral"), ("gone-00009", "helpful"),
    )  # fmt: skip
    after = admitted([Tags(tags)], started())
    assert [(b.helpful, b.harmful) for b in after.bullets] == [(5, 0), (0, 3), (1, 1)]


def test_tags_without_effect_make_no_new_version() -> None:
    """Tags without an effect leave the same pool, so that a run does not raise its version."""
    before = started()
    assert admitted([Tags(((REFUND, "neutral"), ("gone-00009", "helpful")))], before) is before
    assert before.apply(fg.PoolEvent("retract", 0, Tags(((UNIT, "helpful"),)))) is before
    assert before.apply(fg.PoolEvent("amend", 0, Tags(((UNIT, "helpful"),)))) is before


def test_a_delta_counts_a_trained_sample() -> None:
    """A delta counts as a trained sample, also without operations."""
    after = admitted([Delta(7, "nothing to learn"), Delta(8, "again")], started())
    assert (after.trained, after.bullets) == (2, started().bullets)


def test_update_keeps_id_and_counters() -> None:
    before = started()
    after = curated(before, Operation.update(UNIT, " Convert the units first. \n", *before.seen([UNIT])))
    assert after.by_id[UNIT] == Bullet(UNIT, "RULES", "Convert the units first.", 3, 0)
    assert after.refused == ()


def test_merge_keeps_the_first_and_adds_the_counters() -> None:
    """A merge keeps the first id and adds the counters; the other ids become aliases, also through several merges."""
    before = started()
    once = curated(before, Operation.merge((ROUND, UNIT), "Units, then rounding.", before.seen((ROUND, UNIT))))
    assert once.by_id[ROUND] == Bullet(ROUND, "RULES", "Units, then rounding.", 3, 2)
    twice = admitted([Merged((REFUND, ROUND), "All of it.", once.seen((REFUND, ROUND)))], once)
    assert contents(twice) == [("CODES", "All of it.", 4, 3)]
    assert twice.trained == once.trained, "a merge of near-duplicates is no training"
    assert {twice.resolve(i) for i in (UNIT, ROUND, REFUND)} == {REFUND}
    assert admitted([Tags(((UNIT, "helpful"),))], twice).by_id[REFUND].helpful == 5
    gone = curated(twice, Operation.remove(REFUND, *twice.seen([REFUND])))
    assert gone.resolve(UNIT) is None
    assert admitted([Tags(((UNIT, "helpful"),))], gone) is gone


def test_merge_goes_to_the_section_that_is_given() -> None:
    before = started()
    after = curated(before, Operation.merge((UNIT, REFUND), "Both.", before.seen((UNIT, REFUND)), "codes"))
    assert after.by_id[UNIT].section == "CODES"
    assert after.sections == ("RULES", "CODES")


def test_a_section_of_the_start_stays_and_another_goes_with_its_last_bullet() -> None:
    """A section of the start stays when it is empty, and any other goes with its last bullet."""
    before = curated(started("## RULES\n"), Operation.add("Tips", "Be brief."))
    assert before.text == "## RULES\n\n## TIPS\n[tips-00001] helpful=0 harmful=0 :: Be brief."
    assert curated(before, Operation.remove("tips-00001", digest("Be brief."))).text == "## RULES"


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (Operation.add("RULES", "check the unit before you compare amounts"), "duplicate of [rule-00001]"),
        (Operation.add("RULES", " \n "), "its text is empty"),
        (Operation.add("RULES", "long " * 200), "its 264 tokens are more than the budget of 200"),
        (Operation.update(UNIT, "x" * 900, digest("Check the unit before you compare amounts.")),
         "its 239 tokens are more than the budget of 200"),
        (Operation.update(UNIT, "New.", digest("Old.")), "[rule-00001] changed since"),
        (Operation.remove(UNIT, digest("Old.")), "[rule-00001] changed since"),
        (Operation.remove("rule-00009", digest("Old.")), "[rule-00009] was removed"),
        (Operation("REMOVE", ids=(UNIT,)), "it lacks the digests of the texts that its curator saw"),
        (Operation("REMOVE"), "REMOVE with 0 ids"),
        (Operation.merge((ROUND,), "One.", (digest("Round the result to whole dollars."),)), "MERGE with 1 ids"),
        (Operation.refused("{}", "type '' is none of ADD"), "type '' is none of ADD"),
    ],
)  # fmt: skip
def test_a_refused_operation_is_recorded_with_its_reason(operation: Operation, why: str) -> None:
    """A refused operation is recorded with its reason, and changes no bullet."""
    before = started(budget_tokens=200)
    after = curated(before, operation)
    assert whys(after) == [why]
    assert after.refused[0].operation == operation
    assert after.bullets == before.bullets


def test_operations_of_one_delta_know_of_each_other() -> None:
    """Texts are compared with those before the delta, but a bullet that an earlier operation removed is gone."""
    before = started()
    seen = dict(zip(before.by_id, before.seen(before.by_id), strict=True))
    after = curated(
        before,
        Operation.update(UNIT, "First.", seen[UNIT]),
        Operation.update(UNIT, "Second.", seen[UNIT]),
        Operation.remove(ROUND, seen[ROUND]),
        Operation.merge((UNIT, ROUND), "Both.", (seen[UNIT], seen[ROUND])),
        Operation.add("RULES", "Be kind."),
        Operation.add("RULES", "be  kind"),
    )
    assert after.by_id[UNIT].text == "Second."
    assert whys(after) == [
        "[rule-00002] was removed by an earlier operation of the same curation", "duplicate of [rule-00005]",
    ]  # fmt: skip


def test_conflicts_are_known_before_they_are_admitted() -> None:
    """Only bullets that the delta names and that have changed are conflicts."""
    before = started()
    delta = Delta(0, "", (Operation.update(UNIT, "New.", *before.seen([UNIT])), Operation.add("RULES", "Be kind.")))
    assert not before.conflicts(delta)
    assert not admitted([Tags(((UNIT, "helpful"),))], before).conflicts(delta)
    assert not curated(before, Operation.remove(ROUND, *before.seen([ROUND]))).conflicts(delta)
    assert curated(before, Operation.remove(UNIT, *before.seen([UNIT]))).conflicts(delta)
    assert curated(before, Operation.update(UNIT, "Other.", *before.seen([UNIT]))).conflicts(delta)


def test_the_least_useful_and_oldest_bullets_go_when_the_budget_is_reached() -> None:
    """At the budget, the least useful bullets go, then the oldest; new ones stay."""
    before = started()
    tight = attrs.evolve(before, budget_tokens=before.tokens)
    one = curated(tight, Operation.add("RULES", "Be kind."))
    assert [b.id for b in one.evicted] == [ROUND]
    assert [b.id for b in one.bullets] == [UNIT, REFUND, "rule-00005"]
    two = curated(one, Operation.add("RULES", "Say what you know, and what you do not know as well as that."))
    assert [b.id for b in two.evicted] == [ROUND, REFUND]
    assert two.sections == ("RULES", "CODES")


def test_a_start_over_its_budget_is_cut() -> None:
    """A start over its budget loses bullets, and then the headers of empty sections."""
    assert [b.id for b in started(budget_tokens=40).bullets] == [UNIT]
    assert started(budget_tokens=3).text == "## RULES"
    assert started(budget_tokens=1).text == ""


def test_the_logs_are_bounded() -> None:
    """The logs keep the newest entries."""
    after = curated(started(), *(Operation.refused(str(i), "why") for i in range(LOG + 5)))
    assert len(after.refused) == LOG
    assert after.refused[-1].operation.text == str(LOG + 4)


def test_bullets_text_shows_living_bullets_once() -> None:
    before = started()
    after = curated(before, Operation.merge((UNIT, ROUND), "Both.", before.seen((UNIT, ROUND))))
    line = "[rule-00001] helpful=3 harmful=2 :: Both."
    assert after.bullets_text([ROUND, "gone-00009", UNIT]) == line
    assert after.bullets_text([]) == ""


def test_duplicates_are_grouped_greedily() -> None:
    """Each bullet that is in no group yet gathers the later ones that are like it."""
    texts = ["Check the unit first.", "Be kind.", "check the units first", "Be kind", "Check the unit first!"]
    before = Playbook(tuple(Bullet(f"r-{i}", "R", text) for i, text in enumerate(texts)), duplicate_at=0.8)
    assert before.duplicates() == (("r-0", "r-2", "r-4"), ("r-1", "r-3"))
    assert attrs.evolve(before, duplicate_at=1.0).duplicates() == (("r-0", "r-4"), ("r-1", "r-3"))
    assert Playbook().duplicates() == ()


def test_a_run_finds_every_admission_among_the_artifacts() -> None:
    """The pool holds only the newest version, under the number of its admission."""
    state = PoolState("playbook", Playbook())
    for event in (PlaybookStart(TEXT), Tags(((UNIT, "helpful"),)), Delta(0, "")):
        change = state.admit(event, (), frozenset(), False, 0, 0.0)
        assert change is not None
        assert change.artifact == state.value.best()
        assert list(state.value.artifacts) == [change.artifact.id]
    assert state.version == 3


@pytest.mark.parametrize(
    "event",
    [
        PlaybookStart("## RULES", 100, 0.5, "file.txt"),
        Tags(((UNIT, "helpful"),)),
        Delta(3, "text", (Operation.merge((UNIT, ROUND), "t", ("a", "b"), "S"), Operation.refused("raw", "why"))),
        Merged((UNIT, ROUND), "t", ("a", "b")),
    ],
)
def test_events_can_be_stored(event: Event) -> None:
    """Events and playbooks survive storage without hooks."""
    converter, kinds = cattrs.Converter(), cast(Any, Event)
    assert converter.structure(converter.unstructure(event), kinds) == event
    after = admitted([event], started())
    assert converter.structure(converter.unstructure(after), Playbook) == after
    assert unstorable(Event) is None


def test_it_is_a_pool_of_a_graph() -> None:
    """`check` accepts the playbook as a pool, with each of its events on an edge."""
    graph = fg.Graph("books")
    pool = graph.pool("playbook", Playbook)

    @graph.source(rounds=1)
    def start(ctx: fg.Draw) -> PlaybookStart:
        return PlaybookStart("")

    @graph.stage
    def tag(first: PlaybookStart) -> Tags:
        return Tags(())

    @graph.stage
    def curate(first: PlaybookStart) -> Delta:
        return Delta(0, "")

    graph.edge(start, pool)
    graph.edge(start, tag)
    graph.edge(start, curate)
    graph.edge(tag, pool)
    graph.edge(curate, pool)
    assert graph.check() == ()


def test_counters_stop_at_their_limit() -> None:
    """Counters stop at their limit, so that a text is never longer than its estimate."""
    full = attrs.evolve(started(), bullets=(Bullet(UNIT, "RULES", "Text.", 999_999, 999_999),))
    assert admitted([Tags(((UNIT, "helpful"), (UNIT, "harmful")))], full) is full
