"""Pack n circles into the unit square so that the sum of their radii is as large as possible.

`pack(n)` returns {"centers": [[x, y], ...], "radii": [r, ...]}: n circles inside the square that do not overlap.  It
has a few seconds and the standard library.  The radii may all be different.
"""

import math


def pack(n: int) -> dict[str, list[object]]:
    """Circles round the points of a sunflower, each as large as its nearest neighbour and the border allow."""
    centers = []
    for i in range(n):
        distance, angle = 0.5 * math.sqrt((i + 0.5) / n), i * math.pi * (3 - math.sqrt(5))
        centers.append([0.5 + distance * math.cos(angle), 0.5 + distance * math.sin(angle)])
    radii = []
    for i, (x, y) in enumerate(centers):
        border = min(x, y, 1 - x, 1 - y)
        nearest = min((math.dist((x, y), other) for j, other in enumerate(centers) if j != i), default=1.0)
        radii.append(max(0.0, min(border, nearest / 2)))
    return {"centers": [*centers], "radii": [*radii]}
