"""A task: the samples, how a candidate attempts one, and how an attempt is scored."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property
from importlib import import_module
from pathlib import PurePath
from typing import Any, Generic, Protocol

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import DataError
from flashgraph.llm.gateway import gateway
from flashgraph.llm.protocol import Message, Reply
from flashgraph.tasks.batching import batched
from flashgraph.tasks.samples import own_copy
from flashgraph.tasks.score import Score
from flashgraph.tasks.tables import is_table, table_rows
from flashgraph.tasks.trace import Trace
from flashgraph.tasks.workers import Runs, TookTooLong, from_any_thread, is_async, place_named, run_in

__all__ = ["Llm", "Split", "Task", "least_score"]

FILES = (".csv", ".jsonl", ".parquet")
"""The suffixes of files that `flashgraph.tasks.data.read` reads."""

Split = str
"""``"train"``, ``"val"`` or ``"test"``."""

S = TypeVar("S", default=Any)
O = TypeVar("O", default=Any)  # noqa: E741 - O is the output type everywhere in the docs


class Llm(Protocol):
    """The model as a stage or a task calls it: ``reply = await llm(messages, temperature=0)``.

    A plain string stands for one user message. A message's content is a text, or a list of parts for a model that takes
    pictures: ``{"type": "text", "text": ...}``. Raises `DataError` for messages of another form, `RequestFailed` if
    this request fails for good, and `BudgetExhausted` if it would exceed the run's budget.
    """

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply: ...


async def ask(candidate: Mapping[str, str], sample: Any, llm: Llm) -> Any:
    """The default of `Task.attempt`: send the candidate's texts as the system message, and the sample as the user's."""
    system = "\n\n".join(candidate.values())
    reply = await llm([{"role": "system", "content": system}, {"role": "user", "content": str(sample)}])
    return reply.text.strip()


def _samples(given: Iterable[Any]) -> Sequence[Any]:
    """Return the samples of a split as a tuple: of a table its rows, as mappings.

    A value that is no list of samples is returned as it is. The task then rejects it, because it knows the name of the
    split.
    """
    if is_table(given):
        return tuple(table_rows(given))
    return tuple(given) if _advice(given) is None else given  # type: ignore[return-value]  # `Task` refuses it


def _tests(given: Iterable[Any] | None) -> Sequence[Any]:
    """Return the samples of the test split, which may be None."""
    return () if given is None else _samples(given)


def _advice(given: Any) -> tuple[str, str] | None:
    """Return a description of a split that is no list of samples, and the fix; None if it is a list or the like."""
    kind = type(given).__name__
    if isinstance(given, PurePath) or (isinstance(given, str) and (given.startswith("hf:") or given.endswith(FILES))):
        return f"the path {str(given)!r}", f"fg.data.read({str(given)!r}), which gives its rows"
    if isinstance(given, str | bytes):
        return f"{given!r:.60} (a {kind}), which would give its characters", "[...]"
    if isinstance(given, Mapping):
        keys = ", ".join(map(repr, given))
        return f"a {kind}, which would give its keys ({keys:.60})", "list(it.values())"
    if isinstance(given, Set):
        return f"a {kind}, whose order differs from process to process", "sorted(it)"
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        return f"{given!r:.60} (a {kind})", "[...]"
    return None


def _roles(given: Any) -> tuple[str, ...]:
    """Return the roles as a tuple. Raises `DataError` for values that are not names."""
    found = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    for role in found:
        if not isinstance(role, str) or not role.isidentifier():
            raise DataError(f"fg.Task: roles has {role!r}; expected names.\nFix: roles=('judge',).")
    return found


def _named_texts(seed: Any) -> Any:
    """Return a copy of the named texts, so that nobody else can change them; other values stay, for `Task` to
    reject."""
    return dict(seed) if isinstance(seed, Mapping) else seed


@attrs.frozen
class Task(Generic[S, O]):
    """A problem for evolution to solve: samples, a seed, and functions that attempt and score.

    ``seed`` maps component names to their first texts. ``attempt(candidate, sample, llm)`` produces an output for one
    sample; by default it calls the model with the texts as the system message and ``str(sample)`` as the user's.
    ``score(sample, output)`` scores it. Reflections see ``train``, and ``val`` decides between candidates. ``test`` is
    held out: no stage ever sees it.

    Both may be async or plain. A plain ``attempt`` runs in a thread, where ``llm(...)`` blocks and returns the reply. A
    plain ``score`` runs where ``runs`` says: on the event loop, in a thread, or in a process. On the event loop, a slow
    score holds up all requests; Python that computes should run in a process. At most ``workers`` calls run at once in
    threads, and as many in processes. An attempt or a score that takes longer than ``timeout`` seconds fails.

    An ``attempt`` of four parameters, ``attempt(candidate, sample, llm, trace)``, may note what each component saw and
    said (`Trace`). ``rewrite(llm, candidate, components, attempts)`` replaces the reflection: it returns new texts for
    the named components, given the attempts of the candidate.

    With ``gateway=True``, an attempt's ``llm`` has a ``base_url`` and an ``api_key`` for OpenAI clients of any kind:
    their calls are the run's own (`flashgraph.llm.gateway.Seat`).

    A program that only takes batches has ``attempt_batch(candidate, samples, llm)`` in place of ``attempt``. It gets
    the samples that one candidate attempts together, and returns a list of outputs.

    With ``repeats``, a candidate attempts each sample that many times, one after the other, and its score is the mean.
    That suits programs whose outputs vary.

    ``roles`` are the roles of further models, such as a judge. Then ``llm(messages, role="judge")`` calls that model,
    in ``attempt`` and in a score of three parameters, ``score(sample, output, llm)``. The run limits, counts and stores
    these calls like all others.

    ``bounds`` are the least and the greatest possible score. With them, a run gives up early on candidates that can no
    longer pass. An answer with the greatest score is `perfect`. With infinite bounds nothing is given up early, and
    nothing is perfect.

    Raises `DataError` if a part is missing, empty or of the wrong kind.
    """

    name: str
    train: Sequence[S] = attrs.field(converter=_samples)
    val: Sequence[S] = attrs.field(converter=_samples)
    test: Sequence[S] = attrs.field(converter=_tests, default=())
    seed: Mapping[str, str] = attrs.field(
        factory=lambda: {"instruction": "Answer the question."}, converter=_named_texts
    )
    attempt: Callable[..., Any] = attrs.field(kw_only=True, default=ask)
    score: Callable[..., Any] = attrs.field(kw_only=True)
    bounds: tuple[float, float] = attrs.field(kw_only=True, default=(0.0, 1.0))
    runs: Runs = attrs.field(kw_only=True, default="loop")
    workers: int = attrs.field(kw_only=True, default=32)
    timeout: float | None = attrs.field(kw_only=True, default=None)
    roles: Sequence[str] = attrs.field(kw_only=True, default=(), converter=_roles)
    attempt_batch: Callable[..., Any] | None = attrs.field(kw_only=True, default=None)
    repeats: int = attrs.field(kw_only=True, default=1)
    rewrite: Callable[..., Any] | None = attrs.field(kw_only=True, default=None)
    gateway: bool = attrs.field(kw_only=True, default=False)

    def __attrs_post_init__(self) -> None:
        for split in ("train", "val", "test"):
            if advice := _advice(getattr(self, split)):
                found, fix = advice
                raise DataError(
                    f"task {self.name!r}: {split} is {found}; expected a list of samples.\nFix: {split}={fix}."
                )
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
        if not _are_bounds(self.bounds):
            raise DataError(
                f"task {self.name!r}: bounds are {self.bounds!r}; expected (least, greatest) score, the least first.\n"
                "Fix: bounds=(0.0, 1.0), which is the default."
            )
        place_named(f"task {self.name!r}", self.runs)
        self._check_others()
        for part in ("workers", "timeout", "repeats"):
            number: Any = getattr(self, part)
            if not (part == "timeout" and number is None) and not _is_above_zero(number, whole=part != "timeout"):
                raise DataError(
                    f"task {self.name!r}: {part} is {number!r}; expected a "
                    f"{'number of seconds' if part == 'timeout' else 'whole number'} above 0.\n"
                    f"Fix: {part}={3 if part == 'repeats' else 30}."
                )
        if self.runs == "process" and callable(self.score) and self._score_calls_models:
            raise DataError(
                f"task {self.name!r}: runs='process' and score takes llm; models stay in this process.\n"
                "Fix: runs='thread', or an async score."
            )
        for part in ("attempt", "score", "attempt_batch"):
            if not callable(getattr(self, part)) and not (part == "attempt_batch" and self.attempt_batch is None):
                raise DataError(
                    f"task {self.name!r}: {part} is not callable; found {getattr(self, part)!r}, expected a function."
                )
        if self.attempt_batch is not None and self.attempt is not ask:
            raise DataError(f"task {self.name!r}: it has attempt and attempt_batch.\nFix: leave one of them out.")

    def _check_others(self) -> None:
        name: Any = self.name
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"fg.Task: its name is {name!r:.80}; expected a text.\nFix: name='tickets'.")
        rewrite: Any = self.rewrite
        if rewrite is not None and not callable(rewrite):
            raise DataError(
                f"task {name!r}: rewrite is {rewrite!r:.80}; expected a function.\n"
                "Fix: rewrite=FUNCTION of (llm, candidate, components, attempts), or leave it out."
            )
        gateway: Any = self.gateway
        if not isinstance(gateway, bool):
            raise DataError(f"task {name!r}: gateway is {gateway!r:.80}; expected True or False.\nFix: gateway=True.")

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

    @classmethod
    def from_gepa_adapter(
        cls, adapter: Any, trainset: Any, valset: Any = None, *, seed_candidate: Mapping[str, str], **options: Any
    ) -> Task[Any, Any]:
        """Return the task of an adapter of the `gepa` package, for any algorithm: `flashgraph.gepa.adapter_task`."""
        make = import_module("flashgraph.gepa").adapter_task  # by name: it is a lower layer
        return make(adapter, trainset, trainset if valset is None else valset, seed_candidate, **options)  # type: ignore[no-any-return]

    @classmethod
    def from_dspy(
        cls, program: Any, metric: Callable[..., Any], trainset: Any, valset: Any = None, **options: Any
    ) -> Task[Any, Any]:
        """Return the task of a DSPy program, for any algorithm: `flashgraph.dspy.program_task`."""
        make = import_module("flashgraph.dspy").program_task
        return make(program, metric, trainset, valset, **options)  # type: ignore[no-any-return]

    @property
    def perfect(self) -> float | None:
        """The score of a perfect answer: the greatest of ``bounds``, or None if that is infinite."""
        most = self.bounds[1]
        return most if math.isfinite(most) else None

    @property
    def least(self) -> float:
        """The score of a failed attempt: `least_score` of ``bounds``."""
        return least_score(self.bounds)

    async def answer(self, candidate: Mapping[str, str], sample: S, llm: Llm, trace: Trace | None = None) -> O:
        """Return the output of an attempt, which may run in a thread.

        Raises `TimeoutError` after ``timeout`` seconds. Errors of ``attempt`` itself pass through.
        """
        if self.attempt_batch is not None:

            async def outputs(samples: Sequence[Any], together: Any) -> Any:
                return await self._called(self.attempt_batch, candidate, samples, together, ())

            key = (id(self), tuple(sorted(candidate.items())))
            of_batch: O = await batched(key, outputs, own_copy(sample), llm)
            return of_batch
        traced = (Trace() if trace is None else trace,) if _needed(self.attempt) > 3 else ()
        made: O = await self._called(self.attempt, candidate, own_copy(sample), llm, traced)
        return made

    async def _called(self, function: Any, candidate: Any, samples: Any, llm: Llm, traced: tuple[Trace, ...]) -> Any:
        """Call ``attempt`` or ``attempt_batch``, in a thread if it is plain."""
        plain = not is_async(function)
        place: Runs = "thread" if plain else "loop"
        own = from_any_thread(llm) if plain else llm
        with self._limited("attempt"):
            async with gateway(llm, self.roles, call=own) if self.gateway else nullcontext(own) as given:
                return await run_in(
                    place, self.workers, function, candidate, samples, given, *traced, seconds=self.timeout
                )

    async def judge(self, sample: S, output: O, llm: Llm | None = None) -> Score:
        """Return the `Score` of an output, checked: its numbers are finite floats within bounds.

        Raises `DataError` if the task's ``score`` returns no `Score`, a value that is not a finite number within
        ``bounds``, or an objective that is not a finite number. Raises `TimeoutError` after ``timeout`` seconds. Errors
        of ``score`` itself pass through.
        """
        given: tuple[Any, ...] = (own_copy(sample), output)
        if self._score_calls_models:
            if llm is None:
                raise DataError(
                    f"task {self.name!r}: score takes llm, but the stage that scores calls no model.\n"
                    "Fix: model='task' on that stage, or a score of a sample and an output."
                )
            given = (*given, from_any_thread(llm) if self.runs == "thread" else llm)
        with self._limited("score"):
            return self._checked(await run_in(self.runs, self.workers, self.score, *given, seconds=self.timeout))

    @cached_property
    def _score_calls_models(self) -> bool:
        return _needed(self.score) > 2

    @contextmanager
    def _limited(self, part: str) -> Iterator[None]:
        try:
            yield
        except TookTooLong as error:
            raise TimeoutError(f"task {self.name!r}: {part} took longer than {self.timeout:g} s") from error

    def _checked(self, score: Any) -> Score:
        if not isinstance(score, Score):
            raise DataError(
                f"task {self.name!r}: score returned {score!r:.80}, {_kind(score)}; expected a fg.Score.\n"
                f"Fix: {_as_score(score)}"
            )
        value = self._finite(score.value, "the score of an output")
        objectives = {
            name: self._finite(number, f"objective {name!r} of an output") for name, number in score.objectives.items()
        }
        least, most = self.bounds
        if not least <= value <= most:
            raise DataError(
                f"task {self.name!r}: the score of an output is {value:g}; "
                f"its bounds are {least:g} and {most:g}.\n"
                "Fix: scale the score, or give Task(..., bounds=(least, greatest)) its true range."
            )
        return attrs.evolve(score, value=value, objectives=objectives)

    def _finite(self, number: Any, what: str) -> float:
        """Return ``number`` as a float. Raises `DataError` if it is no number, or not finite."""
        try:
            value = float(number)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if math.isfinite(value) and not isinstance(number, str | bytes):
            return value
        raise DataError(
            f"task {self.name!r}: {what} is {number!r:.80}; expected a finite number.\n"
            "Fix: return a number for every output, the least score for one without an answer."
        )

    def samples(self, split: Split) -> Sequence[S]:
        """Return the samples of ``"train"``, ``"val"`` or ``"test"``."""
        found: Sequence[S] = {"train": self.train, "val": self.val, "test": self.test}[split]
        return found


@cache
def _needed(function: Callable[..., Any]) -> int:
    """Return the number of positional parameters without a default; 0 if Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is p.empty and p.kind in kinds for p in parameters)


