"""All that goes to a terminal: cleaned, in an encoding that it has, and never the end of what was worked on.

Replies, errors, candidates, and the names of tasks and files come from elsewhere.  On a terminal some characters are
commands: to set its title or the clipboard, to erase, to write from right to left.  No other module prints.
"""

from __future__ import annotations

import re

__all__ = ["clean"]

COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all controls but the tab and the end of a line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # that change the direction of writing
    "\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # that end lines, or are not seen
    "\ud800-\udfff]"  # halves of characters, which no encoding has
)


def clean(text: str) -> str:
    r"""Return ``text`` with what a terminal would obey, or not show, written out: an escape as ``\x1b``."""
    return COMMANDS.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("ascii", "backslashreplace").decode() if ord(found[0]) > 127 else f"\\x{ord(found[0]):02x}"
