"""Circle packing: n circles in the unit square with the largest sum of radii, as AlphaEvolve's problem B.12.

The best known sums, 2.635 for n = 26 and 2.937 for n = 32, are AlphaEvolve's (arXiv 2506.13131, appendix B.12).  The
earlier ones, 2.634 and 2.936, are from Erich Friedman's Packing Center
(https://erich-friedman.github.io/packing/cirRsqu/).  For the small n of the cheap checks the measure is sqrt(n) / 2,
the sum of a square grid for a square n.

A program evolves to pack 26 circles.  The held-out n = 32 shows whether it has learned to pack any number.
"""

import math
from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.parts.islands import Check

KNOWN = {26: 2.635, 32: 2.937}
SLACK = 1e-9
"""The overlap that is allowed for rounding errors."""


def goal(n: int) -> float:
    """Return the sum of radii that scores 1."""
    return KNOWN.get(n, math.sqrt(n) / 2)


def circles(value: Any, n: int) -> list[tuple[float, float, float]]:
    """Return a program's result as (x, y, radius) triples.

    Raises ValueError, with the reason, for anything but n circles.
    """
    if not isinstance(value, dict) or not {"centers", "radii"} <= value.keys():
        raise ValueError('expected {"centers": [[x, y], ...], "radii": [...]}' + f", found {value!r:.100}")
    centers, radii = value["centers"], value["radii"]
    if not (isinstance(centers, list) and isinstance(radii, list) and len(centers) == len(radii) == n):
        raise ValueError(f"expected lists of {n} centers and {n} radii")
    found = []
    for i, (center, radius) in enumerate(zip(centers, radii, strict=True)):
        numbers = [*center, radius] if isinstance(center, list) else []
        if len(numbers) != 3 or not all(type(v) in (int, float) and math.isfinite(v) for v in numbers):
            raise ValueError(f"circle {i}: expected a center [x, y] and a radius of finite numbers")
        found.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    return found


def mistake(packing: list[tuple[float, float, float]]) -> str:
    """Return what is wrong with a packing; empty for a valid one."""
    for i, (x, y, r) in enumerate(packing):
        if r < 0:
            return f"circle {i} has the negative radius {r:.6g}"
        out = r - min(x, y, 1 - x, 1 - y)
        if out > SLACK:
            return f"circle {i} at ({x:.6g}, {y:.6g}) with radius {r:.6g} reaches {out:.3g} out of the square"
        for j, (u, v, s) in enumerate(packing[:i]):
            overlap = r + s - math.dist((x, y), (u, v))
            if overlap > SLACK:
                return f"circles {j} and {i} overlap by {overlap:.3g}"
    return ""


def score(sample: Check, output: Any) -> fg.Score:
    """Score the sum of the radii relative to the best known one, at most 1; an invalid packing scores 0."""
    n = sample.arguments["n"]
    try:
        packing = circles(output, n)
    except ValueError as error:
        return fg.Score(0, f"Not a packing: {error}.")
    if wrong := mistake(packing):
        return fg.Score(0, f"Not valid: {wrong}.")
    total = sum(r for _, _, r in packing)
    return fg.Score(min(1.0, total / goal(n)), f"Valid; the sum of radii is {total:.6f}, the best known {goal(n):.3f}.")


def checks(*sizes: int) -> list[Check]:
    """Return one check for each number of circles."""
    return [Check("pack", {"n": n}, f"{n} circles with the largest sum of radii") for n in sizes]


task = fg.Task(
    name="circle_packing",
    train=checks(4, 7, 13),
    val=checks(26),
    test=checks(32),
    seed={"program": Path(__file__).with_name("program.py").read_text(encoding="utf-8")},
    score=score,
)
