"""Function minimisation: evolve a search algorithm that finds the minimum of rugged functions in few evaluations.

Each sample is another function, so that an algorithm is learned and not a point.  The function and the count of its
evaluations are in the program, outside of the block that evolves.  This file scores the returned point against the true
minimum.  That minimum is known, because along the turned axes the function is a sum of two functions of one variable.

The count keeps an honest search within its budget.  A program that evades the count runs in the same process; the
sandbox's time limit bounds what it can gain.
"""

import math
import random
from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.parts.islands import Check

Waves = list[list[list[float]]]
HALF = 5.0
BUDGET = 200


def along(t: float, waves: list[list[float]]) -> float:
    """Return the part of the function that depends on one of the turned axes."""
    return 0.1 * t * t + sum(a * math.cos(w * t + p) for a, w, p in waves)


def value_at(x: float, y: float, angle: float, waves: Waves) -> float:
    """Return the function at a point."""
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return along(u, waves[0]) + along(v, waves[1])


def lowest(waves: list[list[float]]) -> float:
    """Return where one part is lowest: the best of a fine grid, refined.

    It is within 3.5 of 0, so inside the square.
    """
    step = 1e-2
    at = min((i * step for i in range(-350, 351)), key=lambda t: along(t, waves))
    while step > 1e-9:
        step /= 2
        at = min((at - step, at, at + step), key=lambda t: along(t, waves))
    return at


def score(sample: Check, output: Any) -> fg.Score:
    """Score 1 / (1 + gap), where the gap is the height of the returned point above the minimum."""
    point = output if isinstance(output, list) and len(output) == 2 else []
    if not point or not all(type(v) in (int, float) and math.isfinite(v) and abs(v) <= HALF for v in point):
        return fg.Score(0, f"Expected a point [x, y] in the square from -5 to 5, found {output!r:.100}.")
    (x, y), waves = point, sample.arguments["waves"]
    minimum = sum(along(lowest(part), part) for part in waves)
    gap = max(0.0, value_at(x, y, sample.arguments["angle"], waves) - minimum)
    said = f"f({x:.4f}, {y:.4f}) is {gap:.6f} above the minimum."
    return fg.Score(1.0 if gap < 1e-6 else 1 / (1 + gap), said)


def checks(*seeds: int) -> list[Check]:
    """Return one function for each seed: two to three waves along each of two axes that are turned by an angle."""
    return [_check(random.Random(f"function_minimum/{seed}"), seed) for seed in seeds]


def _check(stream: random.Random, seed: int) -> Check:
    def wave() -> list[float]:
        return [round(stream.uniform(low, high), 3) for low, high in ((0.3, 0.9), (1.5, 6.0), (0.0, 2 * math.pi))]

    waves = [[wave() for _ in range(stream.choice((2, 3)))] for _ in range(2)]
    arguments = {"angle": round(stream.uniform(0, math.pi), 3), "waves": waves, "budget": BUDGET, "seed": seed}
    return Check("minimum", arguments, f"the lowest point in {BUDGET} evaluations")


task = fg.Task(
    name="function_minimum",
    train=checks(0, 1),
    val=checks(*range(10, 18)),
    test=checks(*range(100, 108)),
    seed={"program": Path(__file__).with_name("program.py").read_text(encoding="utf-8")},
    score=score,
)
