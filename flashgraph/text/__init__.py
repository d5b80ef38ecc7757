"""Text: what models wrote, differences between texts, and all that is printed."""

from flashgraph.text.replies import blocks, edits, fenced, parted

__all__ = ["blocks", "edits", "fenced", "parted"]
