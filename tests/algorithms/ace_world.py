"""Small worlds for ACE's scripted models: every answer is a hash of the whole prompt, and every case occurs.

Curators add, update, merge and remove lines, also lines that were removed, merged away or never existed. They write
operations that do not exist and replies that are none. A sample is answered right at once, after one to three
reflections, or never.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

import flashgraph as fg

SECTIONS = ("RULES", "rules", "Tips & Tricks", "tips_and_tricks", "", "OTHERS")
IDS = tuple(f"{slug}-{n:05}" for n in range(1, 9) for slug in ("rule", "tt", "othe"))
SEEDS = (
    "",
    "## RULES\n\n## OTHERS",
    "## RULES\n[rule-00007] helpful=2 harmful=0 :: Check field f1 first.\n"
    "[tt-00003] helpful=0 harmful=3 :: Skip it 9\n\n## LATER\n[l-00004] helpful=0 harmful=0 :: check field F1 first",
)
NEVER = 9


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


@attrs.frozen
class Case:
    """A sample that is answered right after ``needs`` reflections."""

    split: str
    index: int
    needs: int

    def __str__(self) -> str:
        return f"case {self.split}-{self.index}"


@attrs.frozen
class World:
    """A world that depends only on ``number``; ``changing`` makes curators prefer changing lines to adding some."""

    number: int
    changing: bool = False

    def draw(self, what: str, choices: Sequence[Any]) -> Any:
        return choices[digest(self.number, what) % len(choices)]

    @property
    def params(self) -> dict[str, Any]:
        """Return the graph's parameters."""
        return {
            "mode": self.draw("mode", ("offline", "online")),
            "epochs": self.draw("epochs", (1, 2)),
            "eval_steps": self.draw("steps", (2, 3, 4, 5)),
            "test_window": self.draw("window", (2, 3, 4)),
            "curator_frequency": self.draw("frequency", (1, 1, 2, 3)),
            "budget_tokens": self.draw("budget", (45, 70, 80_000)),
            "merge_duplicates": self.draw("merge", (False, True)),
            "answer_after": self.draw("after", (True, True, False)),
            "similarity": "lexical",
        }

    def cases(self, split: str) -> list[Case]:
        size = {"train": 3 + digest(self.number, "train") % 7, "val": 2 + digest(self.number, "val") % 4}[split]
        return [Case(split, i, (0, 0, 1, 2, 3, NEVER)[digest(self.number, split, i) % 6]) for i in range(size)]

    def task(self) -> fg.Task[Case, str]:
        def score(case: Case, output: str) -> fg.Score:
            return fg.Score({"right": 1.0, "wrong-1": 0.5}.get(output, 0.0), f"{case} wants to be right")

        return fg.Task(
            name=f"ace-{self.number}",
            train=self.cases("train"),
            val=self.cases("val"),
            seed={"instructions": "Be right.", "playbook": self.draw("seed", SEEDS)},
            score=score,
        )

    def reply(self, role: str, prompt: str) -> str:
        """Answer as the model of every role."""
        if role == "generator":
            return self._generate(prompt)
        if role == "reflector":
            return self._reflect(prompt)
        return self._merge(prompt) if prompt.startswith("These pieces") else self._curate(prompt)

    def _generate(self, prompt: str) -> str:
        key = digest(self.number, prompt)
        learned = re.search(r"the answer wrong-(\d) was", prompt)
        tries = int(learned[1]) + 1 if learned else 0
        split, index = re.findall(r"case (train|val)-(\d+)", prompt)[-1]
        right = tries >= self.cases(split)[int(index)].needs or key % 7 == 0
        final = "right" if right else f"wrong-{min(tries, 3)}"
        cited = _some(key, _listed(prompt) + list(IDS[:6]), 3)
        if key % 5 == 0:
            return f"I follow [{cited[0]}].\nFinal answer: {final}"
        reasoning = f"as {cited[-1]} says"
        return json.dumps({"reasoning": reasoning, "bullet_ids": cited[:2], "final_answer": final})

    def _reflect(self, prompt: str) -> str:
        key = digest(self.number, prompt)
        answer = re.search(r"It answered: (\S+)", prompt)
        text = f"the answer {answer[1] if answer else ''} was judged, note n{key % 50}"
        if key % 11 == 0:
            return f"{text}, and that is all"
        names = ("helpful", "harmful", "neutral", "great")
        tags = [
            {"id": bullet, "tag": names[digest(key, i) % 4]}
            for i, bullet in enumerate(_some(key, _listed(prompt) * 3 + list(IDS[:9]), 4))
        ]
        return json.dumps({"reasoning": text, "key_insight": f"i{key % 9}", "bullet_tags": tags})

    def _merge(self, prompt: str) -> str:
        key = digest(self.number, prompt)
        return ("", f"Both, as b{key % 4} says.", _text(key % 6, 1), "Check field f1 first.")[key % 4]

    def _curate(self, prompt: str) -> str:
        key = digest(self.number, prompt)
        whole = ("Nothing to change here.", '{"operations": "none"}', '{"operations": null}', '{"operations": []}')
        if key % 13 < 4:
            return whole[key % 13]
        operations = [self._operation(digest(key, i), _listed(prompt)) for i in range(1 + key % 4)]
        return "My changes:\n" + json.dumps({"reasoning": "why", "operations": operations})

    def _operation(self, key: int, listed: list[str]) -> Any:
        kinds = ("UPDATE",) * 9 if self.changing else ("ADD", "ADD", "UPDATE", "MERGE", "REMOVE")
        kind = (*kinds, "ADD", "ADD", *kinds, "DELETE", "SPLIT", "text")[key % (2 * len(kinds) + 5)]
        text, ids = _text(key // 7 % 8, key // 11 % 3), _some(key, listed * 4 + list(IDS[:4]), 3)
        fields: Mapping[str, Mapping[str, Any]] = {
            "ADD": {"section": SECTIONS[key // 3 % 6], "content": text},
            "UPDATE": {"bullet_id": ids[0], "content": text},
            "MERGE": {"source_ids": ids[: 1 + key % 3], "content": text, "section": SECTIONS[key // 5 % 6]},
        }
        if kind == "text" or key % 29 == 0:
            return {"type": kind, "section": "RULES"} if key % 2 else "ADD a line"
        return {"type": kind, **fields.get(kind, {"bullet_id": ids[0]})}


def _text(field: int, form: int) -> str:
    """Return a text; texts of one field are duplicates, texts of different fields are not."""
    forms = (f"Check field f{field} first.", f"check Field F{field} first", f"Check field\nf{field} first!")
    return forms[form]


def _listed(prompt: str) -> list[str]:
    """Return the ids of the lines in a prompt."""
    return re.findall(r"^\[(\S+)\] helpful=", prompt, re.MULTILINE)


def _some(key: int, of: Sequence[str], count: int) -> list[str]:
    return [of[digest(key, "id", i) % len(of)] for i in range(count)]
