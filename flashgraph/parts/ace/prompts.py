"""The prompts of ACE's three roles, and of the merge of near-duplicates. The three roles answer with JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flashgraph.parts.ace.pool import Playbook

__all__ = ["curate_prompt", "generate_prompt", "merge_prompt", "reflect_prompt"]

EMPTY = "(nothing has been learned yet)"


def generate_prompt(text: Mapping[str, str], sample: object, reflection: str = "") -> str:
    """Return the prompt for an answer to a sample.

    ``text`` holds the playbook under ``playbook``; its other components are the task's own instructions.
    """
    instructions = "\n\n".join(part for name, part in text.items() if name != "playbook" and part)
    parts = [
        instructions,
        "A playbook of what was learned from earlier cases. Each line has an id, how often it helped and how often it "
        f"harmed, and advice:\n\n{text.get('playbook') or EMPTY}",
        f"An earlier attempt at this very case was wrong. What was learned from it:\n{reflection}"
        if reflection
        else "",
        f"The case:\n{sample}",
        "Use the advice that fits the case. Answer with one JSON object and nothing else:\n"
        '{"reasoning": "how you get to the answer, briefly", "bullet_ids": ["ids of the lines that you used"], '
        '"final_answer": "the answer alone, in the form that is asked for"}',
    ]
    return "\n\n".join(part for part in parts if part)


def reflect_prompt(sample: object, answer: str, feedback: str, right: bool, used: str) -> str:
    """Return the prompt for a reflection on an answer; ``used`` shows the playbook lines that it cited."""
    return (
        f"An assistant worked on this case:\n{sample}\n\nIt answered: {answer}\n\n"
        f"That was {'right' if right else 'wrong'}. {feedback}\n\n"
        f"It used these lines of its playbook:\n{used or '(none)'}\n\n"
        "Find out what there is to learn: what went wrong or right and why, how this kind of case should be handled, "
        "and what to keep in mind for others like it, with every fact and rule that the feedback reveals. Tag each "
        "line that was used as helpful, harmful or neutral. Answer with one JSON object and nothing else:\n"
        '{"reasoning": "...", "error_identification": "...", "root_cause_analysis": "...", "correct_approach": "...", '
        '"key_insight": "...", "bullet_tags": [{"id": "...", "tag": "helpful"}]}'
    )


def curate_prompt(playbook: Playbook, sample: object, reflection: str) -> str:
    """Return the prompt for changes of the playbook that follow from a reflection."""
    return (
        f"A playbook collects what an assistant should know. It may have {playbook.budget_tokens:,} tokens and has "
        f"{playbook.tokens:,}:\n\n{playbook.text or EMPTY}\n\n"
        f"A case it was used on:\n{sample}\n\nWhat was learned from it:\n{reflection}\n\n"
        "Change the playbook as little as is needed so that it holds this too. Do not repeat what it says already. "
        "Keep advice general: no single case, but every code, fact and rule. Operations: ADD a line to a section, "
        "UPDATE a line's content, MERGE lines into one, REMOVE a wrong one. Answer with one JSON object and nothing "
        "else; the list may be empty:\n"
        '{"reasoning": "...", "operations": [{"type": "ADD", "section": "RULES", "content": "..."}, '
        '{"type": "UPDATE", "bullet_id": "...", "content": "..."}, '
        '{"type": "MERGE", "source_ids": ["...", "..."], "content": "..."}, {"type": "REMOVE", "bullet_id": "..."}]}'
    )


def merge_prompt(lines: Sequence[str]) -> str:
    """Return the prompt for one text that merges several near-duplicates."""
    listed = "\n".join(f"- {line}" for line in lines)
    return (
        f"These pieces of advice say nearly the same:\n{listed}\n\nWrite one that keeps every fact of each. "
        "Answer with that text alone."
    )
