"""The command that starts a warm server under bubblewrap, and the parts of this machine that it exposes."""

from __future__ import annotations

import json
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.sandbox.guest.confine import DEVICES

__all__ = ["NOBODY", "SCRATCH", "Jail", "no_confinement"]

SCRATCH = "/scratch"
NOBODY = 65534

_GUEST = Path(__file__).parent / "guest"
_INSIDE_GUEST = "/sandbox"
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from guest.server import main; del sys.path[0]; main(sys.argv[2])"
)
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/nix/store")
_SINGLE_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")


def no_confinement(found: str) -> DataError:
    """Return the error for a machine that cannot confine a model's code."""
    return DataError(
        f"sandbox: code that a model wrote cannot be confined here; found {found}, expected Linux on x86_64 or aarch64 "
        "with bubblewrap and user namespaces.\n"
        "Fix: install bubblewrap (apt install bubblewrap), or pass --unsafe-no-sandbox to run the code without it."
    )


@attrs.frozen
class Jail:
    """The command and environment of one server.

    ``packages`` are the folders of installed packages that it may import from, under their names in the sandbox.
    """

    command: tuple[str, ...]
    packages: tuple[str, ...]
    environment: dict[str, str]

    @classmethod
    def of(cls, *, confined: bool, preload: Sequence[str]) -> Jail:
        """Make the command without its last argument, the server's configuration.

        Raises `DataError` if bubblewrap is missing.
        """
        python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        # A fixed hash seed, because a candidate must do the same in every run.  Two arenas, because each of glibc's
        # arenas for threads reserves 64 MiB of address space, which the limit on memory counts.
        environment = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"}
        run = (python, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _START)
        folders = _package_folders() if preload else []
        if not confined:
            return cls((*run, str(_GUEST.parent)), tuple(folders), environment)
        bubblewrap = shutil.which("bwrap")
        if bubblewrap is None:
            raise no_confinement("no bwrap command")
        inside = tuple(f"/packages/{number}" for number in range(len(folders)))
        mounts = [*_system(python), *_bind(str(_GUEST), f"{_INSIDE_GUEST}/guest")]
        for folder, place in zip(folders, inside, strict=True):
            mounts += _bind(folder, place)
        command = (bubblewrap, *_isolation(), *mounts, *_places(), *_variables(environment), "--", *run, _INSIDE_GUEST)
        return cls(command, inside, {})

    def serving(self, **configuration: Any) -> list[str]:
        """Return the whole command, with the configuration for `guest.server.main`."""
        return [*self.command, json.dumps({**configuration, "packages": self.packages})]


def _isolation() -> Iterator[str]:
    yield from ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv")
    yield from ("--hostname", "sandbox", "--cap-drop", "ALL")
    # For the server, in the sandbox's own user namespace only; a child has none.
    for capability in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
        yield from ("--cap-add", capability)


def _variables(environment: dict[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        yield from ("--setenv", name, value)


def _places() -> Iterator[str]:
    """Yield the writable places: a child mounts only the scratch folder; there is no /proc, /sys or /dev/shm."""
    # Otherwise bubblewrap makes it for root alone, and root's children are nobody.
    yield from ("--dir", "/dev")
    for device in DEVICES:
        yield from ("--dev-bind", device, device)
    yield from ("--dir", SCRATCH, "--symlink", SCRATCH.lstrip("/"), "/tmp")
    yield from ("--remount-ro", "/", "--chdir", "/")


def _bind(source: str, target: str) -> Iterator[str]:
    # Explicitly, because bubblewrap copies the source's modes, which may admit only the user.
    for parent in reversed(Path(target).parents[:-1]):
        yield from ("--dir", str(parent))
    yield from ("--ro-bind", source, target)


def _system(python: str) -> Iterator[str]:
    """Yield the interpreter, its standard library and the C libraries, but not /usr, /etc or a project's folder."""
    for folder in _LIBRARIES:
        if os.path.islink(folder):
            yield from ("--symlink", os.readlink(folder), folder)
        elif os.path.isdir(folder):
            yield from _bind(folder, folder)
    for file in _SINGLE_FILES:
        if os.path.exists(file):
            yield from _bind(file, file)
    for path in _interpreter(python):
        yield from _bind(path, path)
    yield from _hidden()


def _interpreter(python: str) -> Iterator[str]:
    """Yield the parts of the interpreter that are not in the C libraries' folders."""
    folders = [os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_exec_prefix, "lib"), _standard_library()]
    covered: list[str] = list(_LIBRARIES)
    for path in dict.fromkeys(map(os.path.realpath, [*folders, python])):
        if os.path.exists(path) and not any(Path(path).is_relative_to(folder) for folder in covered):
            covered.append(path)
            yield path


def _standard_library() -> str:
    return os.path.dirname(os.path.realpath(os.__file__))


def _hidden() -> Iterator[str]:
    """Yield empty folders over the base interpreter's packages, because a data set may be installed like a package."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = [os.path.join(_standard_library(), name) for name in ("site-packages", "dist-packages")]
    for folder in [*own, "/usr/lib/python3/dist-packages", f"/usr/local/lib/{version}/dist-packages"]:
        bound = [*_LIBRARIES, *_interpreter(sys.executable)]
        if os.path.isdir(folder) and any(Path(folder).is_relative_to(outer) for outer in bound):
            yield from ("--tmpfs", folder, "--remount-ro", folder)


def _package_folders() -> list[str]:
    """Return the folders of this interpreter's installed packages, without those of editable installs."""
    paths = sysconfig.get_paths()
    candidates = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return list(dict.fromkeys(os.path.realpath(path) for path in candidates if os.path.isdir(path)))
