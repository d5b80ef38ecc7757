"""A task: the samples, how a candidate attempts one, and how an attempt is scored."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Message, Reply

__all__ = ["Llm", "Score", "Split", "Task"]

Split = str
"""``"train"``, ``"val"`` or ``"test"``."""

S = TypeVar("S", default=Any)
O = TypeVar("O", default=Any)  # noqa: E741 - O is the output type everywhere in the docs


class Llm(Protocol):
    """The model as a stage or a task sees it: ``reply = await llm(messages, temperature=0)``.

    A plain string is short for one user message.  A content is a text or a list of parts, for a model that takes
    pictures: ``{"type": "text", "text": ...}``.  Raises `DataError` for messages of another form, `RequestFailed` when
    this request cannot be answered and `BudgetExhausted` when it would exceed the run's budget.
    """

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply: ...


@attrs.frozen
class Score:
    """How good one output is.

    ``value`` is higher-is-better, 1.0 meaning perfect; ``feedback`` is what a reflection may read;
    ``objectives`` are further named values, higher-is-better.
    """

    value: float = attrs.field(converter=float)
    feedback: str = ""
    objectives: Mapping[str, float] = attrs.field(factory=dict)


async def ask(candidate: Mapping[str, str], sample: Any, llm: Llm) -> Any:
    """The default of `Task.attempt`: the candidate's texts are the system message, the sample is the user's."""
    system = "\n\n".join(candidate.values())
    reply = await llm([{"role": "system", "content": system}, {"role": "user", "content": str(sample)}])
    return reply.text.strip()


@attrs.frozen
class Task(Generic[S, O]):
    """What evolution works on.

    ``seed`` maps component names to their first texts; ``attempt(candidate, sample, llm)`` produces an output for
    one sample (by default it asks the model, the texts being the system message and ``str(sample)`` the user's),
    ``score(sample, output)`` judges it.  ``train`` feeds reflection, ``val`` decides, ``test`` is
    held out: no stage ever sees it.  ``bounds`` are the least and the greatest value that a score can have: what can
    no longer pass is given up by them (infinities promise nothing, and nothing is given up).

    Raises `DataError` when a part is missing, empty or of the wrong kind.
    """

    name: str
    train: Sequence[S] = attrs.field(converter=tuple)
    val: Sequence[S] = attrs.field(converter=tuple)
    test: Sequence[S] = attrs.field(converter=tuple, default=())
    seed: Mapping[str, str] = attrs.field(factory=lambda: {"instruction": "Answer the question."})
    attempt: Callable[[Mapping[str, str], S, Llm], Awaitable[O]] = attrs.field(kw_only=True, default=ask)
    score: Callable[[S, O], Score] = attrs.field(kw_only=True)
    bounds: tuple[float, float] = attrs.field(kw_only=True, default=(0.0, 1.0))

    def __attrs_post_init__(self) -> None:
        for split in ("train", "val"):
            if not getattr(self, split):
                raise DataError(
                    f"task {self.name!r}: the {split} split is empty; found 0 samples, expected at least 1.\n"
                    f"Fix: give Task(..., {split}=[...]) the samples that "
                    + ("reflection learns from." if split == "train" else "decide which candidate is better.")
                )
        if not self.seed:
            raise DataError(
                f"task {self.name!r}: seed is empty; found {{}}, expected at least one named text.\n"
                'Fix: seed={"instruction": "..."}.'
            )
        self._check_seed()
        if not self.bounds[0] < self.bounds[1]:
            raise DataError(
                f"task {self.name!r}: bounds are {self.bounds!r}; expected (least, greatest) score, the least first.\n"
                "Fix: bounds=(0.0, 1.0), which is the default."
            )
        for part in ("attempt", "score"):
            if not callable(getattr(self, part)):
                raise DataError(
                    f"task {self.name!r}: {part} is not callable; found {getattr(self, part)!r}, expected a function."
                )

    def _check_seed(self) -> None:
        seed: Any = self.seed
        if not isinstance(seed, Mapping):
            fix = f'seed={{"instruction": {seed!r}}}' if isinstance(seed, str) else 'seed={"instruction": "..."}'
            raise DataError(
                f"task {self.name!r}: seed is {seed!r} (a {type(seed).__name__}); "
                f"expected a mapping from names to texts.\nFix: {fix}."
            )
        for name, text in seed.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise DataError(
                    f"task {self.name!r}: seed has {name!r}: {text!r} (a {type(text).__name__}); "
                    f"expected a text under a name.\nFix: seed={{{str(name)!r}: {str(text)!r}}}."
                )

    def judge(self, sample: S, output: O) -> Score:
        """The score of an output.  Raises `DataError` when it is no `Score` or its value lies outside of the bounds."""
        score: Any = self.score(sample, output)
        if not isinstance(score, Score):
            fix = f"return fg.Score({float(score)!r})" if isinstance(score, int | float) else "return fg.Score(VALUE)"
            raise DataError(
                f"task {self.name!r}: score returned {score!r:.80}, {_kind(score)}; expected a fg.Score.\n"
                f"Fix: {fix}, with feedback=... for the reflection to read."
            )
        least, most = self.bounds
        if not least <= score.value <= most:
            raise DataError(
                f"task {self.name!r}: the score of an output is {score.value:g}; "
                f"its bounds are {least:g} and {most:g}.\n"
                "Fix: scale the score, or give Task(..., bounds=(least, greatest)) what it can be."
            )
        return score

    def samples(self, split: Split) -> Sequence[S]:
        """The samples of ``"train"``, ``"val"`` or ``"test"``."""
        found: Sequence[S] = {"train": self.train, "val": self.val, "test": self.test}[split]
        return found


def _kind(value: object) -> str:
    """What a value is, in words; of what an ``async def`` returns, that it is never awaited."""
    if inspect.isawaitable(value):
        return "which nobody awaits: score is a plain function"
    return f"a value of type {type(value).__name__}"
