"""A candidate that tries what must be impossible; each opening of a sandbox runs it once."""

from __future__ import annotations

import contextlib
import os
import sys
from itertools import islice
from pathlib import Path

__all__ = ["CODE", "secrets"]

CODE = """
import colorsys, ctypes, os, socket  # colorsys: any module that no one else has loaded

def main(secrets):
    def tries(action):
        try:
            action()
        except (OSError, ValueError):
            return False
        return True

    def fork():
        if os.fork() == 0:
            os._exit(0)

    done = []
    for name, action in {
        "start a process": fork,
        "open a socket": lambda: socket.socket(),
        "signal another process": lambda: os.kill(os.getpid() + 1, 0),
        "write outside of its folder": lambda: open("/written", "w"),
        "see the processes of the machine": lambda: os.listdir("/proc/1"),
        "set the times of a device": lambda: os.utime("/dev/null"),
    }.items():
        if tries(action):
            done.append(name)
    done += ["read " + path for path in secrets if tries(lambda: os.stat(path))]
    open("scratch", "w").write("this must be possible")
    if os.listdir(".") != ["scratch"]:
        done.append("see files of other processes")
    return done
"""


def secrets() -> list[str]:
    """Return files that exist here and must not exist there: the project's, the user's and this program's."""
    paths = [Path(__file__).resolve(), Path("/etc/passwd"), Path(os.path.abspath(sys.argv[0]))]
    for folder in (Path.cwd(), Path.home()):
        with contextlib.suppress(OSError):
            paths += islice((path for path in folder.iterdir() if path.is_file()), 5)
    # The main script may be part of the standard library, as with python -m unittest.
    library = Path(os.__file__).parent
    return sorted(str(path) for path in paths if path.is_file() and not path.is_relative_to(library))
