"""Error messages of the command line, and its exit codes."""

from __future__ import annotations

import errno

from flashgraph.errors import FlashgraphError, GraphError, ModelError, described
from flashgraph.extras import missing
from flashgraph.text.terminal import clean, say, say_error, style

__all__ = ["DEFECT", "DONE", "FAILED", "INTERRUPTED", "WRONG", "cause", "no_defect", "report_error"]

DONE = 0
WRONG = 1
FAILED = 3
DEFECT = 70
INTERRUPTED = 130

FIXES = {
    errno.EACCES: "grant yourself permission, or name another file",
    errno.EPERM: "grant yourself permission, or name another file",
    errno.EROFS: "name a file on a writable file system",
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space within the disk quota",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "check that the file and the working directory still exist",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.ENFILE: "allow more open files, or close other programs",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.EIO: "check the system log; the disk may have failed",
}


def cause(error: BaseException) -> BaseException:
    """Return the error inside nested exception groups, or the group that holds several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def no_defect(error: BaseException) -> str:
    """Return a message with its fix for an error of the machine, its files or the installation.

    Return "" for any other error: it is a defect of flashgraph.
    """
    if not isinstance(error, Exception | BaseExceptionGroup):
        return (
            f"{described(error)}: raised by the code of a graph, a task or a model; it ended the command.\n"
            "Fix: raise a subclass of Exception instead."
        )
    if isinstance(error, OSError):
        named = " -> ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
        what = error.strerror or str(error) or type(error).__name__
        fix = FIXES.get(error.errno or 0, "check the file's permissions and its disk, or name another file")
        return f"{f'{named}: ' if named else ''}{what}.\nFix: {fix}."
    if (needed := missing(error)) is not None:
        return needed
    if isinstance(error, MemoryError):
        return "out of memory.\nFix: close other programs, or use a machine with more memory."
    if isinstance(error, UnicodeDecodeError):
        return f"a file is not valid {error.encoding}: {error}.\nFix: save the file as UTF-8."
    if isinstance(error, UnicodeEncodeError):
        return (
            f"a text cannot be encoded in {error.encoding}: {error}.\n"
            "Fix: set PYTHONIOENCODING=utf-8, or give another name."
        )
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a file name contains a NUL character.\nFix: give another name."
    if isinstance(error, ImportError) and not (error.name or "flashgraph").startswith("flashgraph"):
        return f"{error}.\nFix: pip install {str(error.name).partition('.')[0]}, or reinstall flashgraph."
    return ""


def report_error(error: BaseException) -> int:
    """Print ``error`` on stderr and return its exit code.

    Mistakes of the user and faults of the machine get one message; a defect of flashgraph gets a traceback.
    """
    error = cause(error)
    if isinstance(error, GraphError):
        _say_problems(error)
        return WRONG
    if isinstance(error, FlashgraphError):
        say_error(error)
        return FAILED if isinstance(error, ModelError) else WRONG
    if message := no_defect(error):
        say_error(message)
        return FAILED if isinstance(error, MemoryError) else WRONG
    import traceback

    say("".join(traceback.format_exception(error)), err=True, end="")
    say("This is a defect of flashgraph, not of your graph or task. Please report it with the lines above.", err=True)
    return DEFECT


def _say_problems(error: GraphError) -> None:
    colours = {"found:": "red", "expected:": "yellow", "fix:": "green"}
    head, *lines = clean(str(error)).splitlines()
    say_error(head)
    for line in lines:
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        before, _, after = line.partition(word) if word in colours else (line, "", "")
        if word in colours:
            say(before, style(word, fg=colours[word]), after, err=True, sep="")
        else:
            say(line if line.startswith(" ") else style(line, bold=True), err=True)
