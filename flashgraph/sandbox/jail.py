"""The command that starts a warm server: bubblewrap around it, and what the server may see of this machine."""

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
    """The error for a machine on which code of a model's cannot be confined."""
    return DataError(
        f"sandbox: code that a model wrote cannot be confined here; found {found}, expected Linux on x86_64 or aarch64 "
        "with bubblewrap and user namespaces.\n"
        "Fix: install bubblewrap (apt install bubblewrap), or pass --unsafe-no-sandbox to run the code without it."
    )


@attrs.frozen
class Jail:
    """How one server is started.

    ``packages`` are the folders of installed packages that it may import from, in the sandbox's own naming.
    """

    command: tuple[str, ...]
    packages: tuple[str, ...]
    environment: dict[str, str]

    @classmethod
    def of(cls, *, confined: bool, preload: Sequence[str]) -> Jail:
        """The command without its last argument, the server's configuration.

        Raises `DataError` where bubblewrap is missing.
        """
        python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        # A fixed hash seed: the same candidate must do the same in every run.  Two arenas: each that glibc makes for
        # a thread reserves 64 MiB of the address space which the limit on memory counts.
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
        """The whole command: with what `guest.server.main` expects."""
        return [*self.command, json.dumps({**configuration, "packages": self.packages})]


def _isolation() -> Iterator[str]:
    yield from ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv")
    yield from ("--hostname", "sandbox", "--cap-drop", "ALL")
    # In the sandbox's own user namespace only, for the server: a child has none.
    for capability in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
        yield from ("--cap-add", capability)


def _variables(environment: dict[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        yield from ("--setenv", name, value)


def _places() -> Iterator[str]:
    """Writable is only what a child mounts on the scratch folder; there is no /proc, /sys or /dev/shm."""
    # Else bubblewrap makes it for root alone, and root's children are nobody.
    yield from ("--dir", "/dev")
    for device in DEVICES:
        yield from ("--dev-bind", device, device)
    yield from ("--dir", SCRATCH, "--symlink", SCRATCH.lstrip("/"), "/tmp")
    yield from ("--remount-ro", "/", "--chdir", "/")


def _bind(source: str, target: str) -> Iterator[str]:
    # Named one by one: bubblewrap makes them with the modes of the source's, which may be the user's alone.
    for parent in reversed(Path(target).parents[:-1]):
        yield from ("--dir", str(parent))
    yield from ("--ro-bind", source, target)


def _system(python: str) -> Iterator[str]:
    """The interpreter, its standard library and the C libraries: not /usr, /etc or the folder of a project."""
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
    """What the C libraries' folders do not already hold of the interpreter."""
    folders = [os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_exec_prefix, "lib"), _standard_library()]
    covered: list[str] = list(_LIBRARIES)
    for path in dict.fromkeys(map(os.path.realpath, [*folders, python])):
        if os.path.exists(path) and not any(Path(path).is_relative_to(folder) for folder in covered):
            covered.append(path)
            yield path


def _standard_library() -> str:
    return os.path.dirname(os.path.realpath(os.__file__))


def _hidden() -> Iterator[str]:
    """Empty folders over the packages of the base interpreter: a data set may be installed like any package."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = [os.path.join(_standard_library(), name) for name in ("site-packages", "dist-packages")]
    for folder in [*own, "/usr/lib/python3/dist-packages", f"/usr/local/lib/{version}/dist-packages"]:
        bound = [*_LIBRARIES, *_interpreter(sys.executable)]
        if os.path.isdir(folder) and any(Path(folder).is_relative_to(outer) for outer in bound):
            yield from ("--tmpfs", folder, "--remount-ro", folder)


def _package_folders() -> list[str]:
    """Where packages are installed for this interpreter; folders of editable installs are not among them."""
    paths = sysconfig.get_paths()
    candidates = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return list(dict.fromkeys(os.path.realpath(path) for path in candidates if os.path.isdir(path)))
