"""Text: readers of model replies, differences between texts, and terminal output."""

from flashgraph.text.replies import blocks, edits, fenced, parted

__all__ = ["blocks", "edits", "fenced", "parted"]
