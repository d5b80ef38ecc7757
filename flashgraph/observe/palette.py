"""Colours of drawings: Okabe and Ito's, which colour-blind readers tell apart; shapes and words say the same."""

from __future__ import annotations

from flashgraph.observe.description import Description

__all__ = ["FAINT", "INK", "LINES", "PLAIN", "POOL", "ROLES", "SOURCE", "dark", "role_colours"]

INK, FAINT, LINES = "#1f2933", "#52606d", "#52606d"
POOL, SOURCE, PLAIN = ("#e0f4ee", "#00795a"), ("#fdf2d8", "#a36f00"), ("#eef0f3", "#66727f")
ROLES = (
    ("#dcebf7", "#0072b2"),
    ("#fde6d8", "#c04f00"),
    ("#f8e6f0", "#a8508a"),
    ("#e2f2fc", "#2a86bd"),
    ("#fbf8d0", "#8a8000"),
)


def role_colours(graph: Description) -> dict[str | None, tuple[str, str]]:
    """Return fill and border colours by model role; None is a stage without a model."""
    # "task" comes first, so that it has the same colour in every graph.
    ordered = sorted(graph.roles, key=lambda role: (role != "task", role))
    return {None: PLAIN, **{role: ROLES[k % len(ROLES)] for k, role in enumerate(ordered)}}


def dark(border: str) -> str:
    """Return the fill on a dark page of a box with this border: a darker shade."""
    return "#" + "".join(f"{int(int(border[k : k + 2], 16) * 0.35 + 16):02x}" for k in (1, 3, 5))
