"""Find the lowest point of a rugged function of two variables with a small number of evaluations.

`search(f, budget, random)` returns the best [x, y] that it finds in the square from -5 to 5.  It may call f(x, y) at
most `budget` times; a further call raises.  The function is a wide bowl with many waves on it, turned by an angle.
"""

import math
import random as randomness
from collections.abc import Callable


# EVOLVE-BLOCK-START
def search(f: Callable[[float, float], float], budget: int, random: randomness.Random) -> list[float]:
    """The best of random points."""
    best, lowest = [0.0, 0.0], math.inf
    for _ in range(budget):
        x, y = random.uniform(-5, 5), random.uniform(-5, 5)
        value = f(x, y)
        if value < lowest:
            best, lowest = [x, y], value
    return best


# EVOLVE-BLOCK-END


def minimum(angle: float, waves: list[list[list[float]]], budget: int, seed: int) -> list[float]:
    """Call `search` on the function of these numbers, counting its evaluations."""
    left = budget

    def f(x: float, y: float) -> float:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError(f"more than {budget} evaluations of f")
        axes = (math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x)
        return sum(
            0.1 * t * t + sum(a * math.cos(w * t + p) for a, w, p in part) for t, part in zip(axes, waves, strict=True)
        )

    return search(f, budget, randomness.Random(seed))
