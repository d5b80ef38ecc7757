"""The modules that the command line does not import before it needs them, so that it starts fast."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "cattrs", "datasets", "flashgraph.llm.http", "flashgraph.run.driver", "httpx", "hypothesis", "litellm",
    "matplotlib", "mlflow", "numpy", "pyarrow", "rich", "sqlite3", "tenacity", "trio", "vllm", "xllamacpp",
)  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["check", "gepa"], ["--version"]])
def test_nothing_heavy_is_imported(words: list[str]) -> None:
    """Help and a check import no model backend, no journal and no viewer."""
    code = (
        "import sys; from flashgraph.cli import _exit_code\n"
        "try: _exit_code(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('imported:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"
