"""Shortened candidates: sentences that lower the score go, all others stay."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.evidence import weigh
from flashgraph.parts.gepa.pruning import NEWEST, SHARE, Prunings, effects, sentences

SIZE = 100


def artifact(number: int, text: str, mean: float) -> fg.Artifact:
    """Return an artifact with this mean over 100 samples."""
    scores = {s: float(s < round(mean * SIZE)) for s in range(SIZE)}
    evidence = weigh(scores, SIZE)
    return fg.Artifact(number, {"instruction": text}, (), evidence.mean, scores, evidence=evidence)


def pool(effect: dict[str, float], texts: Sequence[Sequence[str]]) -> dict[int, fg.Artifact]:
    """Return artifacts whose means are sums of effects."""
    return {i: artifact(i, " ".join(t), 0.4 + sum(effect[s] for s in t)) for i, t in enumerate(texts)}


EFFECT = {"Be brief.": 0.1, "Cite a law.": 0.08, "Shout!": -0.15, "Ask again?": 0.05, "Sign it.": 0.07}
GOOD = [s for s in EFFECT if EFFECT[s] > 0]
DRAWN = [[s for s in EFFECT if random.Random(f"{i}{s}").random() < 0.6] for i in range(40)]
TEXTS = [t for t in DRAWN if t != GOOD] + [list(EFFECT)]
POOL = pool(EFFECT, TEXTS)
WHOLE = POOL[len(TEXTS) - 1]


@given(st.text(alphabet="ab1 .!?\n", max_size=60))
def test_sentences_join_to_the_text(text: str) -> None:
    """Splitting loses nothing, and no piece is empty."""
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


def test_sentences_end_at_marks_and_lines() -> None:
    """Numbers of a list and decimals end no sentence."""
    assert sentences("1. Be brief. Use 2.5 cm!\n- Go on") == ["1. Be brief. ", "Use 2.5 cm!\n", "- Go on"]


def test_effects_find_the_sentence_that_lowers_the_score() -> None:
    """The expected effects have the signs of the true ones, and their deviations are below the prior's."""
    wanted = [("instruction", s) for s in EFFECT]
    found = effects(POOL, wanted, 1.0)
    unknown = effects(POOL, [("instruction", "Never seen.")], 1.0)["instruction", "Never seen."]
    for key in wanted:
        mean, deviation = found[key]
        assert (mean > 0) == (EFFECT[key[1]] > 0), key
        assert deviation < unknown[1]


@given(st.integers(0, 100))
def test_a_draw_drops_the_harmful_sentence_alone(seed: int) -> None:
    """The shorter text lacks only what lowers the score, and must reach its parent on at most eight samples."""
    found, after = Prunings().draw(POOL, WHOLE, (0.0, 1.0), random.Random(seed))
    assert found is not None
    assert found.text == {"instruction": "Be brief. Cite a law. Ask again? Sign it."}
    assert found.to_reach == sum(WHOLE.scores[s] for s in found.samples)
    assert len(set(found.samples)) == len(found.samples) <= 8
    again, last = after.draw(POOL, WHOLE, (0.0, 1.0), random.Random(seed))
    assert again is None, "the same text was made twice"
    assert last == after


def test_no_text_is_shortened_where_each_sentence_helps() -> None:
    """A pool where longer texts score higher has nothing to drop."""
    helpful = dict.fromkeys(EFFECT, 0.08)
    held = pool(helpful, TEXTS)
    assert Prunings().draw(held, held[len(TEXTS) - 1], (0.0, 1.0), random.Random(0))[0] is None


@given(st.integers(0, 50))
def test_a_share_of_the_sentences_goes_at_most_where_more_text_is_worse(seed: int) -> None:
    """Of a text that is too long everywhere, one draw drops at most a third, and leaves each component a sentence."""
    names = [f"Rule {letter}." for letter in "abcdefghijkl"]
    held = pool(dict.fromkeys(names, -0.02), [names[:n] for n in range(1, 13)])
    found = Prunings().draw(held, held[11], (0.0, 1.0), random.Random(seed))[0]
    assert found is not None
    assert 12 - int(12 * SHARE) <= len(sentences(found.text["instruction"])) < 12


def test_a_pool_without_scores_or_with_short_texts_gives_none() -> None:
    """There is nothing to draw from one sentence, or from a parent without scores."""
    short = artifact(0, "Be brief.", 0.5)
    unscored = fg.Artifact(1, {"instruction": "Be brief. Sign it. Shout!"}, (), None, {})
    assert Prunings().draw({0: short}, short, (0.0, 1.0), random.Random(0))[0] is None
    assert Prunings().draw({1: unscored}, unscored, (0.0, 1.0), random.Random(0))[0] is None


def test_only_the_newest_artifacts_count() -> None:
    """Older artifacts than the newest 48 have no influence."""
    newest = {i: artifact(i, "Shout! Be brief.", 0.5) for i in range(1000, 1000 + NEWEST)}
    older = {i: artifact(i, "Shout!", 0.0) for i in range(20)}
    wanted = [("instruction", "Shout!")]
    assert effects({**older, **newest}, wanted, 1.0) == effects(newest, wanted, 1.0)
