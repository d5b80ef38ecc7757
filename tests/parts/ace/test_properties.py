"""Properties of a playbook after any history of events."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from flashgraph.parts.ace import Delta, Operation, Playbook, Tags
from tests.parts.ace.kit import STEPS, TAGS, Step, admitted, contents, curated, history, started

UNIT, ROUND, REFUND = "rule-00001", "rule-00002", "code-00004"

BUDGETS = st.sampled_from([20, 60, 150, 80_000])


@given(st.lists(STEPS, max_size=15), BUDGETS)
def test_ids_are_unique_and_never_reused(steps: list[Step], budget: int) -> None:
    """A new id has a higher number than any before, and no event reuses one."""
    before = started(budget_tokens=budget)
    highest = 4
    for _, after in history(steps, before):
        ids = [bullet.id for bullet in after.bullets]
        assert len(ids) == len(set(ids))
        numbers = [int(i.rpartition("-")[2]) for i in ids if i not in before.by_id]
        assert all(number > highest for number in numbers)
        assert after.numbered >= before.numbered
        highest, before = after.numbered, after


@given(st.lists(STEPS, max_size=15), BUDGETS)
def test_the_budget_is_kept_after_every_admission(steps: list[Step], budget: int) -> None:
    """The budget holds after every admission, by the estimate and by the text at four characters a token."""
    for _, after in history(steps, started(budget_tokens=budget)):
        assert after.tokens <= budget
        assert len(after.text) <= 4 * after.tokens


@given(st.lists(STEPS, max_size=15), BUDGETS)
def test_an_alias_leads_to_a_living_bullet_or_none(steps: list[Step], budget: int) -> None:
    for _, after in history(steps, started(budget_tokens=budget)):
        assert not set(after.aliases) & set(after.by_id)
        assert {after.resolve(i) for i in after.aliases} <= {*after.by_id, None}


@given(st.lists(STEPS, max_size=15), BUDGETS)
def test_a_playbook_is_read_back_as_it_was_written(steps: list[Step], budget: int) -> None:
    """A playbook's text reads back to equal bullets, sections and text, and ids continue from there."""
    for _, after in history(steps, started(budget_tokens=budget)):
        read = Playbook.parse(after.text)
        assert read.text == after.text
        assert read.sections == after.sections
        assert read.by_id == after.by_id


@given(st.text(), st.text(min_size=1))
def test_any_text_is_read_back_as_it_was_written(section: str, text: str) -> None:
    """Any text reads back unchanged: control characters, headers, lines that look like bullets."""
    after = curated(started(""), Operation.add(section, text), Operation.add("## " + section, "\n" + text + "\n\n  x"))
    read = Playbook.parse(after.text)
    assert (read.text, read.by_id, read.sections) == (after.text, after.by_id, after.sections)


@given(st.lists(STEPS, max_size=10))
def test_refused_operations_change_no_bullet(steps: list[Step]) -> None:
    """A delta gives the same bullets with and without its refused operations."""
    before = started()
    for event, after in history(steps, before):
        if isinstance(event, Delta):
            refused = [r.operation for r in after.refused[len(before.refused) :]]
            kept = [o for o in event.operations if o not in refused]
            assert curated(before, *kept).bullets == after.bullets
            assert curated(before, *refused).bullets == before.bullets
        before = after


TAG_LISTS = st.builds(
    Tags, st.lists(st.tuples(st.sampled_from([UNIT, ROUND, REFUND, "gone-00009"]), TAGS), max_size=4).map(tuple)
)


@given(st.data(), st.lists(TAG_LISTS, max_size=6), BUDGETS)
def test_tags_commute(data: st.DataObject, tags: list[Tags], budget: int) -> None:
    """Tags between two deltas commute at any budget: no counter causes an eviction."""
    before = started(budget_tokens=budget)
    first = admitted(tags, before)
    other = admitted(data.draw(st.permutations(tags)), before)
    assert first == other
    last = Operation.add("RULES", "Be kind to whoever asks, also when it is the third time.")
    assert curated(first, last) == curated(other, last)


@given(st.data())
def test_deltas_on_different_bullets_commute(data: st.DataObject) -> None:
    """Deltas on different bullets commute, except for the ids of additions."""
    text = "## R\n" + "\n".join(f"[r-{i}] helpful={i} harmful=1 :: Fact number {i}." for i in range(1, 9))
    before, new = started(text), count(100)

    def delta(ids: list[str]) -> Delta:
        operations = []
        for bullet in data.draw(st.permutations(ids)):
            kind = data.draw(st.sampled_from(["none", "update", "remove"]))
            if kind == "update":
                operations.append(Operation.update(bullet, f"Another fact {next(new)}.", *before.seen([bullet])))
            if kind == "remove":
                operations.append(Operation.remove(bullet, *before.seen([bullet])))
        if data.draw(st.booleans()):
            operations = [Operation.merge((ids[0], ids[1]), f"Merged {next(new)}.", before.seen(ids[:2]))]
        added = data.draw(st.integers(0, 2))
        return Delta(0, "", (*operations, *(Operation.add("R", f"New fact {next(new)}.") for _ in range(added))))

    one, other = delta(["r-1", "r-2", "r-3", "r-4"]), delta(["r-5", "r-6", "r-7", "r-8"])
    left, right = admitted([one, other], before), admitted([other, one], before)
    assert contents(left) == contents(right)
    assert left.aliases == right.aliases
    assert (left.refused, right.refused, left.trained) == ((), (), right.trained)
