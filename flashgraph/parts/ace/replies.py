"""Read the JSON replies of ACE's generator, reflector and curator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flashgraph.errors import did_you_mean
from flashgraph.parts.ace.bullets import ID, bare_id, clean
from flashgraph.parts.ace.operations import Operation, Tag, Tags
from flashgraph.parts.ace.pool import Playbook
from flashgraph.text.lenient import get, objects, plain, shown, unescaped
from flashgraph.text.replies import LONGEST

__all__ = ["parse_answer", "parse_operations", "parse_tags"]

MOST_OPERATIONS = 200
"""The most operations that are read from one reply."""

OPERATIONS = ("operations", "ops", "changes", "delta")
KIND = ("type", "op", "operation", "action", "kind")
CONTENT = ("content", "text", "new_content", "new_text", "bullet_content", "merged_content")
SECTION = ("section", "section_name", "new_section")
BULLET = ("bullet_id", "id", "target_id", "target", "bullet")
BULLETS = ("source_ids", "bullet_ids", "ids", "sources", "bullets")
TAGS = ("bullet_tags", "tags", "bullets")
CITED = ("bullet_ids", "bullets", "bullets_used", "used_bullets", "bullet_ids_used", "bullet_id")
ANSWER = ("final_answer", "answer", "final")
REFLECTION = ("reasoning", "error_identification", "root_cause_analysis", "correct_approach", "key_insight")
KINDS = {"ADD": "ADD", "UPDATE": "UPDATE", "MERGE": "MERGE", "REMOVE": "REMOVE", "DELETE": "REMOVE"}
KNOWN_TAGS: Mapping[str, Tag] = {"helpful": "helpful", "harmful": "harmful", "neutral": "neutral"}

_CITED = re.compile(r"\[(" + ID + r")\]|(?<![\w-])([A-Za-z]\w*-[0-9]{5,15})(?![\w-])")
"""An id in brackets, or a text without brackets in the form of an id."""

_QUOTED_ANSWER = re.compile(r'"final_answer"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)
_PLAIN_ANSWER = re.compile(r"final[ _]answer(?:\W*?[:=]|\s+is\b)[\s*]*([^\s*].*)", re.IGNORECASE | re.DOTALL)


def parse_operations(reply: str, playbook: Playbook) -> tuple[Operation, ...]:
    """Return the operations of a curator's reply to ``playbook``; an unreadable one becomes a ``REFUSED`` one.

    {"reasoning": ..., "operations": [{"type": "ADD", "section": ..., "content": ...}, ...]}
    """
    read = objects(reply)
    found = [o for o in read if get(o, OPERATIONS) is not None]
    if found:
        listed = get(found[-1], OPERATIONS)
        listed = [listed] if isinstance(listed, Mapping) else listed
        if not isinstance(listed, list):
            return (Operation.refused(shown(listed), "operations is not a list"),)
    else:
        # A bare list of operations, or the complete ones of a truncated reply.
        listed = [o for o in read if get(o, KIND) is not None]
        if not listed and not any(_empty_curation(o) for o in read):
            why = "a JSON object without operations" if read else "no JSON object in the reply"
            return (Operation.refused(shown(reply), why),)
    operations = [_operation(raw, playbook) for raw in listed[:MOST_OPERATIONS]]
    if len(listed) > MOST_OPERATIONS:
        operations.append(Operation.refused(shown(listed[MOST_OPERATIONS]), f"only {MOST_OPERATIONS} are read"))
    return tuple(operations)


def _empty_curation(found: Mapping[str, Any]) -> bool:
    """Return whether a curator wrote ``"operations": null``: it has nothing to change."""
    return any(name in found for name in OPERATIONS)


def _operation(raw: Any, playbook: Playbook) -> Operation:
    if not isinstance(raw, Mapping):
        return Operation.refused(shown(raw), "no JSON object")
    named = plain(get(raw, KIND)).strip().upper()
    kind = KINDS.get(named)
    if kind is None:
        return Operation.refused(shown(raw), f"type {named!r} is none of {', '.join(KINDS)}")
    text = clean(plain(get(raw, CONTENT)))
    if not text and kind != "REMOVE":
        return Operation.refused(shown(raw), f"{kind} without content")
    section = clean(plain(get(raw, SECTION)))
    if kind == "ADD":
        return Operation.add(section, text)
    named_ids = _ids(get(raw, BULLETS if kind == "MERGE" else BULLET + BULLETS))
    living = {given: playbook.resolve(given) for given in named_ids}
    for given, bullet in living.items():
        if bullet is None:
            hint = f": {did_you_mean(given, list(playbook.by_id))}" if len(playbook.bullets) <= 20 else ""
            return Operation.refused(shown(raw), f"no bullet [{given}]{hint}")
    ids = tuple(dict.fromkeys(bullet for bullet in living.values() if bullet is not None))
    if kind == "MERGE":
        if len(ids) < 2:
            return Operation.refused(shown(raw), f"MERGE with {len(ids)} ids, expected two or more")
        return Operation.merge(ids, text, playbook.seen(ids), section)
    if len(ids) != 1:
        return Operation.refused(shown(raw), f"{kind} with {len(ids)} ids, expected one")
    (bullet_id,), (seen,) = ids, playbook.seen(ids)
    return Operation.update(bullet_id, text, seen) if kind == "UPDATE" else Operation.remove(bullet_id, seen)


def parse_tags(reply: str) -> tuple[str, Tags]:
    """Return a reflector's reply as text, and its tags.

        {"reasoning": ..., "error_identification": ..., "root_cause_analysis": ..., "correct_approach": ...,
         "key_insight": ..., "bullet_tags": [{"id": "si-00001", "tag": "helpful"}]}

    A reply without such an object is a reflection without tags. Tags of other names are left out.
    """
    names = (*REFLECTION, *TAGS)
    read = [one for one in objects(reply) if get(one, names) is not None]
    if not read:
        return clean(reply), Tags(())
    found = read[-1]
    parts = [(name, clean(plain(found.get(name)))) for name in REFLECTION]
    text = "\n".join(f"{name.replace('_', ' ').capitalize()}: {part}" for name, part in parts if part)
    return text, Tags(tuple(_tags(get(found, TAGS))))


def _tags(raw: Any) -> Iterator[tuple[str, Tag]]:
    pairs: Sequence[tuple[Any, Any]] = []
    if isinstance(raw, Mapping):
        pairs = list(raw.items())
    elif isinstance(raw, list):
        pairs = [(get(one, BULLET), get(one, ("tag", "label"))) for one in raw if isinstance(one, Mapping)]
    for bullet, tag in pairs:
        known = KNOWN_TAGS.get(plain(tag).strip().lower())
        named = bare_id(plain(bullet))
        if known and named:
            yield named, known


def parse_answer(reply: str) -> tuple[str, tuple[str, ...]]:
    """Return a generator's final answer as text, and the ids of the bullets that it cites, each once.

        {"reasoning": ..., "bullet_ids": ["si-00001"], "final_answer": ...}

    Bullets count wherever they are cited: in the list, or by id in any text. Without a JSON object, the answer is the
    text after the last ``final answer:``, or all of the reply.
    """
    reply = reply[-LONGEST:]
    read = objects(reply)
    listed = [bullet for one in read for bullet in _cited(one)]
    ids = tuple(dict.fromkeys([*listed, *(m[1] or m[2] for m in _CITED.finditer(reply))]))
    answers = [answer for o in read if (answer := get(o, ANSWER)) is not None]
    if answers:
        return clean(plain(answers[-1])), ids
    if cut_off := _QUOTED_ANSWER.search(reply):
        return clean(unescaped(cut_off[1])), ids
    last = re.split(r"(?i)(?=final[ _]answer)", reply)[-1]
    found = _PLAIN_ANSWER.match(last)
    return clean(found[1].rstrip("*\n ") if found else reply), ids


def _cited(found: Any) -> Iterator[str]:
    """Yield the ids in an object's lists of bullets, at any depth."""
    if isinstance(found, Mapping):
        for name, value in found.items():
            if name in CITED:
                yield from (bullet for bullet in _ids(value) if re.fullmatch(ID, bullet))
            else:
                yield from _cited(value)
    elif isinstance(found, list):
        for one in found:
            yield from _cited(one)


def _ids(raw: Any) -> list[str]:
    """Return ids from a list of ids, a single one, or a text with several."""
    if isinstance(raw, Mapping):
        return _ids(get(raw, BULLET))
    if isinstance(raw, list):
        return [bullet for one in raw for bullet in _ids(one)]
    named = plain(raw)
    return [bullet for part in re.split(r"[\s,;]+", named) if (bullet := bare_id(part))]
