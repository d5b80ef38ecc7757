"""The score and the feedback of each example: tables of replies on invented rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.conftest import Load

TAGS = ["Revenues", "LongTermDebt", "Revenues", "SharePrice"]
CASES = [
    ("formula", "0.2", 1, "Correct: 0.2."),
    ("formula", "ROI = 10 / 50 = $0.20", 1, "Correct"),
    ("formula", '{"final_answer": 0.2}', 1, "Correct"),
    ("formula", "0.204", 0, "Round to two decimals."),
    ("formula", "20%", 0, "not as a percentage"),
    ("formula", "0.002", 0, "as a percentage, without the sign"),
    ("formula", "-0.2", 0, "The sign is wrong."),
    ("formula", "5", 0, "read as 5; the right answer is 0.2. Insert the numbers"),
    ("formula", "10/50", 0, "read as 50"),
    ("formula", "a fifth", 0, "no number in the answer. The right answer is 0.2"),
    ("finer", ",".join(TAGS), 1, "Correct"),
    ("finer", "Answer:\n1. Revenues\n2. `LongTermDebt`\n3. Revenues\n4. SharePrice.", 1, "Correct"),
    ("finer", json.dumps({"final_answer": TAGS}), 1, "Correct"),
    (
        "finer",
        "Revenues, SharePrice, Revenues, LongTermDebt",
        0.5,
        "2 of 4 right. Number 2 ('25'): LongTermDebt is right",
    ),
    ("finer", "Revenues", 0.25, "Found 1 tags; give exactly 4, separated by commas."),
    ("finer", ",".join([*TAGS, "Revenues"]), 0.8, "Found 5 tags"),
    ("finer", "", 0, "not nothing"),
    ("symptom2disease", "drug reaction", 1, "Correct: drug reaction."),
    ("symptom2disease", "The skin shows it.\n**Diagnosis:** Drug  Reaction.", 1, "Correct"),
    ("symptom2disease", '{"label": "drug reaction"}', 1, "Correct"),
    ("symptom2disease", "allergy", 0, "These complaints point to drug reaction rather than to allergy."),
    ("symptom2disease", "eczema", 0, "'eczema' is none of the names in use"),
    ("symptom2disease", "not a drug reaction", 0, "the right answer is 'drug reaction'"),
    ("uspto", "CCO.[O-][n+]1ccccc1", 1, "Correct"),
    ("uspto", "They are:\n[O-][n+]1ccccc1.CCO", 1, "Correct"),
    ("uspto", "```\nCCO . [O-][n+]1ccccc1\n```", 1, "Correct"),
    ("uspto", '{"answer": ["CCO", "[O-][n+]1ccccc1"]}', 1, "Correct"),
    ("uspto", "CCO", 0, "Missing: [O-][n+]1ccccc1."),
    ("uspto", "OCC.[O-][n+]1ccccc1", 0, "Not a precursor in this spelling: OCC."),
    ("uspto", "", 0, "the right answer is CCO.[O-][n+]1ccccc1"),
    ("lawbench", "[罪名]走私武器、弹药;诈骗<eoa>", 1, "正确"),
    ("lawbench", "理由。\n罪名\N{FULLWIDTH COLON}诈骗\N{FULLWIDTH SEMICOLON}走私武器、弹药。", 1, "正确"),
    ("lawbench", '{"answer": ["诈骗", "走私武器、弹药"]}', 1, "正确"),
    ("lawbench", "[罪名]诈骗罪;走私武器、弹药罪<eoa>", 0, "不要加“罪”字"),
    ("lawbench", "[罪名]诈骗<eoa>", 0, "遗漏:走私武器、弹药。"),
    ("lawbench", "[罪名]诈骗、走私武器、弹药<eoa>", 0, "多余或名称不准确"),
    ("lawbench", "", 0, "正确的罪名是:诈骗;走私武器、弹药"),
    ("hover", "SUPPORTED\nA & Co\nb_(novel)", 1, "All needed titles are named."),
    ("hover", "Label: supported\n- A & Co\n- B (novel)\n- C", 1, "All needed titles"),
    ("hover", "SUPPORTED\nA & Co; B (novel)", 1, "All needed titles"),
    ("hover", '{"label": "SUPPORTED", "titles": ["A & Co", "B (novel)"]}', 1, "All needed titles"),
    (
        "hover",
        '{"final_answer": "NOT_SUPPORTED\\nA & Co"}',
        0.25,
        "The label is SUPPORTED, not NOT_SUPPORTED. Titles missed: B",
    ),
    ("hover", "not supported\nA & Co\nB (novel)", 0.5, "The label is SUPPORTED"),
    ("hover", "SUPPORTED\n" + "\n".join("abcdefghij") + "\nA & Co", 0.5, "Only the first 10 titles count."),
    ("hover", "", 0, "The claim needs 2 articles: A &amp; Co; B (novel)."),
    ("aime", "\\boxed{42}", 1, "Correct: 42."),
    ("aime", "Six sevens.\nAnswer: 042", 1, "Correct"),
    ("aime", "42.5", 0, "Answers are whole numbers from 0 to 999. A solution: Multiply"),
    ("aime", "41", 0, "Wrong (read as 41), the right answer is 42. A solution"),
    ("aime", "", 0, "no number in the answer"),
    ("ifbench", "Hello,Emma", 1, "Met: Mention at least 1 different person names"),
    ("ifbench", "Hello, Emma", 0.5, "Not met: "),
    ("ifbench", "Hello, you", 0, "Not met: Mention at least 1"),
    ("ifbench", "", 0, "Not met: "),
]


@pytest.mark.parametrize(("example", "reply", "value", "feedback"), CASES)
def test_scores(invented: Path, load: Load, example: str, reply: str, value: float, feedback: str) -> None:
    """The value and a part of the feedback are as expected."""
    task = load(example)
    score = task.score(task.val[0], reply)
    assert score.value == pytest.approx(value)
    assert feedback in score.feedback
