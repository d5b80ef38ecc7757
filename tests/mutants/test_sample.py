"""The choice of mutants, and the interval of the share that is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.sample import excluded, wilson

SOURCE = """
Part = int | str
def share(part: int | None, whole: int = 4, *, most: int = 3 * 2) -> int | None:
    if part == whole:
        raise ValueError(f"{part + 1} is too much" + str(whole + 1))
    if most == "all" or most < part:
        field(repr=False, init=False)
    return part + whole
"""


@pytest.mark.parametrize(
    ("text", "operator", "left_out"),
    [
        ("int | None, whole", "core/ReplaceBinaryOperator_BitOr_Add", True),
        ("int | None:", "core/ReplaceBinaryOperator_BitOr_Add", True),
        ("int | str", "core/ReplaceBinaryOperator_BitOr_Add", True),
        ("*, most", "core/ReplaceBinaryOperator_Mul_Div", True),
        ("3 * 2", "core/ReplaceBinaryOperator_Mul_Div", False),
        ("whole + 1", "core/ReplaceBinaryOperator_Add_Sub", True),
        ("part + 1", "core/ReplaceBinaryOperator_Add_Sub", True),
        ("part + whole", "core/ReplaceBinaryOperator_Add_Sub", False),
        ("part == whole", "core/ReplaceComparisonOperator_Eq_NotEq", False),
        ("part == whole", "core/ReplaceComparisonOperator_Eq_Is", True),
        ("4, *", "core/NumberReplacer", False),
        ('== "all', "core/ReplaceComparisonOperator_Eq_LtE", True),
        ('== "all', "core/ReplaceComparisonOperator_Eq_NotEq", False),
        ("< part", "core/ReplaceComparisonOperator_Lt_Gt", False),
        ("repr=False", "core/ReplaceFalseWithTrue", True),
        ("init=False", "core/ReplaceFalseWithTrue", False),
    ],
)
def test_mutants_that_only_change_words_or_types_are_left_out(
    text: str, operator: str, left_out: bool, tmp_path: Path
) -> None:
    """Mutants of annotations, signatures, errors and texts, and mutants that change nothing, are excluded."""
    path = tmp_path / "share.py"
    path.write_text(SOURCE)
    row = next(i for i, line in enumerate(SOURCE.splitlines(), 1) if text in line)
    column = SOURCE.splitlines()[row - 1].index(text)
    assert excluded(path, operator, (row, column), (row, column + 1)) is left_out


def test_the_interval_is_wilsons() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662."""
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