def _is_above_zero(number: Any, *, whole: bool) -> bool:
    kind = int if whole else int | float
    return isinstance(number, kind) and not isinstance(number, bool) and 0 < number < math.inf


def _are_bounds(bounds: Any) -> bool:
    """Return whether a value is (least, greatest) score: two numbers, the least first."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or any(isinstance(b, str | bytes) for b in bounds):
        return False
    try:
        return bool(float(bounds[0]) < float(bounds[1]))
    except (TypeError, ValueError, OverflowError):
        return False


def least_score(bounds: tuple[float, float]) -> float:
    """Return the least score within ``bounds``; if that is infinite, 0, or the greatest score if that is below 0."""
    least, most = bounds
    return float(least) if math.isfinite(least) else min(0.0, float(most))


def _as_score(value: Any) -> str:
    """Return the statement that makes a score of the value that was returned."""
    if isinstance(value, int | float):
        return f"return fg.Score({float(value)!r}), with feedback=... for the reflection to read."
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int | float):
        return f"return fg.Score({float(value[0])!r}, feedback={value[1]!r:.60})."
    return "return fg.Score(VALUE), with feedback=... for the reflection to read."


def _kind(value: object) -> str:
    """Describe a value by its type."""
    return f"a value of type {type(value).__name__}"
