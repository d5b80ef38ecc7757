"""A generated world for the islands graph: programs are lists of genes, and the model is a hash of its prompt.

`StandIn` replaces the sandbox, and `World.reply` the model. The model's change of a program is plain data (`Move`), so
that an interpreter can repeat it without reading replies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.parts.islands.programs import Check
from flashgraph.sandbox import CandidateFailed, Ran

SEED = "gene-0 = 1\ngene-1 = 1\ngene-2 = 1\n"


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


@attrs.frozen
class Shown:
    """The content of a prompt: the parent, its score and feedback, the inspirations, and each failure.

    A failure has its reason (a word and its feedback) and the lines that it had added.
    """

    program: str
    score: str
    feedback: tuple[str, ...]
    inspirations: tuple[tuple[str, str], ...]
    failures: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]


@attrs.frozen
class Move:
    """A move of the model: replace the line ``old`` with ``new``, or give an unusable reply."""

    kind: str
    old: str = ""
    new: tuple[str, ...] = ()


REASONS = {
    "no SEARCH/REPLACE": "useless",
    "holds no program": "useless",
    "not in the program": "misquoted",
    "changes nothing": "nothing",
    "below": "below",
}


def tokens(text: str) -> tuple[str, ...]:
    return tuple(sorted(re.findall(r"fb-\d+", text)))


def shown(prompt: str) -> Shown:
    """Read a prompt of the graph back."""
    now = re.search(r"The program now, with score (\S+) .*?:\n```python\n(.*?)\n```", prompt, re.DOTALL)
    does = re.search(r"How it does:\n(.*?)\n\n(?:Another|A proposal|Change the|Write a)", prompt, re.DOTALL)
    assert now is not None
    assert does is not None
    others = re.findall(r"Another program for it, with score (\S+):\n```python\n(.*?)\n```", prompt, re.DOTALL)
    tail = re.split(r"\n\n(?:Change the|Write a) program", prompt)[0]
    failures = []
    for part in tail.split("A proposal failed lately, so do better: ")[1:]:
        reason, _, changed = part.partition("\nIt had changed:\n")
        word = next(w for sign, w in REASONS.items() if sign in reason)
        failures.append((word, tokens(reason), tuple(x[1:] for x in changed.splitlines() if x.startswith("+"))))
    return Shown(now[2] + "\n", now[1], tokens(does[1]), tuple((p + "\n", s) for s, p in others), tuple(failures))


@attrs.frozen
class World:
    """``needs`` gives for each sample of a split the genes that its score is a share of."""

    number: int
    rewrite: bool
    needs: Mapping[str, tuple[frozenset[int], ...]]
    params: Mapping[str, Any]

    @classmethod
    def make(cls, number: int) -> World:
        def pick(name: str, *values: Any) -> Any:
            return values[digest(number, name) % len(values)]

        def sample(split: str, i: int) -> frozenset[int]:
            return frozenset(digest(number, split, i, k) % 9 for k in range(1 + digest(number, split, i) % 4))

        params = {
            "islands": pick("islands", 1, 2, 3, 4),
            "features": pick("features", ("complexity", "diversity"), ("speed",), ("diversity", "speed")),
            "bins": pick("bins", 2, 5, 10),
            "migration": pick("migration", 1, 2, 4),
            "migrants": pick("migrants", 0, 1, 2),
            "exploration": pick("exploration", 0.0, 0.3, 1.0),
            "exploitation": pick("exploitation", 0.0, 0.4),
            "elites": pick("elites", 1, 3),
            "top": pick("top", 0, 1, 2),
            "diverse": pick("diverse", 0, 1, 2),
            "failures": pick("failures", 0, 1, 3),
            "threshold": pick("threshold", 0.1, 0.4),
        }
        sizes = {"train": 1 + digest(number, "train") % 3, "val": 1 + digest(number, "val") % 5}
        needs = {split: tuple(sample(split, i) for i in range(size)) for split, size in sizes.items()}
        return cls(number, bool(digest(number, "rewrite") % 2), needs, params)

    # ---- the model ---------------------------------------------------------------------------------------

    def move(self, seen: Shown, turn: int = 0) -> Move:
        """Return the model's move: it learns genes from its prompt, loses one, or gives an unusable reply.

        With ``turn``, which counts its replies, it does not repeat itself.
        """
        key = digest(self.number, seen, turn)
        lines = seen.program.splitlines()
        old = lines[key % len(lines)]
        if key % 11 < 2:
            return Move(("useless", "nothing")[key % 11], old)
        if key % 11 == 2 and not self.rewrite:
            return Move("misquoted", old)
        learned = [
            int(n) for f in (seen.feedback, *(f[1] for f in seen.failures)) for n in re.findall(r"\d+", " ".join(f))
        ]
        genes = [g % 9 for g in learned] + [int(g) for p, _ in seen.inspirations for g in re.findall(r"gene-(\d)", p)]
        gene = genes[digest(key) % len(genes)] if genes else key % 9
        new = (f"gene-{gene} = {key % 100}", f"x{key % 7} = {key % 3000}")[: key % 3]
        if key % 2 or len(lines) == 1:
            new = (old, *new)
        return Move("replace", old, new) if new != (old,) else Move("replace", old, (old, f"y = {key % 50}"))

    def reply(self, seen: Shown, turn: int = 0) -> str:
        move = self.move(seen, turn)
        if move.kind == "useless":
            return "```\n```" if self.rewrite else "I am content with it."
        new = {"nothing": (move.old,), "misquoted": ("z = 1",)}.get(move.kind, move.new)
        if self.rewrite:
            return "Better:\n```python\n" + carried_out(seen.program, attrs.evolve(move, new=new)) + "```"
        quoted = f"{move.old} # not so" if move.kind == "misquoted" else move.old
        return "So:\n<<<<<<< SEARCH\n{}\n=======\n{}>>>>>>> REPLACE".format(quoted, "".join(f"{x}\n" for x in new))

    # ---- the sandbox and the task ------------------------------------------------------------------------

    def ran(self, code: str, split: str, index: int) -> Any:
        """Return a program's result for a sample; some fail, and some return junk."""
        key = digest(self.number, code, split, index)
        if key % 9 == 0:
            raise CandidateFailed("error", f"fb-{key % 1000}")
        if key % 13 == 0 and code != SEED:
            return "junk"
        genes = {int(g) for g in re.findall(r"gene-(\d)", code)}
        needs = self.needs[split][index]
        return {"share": len(needs & genes) / len(needs), "missing": sorted(needs - genes), "speed": key % 5 / 5}

    def task(self) -> fg.Task:
        def score(sample: Check, value: Any) -> fg.Score:
            named = " ".join(f"fb-{g}" for g in value["missing"])
            return fg.Score(value["share"], named, {"speed": value["speed"]})

        def checks(split: str) -> list[Check]:
            return [Check("main", {"split": split, "index": i}) for i in range(len(self.needs[split]))]

        return fg.Task(
            f"world-{self.number}", checks("train"), checks("val"), checks("val"), seed={"program": SEED}, score=score
        )


def carried_out(program: str, move: Move) -> str:
    """Return the program after a move: the new lines replace the first old one."""
    lines = program.splitlines()
    at = lines.index(move.old)
    return "\n".join([*lines[:at], *move.new, *lines[at + 1 :]]) + "\n"


@attrs.define
class StandIn:
    """Replaces the sandbox: answers from the world after ``seconds``, and records the runs."""

    world: World
    seconds: Callable[[str], float] = lambda what: 0.0
    runs: list[tuple[str, str, int]] = attrs.field(factory=list)
    running: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield
        assert not self.running, "a cancelled run was left behind"

    async def run(self, code: str, entry: str, arguments: Mapping[str, Any], **_: Any) -> Ran:
        assert entry == "main"
        split, index = arguments["split"], arguments["index"]
        self.runs.append((code, split, index))
        self.running += 1
        try:
            await anyio.sleep(self.seconds(f"{code}{split}{index}"))
            return Ran(json.loads(json.dumps(self.world.ran(code, split, index))), "", "", 0.0)
        finally:
            self.running -= 1
