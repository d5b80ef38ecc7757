"""Reading what a model wrote: thoughts are taken off, and a reply that cannot be used is refused with the reason.

Every reader of a reply begins here.  All of it scans lines, in time that grows with the length of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import attrs

from flashgraph.errors import UnusableReply

__all__ = ["parted", "usable"]

CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
"""Finish reasons of a reply that ends where its tokens did."""

WITHHELD = frozenset({"content_filter", "refusal", "safety"})
"""Finish reasons of a reply that the provider or the model has refused."""

ABORTED = frozenset({"abort", "error"})
"""Finish reasons of a reply that its server did not complete."""

LONGEST = 262_144
"""Characters of an answer that are read: what is longer is no proposal, and must not hold up the run."""

LONGEST_REFUSAL = 400
"""Characters: a longer text that begins with an apology says something else too."""

SORRY = ("i'm sorry", "i am sorry", "sorry,", "i apologize", "i apologise", "i can't", "i cannot", "i'm unable",
         "i am unable", "i'm not able", "i am not able", "i won't", "i will not")  # fmt: skip
UNWILLING = ("can't", "cannot", "unable", "not able", "won't", "will not")

# Neither pattern repeats anything, so neither can backtrack.
_TAG = re.compile(r"</?(?:think|thinking|thought|seed:think)>|\[/?THINK\]", re.IGNORECASE)


def usable(text: str, finish: str = "stop", thoughts: str = "") -> str:
    """Return the answer of a reply.

    ``text`` is without the ``thoughts`` that `parted` has taken off.  Raises `UnusableReply` when the reply was cut
    off, refused, aborted, or has no text of its own, and when the text is longer than `LONGEST`.
    """
    if finish in CUT_OFF:
        raise UnusableReply(
            f"the reply was cut off at its limit of tokens (finish={finish}).\n"
            "Fix: give the model a higher max_tokens, as in --model 'MODEL?max_tokens=4000'."
        )
    if finish in WITHHELD:
        raise UnusableReply(f"the reply was withheld (finish={finish})")
    if finish in ABORTED:
        raise UnusableReply(f"the reply is not complete (finish={finish})")
    if not text.strip():
        raise UnusableReply("the reply holds thoughts and no answer" if thoughts.strip() else "the reply is empty")
    if len(text) > LONGEST:
        raise UnusableReply(f"the reply has {len(text):,} characters; at most {LONGEST:,} are read")
    if _refuses(text.strip()):
        raise UnusableReply(f"the model refused: {text.strip()!r}")
    return text


def _refuses(said: str) -> bool:
    """Return whether a short text without any fence says that the model will not answer."""
    if len(said) > LONGEST_REFUSAL or "```" in said:
        return False
    plain = said.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower().lstrip("*_# ")
    return plain.startswith(SORRY) and any(word in plain for word in UNWILLING)


# ---- thoughts --------------------------------------------------------------------------------------------


def parted(text: str) -> tuple[str, str]:
    """Return the answer of a reply, and the thoughts that a reasoning model wrote before or between its parts.

    Thoughts stand between ``<think>`` and ``</think>`` (also ``<thinking>``, ``<thought>``, ``[THINK]``), where the
    opening tag begins the reply or a line, or before a ``</think>`` whose opening tag stands in the model's template.
    A reply whose thoughts do not end has no answer.  Tags in a fence, and pairs of them within a line, are text.
    """
    return _Parting(text).done() if _TAG.search(text) else (text, "")


@attrs.define
class _Parting:
    """One pass over the lines of a reply."""

    text: str
    state: Literal["answer", "fence", "thoughts"] = "answer"
    marker: str = ""
    """The fence that is open."""
    kept: list[str] = attrs.field(factory=list)
    thoughts: list[str] = attrs.field(factory=list)
    begin: int = 0
    """Where the present part of the answer, or of the thoughts, begins."""
    opened: int = 0
    """Opening tags of the present thoughts; more than one where the thoughts themselves speak of tags."""
    inline: int = 0
    """Opening tags that are text and not closed yet."""
    owed: int | None = None
    """Closing tags that may still come for thoughts that ended early; None as long as there were none."""

    def done(self) -> tuple[str, str]:
        """Return (answer, thoughts); the text as it is where it has no thoughts."""
        for start, line in _lines(self.text):
            if self.state == "fence" and closes(line, self.marker):
                self.state = "answer"
            elif self.state == "answer" and (marker := opens(line)):
                self.state, self.marker = "fence", marker
            else:
                for tag in _TAG.finditer(line):
                    self._tag(line, start, tag)
        if self.state == "thoughts":
            return "", self.text.strip()
        if not self.thoughts:
            return self.text, ""
        self.kept.append(self.text[self.begin :])
        return "".join(self.kept).strip(), "\n".join(part.strip() for part in self.thoughts)

    def _tag(self, line: str, start: int, tag: re.Match[str]) -> None:
        at, end = start + tag.start(), start + tag.end()
        closing = tag[0][1] == "/"
        if self.state == "thoughts":
            if not closing:
                self.opened += 1
                return
            self.thoughts.append(self.text[self.begin : at])
            self.state, self.begin = "answer", end
            self.owed = (self.owed or 0) + self.opened - 1
        elif not closing:
            if self.state == "answer" and not self.text[max(start, self.begin) : at].strip():
                self.kept.append(self.text[self.begin : at])
                self.state, self.begin, self.opened = "thoughts", end, 1
            else:
                self.inline += 1
        elif self.inline:
            self.inline -= 1
        elif self.owed != 0 and (self.state == "answer" or line.strip() == tag[0]):
            # Everything before it was thought, by its model or by a part of the thoughts that spoke of tags.
            self.kept, self.thoughts = [], [self.text[:at]]
            self.state, self.begin = "answer", end
            self.owed = self.owed and self.owed - 1


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with the place where it starts."""
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


# ---- fences ----------------------------------------------------------------------------------------------


def opens(line: str) -> str:
    """Return the marker of the fence that a line opens: three or more backticks or tildes.  Empty if it opens none."""
    stripped = line.lstrip()
    for character in "`~":
        if stripped.startswith(character * 3):
            info = stripped.lstrip(character)
            return "" if character == "`" and "`" in info else character * (len(stripped) - len(info))
    return ""


def closes(line: str, marker: str) -> bool:
    """Return whether a line closes the fence that ``marker`` has opened: at least as many, and nothing behind them."""
    stripped = line.strip()
    return stripped.startswith(marker) and not stripped.strip(marker[0])
