"""Instruction following: requests with constraints that a program can check (IFBench).

The verifiers are those of the package if-verifiable.  The score is the share of a request's constraints that the reply
meets, in the benchmark's loose reading.  The 200 rows come as one file, divided 2 : 1 : 2 into train, val and test with
seed 0.  From the hub they are its first 200 rows.

Some verifiers need NLTK data, which this file does not download.  Requests whose data is not installed are left out,
with a warning that says how to get it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

import flashgraph as fg
from flashgraph import data
from flashgraph.errors import did_you_mean

HUB = "hf:allenai/IFBench_test@train"
SOURCE = (
    "the first 200 rows of huggingface.co/datasets/allenai/IFBench_test (columns prompt, instruction_id_list, kwargs)"
)
COLUMNS = {"prompt": "prompt", "ids": "instruction_id_list", "kwargs": "kwargs"}
PUNKT, STOPWORDS = "tokenizers/punkt_tab", "corpora/stopwords"
TAGGER = "taggers/averaged_perceptron_tagger_eng"
NEEDS = {
    "ratio:stop_words": (STOPWORDS,),
    "words:start_verb": (PUNKT, TAGGER),
    "words:keywords_specific_position": (PUNKT,),
    "words:words_position": (PUNKT,),
    "format:title_case": (PUNKT,),
}
log = logging.getLogger("flashgraph")


@attrs.frozen
class Constraint:
    """One constraint: the verifier's id and its arguments."""

    id: str
    kwargs: Mapping[str, Any]

    def __str__(self) -> str:
        return str(VERIFIERS[self.id](self.id).build_description(**self.kwargs)).strip()


@attrs.frozen
class Request:
    """A prompt that states its constraints in words, and the constraints."""

    dataset: ClassVar[str] = "ifbench"
    prompt: str
    constraints: tuple[Constraint, ...]

    def __str__(self) -> str:
        return self.prompt


def verifiers() -> Mapping[str, Any]:
    """Return the verifier classes by id.

    Raises `DataError` if the package is not installed.
    """
    if importlib.util.find_spec("if_verifiable") is None:
        raise fg.DataError("ifbench: needs the if-verifiable package.\nFix: pip install 'flashgraph[ifbench]'.")
    import nltk

    nltk.data.path.extend(bundled())
    # The package downloads NLTK data on import, but a task file must load without a network.
    download, nltk.download = nltk.download, lambda *_, **__: False
    try:
        from if_verifiable.ifbench import INSTRUCTION_DICT
    finally:
        nltk.download = download
    found: Mapping[str, Any] = INSTRUCTION_DICT
    return found


def bundled() -> list[str]:
    """Return the folder of NLTK data inside an installed llama-index-core, without importing it."""
    try:
        core = importlib.metadata.distribution("llama-index-core")
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(core.locate_file("llama_index/core/_static/nltk_cache"))]


def lacking(requests: tuple[Request, ...]) -> set[str]:
    """Return the NLTK resources that the requests' verifiers need and that are not installed."""
    import nltk

    missing = set()
    for resource in {r for request in requests for c in request.constraints for r in NEEDS.get(c.id, ())}:
        try:
            nltk.data.find(resource)
        except LookupError:
            missing.add(resource)
    return missing


def checkable(requests: tuple[Request, ...], missing: set[str]) -> tuple[Request, ...]:
    """Return the requests that can be checked without the missing resources."""
    return tuple(r for r in requests if not any(missing & set(NEEDS.get(c.id, ())) for c in r.constraints))


def request(row: data.Row) -> Request:
    """Return the sample of a row; null arguments do not belong to the constraint."""
    ids, kwargs = row.entries("ids"), row.entries("kwargs")
    if unknown := [i for i in ids if i not in VERIFIERS]:
        raise row.wrong("ids", "ids of IFBench's verifiers", did_you_mean(str(unknown[0]), sorted(VERIFIERS)))
    if len(kwargs) != len(ids) or not all(isinstance(k, dict) for k in kwargs):
        raise row.wrong("kwargs", f"{len(ids)} JSON objects, one for each id")
    constraints = tuple(
        Constraint(i, {name: whole(value) for name, value in k.items() if value is not None})
        for i, k in zip(ids, kwargs, strict=True)
    )
    try:
        list(map(str, constraints))
    except (TypeError, ValueError) as error:
        raise row.wrong("kwargs", f"the verifiers' arguments ({error})") from None
    return Request(row.text("prompt"), constraints)


def whole(value: Any) -> Any:
    """Return a count as a whole number: JSON has 36.0, and the verifiers count with 36."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


async def attempt(candidate: Mapping[str, str], sample: Request, llm: fg.Llm) -> str:
    """Send the request to the model."""
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}],
        temperature=0,
        max_tokens=2048,
    )
    return reply.text.strip()


def score(sample: Request, output: str) -> fg.Score:
    """Score the share of constraints met; the feedback names the others, and ``objectives`` adds the strict reading."""
    strict, loose = zip(*(met(constraint, sample.prompt, output) for constraint in sample.constraints), strict=True)
    lines = [
        f"{'Met' if ok else 'Not met'}: {constraint}" for constraint, ok in zip(sample.constraints, loose, strict=True)
    ]
    share = sum(loose) / len(loose)
    return fg.Score(share, "\n".join(lines), {"strict": sum(strict) / len(strict), "all": float(all(loose))})


def met(constraint: Constraint, prompt: str, output: str) -> tuple[bool, bool]:
    """Return whether a reply meets a constraint: (strictly, loosely)."""
    from if_verifiable import IFBenchSample, evaluate_output_for_sample

    asked = IFBenchSample("", prompt, [constraint.id], [dict(constraint.kwargs)])
    try:
        results, _ = evaluate_output_for_sample("ifbench", asked, output)
    except Exception as error:  # some verifiers index into replies that are too short
        log.debug("ifbench: the verifier of %s failed on a reply: %r", constraint.id, error)
        return False, False
    return (results[0].strict_pass, results[0].loose_pass) if results else (False, False)


VERIFIERS = verifiers()
rows = data.read(data.locate("ifbench/ifbench_200.jsonl", download=SOURCE, hub=HUB), COLUMNS, take=200)
every = data.samples(rows, request)
missing = lacking(every)
left_out = len(every) - len(checkable(every, missing))
if left_out:
    log.warning(
        "ifbench: %d of %d requests are left out, because NLTK's %s is not installed. Fix: pip install --no-deps "
        "llama-index-core, which holds punkt_tab and stopwords, or python -m nltk.downloader %s.",
        left_out,
        len(every),
        " and ".join(sorted(missing)),
        " ".join(sorted(name.rpartition("/")[2] for name in missing)),
    )
# Divided before any request is left out, so that the splits do not depend on what is installed.
parts = data.split(every, {"train": 2, "val": 1, "test": 2})
task = fg.Task(
    name="ifbench",
    train=checkable(parts["train"], missing),
    val=checkable(parts["val"], missing),
    test=checkable(parts["test"], missing),
    seed={"instruction": "Respond to the request."},
    attempt=attempt,
    score=score,
)
