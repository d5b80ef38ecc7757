"""A virtual environment with a real vLLM: ``python -m tests.real_vllm.install FOLDER``.

uv takes seconds where pip takes minutes, but does not read pip's configuration.  So the sources of packages in that
configuration are passed to uv.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["install"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PROJECT = Path(__file__).parents[2]
OPTIONS = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
"""Of pip and of uv."""


def configured() -> dict[str, list[str]]:
    """pip's settings by their names; what the environment says has precedence over its files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = (line.partition("=") for line in sorted(lines, key=lambda line: line.startswith(":env:")))
    return {name.rpartition(".")[2]: ast.literal_eval(value).split() for name, _, value in pairs}


def install(folder: Path) -> None:
    """Make a new environment in ``folder``.  Raise ``subprocess.CalledProcessError`` if an installation fails."""
    settings = configured()
    sources = [part for name, option in OPTIONS.items() for value in settings.get(name, ()) for part in (option, value)]
    certificates = settings.get("cert", [])
    environment = {**os.environ, **({"SSL_CERT_FILE": certificates[0]} if certificates else {})}

    def uv(*arguments: str) -> None:
        subprocess.run([str(Path(sys.executable).with_name("uv")), *arguments], env=environment, check=True)

    uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    # The lock file is complete and was resolved by pip, which takes a version from whichever index has it.
    pip = ("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "--no-deps")
    uv(*pip, *sources, "--index-strategy", "unsafe-best-match", "-r", str(REQUIREMENTS))
    uv(*pip, *sources, "--index-strategy", "unsafe-best-match", "-e", str(PROJECT))


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
