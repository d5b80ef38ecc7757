"""Measure how alike texts are: by words and letters, or with an embedding model (``flashgraph[embedding]``)."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from math import sqrt
from sys import intern
from typing import Any, Protocol

import attrs

from flashgraph.errors import DataError

__all__ = ["DEFAULT_MODEL", "Similarity", "embedding", "lexical", "similarity_named"]

DEFAULT_MODEL = "minishlab/potion-base-8M"
"""A static embedding model of 30 MB under the MIT licence."""

UNLIKE = 0.5
"""The highest score of texts about different things."""

SKETCH = 1024
"""The bits of a sketch: a few times the parts of a usual bullet."""

_log = logging.getLogger("flashgraph")

_WORD = re.compile(r"\w+")
_FACT = re.compile(
    r"`[^`]+`|\"[^\"]+\"|\b\w*\d[\w.,-]*\b|\b\w+_\w+\b|\b(?:no|not|never|none|without|cannot|except|unless|\w+n['\u2019]t)\b"
)
"""Parts that a merge must not lose: codes, numbers, quotations, negations."""

_ENDING = re.compile(r"(?<=\w\w\w)(?:ing|ed|es|s|e)$")
_SMALL = frozenset(
    _WORD.findall(
        "a an and any are as at be by do does each every for from has have if in into is it its of on or so such that "
        "the then there these they this those to up was what when where whether which will with you your"
    )
)
"""Words with little meaning of their own."""


class Similarity(Protocol):
    """Score how alike ``text`` is to each of ``others``, from 0 to 1, in their order.

    A score below ``at_least`` may be returned as 0, which saves most of the work if few texts are alike.
    """

    def __call__(self, text: str, others: Sequence[str], /, *, at_least: float = 0.0) -> Sequence[float]: ...


@attrs.frozen
class _Profile:
    """The form of a text that `lexical` compares.

    ``sketch`` has one bit set for each of ``parts``; ``size`` is the number of parts.
    """

    normal: str
    facts: frozenset[str]
    stems: tuple[str, ...]
    parts: frozenset[str]
    size: int
    sketch: int


def lexical(text: str, others: Sequence[str], /, *, at_least: float = 0.0) -> Sequence[float]:
    """Return cosines over the words and character trigrams of texts; repeats count, case and spacing do not.

    Equal texts score 1. Texts that differ in a number, code, quotation or negation score at most `UNLIKE`. So do texts
    whose significant words differ, unless one only leaves some out. Two rules with one wording about two things are not
    duplicates; a playbook that merged them would lose one.
    """
    mine = _profile(text)
    return [_cosine(mine, _profile(other), at_least) for other in others]


def _cosine(one: _Profile, other: _Profile, at_least: float) -> float:
    if one.normal == other.normal:
        return 1.0
    scale = sqrt(one.size * other.size)
    # A part that the other sketch lacks is missing there. So this bounds the intersection, at a twentieth of its cost.
    shared = one.size - (one.sketch & ~other.sketch).bit_count()
    if not scale or shared / scale < at_least:
        return 0.0
    score = min(len(one.parts & other.parts) / scale, UNLIKE if _apart(one, other) else 1.0)
    return score if score >= at_least else 0.0


def _apart(one: _Profile, other: _Profile) -> bool:
    """Return whether two texts speak of different things, or of the same things in another order."""
    if one.facts != other.facts:
        return True
    shorter, longer = sorted((one.stems, other.stems), key=len)
    rest = iter(longer)
    return not all(stem in rest for stem in shorter)


@lru_cache(maxsize=8192)
def _profile(text: str) -> _Profile:
    folded = " ".join(text.casefold().split())
    normal = folded.rstrip(".!; ") or folded
    words = _WORD.findall(normal)
    spaced = f" {' '.join(words)} "
    trigrams = [spaced[i : i + 3] for i in range(len(spaced) - 2)]
    parts = _numbered([*words, *trigrams])
    sketch = 0
    for part in parts:
        sketch |= 1 << hash(part) % SKETCH
    stems = tuple(_ENDING.sub("", word) for word in words if word not in _SMALL)
    return _Profile(normal, _numbered(_FACT.findall(normal)), stems, parts, len(parts), sketch)


def _numbered(parts: Sequence[str]) -> frozenset[str]:
    """Return a multiset as a set, so that one intersection compares it; interned strings make that fast."""
    return frozenset(intern(f"{part}\0{i}") for part, n in Counter(parts).items() for i in range(n))


def similarity_named(name: str) -> Similarity:
    """Return the similarity of a name: ``lexical``, ``embedding``, ``embedding:MODEL`` or ``auto``.

    MODEL is a name on the hub or a folder. ``auto`` is the default embedding if it can be loaded. Otherwise it is
    `lexical`, with one warning in the log. Raises `DataError` for another name, and as `embedding` does.
    """
    kind, _, model = name.partition(":")
    if name == "lexical":
        return lexical
    if name == "auto":
        return _automatic()
    if kind == "embedding":
        return embedding(model or DEFAULT_MODEL)
    raise DataError(
        f"similarity {name!r} is not known; expected auto, lexical, embedding or embedding:MODEL.\n"
        "Fix: e.g. similarity='lexical'."
    )


@cache
def _automatic() -> Similarity:
    try:
        return embedding(DEFAULT_MODEL)
    except DataError as error:
        _log.warning("near-duplicates are found only by their wording: %s", str(error).partition("\n")[0])
        return lexical


@cache
def embedding(model: str = DEFAULT_MODEL) -> Similarity:
    """Return the cosine similarity of a static embedding model's vectors; negative cosines count as 0.

    ``model`` is a folder, or a name on the Hugging Face hub, whose local copy is used if there is one. It is loaded
    once. Raises `DataError` if the library is not installed or the model cannot be loaded.
    """
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise DataError(
            f"the similarity embedding:{model} needs the model2vec package ({error}).\n"
            "Fix: pip install 'flashgraph[embedding]', or similarity='lexical'."
        ) from None
    try:
        return _Embedding(StaticModel.from_pretrained(model, force_download=False))
    except Exception as error:  # the library passes on the errors of its readers and of the hub's client
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DataError(
            f"the embedding model {model!r} cannot be loaded: {type(error).__name__}: {reason}\n"
            "Fix: give a folder with a model2vec model, or similarity='lexical'."
        ) from error


class _Embedding:
    """The vectors of one model; each text's vector is computed once."""

    def __init__(self, model: Any) -> None:
        self._vector = lru_cache(maxsize=8192)(lambda text: _unit(model.encode([text])[0]))

    def __call__(self, text: str, others: Sequence[str], /, *, at_least: float = 0.0) -> Sequence[float]:
        if not others:
            return []
        import numpy

        scores = numpy.stack([self._vector(other) for other in others]) @ self._vector(text)
        return [float(score) for score in numpy.clip(scores, 0.0, 1.0)]


def _unit(vector: Any) -> Any:
    """Return a vector at length 1. A text without a known word stays at 0, and is like no other."""
    length = float((vector @ vector) ** 0.5)
    return vector / length if length else vector
