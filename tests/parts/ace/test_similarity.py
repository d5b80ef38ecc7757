"""The similarity of texts, and the warning if an embedding model is missing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.errors import DataError
from flashgraph.parts.ace import Bullet, Playbook, embedding, lexical, similarity_named
from flashgraph.parts.ace.similarity import DEFAULT_MODEL, UNLIKE, _automatic
from tests.parts.ace.kit import TEXTS


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    """Each test loads its own model, and gets its own first warning."""
    embedding.cache_clear()
    _automatic.cache_clear()
    yield
    embedding.cache_clear()
    _automatic.cache_clear()


def score(one: str, other: str) -> float:
    (found,) = lexical(one, [other])
    return float(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Check the unit before comparing amounts.", "check  the unit\nbefore comparing AMOUNTS"),
        ("Check the unit of an amount before comparing.", "Check the units of an amount before comparing."),
        ("Check the unit of each amount before comparing.", "Check unit of each amount before comparing"),
        ("...", "..."),
        ("日本語のテキスト", "日本語のテキスト"),
    ],
)  # fmt: skip
def test_texts_of_one_meaning_are_alike(one: str, other: str) -> None:
    """Case, spacing, a final stop, an ending or a small word make no difference."""
    assert score(one, other) >= 0.85


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tickets that have the code E-17 go to billing.", "Tickets that have the code E-18 go to billing."),
        ("Always round the result to whole dollars.", "Never round the result to whole dollars."),
        ("You should round the result to whole dollars.", "You shouldn't round the result to whole dollars."),
        ("Answer 'yes' to \"who\" in the first line of all.", "Answer 'yes' to \"how\" in the first line of all."),
        ("Where profit after tax is asked for, take the net amount of it.",
         "Where profit after tax is asked for, take the gross amount of it."),
        ("Give field_a in the result of each of the calls.", "Give field_b in the result of each of the calls."),
    ],
)  # fmt: skip
def test_texts_about_different_things_are_not(one: str, other: str) -> None:
    """Texts about different things are not alike, whatever their wording: a merge would lose a fact."""
    assert score(one, other) <= UNLIKE


def test_the_order_of_words_matters() -> None:
    assert score("First ask alpha, then ask beta.", "First ask beta, then ask alpha.") <= UNLIKE


@given(TEXTS, TEXTS, st.floats(0.0, 1.0))
def test_lexical_is_a_similarity(one: str, other: str, least: float) -> None:
    """Lexical similarity is from 0 to 1, symmetric, and 1 for equal texts; a bound changes no score that reaches it."""
    assert 0.0 <= score(one, other) <= 1.0
    assert score(one, other) == pytest.approx(score(other, one))
    assert score(one, one) == 1.0
    (bounded,) = lexical(one, [other], at_least=least)
    assert bounded == score(one, other) or (bounded == 0.0 and score(one, other) < least)


def test_similarities_have_names() -> None:
    assert similarity_named("lexical") is lexical
    with pytest.raises(DataError) as raised:
        similarity_named("semantic")
    assert str(raised.value) == (
        "similarity 'semantic' is not known; expected auto, lexical, embedding or embedding:MODEL.\n"
        "Fix: e.g. similarity='lexical'."
    )


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(DataError) as raised:
        similarity_named("embedding:some/model")
    assert str(raised.value) == (
        "the similarity embedding:some/model needs the model2vec package (import of model2vec halted; None in "
        "sys.modules).\nFix: pip install 'flashgraph[embedding]', or similarity='lexical'."
    )


def test_auto_falls_back_with_one_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """``auto`` falls back to lexical similarity with one warning, however often it is used."""
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with caplog.at_level(logging.WARNING, "flashgraph"):
        assert similarity_named("auto") is lexical
        assert similarity_named("auto") is lexical
    assert [record.getMessage() for record in caplog.records] == [
        f"near-duplicates are found only by their wording: the similarity embedding:{DEFAULT_MODEL} needs the "
        "model2vec package (import of model2vec halted; None in sys.modules)."
    ]


def library(load: Any) -> ModuleType:
    """Return a stand-in for model2vec; the real one is tested where it is installed."""
    module = ModuleType("model2vec")
    module.StaticModel = type("StaticModel", (), {"from_pretrained": staticmethod(load)})  # type: ignore[attr-defined]
    return module


def test_a_model_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names a model that cannot be loaded, with the library's message in one line."""

    def load(name: str, force_download: bool) -> Any:
        raise OSError(f"no {name}\nand much more")

    monkeypatch.setitem(sys.modules, "model2vec", library(load))
    with pytest.raises(DataError) as raised:
        embedding("some/model")
    assert str(raised.value) == (
        "the embedding model 'some/model' cannot be loaded: OSError: no some/model\n"
        "Fix: give a folder with a model2vec model, or similarity='lexical'."
    )


def test_embeddings_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is loaded once and a text embedded once; opposite vectors are as unlike as unrelated ones."""
    numpy = pytest.importorskip("numpy")
    loaded: list[str] = []
    embedded: list[str] = []
    vectors = {"a": (2.0, 0.0), "b": (1.0, 1.0), "c": (-3.0, 0.0), "": (0.0, 0.0)}

    class Model:
        def encode(self, texts: list[str]) -> Any:
            embedded.extend(texts)
            return numpy.array([vectors[text] for text in texts])

    def load(name: str, force_download: bool) -> Model:
        loaded.append(name)
        return Model()

    monkeypatch.setitem(sys.modules, "model2vec", library(load))
    for _ in range(2):
        scores = similarity_named("embedding")("a", ["a", "b", "c", ""], at_least=0.9)
        assert scores == pytest.approx([1.0, 0.5**0.5, 0.0, 0.0])
    assert similarity_named("auto")("a", []) == []
    assert loaded == [DEFAULT_MODEL]
    assert embedded == ["a", "b", "c", ""]


def test_the_library_itself(tmp_path: Path) -> None:
    """With a real model2vec model in a folder, words of one direction are duplicates for a playbook."""
    model2vec, tokenizers = pytest.importorskip("model2vec"), pytest.importorskip("tokenizers")
    numpy = pytest.importorskip("numpy")
    words = ["[UNK]", "check", "verify", "unit", "smile"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = numpy.array([[0, 0, 0], [1, 0.1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype="float32")
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(tmp_path)
    bullets = tuple(Bullet(f"r-{i}", "R", text) for i, text in enumerate(["check unit", "smile", "verify unit"]))
    similarity = similarity_named(f"embedding:{tmp_path}")
    assert Playbook(bullets).duplicates(similarity) == (("r-0", "r-2"),)
    assert Playbook(bullets).duplicates() == ()
    with pytest.raises(DataError, match="cannot be loaded"):
        embedding(str(tmp_path / "missing"))
